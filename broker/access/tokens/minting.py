"""The use cases around scoped tokens: mint, show, introspect, revoke.

Duty: decide who may; ask the store; have it written down; the documents of the answers.
Not its duty: HTTP (``api.tokens``), what is held (``holding``), verifying on the way to a
hand-out (the store does that).
Rules:

* a caller mints what it holds itself and may pass on (``holding``), and nothing else; with a
  token of its own shown, nothing that this one does not name;
* only an operator mints for another, and then no more than that one holds;
* who may mint may name any subject: policies say who may;
* unknown, ended and another's look alike: there is no such token;
* every refusal is recorded with its true reason; the text of a token is nowhere but in the
  one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from broker.access.authorizer import Authorizer
from broker.access.principal import Grant
from broker.access.tokens.holding import see_held
from broker.access.tokens.model import (
    LONGEST_LIFE,
    Target,
    Wish,
    read_target,
    read_wish,
)
from broker.access.tokens.port import TokenRecords, TokenStore
from broker.access.tokens.showing import Asker, cursor, cursor_of, introspection, shown, visible
from broker.clock import Clock
from broker.errors import (
    BrokerError,
    CallerForbidden,
    RequestMalformed,
    RouteUnknown,
    SubjectTokenRefused,
    TokenUnknown,
)
from broker.protocol.token_models import (
    InactiveDocument,
    IntrospectionDocument,
    MintedDocument,
    RevokedDocument,
    TokenDocument,
    TokenListDocument,
)

PAGE: Final = 200
"""Tokens in one answer to a list."""
SLICE: Final = 100
"""Records written in one turn of the loop."""


class TokenDesk:
    """Mints and looks after scoped tokens.

    Args:
        clock: the only source of time.
        store: of this process or of the installation.
        authorizer: decides who may pass on what.
        records: takes what happens.
        life: of a token in seconds, when none is asked for.
        max_life: longest in seconds.
        clients: names of the configured clients.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        store: TokenStore,
        authorizer: Authorizer,
        records: TokenRecords,
        life: float,
        max_life: float,
        clients: Collection[str],
    ) -> None:
        self._clock, self._store, self._authorizer = clock, store, authorizer
        self._records = records
        self.configure(life=life, max_life=max_life, clients=clients)

    def configure(self, *, life: float, max_life: float, clients: Collection[str]) -> None:
        """Take over a new configuration; tokens that are out keep their lives."""
        self._max_life = min(max_life, LONGEST_LIFE)
        self._life = min(life, self._max_life)
        self._clients = frozenset(clients)

    @property
    def fresh(self) -> bool:
        """See ``TokenStore.fresh``."""
        return self._store.fresh

    async def freshen(self) -> None:
        """See ``TokenStore.freshen``; await it before a scoped token is verified."""
        await self._store.freshen()

    # --- minting --------------------------------------------------------------------

    async def mint(self, asker: Asker, said: Mapping[str, Any]) -> MintedDocument:
        """Make a token; its text is in the answer and nowhere else.

        Raises:
            RequestMalformed: it is not clear what is asked for.
            CallerForbidden, CredentialUnknown, InsufficientScope: not his to pass on.
            RouteUnknown: an operator names a client that does not exist.
            TokensExhausted, TokensUnavailable, AuditUnavailable: not now.
        """
        with self._refusals(asker):
            wish = read_wish(said)
            caller = self._for_whom(asker, wish)
            await see_held(self._authorizer, asker, wish, caller, self._clock.wall())
            minted = await self._store.mint(
                wish,
                parent=asker.subject_token,
                caller=caller,
                life=min(wish.life or self._life, self._max_life),
            )
            grant = minted.known.claims.grant
            try:
                self._records.minted(grant, actor=asker.actor, request_id=asker.request_id)
            except BrokerError:
                self._store.discard(minted.known)
                raise
        return {"token": minted.token.reveal(), **shown(grant, self._clock.wall())}

    def _for_whom(self, asker: Asker, wish: Wish) -> str:
        if asker.principal is not None:
            if wish.caller not in {"", asker.caller}:
                raise CallerForbidden(reason="mint_for_another")
            return asker.caller
        if not wish.caller:
            raise RequestMalformed("An operator says for which caller the token is.")
        if wish.caller not in self._clients:
            raise RouteUnknown("No such client.")
        return wish.caller

    # --- showing --------------------------------------------------------------------

    async def introspect(
        self, asker: Asker, token: bytes
    ) -> IntrospectionDocument | InactiveDocument:
        """What a token says (RFC 7662), if it is a good one of who asks.

        Raises:
            TokensUnavailable: nobody can say now.
        """
        await self.freshen()
        try:
            grant = self._own(asker, token)
        except SubjectTokenRefused as error:
            self._records.refused(
                error, caller=asker.caller, token_id="", request_id=asker.request_id
            )
            return {"active": False}
        return introspection(grant)

    def _own(self, asker: Asker, token: bytes) -> Grant:
        grant = self._store.look_up(token).grant
        if asker.principal is not None and grant.caller != asker.caller:
            raise SubjectTokenRefused(reason="token_of_another_caller")
        return grant

    def list(self, asker: Asker, after: str = "") -> TokenListDocument:
        """Live tokens that this process knows, a page of them.

        Raises:
            RequestMalformed: ``after`` is not from an answer.
        """
        caller = None if asker.principal is None else asker.caller
        found = self._store.page(caller, cursor(after), PAGE)
        wall = self._clock.wall()
        last = found[-1] if len(found) == PAGE else None
        return {
            "tokens": [
                shown(known.claims.grant, wall)
                for known in found
                if known.claims.grant.expires_at > wall and visible(asker, known)
            ],
            "next": None if last is None else cursor_of(last),
        }

    async def show(self, asker: Asker, token_id: str) -> TokenDocument:
        """One live token that this process knows.

        Raises:
            TokenUnknown: there is none for who asks.
        """
        await self.freshen()
        known = self._store.get(token_id)
        if known is None or not visible(asker, known):
            raise TokenUnknown
        return shown(known.claims.grant, self._clock.wall())

    # --- revoking -------------------------------------------------------------------

    async def revoke_one(self, asker: Asker, token_id: str) -> None:
        """Revoke a token and all that was minted from it.

        Raises:
            TokenUnknown: there is none for who asks.
            RevocationFailed: it is not confirmed.
        """
        with self._refusals(asker):
            await self.freshen()
            if not self._his(asker, token_id):
                raise TokenUnknown
            await self._revoke(asker, Target("id", token_id))

    def _his(self, asker: Asker, token_id: str) -> bool:
        known = self._store.get(token_id)
        if known is not None:
            return visible(asker, known)
        # Another replica may have made it; what is not known cannot be shown to be a child.
        principal = asker.principal
        return (
            principal is not None
            and principal.grant is None
            and self._store.owns(token_id, asker.caller)
        )

    async def revoke(self, asker: Asker, said: Mapping[str, Any]) -> RevokedDocument:
        """Revoke by id, subject, caller, credential, parent or all; for operators.

        Raises:
            RequestMalformed: it is not clear which.
            RevocationFailed: it is not confirmed.
        """
        with self._refusals(asker):
            return {"revoked": await self._revoke(asker, read_target(said))}

    async def _revoke(self, asker: Asker, target: Target) -> int:
        ended = await self._store.revoke(target)
        actor, request_id = asker.actor, asker.request_id
        for number, known in enumerate(ended, 1):
            grant = known.claims.grant
            self._records.revoked_by(grant, target, actor=actor, request_id=request_id)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        if not ended:
            self._records.revoked_unseen(target, actor=actor, request_id=request_id)
        return len(ended)

    @contextmanager
    def _refusals(self, asker: Asker) -> Iterator[None]:
        """Any error inside is recorded as a refusal on its way out."""
        try:
            yield
        except Exception as error:
            token_id = "" if asker.principal is None else asker.principal.token_id
            self._records.refused(
                error, caller=asker.caller, token_id=token_id, request_id=asker.request_id
            )
            raise
