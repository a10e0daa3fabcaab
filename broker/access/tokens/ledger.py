"""The scoped tokens that this process knows: by digest and by id, bounded, reaped.

Duty: keep what was minted or shown here, until it has expired; count what each caller has.
Not its duty: which are revoked (``revocations``), their text: nothing here can be made one.
Rules:

* a token is found by a digest under a key that is made anew with the process and never
  leaves it, so that a copy of this memory proves nothing anywhere;
* a caller has at most so many alive, so that none takes the places of others; a mint beyond
  that is an error that says when there is a place again;
* what has ended stays for ``MEMORY`` seconds, so that the audit can tell expired and revoked
  from unknown, but goes at once when its place is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from heapq import merge
from itertools import islice
from typing import Final

from broker.access.tokens.model import Claims
from broker.access.tokens.signing import Key
from broker.errors import TokensExhausted

MEMORY: Final = 300.0
"""Seconds for which an ended token is remembered."""
DIGEST_BYTES: Final = 24


@dataclass(slots=True)
class Known:
    """One token."""

    claims: Claims
    digest: bytes
    """Of the whole token."""
    ends_at: float
    """Reading of ``Clock.now()`` at which it ends, so that no set-back of the date prolongs it."""
    minted: bool
    """Made by this process, which then tells its end; else only shown to it."""
    key: Key | None = None
    """What signed it, if anything did."""
    checked: int = 0
    """The newest revocation it was compared with."""
    revoked: bool = False
    expired: bool = False
    number: int = 0
    """Of its coming; given by the ledger."""
    second: int = 0
    """Whole second of ``Clock.now()`` at which to look at it; the ledger's."""

    @property
    def live(self) -> bool:
        """Neither revoked nor reaped."""
        return not (self.revoked or self.expired)


class _Group:
    """The tokens of one caller, each kind in the order of their coming."""

    __slots__ = ("ended", "minted", "shown")

    def __init__(self) -> None:
        self.minted: dict[str, Known] = {}
        self.shown: dict[str, Known] = {}
        self.ended: dict[str, Known] = {}

    def forget(self, token_id: str) -> None:
        for kind in (self.minted, self.shown, self.ended):
            kind.pop(token_id, None)

    def __bool__(self) -> bool:
        return bool(self.minted or self.shown or self.ended)


class Ledger:
    """All known tokens. All methods belong to the loop's thread.

    Args:
        key: for the digests, random.
        most: tokens alive that one caller may have.
        now: ``Clock.now()``.
    """

    def __init__(self, key: bytes, *, most: int, now: float) -> None:
        self._keyed = blake2b(key=key, digest_size=DIGEST_BYTES)
        self.most = most
        self._by_digest: dict[bytes, Known] = {}
        self._by_id: dict[str, Known] = {}
        self._groups: dict[str, _Group] = {}
        self._seconds: dict[int, dict[str, Known]] = {}
        """What to look at when a second has passed."""
        self._reaped = int(now)
        self._number = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def digest(self, token: bytes) -> bytes:
        """Under what a token is kept."""
        keyed = self._keyed.copy()
        keyed.update(token)
        return keyed.digest()

    def find(self, digest: bytes) -> Known | None:
        """The token with this digest."""
        return self._by_digest.get(digest)

    def get(self, token_id: str) -> Known | None:
        """The token with this id."""
        return self._by_id.get(token_id)

    def live(self) -> dict[str, int]:
        """How many live ones each caller has."""
        return {name: len(one.minted) + len(one.shown) for name, one in self._groups.items()}

    def all(self) -> list[Known]:
        """All of them as they are now, those that have ended too."""
        return list(self._by_id.values())

    def page(self, caller: str | None, after: tuple[str, int], size: int) -> list[Known]:
        """Up to ``size`` live tokens, of one caller or of all, by caller and then by coming.

        Args:
            caller: None for all.
            after: caller and number of the last one of the page before.
            size: of the page.
        """
        names = [caller] if caller is not None else sorted(self._groups)
        found = (
            known
            for name in names
            if name in self._groups and name >= after[0]
            for known in merge(
                self._groups[name].minted.values(),
                self._groups[name].shown.values(),
                key=lambda known: known.number,
            )
        )
        first, number = after
        here = (
            known for known in found if known.claims.grant.caller != first or known.number > number
        )
        return list(islice(here, size))

    def add(self, known: Known, *, wall: float) -> bool:
        """Keep a token.

        Args:
            known: the token.
            wall: Unix time now.

        Returns:
            False when it was only shown here and there is no place: it works without.

        Raises:
            TokensExhausted: it was to be minted, and the caller has too many.
        """
        grant = known.claims.grant
        group = self._groups.get(grant.caller) or _Group()
        if len(group.minted) + len(group.shown) + len(group.ended) >= self.most:
            # What has ended goes first, then what can be shown again.
            spare = group.ended or group.shown
            if not spare:
                if not known.minted:
                    return False
                oldest = next(iter(group.minted.values()))
                at = max(oldest.claims.grant.expires_at, wall)
                raise TokensExhausted(next_attempt_at=at)
            self._drop(next(iter(spare.values())))
        self._number += 1
        known.number = self._number
        self._groups[grant.caller] = group
        self._by_digest[known.digest] = self._by_id[grant.id] = known
        (group.minted if known.minted else group.shown)[grant.id] = known
        self._look_again(known, known.ends_at)
        return True

    def end(self, known: Known, *, revoked: bool) -> None:
        """A token is revoked or has expired; it is remembered for a while."""
        if not known.live:
            return
        known.revoked, known.expired = revoked, not revoked
        grant = known.claims.grant
        group = self._groups.get(grant.caller)
        if group is not None and self._by_id.get(grant.id) is known:
            group.forget(grant.id)
            group.ended[grant.id] = known

    def discard(self, known: Known) -> None:
        """Forget a token that never left."""
        self._drop(known)

    def due(self, now: float, *, most: int) -> list[Known] | None:
        """Live tokens whose end by time has come; old ones that have ended are forgotten.

        Args:
            now: ``Clock.now()``.
            most: steps in one go.

        Returns:
            None when there is nothing more to look at now.
        """
        found: list[Known] = []
        for _ in range(most):
            if not self._seconds:
                self._reaped = int(now)
            if self._reaped >= int(now):
                return found or None
            here = self._seconds.get(self._reaped + 1)
            if not here:
                self._seconds.pop(self._reaped + 1, None)
                self._reaped += 1
                continue
            known = here.pop(next(iter(here)))
            if known.live:
                found.append(known)
            if known.ends_at + MEMORY <= now:
                self._drop(known)
            else:
                self._look_again(known, known.ends_at + MEMORY)
        return found

    def _look_again(self, known: Known, at: float) -> None:
        known.second = max(int(at) + 1, self._reaped + 1)
        self._seconds.setdefault(known.second, {})[known.claims.grant.id] = known

    def _drop(self, known: Known) -> None:
        grant = known.claims.grant
        self._by_digest.pop(known.digest, None)
        self._by_id.pop(grant.id, None)
        group = self._groups.get(grant.caller)
        if group is not None:
            group.forget(grant.id)
            if not group:
                del self._groups[grant.caller]
        here = self._seconds.get(known.second)
        if here is not None:
            here.pop(grant.id, None)
            if not here:
                del self._seconds[known.second]
