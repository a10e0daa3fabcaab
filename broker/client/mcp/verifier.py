"""Only authentication, in the SDK's own place: a ``TokenVerifier``.

Duty: judge bearers for ``MCPServer(token_verifier=…, auth=…)``; make of an outage a 503.
Not its duty: what the guard does beside: tools, policies, challenges with scopes, the bearer
kept out of tools. Take the guard where you can.
Rules: the SDK makes a 500 of a verifier that raises and a 401 of one that returns nothing;
an outage is neither. The verifier raises, and ``unavailable_as_503`` around the app puts a
503 in the place of that 500.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

from mcp.server.auth.provider import AccessToken

from broker import client
from broker.client.aio import Broker
from broker.client.mcp.bearers import Bearers
from broker.client.mcp.challenge import unavailable
from broker.client.mcp.exchange import App, Receive, Scope, Send, answer
from broker.client.mcp.introspection import Introspection
from broker.client.mcp.issuer import Issuer
from broker.client.mcp.jwts import Jwts
from broker.errors import BearerRefused, BrokerError

log = logging.getLogger("broker.client.mcp")

_outages: Final[ContextVar[list[BrokerError] | None]] = ContextVar("broker_outages", default=None)


class BrokerTokenVerifier:
    """A ``TokenVerifier`` (``mcp.server.auth.provider``). Keeps no verdict.

    Args:
        resource: the server's public address, the audience of its tokens.
        broker: the client to use; None: the one made from the environment.
        issuers: whose JWTs are taken beside the broker's scoped tokens.
    """

    def __init__(
        self, *, resource: str, broker: Broker | None = None, issuers: Sequence[Issuer] = ()
    ) -> None:
        broker = client.broker if broker is None else broker
        self._resource = resource
        self._bearers = Bearers(
            Introspection(broker, resource), Jwts(issuers, resource=resource, clock=broker.clock)
        )

    async def verify_token(self, token: str) -> AccessToken | None:
        """The agent's identity; None when the bearer is not good.

        Raises:
            BrokerError: nobody can say; see ``unavailable_as_503``.
        """
        try:
            agent = await self._bearers.agent(token)
        except BearerRefused as error:
            log.info("refused a bearer: %s", error.reason)
            return None
        except BrokerError as error:
            outages = _outages.get()
            if outages is not None:
                outages.append(error)
            raise
        return agent.access_token(self._resource)


def unavailable_as_503(app: App) -> App:
    """Around an app with a ``BrokerTokenVerifier``: its outages are 503 with ``Retry-After``."""

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        outages: list[BrokerError] = []
        answered = False

        async def replacing(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if outages and message["type"] == "http.response.start":
                answered = True
                await answer(unavailable(outages[0]), send)
            if not answered:
                await send(message)

        before = _outages.set(outages)
        try:
            await app(scope, receive, replacing)
        except BrokerError as error:
            if not answered or error not in outages:
                raise
            log.warning("a bearer could not be judged: %s %s", error, error.remedy)
        finally:
            _outages.reset(before)

    return around
