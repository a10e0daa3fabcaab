"""Scoped tokens of one pod: in memory, opaque, gone when the process is.

Duty: implement ``TokenStore`` with nothing but this process.
Not its duty: several replicas (``shared``), who may have a token (``minting``).
Rules:

* the token is 256 random bits; nothing but a keyed digest of it stays here;
* a revocation counts from the moment it is asked for; finding what it ended comes after it,
  in slices, since there may be thousands.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from broker.access.principal import Caller, Grant
from broker.access.tokens.ledger import Known, Ledger
from broker.access.tokens.model import Claims, Target, Wish, claims_of, names
from broker.access.tokens.port import Minted, TokenWatch
from broker.access.tokens.revocations import Revocations
from broker.clock import Clock
from broker.errors import SubjectTokenRefused
from broker.protocol.token_format import RANDOM_BYTES, opaque, well_formed
from broker.secret import SecretValue

SLICE: Final = 200
"""Tokens looked at in one turn of the loop: far below a millisecond."""
PAUSE: Final = 1.0
"""Seconds between two looks for tokens that have expired."""
ID_BYTES: Final = 12


class PodTokens:
    """Implements ``TokenStore`` in memory.

    Args:
        clock: both clocks.
        watch: told of tokens that expire.
        most: tokens alive that one caller may have.
        random_bytes: where tokens, ids and the key of the digests come from.
    """

    fresh = True

    def __init__(
        self,
        *,
        clock: Clock,
        watch: TokenWatch,
        most: int,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.generation = 0
        self._clock = clock
        self._watch = watch
        self._random_bytes = random_bytes
        self._ledger = Ledger(random_bytes(32), most=most, now=clock.now())
        self._revocations = Revocations()

    async def freshen(self) -> None:
        """See ``TokenStore.freshen``: it always is."""

    def verify(self, token: bytes, caller: Caller) -> Grant:
        """See ``SubjectTokens.verify``."""
        return own(self._find(token).claims.grant, caller.name)

    def recheck(self, grant: Grant) -> None:
        """See ``SubjectTokens.recheck``."""
        recheck(self._ledger.get(grant.id), self._revocations, self._clock)

    def look_up(self, token: bytes) -> Claims:
        """See ``TokenStore.look_up``."""
        return self._find(token).claims

    def _find(self, token: bytes) -> Known:
        if not well_formed(token):
            raise SubjectTokenRefused(reason="token_malformed")
        known = self._ledger.find(self._ledger.digest(token))
        if known is None:
            raise SubjectTokenRefused(reason="token_unknown")
        check(known, self._revocations, self._clock)
        return known

    async def mint(self, wish: Wish, *, parent: bytes | None, caller: str, life: float) -> Minted:
        """See ``TokenStore.mint``."""
        now, wall = self._clock.now(), self._clock.wall()
        above = None if parent is None else self._find(parent)
        if above is not None:
            own(above.claims.grant, caller)
        claims = claims_of(
            wish,
            None if above is None else above.claims,
            token_id=self._random_bytes(ID_BYTES).hex(),
            caller=caller,
            wall=wall,
            life=life,
            sequence=self._revocations.sequence,
        )
        token = opaque(self._random_bytes(RANDOM_BYTES))
        ends_at = now + claims.grant.expires_at - wall
        if above is not None:
            ends_at = min(ends_at, above.ends_at)
        known = Known(claims, self._ledger.digest(token), ends_at, minted=True)
        self._ledger.add(known, wall=wall)
        return Minted(SecretValue(token.decode("ascii")), known)

    def discard(self, known: Known) -> None:
        """See ``TokenStore.discard``."""
        self._ledger.discard(known)

    async def revoke(self, target: Target) -> list[Known]:
        """See ``TokenStore.revoke``."""
        wall = self._clock.wall()
        before = self._revocations
        self._revocations = before.with_targets([(target, wall + 1)], wall)
        self.generation += 1
        ended = await sweep(self._ledger, self._revocations, lambda one: names(target, one))
        # All that it means have been found: what is minted now knows of it.
        kept = [one for one in self._revocations.entries if one.target != target]
        self._revocations = Revocations(self._revocations.sequence, kept)
        return ended

    def owns(self, token_id: str, caller: str) -> bool:
        """See ``TokenStore.owns``."""
        known = self.get(token_id)
        return known is not None and known.claims.grant.caller == caller

    def get(self, token_id: str) -> Known | None:
        """See ``TokenStore.get``."""
        return living(self._ledger.get(token_id), self._revocations, self._clock)

    def page(self, caller: str | None, after: tuple[str, int], size: int) -> list[Known]:
        """See ``TokenStore.page``."""
        return self._ledger.page(caller, after, size)

    def live(self) -> dict[str, int]:
        """See ``TokenStore.live``."""
        return self._ledger.live()

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """See ``TokenStore.tasks``."""
        yield "token reaper", reap(self._ledger, self._watch, self._clock)


def own(grant: Grant, caller: str) -> Grant:
    """See that a token is the caller's.

    Raises:
        SubjectTokenRefused: it is another's.
    """
    if grant.caller != caller:
        raise SubjectTokenRefused(reason="token_of_another_caller")
    return grant


def check(known: Known, revocations: Revocations, clock: Clock) -> None:
    """See that a known token is good now.

    Raises:
        SubjectTokenRefused: it has expired or is revoked.
    """
    if known.revoked:
        raise SubjectTokenRefused(reason="token_revoked")
    if known.checked != revocations.sequence:
        if revocations.revoked(known.claims):
            raise SubjectTokenRefused(reason="token_revoked")
        known.checked = revocations.sequence
    if clock.wall() >= known.claims.grant.expires_at or clock.now() >= known.ends_at:
        raise SubjectTokenRefused(reason="token_expired")


def recheck(known: Known | None, revocations: Revocations, clock: Clock) -> None:
    """See that a token is remembered and good now.

    Raises:
        SubjectTokenRefused: it is not.
    """
    if known is None:
        raise SubjectTokenRefused(reason="token_unknown")
    check(known, revocations, clock)


def living(known: Known | None, revocations: Revocations, clock: Clock) -> Known | None:
    """The token, if it is good now."""
    if known is not None:
        try:
            check(known, revocations, clock)
        except SubjectTokenRefused:
            return None
    return known


async def sweep(
    ledger: Ledger, revocations: Revocations, meant: Callable[[Claims], bool]
) -> list[Known]:
    """End the known tokens that are revoked and meant; those that were alive until now."""
    ended = []
    for number, known in enumerate(ledger.all(), 1):
        if known.live and meant(known.claims) and revocations.revoked(known.claims):
            ledger.end(known, revoked=True)
            ended.append(known)
        if number % SLICE == 0:
            await asyncio.sleep(0)
    return ended


async def reap(ledger: Ledger, watch: TokenWatch, clock: Clock) -> None:
    """End tokens by time, for ever."""
    while True:
        while (due := ledger.due(clock.now(), most=SLICE)) is not None:
            for known in due:
                ledger.end(known, revoked=False)
                if known.minted:
                    watch.expired(known.claims.grant)
            await asyncio.sleep(0)
        await clock.sleep(PAUSE)
