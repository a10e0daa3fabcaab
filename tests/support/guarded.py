"""An MCP server behind the guard, and agents of both eras that call it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context
from mcp.types import TextContent

from broker.client.aio import Broker
from broker.client.mcp import Guard, install
from tests.support.serving import bound, served

Era = Literal["legacy", "2026-07-28"]
ERAS: list[Era] = ["legacy", "2026-07-28"]
KEY = "canary-key-behind-the-guard"


def create_server(broker: Broker) -> MCPServer[Any]:
    """A server with tools of both kinds."""
    server: MCPServer[Any] = MCPServer("guarded")

    @server.tool()
    async def web_search(query: str = "", pause: float = 0.0) -> str:
        """Search; says on whose behalf, before and after something else had its turn."""
        before = _subject()
        await broker.get("search-api")
        await asyncio.sleep(pause)
        return f"{query} {before} {_subject()}"

    @server.tool()
    def orders(query: str = "") -> str:
        """The same in a worker thread."""
        broker.sync.get("search-api")
        return f"{query} {_subject()} {_subject()}"

    @server.tool()
    async def nosy(ctx: Context[Any, Any]) -> str:
        """Everything a tool is told about the request."""
        request = ctx.request_context.request
        assert request is not None
        token = get_access_token()
        assert token is not None
        told = {
            "headers": dict(ctx.headers or {}),
            "raw": [[k.decode(), v.decode("latin-1")] for k, v in request.scope["headers"]],
            "query": request.scope["query_string"].decode(),
            "user": repr(vars(request.scope["user"])),
            "token": token.model_dump(mode="json"),
        }
        return json.dumps(told) + repr(request.scope)

    @server.tool()
    async def ping() -> str:
        """Answer."""
        return "pong"

    install(server, redact=False)
    return server


def _subject() -> str:
    token = get_access_token()
    return "" if token is None else str(token.subject)


@dataclass
class World:
    """A guarded server that is served."""

    url: str
    guard: Guard
    clients: list[httpx2.AsyncClient] = field(default_factory=list)

    @asynccontextmanager
    async def agent(
        self, bearer: str = "", era: Era = "2026-07-28", auth: httpx2.Auth | None = None
    ) -> AsyncIterator[Client]:
        """An agent with a bearer of its own."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        async with httpx2.AsyncClient(headers=headers, auth=auth, timeout=30) as http:
            self.clients.append(http)
            transport = streamable_http_client(self.url, http_client=http)
            async with Client(transport, mode=era) as client:
                yield client

    @asynccontextmanager
    async def raw(self, bearer: str = "") -> AsyncIterator[httpx2.AsyncClient]:
        """Plain HTTP, for what no well-behaved client sends."""
        headers = {"Accept": "application/json, text/event-stream"}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            yield http


@asynccontextmanager
async def guarded(
    broker: Broker, *, stateless: bool = False, **options: Any
) -> AsyncIterator[World]:
    """Serve a server behind the guard."""
    server = create_server(broker)
    taken = bound()
    url = f"http://127.0.0.1:{taken.getsockname()[1]}/mcp"
    app = server.streamable_http_app(stateless_http=stateless)
    guard = Guard(app, broker=broker, resource=url, **options)
    async with served(guard, taken):
        yield World(url, guard)


def text_of(result: Any) -> str:
    """The text of a tool's result."""
    return "".join(one.text for one in result.content if isinstance(one, TextContent))


def call_body(tool: str, arguments: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A ``tools/call`` of the newest era."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments or {}, "_meta": meta, **members}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def call_headers(tool: str) -> dict[str, str]:
    """The header fields that go with it."""
    return {
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
