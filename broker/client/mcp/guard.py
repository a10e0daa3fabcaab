"""The guard in front of an MCP server: plain ASGI, so that a refusal is a real 401 or 403.

Duty: have each HTTP request judged; refuse it or let it in, with the caller's identity and
without its bearer; hear of revocations meanwhile.
Not its duty: judging (``judging``), the texts of refusals (``challenge``), what tools a caller
sees (``admission``).
Rules:

* deny by default: whatever the path, a request without a good bearer is answered here, but
  for paths named ``public`` and the metadata that a challenge points to;
* what cannot be decided is a 503 with ``Retry-After``: never a 500, never a yes;
* the app sees the body that was decided about, byte for byte, and no bearer;
* what was let in once and stays open ends with the bearer that opened it (``streams``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Final
from urllib.parse import urlsplit

from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser

from broker import client
from broker.client.aio import Broker
from broker.client.mcp import challenge
from broker.client.mcp.admission import ADMISSION, Admission
from broker.client.mcp.bearers import Bearers
from broker.client.mcp.challenge import Challenges, Refusal
from broker.client.mcp.deciding import Deciding
from broker.client.mcp.exchange import App, Receive, Scope, Send, answer, replay
from broker.client.mcp.following import follow
from broker.client.mcp.introspection import Introspection
from broker.client.mcp.issuer import Issuer
from broker.client.mcp.judging import Judge
from broker.client.mcp.jwts import Jwts
from broker.client.mcp.message import RequestId
from broker.client.mcp.request import Request
from broker.client.mcp.streams import Streams
from broker.client.tool import acting_for
from broker.errors import BrokerError, SettingsError
from broker.protocol.scopes import tool_scope

log = logging.getLogger("broker.client.mcp")

BODY_TIMEOUT: Final = 30.0
"""Seconds that a body may take to arrive, unless an author says otherwise."""


class Guard:
    """Guards an MCP server.

    Args:
        app: the server's app, such as ``server.streamable_http_app()``; without ``auth=``.
        broker: the client to use; None: the one made from the environment.
        resource: the server's public address, such as ``https://mcp.example.com/mcp``; the
            audience of its tokens.
        issuers: whose JWTs are taken beside the broker's scoped tokens.
        open_tools: names and globs of tools for every authenticated agent, with no policy asked.
        scopes: what every JWT must have, such as ``mcp:connect``; named in each 401.
        arguments: names of the arguments that policies look at; None: all go to the broker.
        body_timeout: seconds in which the body of a request must have arrived; 408 then.
        public: paths that need no bearer, such as ``/healthz``; exact, GET and HEAD only.
        list_reachable: show tools too that only a scope is missing for, so that an agent may
            ask for it.
        name: of the server, in its metadata.
        authorization_servers: in its metadata, where they are not the issuers.

    Raises:
        SettingsError: ``resource`` is no address, an issuer stands twice, or a time is none.
    """

    def __init__(
        self,
        app: App,
        *,
        resource: str,
        broker: Broker | None = None,
        issuers: Sequence[Issuer] = (),
        open_tools: Sequence[str] = (),
        scopes: Sequence[str] = (),
        arguments: Sequence[str] | None = None,
        body_timeout: float = BODY_TIMEOUT,
        public: Sequence[str] = (),
        list_reachable: bool = False,
        name: str = "",
        authorization_servers: Sequence[str] = (),
    ) -> None:
        parts = urlsplit(resource)
        if parts.scheme not in {"https", "http"} or not parts.netloc or parts.query:
            raise SettingsError(
                "This is no address of an MCP server.",
                file="Guard",
                key="resource",
                remedy="Write it as agents do: https://mcp.example.com/mcp",
            )
        if not 0 < body_timeout < inf:
            raise SettingsError(
                "This is no time for a body to arrive in.",
                file="Guard",
                key="body_timeout",
                remedy="Write seconds, such as 30.",
            )
        broker = client.broker if broker is None else broker
        self._app = app
        self._broker = broker
        self._resource = resource
        self._body_timeout = body_timeout
        self._public = frozenset(public)
        servers = tuple(authorization_servers) or tuple(one.url for one in issuers)
        self._metadata = challenge.metadata(resource, servers, scopes, name)
        self._metadata_path = Challenges(resource).metadata_path
        self._introspection = Introspection(broker, resource)
        self._streams = Streams(self._introspection, broker.clock)
        self._judge = Judge(
            challenges=Challenges(resource),
            introspection=self._introspection,
            bearers=Bearers(
                self._introspection, Jwts(issuers, resource=resource, clock=broker.clock)
            ),
            deciding=Deciding(broker, arguments),
            scope_for=issuers[0].scope_for if issuers else tool_scope,
            scopes=tuple(scopes),
            open_tools=tuple(open_tools),
            reachable=list_reachable,
        )

    # --- ASGI -----------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            async with self.running():
                await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear of revocations meanwhile; for a host app that passes no lifespan on.

        Without it the guard is as strict and slower: it asks the broker about each request.

        Raises:
            SettingsError: ``BROKER_URL`` is missing or of no use.
        """
        async with self._broker.connected():
            following = asyncio.create_task(
                follow(self._broker, self._introspection), name="guard follows revocations"
            )
            try:
                yield
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        reads = scope["method"] in {"GET", "HEAD"}
        if reads and scope["path"] == self._metadata_path:
            await answer(self._metadata, send)
        elif reads and scope["path"] in self._public:
            await self._app({**scope, "headers": _without_bearer(scope)}, receive, send)
        else:
            request = Request(scope, receive, self._broker.clock, self._body_timeout)
            try:
                outcome = await self._judge.judge(request)
            except Exception as error:
                outcome = _undecided(error, request.id)
            if isinstance(outcome, Refusal):
                await answer(outcome, send)
            elif outcome is not None:
                await self._let_in(outcome, request, send)

    async def _let_in(self, admission: Admission, request: Request, send: Send) -> None:
        user = AuthenticatedUser(admission.agent.access_token(self._resource))
        scope = {
            **request.scope,
            "headers": _without_bearer(request.scope),
            "user": user,
            ADMISSION: admission,
        }
        before = auth_context_var.set(user)
        try:
            receive = replay(request.body, request.receive)
            with acting_for(admission.agent.acting):
                if request.opens_stream:
                    await self._streams.run(admission.agent, self._app, scope, receive, send)
                else:
                    await self._app(scope, receive, send)
        finally:
            auth_context_var.reset(before)


def _without_bearer(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [one for one in scope["headers"] if one[0].lower() != b"authorization"]


def _undecided(error: Exception, request_id: RequestId) -> Refusal:
    if isinstance(error, BrokerError):
        log.warning("a request could not be decided about: %s %s", error, error.remedy)
        return challenge.unavailable(error, request_id)
    log.error("a request could not be decided about", exc_info=error)
    return challenge.unavailable(None, request_id)
