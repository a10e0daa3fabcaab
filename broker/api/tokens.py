"""Scoped tokens over HTTP: for callers on the data plane, for operators on the admin plane.

Duty: declare the routes and their OpenAPI; read the request, ask the desk, answer.
Not its duty: who asks (``data``, ``admin``), deciding and recording (``access.tokens``).
Rules:

* an introspection answers 200 whatever it is asked about: what is not a good token of the
  caller is ``{"active": false}``, byte for byte;
* a token's text is in the answer to its minting and nowhere else, in no path and no query.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, Request, Response
from fastapi.params import Depends

from broker.access.tokens.showing import Asker
from broker.api.framework import NO_STORE, Prepared, document, path_value, peer, request_id
from broker.api.openapi import PAGE_AFTER, SUBJECT_PARAMETER, TOKEN_ID, answers, body, token_body
from broker.api.reading import fields_of, read, read_object, read_token
from broker.errors import RouteUnknown
from broker.protocol.names import INTROSPECT_PATH, REVOKE_PATH, TOKENS_PATH
from broker.protocol.token_models import (
    InactiveDocument,
    IntrospectionDocument,
    MintedDocument,
    TokenDocument,
    TokenListDocument,
    TokenRequest,
)

if TYPE_CHECKING:  # loaded where the configuration has them
    from broker.access.tokens.minting import TokenDesk

log = logging.getLogger("broker.admin")

_ONE: Final = TOKENS_PATH + "/{id}"


class TokenRoutes:
    """The routes that both planes have.

    Args:
        desk: the use cases; None when scoped tokens are off.
        asker: says who asks.
    """

    def __init__(
        self, desk: TokenDesk | None, asker: Callable[[Request], Awaitable[Asker]]
    ) -> None:
        self._desk, self._asker = desk, asker

    def _open(self) -> TokenDesk:
        if self._desk is None:
            raise RouteUnknown(
                "Scoped tokens are switched off.", remedy="Set tokens.store to pod or shared."
            )
        return self._desk

    async def mint(self, request: Request) -> Response:
        """201 with the token, once."""
        asker = await self._asker(request)
        fields = fields_of(request.scope["headers"])
        said = read_object(fields.get(b"content-type"), await request.body())
        return document(await self._open().mint(asker, said), 201)

    async def list(self, request: Request) -> Response:
        """A page of live tokens."""
        asker = await self._asker(request)
        return document(self._open().list(asker, request.query_params.get("after", "")))

    async def show(self, request: Request) -> Response:
        """One token, without its text."""
        asker = await self._asker(request)
        return document(await self._open().show(asker, path_value(request, "id")))

    async def revoke_one(self, request: Request) -> Response:
        """204 once it is revoked."""
        asker = await self._asker(request)
        await self._open().revoke_one(asker, path_value(request, "id"))
        return Prepared(204, (NO_STORE,), b"")

    async def introspect(self, request: Request) -> Response:
        """What a token says, or that it is not active."""
        asker = await self._asker(request)
        fields = fields_of(request.scope["headers"])
        token = read_token(fields.get(b"content-type"), await request.body())
        return document(await self._open().introspect(asker, token))

    async def revoke(self, request: Request) -> Response:
        """How many were revoked."""
        asker = await self._asker(request)
        fields = fields_of(request.scope["headers"])
        said = read_object(fields.get(b"content-type"), await request.body())
        return document(await self._open().revoke(asker, said))


def add_token_routes(
    app: FastAPI,
    desk: TokenDesk | None,
    asker: Callable[[Request], Awaitable[Asker]],
    *,
    may: Sequence[Depends] = (),
) -> TokenRoutes:
    """Declare what both planes have.

    Args:
        app: of the plane.
        desk: see ``TokenRoutes``.
        asker: says who asks; raises for nobody.
        may: what every route depends on.
    """
    routes = TokenRoutes(desk, asker)
    app.add_api_route(
        TOKENS_PATH,
        routes.mint,
        methods=["POST"],
        operation_id="mintToken",
        summary="Mint a scoped token",
        description=(
            "For one subject, some tools and some credentials, and not for long. A caller mints "
            "what it holds itself; with a scoped token shown, a child that names no more and "
            "ends no later. The token is shown in this answer only."
        ),
        status_code=201,
        responses=answers(MintedDocument, 400, 401, 403, 404, 413, 503, success=201),
        openapi_extra={**body(TokenRequest), "parameters": [SUBJECT_PARAMETER]},
        dependencies=may,
    )
    app.add_api_route(
        TOKENS_PATH,
        routes.list,
        methods=["GET"],
        operation_id="listTokens",
        summary="The caller's live tokens",
        description="Those that this broker knows, a page of them; never a token itself.",
        responses=answers(TokenListDocument, 400, 401, 403, 503),
        openapi_extra={"parameters": [PAGE_AFTER]},
        dependencies=may,
    )
    app.add_api_route(
        INTROSPECT_PATH,
        routes.introspect,
        methods=["POST"],
        operation_id="introspectToken",
        summary="What a token says (RFC 7662)",
        description=(
            "Active only for the caller that may use the token. Whatever else is asked about "
            'is exactly `{"active":false}`.'
        ),
        responses=answers((IntrospectionDocument, InactiveDocument), 400, 401, 403, 413, 503),
        openapi_extra=token_body(),
        dependencies=may,
    )
    app.add_api_route(
        _ONE,
        routes.show,
        methods=["GET"],
        operation_id="showToken",
        summary="One of the caller's live tokens",
        description="Without its text.",
        responses=answers(TokenDocument, 401, 403, 404, 503),
        openapi_extra={"parameters": [TOKEN_ID]},
        dependencies=may,
    )
    app.add_api_route(
        _ONE,
        routes.revoke_one,
        methods=["DELETE"],
        operation_id="revokeToken",
        summary="Revoke a token and all that was minted from it",
        description=(
            "204 says that it is refused from now on: here at once, and with the shared store "
            "on every replica within a second."
        ),
        status_code=204,
        responses=answers(None, 401, 403, 404, 503, success=204),
        openapi_extra={"parameters": [TOKEN_ID]},
        dependencies=may,
    )
    return routes


def add_operator_routes(app: FastAPI, desk: TokenDesk | None, *, may: Sequence[Depends]) -> None:
    """Declare what operators have: all callers' tokens, and revoking many at once.

    Args:
        app: of the admin plane.
        desk: see ``TokenRoutes``.
        may: what every route depends on.
    """

    async def operator(request: Request) -> Asker:
        said = read(fields_of(request.scope["headers"]))
        asker = Asker(
            f"operator uid {peer(request).uid}", request_id(request), None, said.subject_token
        )
        if desk is not None and request.method != "GET":
            # The path holds ids, which are no secrets.
            log.info(
                "operator asks: %s %s",
                request.method,
                request.url.path,
                extra={"request_id": asker.request_id},
            )
        return asker

    # Before the routes with an id, which would take "revoke" for one.
    routes = TokenRoutes(desk, operator)
    app.add_api_route(
        REVOKE_PATH,
        routes.revoke,
        methods=["POST"],
        operation_id="revokeTokens",
        summary="Revoke by id, subject, caller, credential, parent or all",
        dependencies=may,
    )
    add_token_routes(app, desk, operator, may=may)
