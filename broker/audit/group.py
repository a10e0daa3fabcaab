"""Audit lines that are written together.

Duty: number and link the first lines of some, as many as one write to a pipe takes whole; write
them; give back the numbers of those that did not get there.
Not its duty: what becomes of these (``log``).
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.audit.chain import Chain
from broker.audit.sinks import PIPE_BUF, Sink


class Group:
    """One write.

    Args:
        lines: those that are to be written; the first ones are taken.
        chain: numbers and links them; None leaves them as they are.
    """

    __slots__ = ("_chain", "_ends", "_marks", "begun", "sealed", "trouble", "whole")

    def __init__(self, lines: Iterable[bytes], chain: Chain | None) -> None:
        self._chain = chain
        self._marks: list[tuple[int, bytes]] = []
        self._ends: list[int] = []
        self.sealed: list[bytes] = []
        """As they are written."""
        self.whole = 0
        """How many of them the target has."""
        self.begun = 0
        """Bytes that it has of the next one."""
        self.trouble: OSError | None = None
        """What stood in the way of the others."""
        size = 0
        for line in lines:
            if chain is not None:
                self._marks.append(chain.mark())
                line = chain.seal(line)  # noqa: PLW2901 - the same line, sealed
            size += len(line)
            if self.sealed and size > PIPE_BUF:
                if chain is not None:
                    chain.back_to(self._marks.pop())
                break
            self.sealed.append(line)
            self._ends.append(size)

    def write(self, sink: Sink) -> None:
        """Write all of them, if it can be."""
        data, written = b"".join(self.sealed), 0
        try:
            while written < len(data):
                written += sink.write(data[written:] if written else data)
        except OSError as error:
            self.trouble = error
            self.whole = sum(end <= written for end in self._ends)
            self.begun = written - (self._ends[self.whole - 1] if self.whole else 0)
        else:
            self.whole = len(self.sealed)

    def give_back(self, accepted: int) -> None:
        """Lines after the first ``accepted`` have no number."""
        if self._chain is not None and accepted < len(self._marks):
            self._chain.back_to(self._marks[accepted])
