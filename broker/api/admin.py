"""The admin plane: what an operator may ask, over a socket no other container mounts.

Duty: status, refresh, new client tokens, quit; rotation by ``api.rotation``, scoped tokens by
``api.tokens``.
Not its duty: who may open the socket (its directory and mode: ``sockets``).
Rules:

* besides the socket's mode the kernel's word is asked: the broker's own uid or root;
* an operator sees no value either;
* what an operator does is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import Depends, FastAPI, Request, Response

from broker import __version__
from broker.api.framework import create_app, document, path_value, peer, request_id, unless_gone
from broker.api.health import Health
from broker.api.openapi import CLIENT_NAME, CREDENTIAL_NAME
from broker.api.problems import Problems
from broker.api.rotation import add_rotation_routes
from broker.api.tokens import add_operator_routes
from broker.credentials.model import CredentialKey, Entry
from broker.errors import CallerForbidden, RouteUnknown
from broker.protocol.names import CLIENTS_PATH, CREDENTIALS_PATH, QUIT_PATH, STATUS_PATH

if TYPE_CHECKING:  # loaded where the configuration has them
    from broker.access.tokens.minting import TokenDesk
    from broker.rotation.ports import Rotations

log = logging.getLogger("broker.admin")


class Refresher(Protocol):
    """The part of ``credentials.keepers.Keepers`` that operators use."""

    async def refresh(self, key: CredentialKey) -> Entry | None:
        """One refresh now, floored; the entry after it."""
        ...


def create_admin_plane(
    *,
    health: Health,
    keepers: Refresher,
    vault: Callable[[], dict[str, Any]],
    replace_token: Callable[[str], bool],
    quit_broker: Callable[[], None],
    problems: Problems,
    own_uid: int,
    rotations: Rotations | None = None,
    audit: Callable[[], dict[str, Any]] = dict,
    tokens: TokenDesk | None = None,
    operators: frozenset[int] = frozenset({0}),
) -> FastAPI:
    """The application behind the admin socket.

    Args:
        health: how the broker stands.
        keepers: refresh on demand.
        vault: tells how the session with Vault stands, as JSON members.
        replace_token: writes a new client token; False for a client that has none.
        quit_broker: begins the stop.
        problems: makes answers of errors.
        own_uid: the broker's effective uid; who has it may ask.
        rotations: what replaces keys; None when this process does not.
        audit: tells the head of the audit's chain, as JSON members.
        tokens: mints and revokes scoped tokens; None when they are off.
        operators: further uids that may ask.
    """
    app = create_app("MCP secrets broker: administration", "For operators only.", problems)

    async def operator(request: Request) -> None:
        if peer(request).uid not in operators | {own_uid}:
            raise CallerForbidden

    may = [Depends(operator)]

    @app.get(STATUS_PATH, operation_id="status", summary="How everything stands", dependencies=may)
    async def status() -> Response:
        return document(
            {
                "version": __version__,
                "uptime": round(health.uptime, 3),
                "started": health.started,
                "stopping": health.stopping,
                "ready": health.ready(),
                "vault": vault(),
                "audit": audit(),
                "credentials": await health.credentials(),
            }
        )

    @app.post(
        CREDENTIALS_PATH + "/{name}/refresh",
        operation_id="refreshCredential",
        summary="Ask Vault for the credential now",
        openapi_extra={"parameters": [CREDENTIAL_NAME]},
        dependencies=may,
    )
    async def refresh(request: Request) -> Response:
        name = path_value(request, "name")
        log.info("operator asks to refresh %s", name, extra={"request_id": request_id(request)})
        await unless_gone(request, keepers.refresh(CredentialKey(name)))
        return document({"name": name, **health.credential(name)})

    @app.post(
        CLIENTS_PATH + "/{name}/client-token",
        operation_id="replaceClientToken",
        summary="Give a client a new token; the old one is taken for a minute more",
        openapi_extra={"parameters": [CLIENT_NAME]},
        dependencies=may,
    )
    async def replace_client_token(request: Request) -> Response:
        name = path_value(request, "name")
        log.info("operator asks for a new client token", extra={"request_id": request_id(request)})
        if not replace_token(name):
            raise RouteUnknown("No such client with a token.")
        return document({"client": name, "replaced": True})

    @app.post(QUIT_PATH, operation_id="quit", summary="Stop the broker", dependencies=may)
    async def quit_() -> Response:
        log.info("operator asks to quit")
        quit_broker()
        return document({"stopping": True}, 202)

    add_rotation_routes(app, rotations, may=may)
    add_operator_routes(app, tokens, may=may)
    return app
