"""What was changed in audit files, line by line [pure].

Duty: follow the chain through lines; name each line that was edited, dropped, inserted, repeated
or moved; compare with a recorded head.
Not its duty: where a line has its link (``links``), reading files and words on a screen
(``cli``), which files belong together (``files``).
Rules:

* a record is believed when its link follows from one that is believed; nothing else of a
  line counts. After a fault the next links that could be right are all tried, so that one
  change is one fault and not a thousand;
* the end of a chain cannot be seen from inside: whoever cuts the last records off leaves a
  chain that is whole. Only a head that was recorded elsewhere shows it;
* what a full disk or a killed machine cut off is a *piece*: part of no chain, believed by
  nobody, and told as a note. It begins as a record does, and what follows from the record
  before it is a ``gap`` or a ``start``; at the end of a log, it shows nothing of a link. On a
  disk that stays full each attempt may leave one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

from broker.audit.chain import BEGINNING, chain_of
from broker.audit.links import MARK, Head, link_of

_START: Final = b'{"time":"'
_AFTER_PIECE: Final = re.compile(rb'^\{"time":"[^"\\]{1,40}","kind":"(?:gap|start)",')
"""What the broker writes next, when it could not write a record whole."""
_HEAD: Final = re.compile(rb'^\{"time":"[^"\\]{1,40}","kind":"head",')
_PIECES: Final = 100
"""Pieces that may follow each other."""
_TRIED: Final = 4
"""Links that may be right after a fault."""
_PIECE: Final = "is a piece of a record that could not be written whole"
_FOREIGN: Final = "is no record of a chain: it was edited or inserted"
KEPT: Final = 1000
"""Findings kept; more are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one line; a ``note`` is worth knowing and no fault."""

    file: str
    line: int
    message: str
    note: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(slots=True)
class Verdict:
    """What is known when all lines were seen."""

    findings: list[Finding] = field(default_factory=list)
    """The first ``KEPT`` of them."""
    faults: int = 0
    """All findings that are no notes."""
    records: int = 0
    """Lines that claim to be records, right or wrong."""
    chains: int = 0
    """How many begin here."""
    head: Head | None = None
    """The last record's, to be recorded elsewhere."""
    vouched: int = 0
    """The recorded head's record, when it is here: nothing is missing up to it."""


