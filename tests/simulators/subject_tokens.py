"""A broker in memory that knows scoped tokens, decides about tools and tells of revocations.

Implements the wire of ``/v1/tokens/introspect``, ``/v1/decisions`` and the ``revoked`` event
of ``/v1/events`` around ``FakeBroker``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx2

from broker.client.testing import FakeBroker
from broker.errors import (
    CallerUnauthenticated,
    CredentialUnknown,
    InsufficientScope,
    SubjectTokenRefused,
    TokensUnavailable,
)
from broker.protocol import names, token_format
from broker.protocol.scopes import covers, scope_text, tool_scope

INTROSPECTION = names.INTROSPECT_PATH
UNKNOWN = token_format.opaque(bytes(32)).decode()
"""A token that nobody minted."""


@dataclass
class Held:
    """One token."""

    id: str
    subject: str
    tools: tuple[str, ...]
    credentials: tuple[str, ...]
    expires_at: float
    audience: str = ""
    revoked: bool = False


@dataclass
class Stream(httpx2.AsyncByteStream):
    """One open event stream."""

    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"retry: 1000\n: open\n\n"
        while (chunk := await self.queue.get()) is not None:
            yield chunk

    async def aclose(self) -> None:
        """Nothing to close."""


class TokenBroker(FakeBroker):
    """A broker with scoped tokens. Arguments as for ``FakeBroker``."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.tokens: dict[str, Held] = {}
        self.streams: list[Stream] = []
        self.forbidden: set[str] = set()
        """Tools that a policy allows to nobody."""
        self.introspected: list[str] = []
        self.questions: list[dict[str, Any]] = []
        self.tokens_down = False
        self.before_introspection: asyncio.Event | None = None
        """Holds an introspection back after its verdict was found."""

    # --- what happens -------------------------------------------------------------------

    def mint(
        self,
        subject: str,
        *tools: str,
        credentials: tuple[str, ...] = ("search-api",),
        life: float = 600.0,
        audience: str = "",
    ) -> str:
        """A new token."""
        number = len(self.tokens) + 1
        token = token_format.opaque(number.to_bytes(32, "big")).decode()
        self.tokens[token] = Held(
            f"jti-{number}", subject, tools, credentials, self.clock.wall() + life, audience
        )
        return token

    def revoke(self, token: str, *, told: bool = True) -> None:
        """Revoke a token, and tell of it."""
        held = self.tokens[token]
        held.revoked = True
        if told:
            self.tell("revoked", {"token": held.id})

    def tell(self, kind: str, said: Mapping[str, str]) -> None:
        """An event to every stream."""
        for stream in self.streams:
            stream.queue.put_nowait(f"event: {kind}\ndata: {json.dumps(said)}\n\n".encode())

    def cut(self) -> None:
        """Every stream ends."""
        for stream in self.streams:
            stream.queue.put_nowait(None)
        self.streams.clear()

    @property
    def subjects(self) -> list[tuple[str, str]]:
        """Tool and subject of each hand-out that was asked for with a token."""
        return [
            (asked.tool, self.tokens[asked.headers["broker-subject-token"]].subject)
            for asked in self.asked
            if asked.path.startswith(names.CREDENTIALS_PATH)
            and "broker-subject-token" in asked.headers
        ]

    # --- the wire -----------------------------------------------------------------------

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path != names.EVENTS_PATH or self.down:
            response = self.handle_request(request)
            if request.url.path == INTROSPECTION and self.before_introspection is not None:
                await self.before_introspection.wait()
            return response
        stream = Stream()
        self.streams.append(stream)
        return httpx2.Response(200, headers={"Content-Type": names.EVENT_STREAM}, stream=stream)

    def _answer(self, request: httpx2.Request, headers: Mapping[str, str]) -> httpx2.Response:
        path = request.url.path
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            raise CallerUnauthenticated
        if path == INTROSPECTION:
            return httpx2.Response(200, json=self._introspect(request))
        held = self._shown(headers)
        if path == names.DECISIONS_PATH:
            return httpx2.Response(200, json=self._decide(held, json.loads(request.read())))
        if held is not None:
            if not covers(held.tools, headers.get("broker-tool", "")):
                raise InsufficientScope(scope=tool_scope(headers.get("broker-tool", "")))
            name = path.removesuffix(names.REPORTS_SUFFIX).rpartition("/")[2]
            if name not in held.credentials:
                raise CredentialUnknown
        return super()._answer(request, headers)

    def _shown(self, headers: Mapping[str, str]) -> Held | None:
        token = headers.get("broker-subject-token")
        if token is None:
            return None
        if self.tokens_down:
            raise TokensUnavailable
        held = self.tokens.get(token)
        if held is None or not self._good(held):
            raise SubjectTokenRefused
        return held

    def _good(self, held: Held) -> bool:
        return not held.revoked and self.clock.wall() < held.expires_at

    def _introspect(self, request: httpx2.Request) -> dict[str, Any]:
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        if self.tokens_down:
            raise TokensUnavailable
        (token,) = parse_qs(request.read().decode())["token"]
        self.introspected.append(token)
        held = self.tokens.get(token)
        if held is None or not self._good(held):
            return {"active": False}
        return {
            "active": True,
            "scope": scope_text(held.tools, held.credentials),
            "client_id": "search-mcp",
            "sub": held.subject,
            "aud": held.audience,
            "exp": int(held.expires_at),
            "iat": int(held.expires_at) - 600,
            "jti": held.id,
            "iss": "urn:mcp-secrets-broker:test",
            "token_type": "Bearer",
            "tools": list(held.tools),
            "credentials": list(held.credentials),
            "parent": "",
        }

    def _decide(self, held: Held | None, said: dict[str, Any]) -> dict[str, Any]:
        self.questions.append(said)
        decisions = []
        for tool in said["tools"]:
            permitted = tool not in self.forbidden
            covered = held is None or covers(held.tools, tool)
            decisions.append(
                {
                    "tool": tool,
                    "allowed": permitted and covered,
                    "scope": tool_scope(tool) if permitted and not covered else "",
                    "policies": ["p1"] if permitted and covered else [],
                }
            )
        return {"decisions": decisions}
