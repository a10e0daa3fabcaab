"""Scoped tokens: what the broker says of them (RFC 7662).

Duty: a scoped token → its agent, from the broker or from a cache of at most ``KEPT``.
Not its duty: which tools may be called now (``deciding``), hearing of revocations (``following``).
Rules:

* a verdict is kept only while the guard hears of revocations, and is dropped by one at once;
  a verdict that was asked for before a revocation and came after it is not kept, and not
  given to who asks after it;
* kept under the token's digest, never under the token; at most ``MOST``;
* what is not good is not kept: a token never becomes good, and asking costs the asker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from broker.client.aio import Broker
from broker.client.mcp.agent import Agent
from broker.client.tool import Subject
from broker.errors import (
    BearerRefused,
    BrokerAnswerInvalid,
    BrokerUnreachable,
    TokensUnavailable,
)
from broker.protocol import names

KEPT: Final = 5.0
"""Seconds for which a verdict is kept at most."""
MOST: Final = 10_000
WITHIN: Final = 3.0
"""Seconds the broker may take."""
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": names.JSON}


class Introspection:
    """Asks the broker about scoped tokens.

    Args:
        broker: the client beside the broker.
        resource: the MCP server's address: a token with an audience must name it.
    """

    def __init__(self, broker: Broker, resource: str) -> None:
        self._broker = broker
        self._resource = resource
        self._kept: dict[str, tuple[Agent, float]] = {}
        """By digest, with the moment before the question was sent."""
        self._flights: dict[str, asyncio.Task[tuple[Agent, float]]] = {}
        self.news = asyncio.Event()
        """Set when a token was revoked or any may have been, and replaced then."""
        self._hearing = False
        self._revocations = 0

    # --- what is heard ------------------------------------------------------------------

    def heard(self, *, hearing: bool) -> None:
        """The guard hears of revocations from now on, or no more: what was kept is dropped."""
        self._hearing = hearing
        self.forget()

    def forget(self, token_id: str = "") -> None:
        """A token was revoked; without an id: any may have been."""
        self._revocations += 1
        self._flights.clear()  # who asks from now on waits for no answer from before
        if not token_id:
            self._kept.clear()
        for digest, (agent, _) in list(self._kept.items()):
            if agent.token_id == token_id:
                del self._kept[digest]
        self._broker.forget_subjects()
        news, self.news = self.news, asyncio.Event()
        news.set()

    # --- asking -------------------------------------------------------------------------

    async def agent(self, acting: Subject) -> Agent:
        """Who shows this token.

        Raises:
            BearerRefused: the token is not good.
            BrokerUnreachable, BrokerAnswerInvalid, TokensUnavailable, SettingsError: nobody knows.
        """
        return (await self._judged(acting, KEPT))[0]

    async def verdict(self, acting: Subject, oldest: float) -> float:
        """When the broker was asked about this token, at most ``oldest`` seconds ago.

        Raises:
            See ``agent``.
        """
        return (await self._judged(acting, oldest))[1]

    def asked_at(self, acting: Subject) -> float:
        """When the broker was asked about this token, as far as it is known; else now."""
        kept = self._kept.get(acting.digest)
        return self._broker.clock.now() if kept is None else kept[1]

    async def _judged(self, acting: Subject, oldest: float) -> tuple[Agent, float]:
        kept = self._kept.get(acting.digest)
        clock = self._broker.clock
        young = kept is not None and clock.now() < kept[1] + oldest
        if kept is not None and young and clock.wall() < kept[0].expires_at:
            return kept
        flight = self._flights.get(acting.digest)
        if flight is None:
            loop = asyncio.get_running_loop()
            flight = loop.create_task(self._ask(acting), name="introspection")
            self._flights[acting.digest] = flight
            flight.add_done_callback(lambda done: self._land(acting.digest, done))
        return await asyncio.shield(flight)

    def _land(self, digest: str, done: asyncio.Task[tuple[Agent, float]]) -> None:
        if self._flights.get(digest) is done:
            del self._flights[digest]
        if not done.cancelled():
            done.exception()  # seen, even if all who waited were cancelled

    async def _ask(self, acting: Subject) -> tuple[Agent, float]:
        before, now = self._revocations, self._broker.clock.now()
        reply = await self._broker.exchange(
            "POST",
            names.INTROSPECT_PATH,
            headers=_FORM,
            body=urlencode({"token": acting.token.reveal()}).encode(),
            within=WITHIN,
        )
        said = reply.document()
        if reply.status == 503:
            raise TokensUnavailable
        if reply.status == 401:
            raise BrokerUnreachable("The broker does not know this MCP server.")
        if reply.status == 404:
            raise BearerRefused(reason="tokens_off")  # the broker has none, so none is good
        if reply.status != 200 or not isinstance(said, dict) or "active" not in said:
            raise BrokerAnswerInvalid(f"The broker answered {reply.status} to an introspection.")
        if said["active"] is not True:
            raise BearerRefused(reason="inactive")
        agent = _agent(said, acting)
        self._check(agent, said)
        if self._hearing and before == self._revocations:
            if len(self._kept) >= MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[acting.digest] = (agent, now)
        return agent, now

    def _check(self, agent: Agent, said: Mapping[str, Any]) -> None:
        if agent.expires_at <= self._broker.clock.wall():
            raise BearerRefused(reason="expired")
        audience = said.get("aud")
        named = audience if isinstance(audience, list) else [audience] if audience else []
        # Without an audience the token is for any server of this client, which the broker checked.
        if named and self._resource.rstrip("/") not in {str(one).rstrip("/") for one in named}:
            raise BearerRefused(reason="audience")


def _agent(said: Mapping[str, Any], acting: Subject) -> Agent:
    def text(name: str) -> str:
        value = said.get(name)
        if not isinstance(value, str):
            raise BrokerAnswerInvalid(f"An introspection has no fit member {name!r}.")
        return value

    tools, expires_at = said.get("tools"), said.get("exp")
    if not isinstance(tools, list) or not all(isinstance(one, str) for one in tools):
        raise BrokerAnswerInvalid("An introspection has no fit member 'tools'.")
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        raise BrokerAnswerInvalid("An introspection has no fit member 'exp'.")
    return Agent(
        digest=acting.digest,
        issuer=text("iss"),
        subject=text("sub"),
        client_id=text("client_id"),
        scopes=tuple(text("scope").split()),
        tools=tuple(tools),
        expires_at=expires_at,
        token_id=text("jti"),
        acting=acting,
    )
