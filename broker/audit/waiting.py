"""Audit lines that a full pipe has not taken.

Duty: keep accepted lines in order and within a bound; write some of them; hear from the loop
when the pipe takes again.
Not its duty: which lines are accepted and what is told of them (``log``).
Rules:

* a line of which the target has a piece is finished before anything else is written;
* what one turn of the loop writes is bounded, however much waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from broker.audit.sinks import Sink

BUFFER: Final = 1 << 20
"""Bytes that may wait for a full pipe: some 3,000 lines."""
WRITES: Final = 32
"""Writes in one go while the buffer empties, to stay far below 1 ms on the loop."""


class Waiting:
    """Lines in the order in which they are written.

    Args:
        limit: bytes that may wait; one line may whatever its size.
    """

    __slots__ = ("_begun", "_bytes", "_limit", "_lines")

    def __init__(self, limit: int = BUFFER) -> None:
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._begun = 0
        """Bytes of the first one that the target already has."""

    def __len__(self) -> int:
        return len(self._lines)

    def has_room(self, size: int) -> bool:
        """Whether one more line may wait."""
        return not self._lines or self._bytes + size <= self._limit

    def keep(self, line: bytes, *, begun: int = 0) -> None:
        """Let a line wait; the target has ``begun`` bytes of it, if it is the only one."""
        if begun:
            self._begun = begun
        self._lines.append(line)
        self._bytes += len(line)

    def write(self, sink: Sink) -> None:
        """Write all lines, as far as one turn of the loop goes.

        Raises:
            BlockingIOError: some of them still wait.
            OSError: the target fails.
        """
        for _ in range(WRITES):
            if not self._lines:
                return
            line = self._lines[0]
            self._begun += sink.write(line[self._begun :])
            if self._begun == len(line):
                self._lines.popleft()
                self._bytes -= len(line)
                self._begun = 0
        if self._lines:
            raise BlockingIOError

    def begin_anew(self) -> None:
        """A piece of a line stayed in a target that was left, which may be the next one too."""
        if not self._begun:
            return
        line = self._lines.popleft()
        self._bytes -= len(line)
        if self._begun == len(line) - 1:
            line = b"\n"  # a record that is whole is not repeated
        elif line.startswith(b"\n"):
            line = line[1:]  # what it had to close is closed
        self._lines.appendleft(line)
        self._bytes += len(line)
        self._begun = 0


class Watch:
    """Has the loop call ``go_on`` whenever a target can be written.

    Args:
        go_on: writes what waits.
    """

    def __init__(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on
        self._loop: asyncio.AbstractEventLoop | None = None
        self._number = -1

    def begin(self, sink: Sink) -> None:
        """Watch a target, when a loop runs."""
        if self._loop is not None:
            return
        try:
            loop, self._number = asyncio.get_running_loop(), sink.fileno()
            loop.add_writer(self._number, self._go_on)
        except (RuntimeError, OSError):  # no loop, or nothing that can be waited on
            return
        self._loop = loop

    def end(self) -> None:
        """Watch no more; to be called before the target is closed."""
        if self._loop is not None:
            self._loop.remove_writer(self._number)
            self._loop = None
