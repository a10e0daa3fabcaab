"""The data plane: what a caller may ask for (DESIGN section 6).

Duty: declare the routes and their OpenAPI; read the request, ask the service, answer.
Not its duty: deciding, recording (``handout``), the hot path (``fast``), events (``events``).
Rules:

* every route begins with the caller: nothing is answered to nobody;
* a wait ends when its caller goes, so that nothing is handed out to nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, Request, Response

from broker.access.principal import Principal
from broker.access.tokens.showing import Asker
from broker.api.decisions import add_decisions
from broker.api.events import EventStreams
from broker.api.framework import (
    Prepared,
    create_app,
    document,
    path_value,
    peer,
    request_id,
    unless_gone,
)
from broker.api.openapi import CREDENTIAL_NAME, HANDOUT_PARAMETERS, answers, body
from broker.api.problems import Problems
from broker.api.reading import Said, fields_of, read, read_object
from broker.api.tokens import add_token_routes
from broker.clock import Clock
from broker.handout import request as handout
from broker.handout.decisions import DecisionService
from broker.handout.service import HandoutService
from broker.protocol.models import (
    CredentialListDocument,
    HandoutDocument,
    ReportDocument,
    ReportRequest,
    WhoamiDocument,
)
from broker.protocol.names import CREDENTIALS_PATH, EVENTS_PATH, REPORTS_SUFFIX, WHOAMI_PATH
from broker.telemetry.events import Events

if TYPE_CHECKING:  # loaded where the configuration has them
    from broker.access.tokens.minting import TokenDesk

_ONE: Final = CREDENTIALS_PATH + "/{name}"


def create_data_plane(
    *,
    service: HandoutService,
    decisions: DecisionService,
    events: Events,
    problems: Problems,
    clock: Clock,
    tokens: TokenDesk | None = None,
) -> FastAPI:
    """The application behind the data listeners.

    Args:
        service: the use case.
        decisions: decides about tools.
        events: the bus.
        problems: makes answers of errors.
        clock: the only source of time.
        tokens: mints and shows scoped tokens; None when they are off.
    """
    app = create_app(
        "MCP secrets broker",
        "Hands out the current value of configured credentials to local callers.",
        problems,
    )
    routes = _Routes(service, EventStreams(events, service, clock), tokens)
    app.add_api_route(
        CREDENTIALS_PATH,
        routes.list_credentials,
        methods=["GET"],
        operation_id="listCredentials",
        summary="What the caller may have",
        description="Names, states and expiries; never a value.",
        responses=answers(CredentialListDocument, 401, 403, 429, 503),
    )
    app.add_api_route(
        _ONE,
        routes.get_credential,
        methods=["GET"],
        operation_id="getCredential",
        summary="Hand out a credential",
        description=(
            "The current value, with how long it may be used. The `ETag` is the version: with "
            "`If-None-Match` an unchanged version is a 304, whose `Broker-*` fields carry the "
            "new times. With `Prefer: wait` the answer comes when the version changes or, "
            "without `If-None-Match`, when there is a first value."
        ),
        responses=answers(HandoutDocument, 304, 400, 401, 403, 404, 429, 503),
        openapi_extra={"parameters": HANDOUT_PARAMETERS},
    )
    app.add_api_route(
        _ONE + REPORTS_SUFFIX,
        routes.report_credential,
        methods=["POST"],
        operation_id="reportCredential",
        summary="Say that the upstream refused a version",
        description=(
            "One floored look for something newer follows. 200 names the newer version; 409 "
            "says that nothing newer is known. The only value is never withdrawn by a report."
        ),
        responses=answers(ReportDocument, 400, 401, 403, 404, 409, 413, 429, 503),
        openapi_extra={**body(ReportRequest), "parameters": [CREDENTIAL_NAME]},
    )
    app.add_api_route(
        WHOAMI_PATH,
        routes.whoami,
        methods=["GET"],
        operation_id="whoami",
        summary="Who the caller is",
        description="How it was identified, what it may have, and with which tools.",
        responses=answers(WhoamiDocument, 401, 403, 429, 503),
    )
    app.add_api_route(
        EVENTS_PATH,
        routes.stream_events,
        methods=["GET"],
        operation_id="streamEvents",
        summary="Follow what happens to the caller's credentials",
        description=(
            "Server-sent events: published, expiring, suspect, refused, rotated, audit_head, "
            "`revoked` for a scoped token of the caller's, and `gap` when some were missed; names, "
            "versions and ids only. Nothing is replayed: after connecting, ask for the present "
            "state."
        ),
        responses=answers(None, 401, 403, 429, 503),
    )
    add_token_routes(app, tokens, routes.asker)
    add_decisions(app, decisions, routes.who)
    return app


class _Routes:
    def __init__(
        self, service: HandoutService, streams: EventStreams, tokens: TokenDesk | None
    ) -> None:
        self._service = service
        self._streams = streams
        self._tokens = tokens

    async def asker(self, request: Request) -> Asker:
        """Who asks about scoped tokens."""
        principal, said, asked = await self.who(request)
        name = principal.caller.name
        return Asker(name, asked.id, principal, said.subject_token, asked.address)

    async def who(self, request: Request) -> tuple[Principal, Said, handout.Request]:
        """The caller, what it says in its header fields, and the same for the audit."""
        said = read(fields_of(request.scope["headers"]))
        origin = peer(request)
        asked = handout.Request(
            request_id(request), origin.uid, said.tool, said.mcp_request_id, origin.address
        )
        if said.subject_token is not None and self._tokens is not None:
            await self._tokens.freshen()
        principal = self._service.authenticate(
            said.bearer, origin.uid, origin.client, asked, said.subject_token
        )
        return principal, said, asked

    async def list_credentials(self, request: Request) -> Response:
        principal, _, _ = await self.who(request)
        return document(await self._service.credentials(principal))

    async def get_credential(self, request: Request) -> Response:
        principal, said, asked = await self.who(request)
        name = path_value(request, "name")
        condition = said.if_none_match
        if said.wait is None:
            answer = self._service.handout(principal, name, asked, if_none_match=condition)
            if answer is not None:
                await self._service.synced(answer, principal, name, asked)
                return Prepared(answer.status, answer.headers, answer.body)
        answer = await unless_gone(
            request,
            self._service.handout_waiting(
                principal, name, asked, if_none_match=condition, wait=said.wait
            ),
        )
        await self._service.synced(answer, principal, name, asked)
        return Prepared(answer.status, answer.headers, answer.body)

    async def report_credential(self, request: Request) -> Response:
        principal, _, asked = await self.who(request)
        fields = fields_of(request.scope["headers"])
        said = read_object(fields.get(b"content-type"), await request.body())
        answer = await unless_gone(
            request,
            self._service.report(
                principal,
                path_value(request, "name"),
                asked,
                version=said.get("version"),
                status=said.get("status"),
                detail=said.get("detail", ""),
            ),
        )
        return document(answer)

    async def whoami(self, request: Request) -> Response:
        principal, _, _ = await self.who(request)
        return document(await self._service.whoami(principal))

    async def stream_events(self, request: Request) -> Response:
        principal, _, _ = await self.who(request)
        return self._streams.open(principal)