class Verifier:
    """Takes lines in the order of the log.

    Args:
        key: of the chain; empty for one without a key.
        wanted: a head that must be among the records.
        partial: whether records may be missing before the first line.
        mixed: whether other lines may stand between the records, as where a container's two
            outputs are collected into one.
    """

    def __init__(
        self,
        key: bytes,
        wanted: Head | None = None,
        *,
        partial: bool = False,
        mixed: bool = False,
    ) -> None:
        self._key, self._wanted = key, wanted
        self._partial, self._mixed = partial, mixed
        self._verdict = Verdict()
        self._believed: list[Head] = []
        """Links that the next record may follow; the first is the most likely."""
        self._before_first = True
        self._anchor: Head | None = None
        """What the first file goes on after; it cannot come later."""
        self._beginnings: set[bytes] = set()
        """Links of first records: a second one is a copy."""
        self._good = 0
        self._found = False
        self._rewritten = False
        self._place = ("", 0)
        self._pieces: list[Finding] = []
        """The lines before, if they may be such."""
        self._pieces_are_plain = True

    def line(self, file: str, number: int, line: bytes) -> None:
        r"""Take one line, with or without its ``\n``."""
        self._place = (file, number)
        whole = line.endswith(b"\n")
        text = line.rstrip(b"\n")
        head = link_of(text)
        if head is None:
            self._no_record(text)
            return
        if not _is_record(text):
            self._fault(_FOREIGN)
            self._suspect([*self._believed, head])
            return
        if _HEAD.match(text):
            self._top(head)
            return
        faults = self._verdict.faults
        if not whole:
            self._note("has no line end: the process or the machine ended in its middle")
        self._record(head, text[: text.rindex(MARK)])
        followed = faults == self._verdict.faults
        self._settle_pieces(accepted=followed and _AFTER_PIECE.match(text) is not None)

    def end(self) -> Verdict:
        """All lines were seen."""
        self._settle_pieces(accepted=self._pieces_are_plain)
        verdict, wanted = self._verdict, self._wanted
        verdict.head = self._believed[0] if self._believed else None
        if wanted is None:
            return verdict
        last = 0 if verdict.head is None else verdict.head.sequence
        if self._found:
            verdict.vouched = wanted.sequence
        elif self._rewritten:
            self._fault(
                f"record {wanted.sequence} has another link than the recorded head: the chain was "
                "made anew"
            )
        elif last < wanted.sequence:
            self._fault(
                f"the recorded head is record {wanted.sequence}, and the last one here is {last}: "
                "the end is missing"
            )
        else:
            self._fault(f"the recorded head, record {wanted.sequence}, is not in these files")
        return verdict

    # --- kinds of lines -------------------------------------------------------------------

    def _record(self, head: Head, content: bytes) -> None:
        self._verdict.records += 1
        link = bytes.fromhex(head.chain)
        self._compare(head)
        if head == self._anchor:
            self._fault("comes after what goes on from it: the files are in a wrong order")
        if self._before_first:
            self._before_first = False
            if head.sequence > 1:
                say = self._note if self._partial else self._fault
                say(
                    f"begins with record {head.sequence}: what stood before is not here, so "
                    "this one line cannot be checked"
                )
                self._suspect([head])
                return
        for before in self._believed:
            follows = chain_of(self._key, bytes.fromhex(before.chain), content)
            if follows == link and (
                head.sequence == before.sequence + 1 or len(self._believed) > 1
            ):
                self._believe(head)
                return
        if head.sequence == 1 and chain_of(self._key, BEGINNING, content) == link:
            self._begin(head, link)
            return
        self._misfit(head, content)

    def _begin(self, head: Head, link: bytes) -> None:
        if link in self._beginnings:
            self._fault("repeats the beginning of a chain that stood before")
            return
        self._beginnings.add(link)
        self._verdict.chains += 1
        if self._believed:
            self._note(
                f"a new chain begins. Whether the one before ended with record "
                f"{self._believed[0].sequence} cannot be seen from the file"
            )
        self._believe(head)

    def _misfit(self, head: Head, content: bytes) -> None:
        """The record follows from nothing that is believed: say why, as well as can be known."""
        before = self._believed[0] if self._believed else None
        expected = before.sequence + 1 if before else 1
        last = expected - 1
        if head.sequence == expected:
            self._fault(
                f"record {head.sequence} was edited, or is not of this chain"
                if self._good
                else f"record {head.sequence} was edited, or the key is not that of the chain"
            )
        elif head.sequence > expected:
            self._fault(
                f"record {head.sequence} follows {last}: {_range(expected, head.sequence - 1)} "
                "missing"
                if last
                else f"begins with record {head.sequence}, which was edited or moved"
            )
        else:
            self._fault(
                f"record {head.sequence} follows {last}: it was moved, repeated or inserted"
            )
            self._suspect([*self._believed, head])
            return
        computed = [
            Head(head.sequence, chain_of(self._key, bytes.fromhex(one.chain), content).hex())
            for one in self._believed[:1]
        ]
        self._suspect([head, *computed, *self._believed])

    def _top(self, head: Head) -> None:
        """The top of a file that goes on where another was full."""
        if self._before_first:
            self._note(f"begins after record {head.sequence}: older files are not here")
            self._before_first = False
            self._believed, self._anchor = [head], head
        elif head not in self._believed:
            last = self._believed[0].sequence if self._believed else 0
            self._fault(
                f"goes on after record {head.sequence}, and the file before ends with {last}: "
                + (
                    f"{_range(last + 1, head.sequence)} missing"
                    if head.sequence > last
                    else "not the same chain, or files in a wrong order"
                )
            )
            self._suspect([head, *self._believed])
        self._compare(head)

    def _no_record(self, text: bytes) -> None:
        if self._mixed:
            return
        if not text and self._place[1] == 1:
            self._note("is empty: a piece stayed in the file before")
        elif text and (text.startswith(_START) or _START.startswith(text)):
            if len(self._pieces) == _PIECES:
                self._settle_pieces(accepted=False)
            self._pieces.append(Finding(*self._place, _PIECE, note=True))
            self._pieces_are_plain &= MARK not in text and not text.endswith(b"}")
        else:
            self._fault(_FOREIGN)

    def _settle_pieces(self, *, accepted: bool) -> None:
        """What the lines before were, now that it is known what came after them."""
        pieces, self._pieces, self._pieces_are_plain = self._pieces, [], True
        for piece in pieces:
            if accepted:
                self._find(piece)
            else:
                self._verdict.faults += 1
                self._find(Finding(piece.file, piece.line, _FOREIGN))

    # --- bookkeeping ----------------------------------------------------------------------

    def _believe(self, head: Head) -> None:
        self._believed = [head]
        self._good += 1

    def _suspect(self, heads: list[Head]) -> None:
        self._believed = list(dict.fromkeys(heads))[:_TRIED]

    def _compare(self, head: Head) -> None:
        wanted = self._wanted
        if wanted is not None and head.sequence == wanted.sequence:
            if head.chain == wanted.chain:
                self._found = True
            else:
                self._rewritten = True

    def _fault(self, message: str) -> None:
        self._verdict.faults += 1
        self._find(Finding(*self._place, message))

    def _note(self, message: str) -> None:
        self._find(Finding(*self._place, message, note=True))

    def _find(self, finding: Finding) -> None:
        if len(self._verdict.findings) < KEPT:
            self._verdict.findings.append(finding)


def _is_record(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _range(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"
