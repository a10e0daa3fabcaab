"""What a POST to an MCP server says [pure].

Duty: one JSON-RPC body of either era → method, id and, for a ``tools/call``, tool and arguments.
Not its duty: headers (``routing``), whether it may be done (``guard``).
Rules:

* a body has one meaning for every reader: a member that stands twice is refused, since two
  parsers could believe different ones; so are a batch, any text that is not UTF-8 or begins
  with its mark, half a surrogate pair, the numbers that JSON does not have or a float cannot
  hold, and what is nested so deep that one parser takes it and another does not;
* the shape is checked as far as a decision needs it; the rest is the SDK's.

Source: JSON-RPC 2.0; https://modelcontextprotocol.io/specification
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, NamedTuple, TypeAlias

from broker.errors import RequestMalformed

LARGEST: Final = 4 * 1024 * 1024
"""Bytes of a body: what the SDK takes."""

DEEPEST: Final = 128
"""Levels of objects and arrays: well below what the strictest of the parsers behind takes."""

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INVALID_PARAMS: Final = -32602

RequestId: TypeAlias = str | int | float | None

CALL_TOOL: Final = "tools/call"
LISTEN: Final = "subscriptions/listen"
"""Answered by a stream for as long as the client likes (2026-07-28)."""


@dataclass(frozen=True, slots=True)
class Message:
    """One JSON-RPC message."""

    method: str
    """Empty: an answer of the client to a request of the server."""
    id: RequestId
    tool: str | None
    """Of a ``tools/call``; None for any other method."""
    arguments: Mapping[str, Any]
    document: Mapping[str, Any] = field(repr=False)


class Fault(NamedTuple):
    """Why a body is none."""

    code: int
    """Of JSON-RPC."""
    text: str
    id: RequestId = None


def read_message(body: bytes) -> Message | Fault:
    """Read a body."""
    try:
        document = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_number,
        )
        if body.count(b"{") + body.count(b"[") > DEEPEST and _deeper(document):
            return Fault(PARSE_ERROR, "Parse error")
        if b"\\ud" in body or b"\\uD" in body:
            json.dumps(document, ensure_ascii=False).encode()  # half a pair is a ValueError
    except RequestMalformed:
        return Fault(INVALID_REQUEST, "A member stands twice in one object.")
    except (ValueError, RecursionError):
        return Fault(PARSE_ERROR, "Parse error")
    if not isinstance(document, dict):
        return Fault(INVALID_REQUEST, "The body must be one JSON-RPC message; no batch.")
    request_id = document.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | float | None):
        return Fault(INVALID_REQUEST, "The id is no text and no number.")
    if "method" not in document:
        if "result" in document or "error" in document:
            return Message("", request_id, None, {}, document)
        return Fault(INVALID_REQUEST, "The body is no JSON-RPC message.", request_id)
    method, params = document["method"], document.get("params")
    if not isinstance(method, str) or "result" in document or "error" in document:
        return Fault(INVALID_REQUEST, "The body is no JSON-RPC request.", request_id)
    if not isinstance(params, dict | None):
        return Fault(INVALID_PARAMS, "params is no object.", request_id)
    if method != CALL_TOOL:
        return Message(method, request_id, None, {}, document)
    return _tool_call(request_id, params or {}, document)


def _tool_call(
    request_id: RequestId, params: Mapping[str, Any], document: Mapping[str, Any]
) -> Message | Fault:
    tool, arguments = params.get("name"), params.get("arguments")
    if not isinstance(tool, str) or not tool:
        return Fault(INVALID_PARAMS, "params.name is no name of a tool.", request_id)
    if not isinstance(arguments, dict | None):
        return Fault(INVALID_PARAMS, "params.arguments is no object.", request_id)
    return Message(CALL_TOOL, request_id, tool, arguments or {}, document)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise RequestMalformed
    return made


def _deeper(document: Any) -> bool:
    """Whether ``document`` has more than ``DEEPEST`` levels; level by level, without recursion."""
    level = [document]
    for _ in range(DEEPEST):
        members = (
            member
            for one in level
            for member in (one.values() if isinstance(one, dict) else one)
            if isinstance(member, dict | list)
        )
        level = list(members)
        if not level:
            return False
    return True


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):  # 1e999 is infinite for one reader, a fault for another
        raise ValueError("out of range")
    return number


def _no_number(name: str) -> float:
    raise ValueError(name)
