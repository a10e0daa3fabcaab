"""Shapes on the wire about scoped tokens [pure].

Duty: as for ``models``: the JSON documents as types. Rules: those of ``models``; a token's text
stands in ``MintedDocument`` alone.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class TokenRequest(TypedDict):
    """Body of ``POST /v1/tokens``."""

    subject: str
    """On whose behalf the bearer acts: a user or an agent, verified by who asks."""
    tools: list[str]
    """Names of MCP tools, and globs (``*``, ``?``)."""
    credentials: NotRequired[list[str]]
    audience: NotRequired[str]
    """URI of the MCP server it is meant for (RFC 8707)."""
    expires_in: NotRequired[float]
    """Seconds; capped by the configuration."""
    caller: NotRequired[str]
    """The client that may use it: who asks, unless an operator asks."""


class TokenDocument(TypedDict):
    """A scoped token without its text."""

    id: str
    subject: str
    caller: str
    audience: str | None
    tools: list[str]
    credentials: list[str]
    scope: str
    """Tools and credentials as OAuth scopes."""
    issued_at: str
    expires_at: str
    expires_in: float
    parent: str | None
    """Id of the token it was minted from."""


class MintedDocument(TokenDocument):
    """Answer to ``POST /v1/tokens``: the only time that the text is shown."""

    token: str


class TokenListDocument(TypedDict):
    """``GET /v1/tokens``: live tokens that this broker knows."""

    tokens: list[TokenDocument]
    next: str | None
    """Ask again with ``after`` set to it; null when these were the last."""


class IntrospectionRequest(TypedDict):
    """Body of ``POST /v1/tokens/introspect`` (RFC 7662 section 2.1)."""

    token: str
    token_type_hint: NotRequired[str]


class IntrospectionDocument(TypedDict):
    """A token that is good and the caller's own (RFC 7662 section 2.2)."""

    active: Literal[True]
    scope: str
    client_id: str
    """The broker's client that may use it."""
    sub: str
    aud: str | None
    exp: int
    iat: int
    jti: str
    iss: str
    token_type: Literal["Bearer"]
    tools: list[str]
    credentials: list[str]
    parent: str | None


class InactiveDocument(TypedDict):
    """Any other token: unknown, expired, revoked, another caller's, no token at all."""

    active: Literal[False]


class RevokedDocument(TypedDict):
    """Answer to ``POST /v1/tokens/revoke``."""

    revoked: int
    """How many live ones this broker knew; other replicas may know more."""
