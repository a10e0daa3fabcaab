"""What a request says, read once for both doors.

Duty: header fields → typed values; JSON bodies → mappings.
Not its duty: who the caller is, what it may have (``access``), the limits of a connection
(``protocol``).
Rules:

* the hot path and the routes read a request with the same function, so that they cannot
  differ;
* a field that means one thing is sent once: two are refused, not guessed at;
* what would narrow a hand-out is never ignored: an empty scoped token is a wrong one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from broker.errors import RequestMalformed
from broker.handout.conditions import wait_seconds
from broker.protocol.names import FORM, JSON, MCP_REQUEST_ID, SUBJECT_TOKEN, TOOL

_TOOL: Final = TOOL.lower().encode("ascii")
_MCP_REQUEST_ID: Final = MCP_REQUEST_ID.lower().encode("ascii")
_SUBJECT_TOKEN: Final = SUBJECT_TOKEN.lower().encode("ascii")

_ONCE: Final = frozenset(
    (b"authorization", b"content-type", _TOOL, _MCP_REQUEST_ID, _SUBJECT_TOKEN)
)


class Said(NamedTuple):
    """What the header fields of one request say."""

    bearer: bytes | None
    """What followed ``Authorization: Bearer``; None without such a field."""
    tool: str
    mcp_request_id: str
    if_none_match: str | None
    wait: float | None
    """Seconds of ``Prefer: wait`` (RFC 7240); None without."""
    subject_token: bytes | None = None
    """The scoped token."""


def fields_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Put header fields into a mapping; lists in several fields become one (RFC 9110 5.2).

    Args:
        headers: with lower-case names, as in an ASGI scope.

    Raises:
        RequestMalformed: a field twice that may come once.
    """
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        before = fields.get(name)
        if before is None:
            fields[name] = value
        elif name in _ONCE:
            raise RequestMalformed(f"The field {name.decode('latin-1')} was sent twice.")
        else:
            fields[name] = before + b", " + value
    return fields


def read(fields: Mapping[bytes, bytes]) -> Said:
    """Read the header fields that concern a hand-out.

    Raises:
        RequestMalformed: a wait that is no number of seconds.
    """
    get = fields.get
    authorization = get(b"authorization")
    bearer = None
    if authorization is not None and authorization[:7].lower() == b"bearer ":
        bearer = authorization[7:].strip()
    condition = get(b"if-none-match")
    prefer = get(b"prefer")
    return Said(
        bearer,
        get(_TOOL, b"").decode("latin-1"),
        get(_MCP_REQUEST_ID, b"").decode("latin-1"),
        None if condition is None else condition.decode("latin-1"),
        None if prefer is None else wait_seconds(prefer.decode("latin-1")),
        get(_SUBJECT_TOKEN),
    )


def read_token(content_type: bytes | None, body: bytes) -> bytes:
    """Read the token of an introspection: a form (RFC 7662 section 2.1), or JSON.

    Raises:
        RequestMalformed: neither, or no token, or two.
    """
    if _media_type(content_type) != FORM.encode("ascii"):
        token = read_object(content_type, body).get("token")
        tokens = [token.encode("utf-8", "surrogatepass")] if isinstance(token, str) else []
    else:
        try:
            # As Latin-1 every byte is one character, whatever a token is taken to be.
            text = body.decode("latin-1")
            pairs = parse_qsl(text, True, encoding="latin-1", max_num_fields=8)
        except ValueError:
            raise RequestMalformed("The body is no form.") from None
        tokens = [value.encode("latin-1") for name, value in pairs if name == "token"]
    if len(tokens) != 1:
        raise RequestMalformed("An introspection names one token.")
    return tokens[0]


def read_object(content_type: bytes | None, body: bytes) -> dict[str, Any]:
    """Read a JSON body that must be an object.

    Raises:
        RequestMalformed: another media type, no JSON, or no object.
    """
    if _media_type(content_type) != JSON.encode("ascii"):
        raise RequestMalformed(
            "The body must be JSON.", remedy="Send it with Content-Type: application/json."
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestMalformed("The body is no JSON.") from None
    if not isinstance(document, dict):
        raise RequestMalformed("The body is no JSON object.")
    return document


def _media_type(content_type: bytes | None) -> bytes:
    return b"" if content_type is None else content_type.partition(b";")[0].strip().lower()
