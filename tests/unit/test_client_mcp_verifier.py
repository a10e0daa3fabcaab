"""``client.mcp.verifier``: authentication alone, in the SDK's own place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl

from broker.client.mcp import BrokerTokenVerifier, unavailable_as_503
from tests.simulators.subject_tokens import UNKNOWN, TokenBroker
from tests.support.guarded import World, call_body, call_headers
from tests.support.serving import bound, served


@asynccontextmanager
async def verified(fake: TokenBroker, *, mapped: bool = True) -> AsyncIterator[World]:
    """A server of the SDK with our verifier."""
    taken = bound()
    url = f"http://127.0.0.1:{taken.getsockname()[1]}/mcp"
    server: MCPServer[Any] = MCPServer(
        "verified",
        token_verifier=BrokerTokenVerifier(resource=url, broker=fake.broker()),
        auth=AuthSettings(
            issuer_url=AnyHttpUrl("https://as.example"),
            resource_server_url=AnyHttpUrl(url),
            validate_token_resource=True,
        ),
    )

    @server.tool()
    async def ping() -> str:
        """Answer."""
        return "pong"

    app = server.streamable_http_app()
    async with served(unavailable_as_503(app) if mapped else app, taken):
        yield World(url, None)  # type: ignore[arg-type]


async def status(world: World, bearer: str) -> tuple[int, str | None]:
    async with world.raw(bearer) as http:
        response = await http.post(world.url, json=call_body("ping"), headers=call_headers("ping"))
    return response.status_code, response.headers.get("retry-after")


async def test_bearers_are_judged(fake: TokenBroker) -> None:
    """A good one passes, an unknown one does not."""
    token = fake.mint("ada", "ping")
    async with verified(fake) as world:
        assert await status(world, token) == (200, None)
        assert await status(world, UNKNOWN) == (401, None)
        assert await status(world, "") == (401, None)
        fake.revoke(token)
        assert await status(world, token) == (401, None)


async def test_an_outage_is_a_503(fake: TokenBroker) -> None:
    """Where the SDK alone would answer 500."""
    token = fake.mint("ada", "ping")
    async with verified(fake) as world:
        fake.tokens_down = True
        assert await status(world, token) == (503, "5")
        fake.tokens_down = False
        assert await status(world, token) == (200, None)


async def test_without_the_wrapper_the_sdk_answers_500(fake: TokenBroker) -> None:
    """What the wrapper is for; should this fail one day, it is needed no more."""
    token = fake.mint("ada", "ping")
    async with verified(fake, mapped=False) as world:
        fake.tokens_down = True
        assert (await status(world, token))[0] == 500


@pytest.fixture
def fake() -> TokenBroker:
    """A broker."""
    return TokenBroker()


async def test_other_failures_pass_unchanged() -> None:
    """The wrapper speaks of outages of the verifier alone."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive, send
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await unavailable_as_503(broken)({}, None, None)  # type: ignore[arg-type]
