"""The OpenAPI document: made from the declared routes and the wire's own shapes.

Duty: JSON Schema of the documents in ``protocol``; what each route may answer; the
whole document, for ``docs/openapi.json``.
Not its duty: serving it: a running broker shows no documentation.
Rules:

* a shape is written once, in ``protocol``; this module only reads it;
* a route takes the request and nothing else; its parameters are declared here and read by the
  route. Parameters in a signature would have the framework load and build validators that a
  string needs none of: 2 MB in every pod;
* nothing of a configuration gets in, so the document is the same everywhere.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from broker.protocol import models, token_models
from broker.protocol.names import (
    EVENT_STREAM,
    EXPIRES_AT,
    EXPIRES_IN,
    FORM,
    ISSUED_AT,
    JSON,
    MCP_REQUEST_ID,
    PROBLEM_JSON,
    REQUEST_ID,
    STATE,
    SUBJECT_TOKEN,
    TOOL,
    USE_UNTIL,
)
from broker.protocol.problems import TABLE, ProblemDocument

_SHAPES: Final = (
    models.HandoutDocument,
    models.CredentialListDocument,
    models.WhoamiDocument,
    models.ReportRequest,
    models.ReportDocument,
    token_models.TokenRequest,
    token_models.TokenDocument,
    token_models.MintedDocument,
    token_models.TokenListDocument,
    token_models.IntrospectionRequest,
    token_models.IntrospectionDocument,
    token_models.InactiveDocument,
    models.DecisionsRequest,
    models.DecisionsDocument,
    ProblemDocument,
)

_SIMPLE: Final[dict[Any, dict[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    object: {},
}


def _parameter(
    name: str, description: str, where: Literal["header", "path", "query"] = "header"
) -> dict[str, Any]:
    return {
        "in": where,
        "name": name,
        "required": where == "path",
        "description": description,
        "schema": {"type": "string"},
    }


CREDENTIAL_NAME: Final = _parameter("name", "The credential's name.", "path")
CLIENT_NAME: Final = _parameter("name", "The client's name.", "path")
TOKEN_ID: Final = _parameter("id", "The token's id, which is no secret.", "path")
PAGE_AFTER: Final = _parameter("after", "`next` of the page before.", "query")

HANDOUT_PARAMETERS: Final = [
    CREDENTIAL_NAME,
    _parameter("If-None-Match", "The version in use, in quotes (RFC 9110 section 13.1.2)."),
    _parameter("Prefer", "`wait=30`: wait up to so many seconds (RFC 7240)."),
    _parameter(TOOL, "The MCP tool on whose behalf the caller asks."),
    _parameter(MCP_REQUEST_ID, "Id of the MCP request behind this one; joins both audits."),
]


SUBJECT_PARAMETER: Final = _parameter(
    SUBJECT_TOKEN, "A scoped token: then the new one is minted from it, and narrower."
)


def answers(
    model: type | tuple[type, ...] | None, *statuses: int, success: int = 200
) -> dict[int | str, dict[str, Any]]:
    """What a route may answer, in the form FastAPI takes.

    Args:
        model: the shape of a success, or shapes; None for an event stream, or for nothing.
        statuses: the others; those of 400 and more are problem documents.
        success: 200, 201, or 204, which has no body.
    """
    told: dict[int | str, dict[str, Any]] = {}
    if success == 204:
        told[success] = {"description": "Done"}
    elif model is None:
        told[success] = {"description": "The stream", "content": {EVENT_STREAM: {}}}
    else:
        schema = (
            {"anyOf": [_reference(one) for one in model]}
            if isinstance(model, tuple)
            else _reference(model)
        )
        told[success] = {"description": "Success", "content": {JSON: {"schema": schema}}}
    for status in statuses:
        if status == 304:
            names = (ISSUED_AT, EXPIRES_AT, EXPIRES_IN, USE_UNTIL, STATE)
            told[status] = {
                "description": "The version is still current; the fields carry the new times",
                "headers": {name: {"schema": {"type": "string"}} for name in names},
            }
        else:
            titles = [kind.title for kind in TABLE.values() if kind.status == status]
            told[status] = {
                "description": "; ".join(titles),
                "content": {PROBLEM_JSON: {"schema": _reference(ProblemDocument)}},
            }
    for answer in told.values():
        answer.setdefault("headers", {})[REQUEST_ID] = {"schema": {"type": "string"}}
    return told


def body(model: type) -> dict[str, Any]:
    """The JSON body a route takes, for ``openapi_extra``."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": _reference(model)}}}}


def token_body() -> dict[str, Any]:
    """The body of an introspection: a form, as RFC 7662 has it, or JSON."""
    schema = {"schema": _reference(token_models.IntrospectionRequest)}
    return {"requestBody": {"required": True, "content": {FORM: schema, JSON: schema}}}


def _reference(model: type) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def schema_of(kind: Any) -> dict[str, Any]:
    """JSON Schema of a type hint: what the shapes in ``protocol`` use, nothing more.

    Raises:
        TypeError: a hint this function does not know.
    """
    if kind in _SIMPLE:
        return dict(_SIMPLE[kind])
    if is_typeddict(kind):
        return _reference(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        if isinstance(parts[0], bool):
            return {"type": "boolean", "const": parts[0]}
        return {"type": "string", "enum": list(parts)}
    if origin is list:
        return {"type": "array", "items": schema_of(parts[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(parts[1])}
    if origin is Union or type(kind).__name__ == "UnionType":
        return {"anyOf": [schema_of(part) for part in parts]}
    raise TypeError(f"no schema for {kind!r}")


def _object(shape: Any) -> dict[str, Any]:
    hints = get_type_hints(shape)
    described = {
        "type": "object",
        "title": shape.__name__,
        "properties": {name: schema_of(hint) for name, hint in hints.items()},
        "required": sorted(shape.__required_keys__),
    }
    if shape.__doc__ and not shape.__doc__.startswith("dict("):
        described["description"] = shape.__doc__
    return described


def _shapes() -> dict[str, dict[str, Any]]:
    """Every shape by name, with those they refer to."""
    found: dict[str, dict[str, Any]] = {}
    waiting: list[Any] = list(_SHAPES)
    while waiting:
        shape = waiting.pop()
        if shape.__name__ in found:
            continue
        found[shape.__name__] = _object(shape)
        for hint in get_type_hints(shape).values():
            waiting += [part for part in (hint, *_parts(hint)) if is_typeddict(part)]
    return dict(sorted(found.items()))


def _parts(hint: Any) -> list[Any]:
    parts = list(get_args(hint))
    return parts + [deeper for part in parts for deeper in _parts(part)]


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application made by ``api``."""
    told: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    for methods in told["paths"].values():
        for operation in methods.values():
            # The framework's own shape of errors: none of ours can occur as such.
            operation["responses"].pop("422", None)
    told["components"] = {
        "schemas": _shapes(),
        "securitySchemes": {
            "clientToken": {
                "type": "http",
                "scheme": "bearer",
                "description": (
                    "The content of the client-token file. On a client's own Unix socket the "
                    "peer's uid may be the proof instead, or both may be asked for."
                ),
            }
        },
    }
    told["security"] = [{"clientToken": []}]
    return told
