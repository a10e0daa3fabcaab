"""Refusals that a client can act on, and the metadata they point to [pure].

Duty: status, header fields and body of each refusal; the document of RFC 9728.
Not its duty: deciding (``guard``).
Rules:

* a challenge names ``resource_metadata`` and, where scopes would help, all that the operation
  needs together with what the token has (SEP-2350), so that stepping up loses nothing;
* why a bearer is not good stays inside; a body holds no text of the request but its id;
* the body is a JSON-RPC error, which the SDK's client shows to its caller as it is.

Source: RFC 6750 section 3, RFC 9728; https://modelcontextprotocol.io/specification (authorization)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from broker.client.mcp.message import Fault, RequestId
from broker.errors import BrokerError

REFUSED: Final = -32010
UNAVAILABLE: Final = -32011
"""Codes of our own, out of what JSON-RPC leaves to implementations."""

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
LONGEST_SCOPE: Final = 4096
"""Characters of a ``scope``: header fields are capped on the way."""
RETRY_AFTER: Final = 5
"""Seconds, when nobody knows better."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer instead of the app's."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Challenges:
    """Makes the refusals of one MCP server.

    Args:
        resource: its public address, the audience of its tokens.
    """

    resource: str

    @property
    def metadata_path(self) -> str:
        """Where the metadata is served (RFC 9728 section 3.1)."""
        return WELL_KNOWN + urlsplit(self.resource).path.rstrip("/")

    @property
    def metadata_url(self) -> str:
        """The same with the origin."""
        parts = urlsplit(self.resource)
        return f"{parts.scheme}://{parts.netloc}{self.metadata_path}"

    def unauthenticated(
        self, scopes: Iterable[str], *, presented: bool, request_id: RequestId = None
    ) -> Refusal:
        """401: no bearer, or one that is not good."""
        text = "The bearer is not good." if presented else "A bearer is needed."
        error = 'error="invalid_token", ' if presented else ""
        return self._challenged(401, error, _scope((), scopes), text, request_id)

    def insufficient(
        self, held: Sequence[str], needed: Iterable[str], *, request_id: RequestId = None
    ) -> Refusal:
        """403: the bearer is good, but another scope is needed."""
        scope = _scope(held, needed)
        text = "The bearer does not cover this."
        return self._challenged(403, 'error="insufficient_scope", ', scope, text, request_id, scope)

    def _challenged(
        self,
        status: int,
        error: str,
        scope: str,
        text: str,
        request_id: RequestId,
        told: str = "",
    ) -> Refusal:
        said = f'Bearer {error}resource_metadata="{self.metadata_url}"'
        if scope:
            said += f', scope="{scope}"'
        body = error_body(REFUSED, text, request_id, {"scope": told} if told else None)
        return _refusal(status, body, ("WWW-Authenticate", said))


def forbidden(request_id: RequestId = None) -> Refusal:
    """403 of a policy: no scope would help, so none is asked for."""
    return _refusal(403, error_body(REFUSED, "A policy does not allow this.", request_id))


def malformed(fault: Fault, status: int = 400) -> Refusal:
    """The request cannot be understood, or must not be."""
    return _refusal(status, error_body(fault.code, fault.text, fault.id))


def slow(fault: Fault, *, closing: bool) -> Refusal:
    """408: the body did not arrive in time.

    Args:
        fault: what is said.
        closing: say that the connection ends, since the rest may still come; not in HTTP/2, where
            one stream ends and the field is forbidden.
    """
    body = error_body(fault.code, fault.text, fault.id)
    return _refusal(408, body, *([("Connection", "close")] if closing else []))


def not_allowed() -> Refusal:
    """405: MCP has no such method."""
    return _refusal(405, b"", ("Allow", "GET, POST, DELETE"))


def unavailable(error: BrokerError | None, request_id: RequestId = None) -> Refusal:
    """503: nobody can decide now."""
    asked: float | None = getattr(error, "retry_after", None)
    seconds = RETRY_AFTER if asked is None else max(1, min(60, round(asked)))
    text = "Nobody can decide now whether this is allowed. Try again later."
    return _refusal(503, error_body(UNAVAILABLE, text, request_id), ("Retry-After", str(seconds)))


def metadata(
    resource: str, authorization_servers: Sequence[str], scopes: Sequence[str], name: str
) -> Refusal:
    """The document of RFC 9728, which anybody may read."""
    document: dict[str, Any] = {"resource": resource, "bearer_methods_supported": ["header"]}
    if authorization_servers:
        document["authorization_servers"] = list(authorization_servers)
    if scopes:
        document["scopes_supported"] = list(scopes)
    if name:
        document["resource_name"] = name
    body = json.dumps(document, separators=(",", ":")).encode()
    return _refusal(200, body, ("Access-Control-Allow-Origin", "*"))


def error_body(
    code: int, text: str, request_id: RequestId, data: dict[str, Any] | None = None
) -> bytes:
    """A JSON-RPC error."""
    error: dict[str, Any] = {"code": code, "message": text}
    if data is not None:
        error["data"] = data
    told = {"jsonrpc": "2.0", "id": request_id, "error": error}
    return json.dumps(told, separators=(",", ":")).encode()


def _refusal(status: int, body: bytes, *headers: tuple[str, str]) -> Refusal:
    always = (
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("Content-Length", str(len(body))),
    )
    return Refusal(status, (*always, *headers), body)


def _scope(held: Iterable[str], needed: Iterable[str]) -> str:
    """Both, each once; what is needed alone when the whole would be too long for a field."""
    needed = [one for one in needed if is_scope(one)]
    both = " ".join(dict.fromkeys([*filter(is_scope, held), *needed]))
    return both if len(both) <= LONGEST_SCOPE else " ".join(dict.fromkeys(needed))


def is_scope(text: str) -> bool:
    """Whether ``text`` is a scope token (RFC 6749 section 3.3), safe between quotes."""
    return bool(text) and all(" " < letter <= "~" and letter not in '"\\' for letter in text)
