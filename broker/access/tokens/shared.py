"""Scoped tokens of an installation: signed, good at every replica, revoked at every replica.

Duty: implement ``TokenStore`` over signing keys and one document of revocations in Vault.
Not its duty: reading and writing that document in time (``reader``), its place (``documents``).
Rules:

* a token is verified once and then known by its digest, until it ends;
* when nobody can say what is revoked, every token is refused (the stated exception to
  DESIGN's promise 5), and none is minted;
* a token that is minted carries the newest revocation its maker knew, so that one it had not
  heard of yet reaches the token all the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Iterator
from math import inf
from typing import Any

from broker.access.principal import Caller, Grant
from broker.access.tokens.documents import TokenDocuments
from broker.access.tokens.ledger import Known, Ledger
from broker.access.tokens.model import LONGEST_LIFE, Claims, Target, Wish, claims_of, names
from broker.access.tokens.pod import check, living, own, reap, recheck, sweep
from broker.access.tokens.port import Minted, TokenWatch
from broker.access.tokens.reader import Reader
from broker.access.tokens.revocations import Revocations
from broker.access.tokens.signing import (
    chance_for_id,
    decode,
    encode,
    end_of,
    key_of,
    new_id,
)
from broker.clock import Clock
from broker.errors import SubjectTokenRefused
from broker.protocol.token_format import SIGNED, well_formed
from broker.secret import SecretValue


class SharedTokens:
    """Implements ``TokenStore`` for all replicas of an installation.

    Args:
        clock: both clocks.
        documents: what the replicas share.
        watch: told of tokens that expire, and of those that another replica revoked.
        most: tokens alive that one caller may have, of those known here.
        grace: seconds for which the last reading of the revocations is believed.
        random_bytes: where ids and the key of the digests come from.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        documents: TokenDocuments,
        watch: TokenWatch,
        most: int,
        grace: float,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._clock = clock
        self._watch = watch
        self._random_bytes = random_bytes
        self._ledger = Ledger(random_bytes(32), most=most, now=clock.now())
        self._reader = Reader(clock=clock, documents=documents, grace=grace, learned=self._learned)

    @property
    def generation(self) -> int:
        """See ``SubjectTokens.generation``."""
        return self._reader.generation

    @property
    def fresh(self) -> bool:
        """See ``TokenStore.fresh``."""
        return self._reader.running

    def revocations_age(self) -> float | None:
        """Seconds since the revocations were read; None while nobody reads them."""
        return self._reader.age()

    async def freshen(self) -> None:
        """See ``TokenStore.freshen``."""
        await self._reader.freshen()

    def verify(self, token: bytes, caller: Caller) -> Grant:
        """See ``SubjectTokens.verify``."""
        return own(self._find(token).claims.grant, caller.name)

    def recheck(self, grant: Grant) -> None:
        """See ``SubjectTokens.recheck``."""
        recheck(self._ledger.get(grant.id), self._reader.current(), self._clock)

    def look_up(self, token: bytes) -> Claims:
        """See ``TokenStore.look_up``."""
        return self._find(token).claims

    def _find(self, token: bytes) -> Known:
        if token[:4] != SIGNED or not well_formed(token):
            raise SubjectTokenRefused(reason="token_malformed")
        revocations = self._reader.current()
        digest = self._ledger.digest(token)
        known = self._ledger.find(digest)
        if known is None:
            known = self._first_seen(token, digest, revocations)
        elif known.key is None or self._reader.key(known.key.name) is not known.key:
            raise SubjectTokenRefused(reason="token_key_unknown")
        check(known, revocations, self._clock)
        return known

    def _first_seen(self, token: bytes, digest: bytes, revocations: Revocations) -> Known:
        name, raw = key_of(token)
        key = self._reader.key(name)
        if key is None:
            raise SubjectTokenRefused(reason="token_key_unknown")
        claims = decode(raw, key)
        if claims is None:
            raise SubjectTokenRefused(reason="token_signature_wrong")
        now, wall = self._clock.now(), self._clock.wall()
        known = Known(claims, digest, now + claims.grant.expires_at - wall, False, key)
        check(known, revocations, self._clock)
        self._ledger.add(known, wall=wall)
        return known

    async def mint(self, wish: Wish, *, parent: bytes | None, caller: str, life: float) -> Minted:
        """See ``TokenStore.mint``."""
        await self.freshen()
        revocations, key = self._reader.current(), self._reader.signing_key()
        # No wait from here on: the parent is good by the same revocations that the child knows.
        now, wall = self._clock.now(), self._clock.wall()
        above = None if parent is None else self._find(parent)
        ends_at = inf
        if above is not None:
            own(above.claims.grant, caller)
            life = min(life, above.claims.grant.expires_at - wall)
            ends_at = above.ends_at
        claims = claims_of(
            wish,
            None if above is None else above.claims,
            token_id=new_id(key, caller, wall + life, self._random_bytes(chance_for_id())),
            caller=caller,
            wall=wall,
            life=life,
            sequence=revocations.sequence,
        )
        token = encode(claims, key)
        ends_at = min(ends_at, now + claims.grant.expires_at - wall)
        known = Known(claims, self._ledger.digest(token), ends_at, True, key)
        self._ledger.add(known, wall=wall)
        return Minted(SecretValue(token.decode("ascii")), known)

    def discard(self, known: Known) -> None:
        """See ``TokenStore.discard``: nobody has its text, and nobody can make it again."""
        self._ledger.discard(known)

    async def revoke(self, target: Target) -> list[Known]:
        """See ``TokenStore.revoke``."""
        until = self._clock.wall() + LONGEST_LIFE
        if target.by == "id":
            known = self._ledger.get(target.value)
            end = known.claims.grant.expires_at if known else end_of(target.value)
            until = min(until, end or until)
        revocations = await self._reader.revoke(target, until)
        return await sweep(self._ledger, revocations, lambda one: names(target, one))

    def owns(self, token_id: str, caller: str) -> bool:
        """See ``TokenStore.owns``: the id tells, also of a token that another replica made."""
        end = end_of(token_id)
        return end is not None and end > self._clock.wall() and self._reader.owner(token_id, caller)

    def get(self, token_id: str) -> Known | None:
        """See ``TokenStore.get``."""
        return living(self._ledger.get(token_id), self._reader.revocations, self._clock)

    def page(self, caller: str | None, after: tuple[str, int], size: int) -> list[Known]:
        """See ``TokenStore.page``."""
        return self._ledger.page(caller, after, size)

    def live(self) -> dict[str, int]:
        """See ``TokenStore.live``."""
        return self._ledger.live()

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """See ``TokenStore.tasks``."""
        yield "token reaper", reap(self._ledger, self._watch, self._clock)
        yield "token revocations", self._reader.run()

    async def _learned(self, revocations: Revocations) -> None:
        """The reader found what another replica revoked."""
        for known in await sweep(self._ledger, revocations, lambda _: True):
            self._watch.revoked(known.claims.grant)
