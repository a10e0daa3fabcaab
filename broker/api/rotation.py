"""The admin plane's part about rotation: how keys stand, have one replaced, hold them.

Duty: routes; documents of standings, past rotations and outcomes.
Not its duty: who is an operator (``admin``), carrying anything out (``rotation``).
Rules:

* no key, no secret field: names, phases, times, ids and codes of errors;
* ``rotate`` answers when the new key is promoted or given up; the overlap goes on after it.
  A peer that leaves does not end the rotation;
* what an operator does is logged, and stands in the audit log with ``operator`` as actor.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.params import Depends

from broker.api.framework import document, path_value, peer, request_id, unless_gone
from broker.api.openapi import CREDENTIAL_NAME
from broker.api.reading import fields_of, read_object
from broker.errors import RequestMalformed, RotationUnknown
from broker.protocol.models import format_time
from broker.protocol.names import CREDENTIALS_PATH, ROTATION_PATH

if TYPE_CHECKING:  # loaded where something rotates
    from broker.rotation.model import Past
    from broker.rotation.ports import Outcome, Rotations, Standing

log = logging.getLogger("broker.admin")

TIMEOUT: Final = 120.0
"""Seconds the outcome of a rotation is waited for: settle included, overlap not."""

_NAMED: Final = {"parameters": [CREDENTIAL_NAME]}


def add_rotation_routes(
    app: FastAPI, rotations: Rotations | None, *, may: Sequence[Depends]
) -> None:
    """Declare the routes.

    Args:
        app: of the admin plane.
        rotations: what carries them out; None when this process rotates nothing.
        may: what every route depends on.
    """

    def here() -> Rotations:
        if rotations is None:
            raise RotationUnknown(
                "This process rotates nothing.",
                remedy="Ask a process whose rotation.mode is sidecar, or 'broker rotator'.",
            )
        return rotations

    @app.post(
        CREDENTIALS_PATH + "/{name}/rotate",
        operation_id="rotateCredential",
        summary="Have the upstream key replaced now",
        openapi_extra=_NAMED,
        dependencies=may,
    )
    async def rotate(request: Request) -> Response:
        name = path_value(request, "name")
        fields = fields_of(request.scope["headers"])
        compromised = _compromised(fields.get(b"content-type"), await request.body())
        actor = _actor(request)
        log.info(
            "operator asks to rotate %s%s",
            name,
            ", compromised" if compromised else "",
            extra={"request_id": request_id(request)},
        )
        asked = here().request(name, actor=actor, compromised=compromised, timeout=TIMEOUT)
        return document(outcome(await unless_gone(request, asked)))

    @app.get(ROTATION_PATH, operation_id="rotation", summary="All rotations", dependencies=may)
    async def status() -> Response:
        standings = [] if rotations is None else rotations.status()
        return document({"rotations": [standing(one) for one in standings]})

    @app.get(
        ROTATION_PATH + "/{name}/history",
        operation_id="rotationHistory",
        summary="Rotations that ended, newest first",
        openapi_extra=_NAMED,
        dependencies=may,
    )
    async def history(request: Request) -> Response:
        name = path_value(request, "name")
        return document({"name": name, "past": [past(one) for one in await here().history(name)]})

    @app.post(
        ROTATION_PATH + "/{name}/freeze",
        operation_id="freezeRotation",
        summary="Take no step until 'unfreeze'",
        openapi_extra=_NAMED,
        dependencies=may,
    )
    async def freeze(request: Request) -> Response:
        name = path_value(request, "name")
        log.info("operator freezes %s", name, extra={"request_id": request_id(request)})
        await here().freeze(name, actor=_actor(request))
        return document({"name": name, "frozen": True})

    @app.post(
        ROTATION_PATH + "/{name}/unfreeze",
        operation_id="unfreezeRotation",
        summary="Go on; ends a pin as well",
        openapi_extra=_NAMED,
        dependencies=may,
    )
    async def unfreeze(request: Request) -> Response:
        name = path_value(request, "name")
        log.info("operator unfreezes %s", name, extra={"request_id": request_id(request)})
        await here().unfreeze(name, actor=_actor(request))
        return document({"name": name, "frozen": False, "pinned": False})

    @app.post(
        ROTATION_PATH + "/{name}/pin",
        operation_id="pinRotation",
        summary="Keep the key that readers have, unless it is compromised",
        openapi_extra=_NAMED,
        dependencies=may,
    )
    async def pin(request: Request) -> Response:
        name = path_value(request, "name")
        log.info("operator pins %s", name, extra={"request_id": request_id(request)})
        await here().pin(name, actor=_actor(request))
        return document({"name": name, "pinned": True})


def standing(one: Standing) -> dict[str, Any]:
    """How one rotation stands, as a document."""
    return {
        "name": one.name,
        "phase": str(one.phase),
        "leading": one.leading,
        "rotation": one.rotation or None,
        "reason": None if one.reason is None else str(one.reason),
        "key_since": _moment(one.key_since_wall),
        "key_expires_at": _moment(one.key_expires_wall),
        "due_at": _moment(one.due_wall),
        "overdue": one.overdue,
        "retire_at": _moment(one.retire_at_wall),
        "frozen": one.frozen,
        "pinned": one.pinned,
        "suspected": one.suspected,
        "problem": one.problem or None,
        "next_attempt_at": _moment(one.next_attempt_wall),
    }


def past(one: Past) -> dict[str, Any]:
    """One rotation that ended, as a document."""
    return {
        "rotation": one.rotation,
        "result": str(one.result),
        "reason": None if one.reason is None else str(one.reason),
        "actor": one.actor,
        "started_at": format_time(one.started_wall),
        "ended_at": format_time(one.ended_wall),
        "key_id": one.key_id or None,
        "detail": one.detail or None,
    }


def outcome(one: Outcome) -> dict[str, Any]:
    """How a rotation that was waited for ended, as a document."""
    return {
        "name": one.name,
        "rotation": one.rotation,
        "result": str(one.result),
        "detail": one.detail or None,
    }


def _moment(wall: float | None) -> str | None:
    return None if wall is None else format_time(wall)


def _actor(request: Request) -> str:
    """Who asks, as the kernel vouches for it."""
    return f"operator uid {peer(request).uid}"


def _compromised(content_type: bytes | None, body: bytes) -> bool:
    """The only member of the body, which may be empty.

    Raises:
        RequestMalformed: it is something else.
    """
    members = read_object(content_type, body) if body else {}
    compromised = members.pop("compromised", False)
    if members or not isinstance(compromised, bool):
        raise RequestMalformed('The body may have one member: {"compromised": true}.')
    return compromised
