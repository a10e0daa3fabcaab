"""Which tokens are revoked, as one value and as one document [pure].

Duty: add a revocation; say whether a token is revoked; write the document and read it back.
Not its duty: keeping it in Vault (``documents``), reading it in time (``reader``).
Rules:

* revocations are numbered, and a token carries the newest number its maker knew: a revocation
  means the tokens with a smaller one. No clock is compared, so a token that another replica
  mints before it has heard of the revocation is revoked too, and one minted afterwards is not;
* a number is never used again, even when the document is lost: it is at least the time in
  milliseconds;
* an entry is dropped when every token it could mean has expired; the document is bounded;
* a document that cannot be understood is an error: guessing would let a revoked token live.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from broker.access.tokens.model import BY, Claims, Target
from broker.errors import RevocationFailed, TokensUnavailable

SCHEMA: Final = 1
MOST: Final = 4000
"""Entries at most."""
MOST_BYTES: Final = 512 * 1024
"""Of the document: half of what Vault takes as one value."""
SKEW: Final = 60.0
"""Seconds by which the clocks of replicas may differ before an entry is dropped too early."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One revocation."""

    target: Target
    sequence: int
    until: float
    """Unix time at which every token it could mean has expired."""


class Revocations:
    """All revocations that are known at one moment; never changes.

    Args:
        sequence: number of the newest one ever; it stays when its entry is dropped.
        entries: those that still matter.
    """

    __slots__ = ("_index", "entries", "sequence")

    def __init__(self, sequence: int = 0, entries: Iterable[Entry] = ()) -> None:
        self.sequence = sequence
        self.entries = tuple(entries)
        self._index: dict[str, dict[str, int]] = {by: {} for by in BY}
        for one in self.entries:
            known = self._index[one.target.by]
            known[one.target.value] = max(one.sequence, known.get(one.target.value, 0))

    def revoked(self, claims: Claims) -> bool:
        """Whether a token is revoked by any of them."""
        known = claims.sequence
        if known >= self.sequence:
            return False
        index, grant = self._index, claims.grant
        ids, parents = index["id"], index["parent"]
        return (
            index["all"].get("", 0) > known
            or ids.get(grant.id, 0) > known
            or index["subject"].get(grant.subject, 0) > known
            or index["caller"].get(grant.caller, 0) > known
            or any(max(ids.get(one, 0), parents.get(one, 0)) > known for one in claims.ancestors)
            or any(index["credential"].get(one, 0) > known for one in claims.first_credentials)
        )

    def with_targets(self, targets: Iterable[tuple[Target, float]], wall: float) -> Revocations:
        """These and more; what has no meaning any more is dropped.

        Args:
            targets: what to revoke, and until when that may mean a token.
            wall: Unix time now.

        Raises:
            RevocationFailed: there are too many.
        """
        sequence = self.sequence
        kept = {one.target: one for one in self._newest(self.entries) if one.until + SKEW > wall}
        for target, until in targets:
            sequence = max(sequence + 1, int(wall * 1000))
            if target.by == "all":
                kept.clear()
            before = kept.pop(target, None)
            kept[target] = Entry(target, sequence, max(until, before.until if before else until))
        changed = Revocations(sequence, kept.values())
        if len(kept) > MOST or sum(map(len, changed.lines())) > MOST_BYTES:
            raise RevocationFailed("There are as many revocations as one document takes.")
        return changed

    def joined(self, other: Revocations) -> Revocations:
        """What either knows."""
        entries = self._newest((*self.entries, *other.entries))
        return Revocations(max(self.sequence, other.sequence), entries)

    @staticmethod
    def _newest(entries: Iterable[Entry]) -> Iterable[Entry]:
        newest: dict[Target, Entry] = {}
        for one in entries:
            known = newest.get(one.target)
            if known is None or known.sequence < one.sequence:
                newest[one.target] = one
        return newest.values()

    def lacks(self, other: Revocations, wall: float) -> bool:
        """Whether ``other`` knows what this does not and what still matters."""
        known = {one.target: one.sequence for one in self.entries}
        # One that says "all" stands for everything before it.
        everything = self._index["all"].get("", 0)
        return other.sequence > self.sequence or any(
            max(known.get(one.target, 0), everything) < one.sequence
            for one in other.entries
            if one.until > wall
        )

    def lines(self) -> Iterator[str]:
        """The document, line by line: a head, then one entry each."""
        yield json.dumps({"schema": SCHEMA, "sequence": self.sequence}, separators=(",", ":"))
        for one in self.entries:
            yield json.dumps(
                [one.target.by, one.target.value, one.sequence, one.until],
                separators=(",", ":"),
                ensure_ascii=False,
            )


def read_head(line: str) -> int:
    """The sequence in the first line of a document.

    Raises:
        TokensUnavailable: it is none that this version understands.
    """
    head = _json(line)
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        raise TokensUnavailable("The document of revocations is of another schema, or damaged.")
    return _whole(head.get("sequence"))


def read_entry(line: str) -> Entry:
    """One further line.

    Raises:
        TokensUnavailable: it is damaged.
    """
    parts = _json(line)
    if isinstance(parts, list) and len(parts) == 4:
        by, value, sequence, until = parts
        if by in BY and isinstance(value, str) and isinstance(until, int | float):
            return Entry(Target(by, value), _whole(sequence), float(until))
    raise _damaged()


def _whole(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise _damaged()
    return number


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise _damaged() from None


def _damaged() -> TokensUnavailable:
    return TokensUnavailable("The document of revocations is damaged.")
