"""``POST /v1/decisions``: may a subject call these tools?

Duty: declare the route, read the request, ask the service.
Not its duty: deciding, recording (``handout.decisions``).
Rules: as for every route of the data plane, it begins with the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from broker.access.principal import Principal
from broker.api.framework import document
from broker.api.openapi import answers, body
from broker.api.reading import Said, fields_of, read_object
from broker.handout import request as handout
from broker.handout.decisions import DecisionService
from broker.protocol.models import DecisionsDocument, DecisionsRequest
from broker.protocol.names import DECISIONS_PATH


def add_decisions(
    app: FastAPI,
    service: DecisionService,
    who: Callable[[Request], Awaitable[tuple[Principal, Said, handout.Request]]],
) -> None:
    """Declare the route.

    Args:
        app: the data plane.
        service: decides.
        who: authenticates the caller of a request.
    """

    async def decide(request: Request) -> Response:
        principal, _, asked = await who(request)
        fields = fields_of(request.scope["headers"])
        said = read_object(fields.get(b"content-type"), await request.body())
        return document(await service.decide(principal, asked, said))

    app.add_api_route(
        DECISIONS_PATH,
        decide,
        methods=["POST"],
        operation_id="decide",
        summary="May a subject call these tools?",
        description=(
            "Asked by the guard in front of an MCP server before a tool is called, or to show an "
            "agent its own tools. The subject is that of the scoped token in "
            "`Broker-Subject-Token`, or one that the caller verified itself. Refusals are "
            "recorded, but for an overview. `scope` names what a scoped token lacks; where it is "
            "empty another token would not help."
        ),
        responses=answers(DecisionsDocument, 400, 401, 403, 413, 429, 503),
        openapi_extra=body(DecisionsRequest),
    )
