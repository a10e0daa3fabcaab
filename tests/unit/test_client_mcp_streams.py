"""``client.mcp.streams``: open streams end with the bearer that opened them.

The server and the agents are the SDK's; time is moved on where five seconds or a token's life
must pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from broker.access.tokens.reader import IN_USE
from broker.client.mcp.guard import Guard
from broker.client.mcp.introspection import KEPT
from broker.client.mcp.streams import ASK, GRACE
from tests.simulators.authorization_server import authorization_server
from tests.simulators.clock import VirtualClock
from tests.simulators.subject_tokens import TokenBroker
from tests.support.guarded import World, guarded
from tests.support.patience import eventually, turns

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "agent", "version": "1"},
    },
}
LISTEN = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "subscriptions/listen",
    "params": {
        "notifications": {"toolsListChanged": True},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "1"},
        },
    },
}
LISTENS = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}


class Stream:
    """One open stream, read as it comes."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.read = b""
        self.ended = asyncio.Event()
        self.error: Exception | None = None

    async def follow(self) -> None:
        try:
            async for chunk in self.response.aiter_bytes():
                self.read += chunk
        except httpx2.TransportError as error:
            self.error = error
        self.ended.set()


@asynccontextmanager
async def opened(
    world: World, bearer: str, kind: str = "GET"
) -> AsyncIterator[tuple[Stream, httpx2.AsyncClient]]:
    """A stream of either era: the GET of a session, or ``subscriptions/listen``."""
    async with world.raw(bearer) as http:
        if kind == "GET":
            begun = await http.post(world.url, json=INITIALIZE)
            assert begun.status_code == 200, begun.text
            http.headers["Mcp-Session-Id"] = begun.headers["mcp-session-id"]
            http.headers["MCP-Protocol-Version"] = "2025-11-25"
            request = http.build_request("GET", world.url, headers={"Accept": "text/event-stream"})
        else:
            request = http.build_request("POST", world.url, json=LISTEN, headers=LISTENS)
        response = await http.send(request, stream=True)
        assert response.status_code == 200, await response.aread()
        stream = Stream(response)
        following = asyncio.create_task(stream.follow())
        try:
            yield stream, http
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await response.aclose()


async def leap(fake: TokenBroker, seconds: float) -> None:
    """Time passes, and who waits sees it."""
    fake.clock.advance(seconds)  # type: ignore[attr-defined]
    await turns(20)


@pytest.fixture
async def fake() -> TokenBroker:
    """A broker whose time a test moves on, in steps that waits notice soon."""
    return TokenBroker(clock=ImpatientClock())


class ImpatientClock(VirtualClock):
    """The loop's time and what a test adds; waits look at it every few milliseconds."""

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.suspend(seconds)

    async def sleep_until(self, deadline: float) -> None:
        while self.now() < deadline:
            await asyncio.sleep(0.005)

    async def wait(self, event: asyncio.Event, deadline: float) -> bool:
        while not event.is_set():
            if self.now() >= deadline:
                return False
            await asyncio.sleep(0.005)
        return True


KINDS = pytest.mark.parametrize("kind", ["GET", "listen"])


@KINDS
async def test_a_revocation_ends_its_streams_at_once(fake: TokenBroker, kind: str) -> None:
    """By the event, whole and without an error; other agents' streams go on."""
    ada, edsger = fake.mint("ada", "ping"), fake.mint("edsger", "ping")
    async with guarded(fake.broker()) as world:
        await eventually(lambda: world.guard._introspection._hearing)
        async with opened(world, ada, kind) as (first, http), opened(world, edsger, kind) as second:
            await turns()
            assert not first.ended.is_set()
            fake.revoke(ada)
            await eventually(first.ended.is_set)
            assert first.error is None
            await leap(fake, 3 * KEPT)
            await leap(fake, 3 * KEPT)
            assert not second[0].ended.is_set()
            assert (await http.get(world.url)).status_code == 401


@KINDS
async def test_a_revocation_that_nobody_tells_ends_them_within_the_caches_time(
    fake: TokenBroker, kind: str
) -> None:
    """Five seconds, as for everything that the guard was told once."""
    token = fake.mint("ada", "ping")
    async with guarded(fake.broker()) as world:
        await eventually(lambda: world.guard._introspection._hearing)
        async with opened(world, token, kind) as (stream, _):
            await leap(fake, 2 * KEPT)
            await leap(fake, 2 * KEPT)
            assert not stream.ended.is_set()
            fake.revoke(token, told=False)
            await turns(20)
            assert not stream.ended.is_set()
            await leap(fake, KEPT)
            await eventually(stream.ended.is_set)
            assert stream.error is None


@KINDS
async def test_a_scoped_token_that_ends_by_time_ends_its_streams(
    fake: TokenBroker, kind: str
) -> None:
    """Not later than a request with it would be refused."""
    token = fake.mint("ada", "ping", life=60.0)
    async with guarded(fake.broker()) as world, opened(world, token, kind) as (stream, _):
        await leap(fake, 58.0)
        assert not stream.ended.is_set()
        await leap(fake, 2.0)
        await eventually(stream.ended.is_set)


@KINDS
async def test_a_jwt_that_ends_ends_its_streams(fake: TokenBroker, kind: str) -> None:
    """With the leeway that a request has too."""
    async with authorization_server() as server:
        issuers = [server.issuer(leeway=10.0)]
        async with guarded(fake.broker(), issuers=issuers) as world:
            server.audience = world.url
            wall = fake.clock.wall()
            bearer = server.sign(scope="tool:ping", exp=int(wall) + 60, iat=int(wall))
            async with opened(world, bearer, kind) as (stream, http):
                await leap(fake, 68.0)
                assert not stream.ended.is_set()
                assert (await http.get(f"{world.url}/x")).status_code == 404
                await leap(fake, 3.0)
                await eventually(stream.ended.is_set)
                assert stream.error is None
                assert (await http.get(world.url)).status_code == 401


async def test_a_token_that_only_listens_counts_as_used(fake: TokenBroker) -> None:
    """It is asked about often enough for the broker to go on reading revocations."""
    token = fake.mint("ada", "ping")
    async with guarded(fake.broker()) as world:
        await eventually(lambda: world.guard._introspection._hearing)
        async with opened(world, token) as (stream, _):
            await turns(20)
            for asked in range(len(fake.introspected), len(fake.introspected) + 5):
                assert len(fake.introspected) == asked
                await leap(fake, ASK)
            assert not stream.ended.is_set()
    assert ASK < IN_USE / 2


async def test_without_a_broker_streams_end_when_what_is_known_is_old(fake: TokenBroker) -> None:
    """A short outage cuts nothing; a verdict older than the cache keeps is none."""
    token = fake.mint("ada", "ping")
    async with guarded(fake.broker()) as world:
        await eventually(lambda: world.guard._introspection._hearing)
        async with opened(world, token) as (stream, _):
            fake.down = True
            fake.cut()
            await eventually(lambda: not world.guard._introspection._hearing)
            await turns(20)
            assert not stream.ended.is_set()
            fake.down = False
            await eventually(lambda: world.guard._introspection._hearing)
            await leap(fake, KEPT - 1)
            await leap(fake, KEPT - 1)
            assert not stream.ended.is_set()
            fake.down = True
            await leap(fake, KEPT + 1)
            await eventually(stream.ended.is_set)


async def test_an_agent_of_the_sdk_whose_token_is_replaced_goes_on(fake: TokenBroker) -> None:
    """Its stream is cut, its session is not: with a fresh token it calls and listens again."""
    first, second = (fake.mint("ada", "ping") for _ in range(2))
    async with guarded(fake.broker()) as world:
        await eventually(lambda: world.guard._introspection._hearing)
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {first}"}) as http:
            transport = streamable_http_client(world.url, http_client=http)
            async with Client(transport, mode="legacy") as client:
                await client.call_tool("ping", {})
                await eventually(lambda: len(world.guard._streams) == 1)
                http.headers["Authorization"] = f"Bearer {second}"
                fake.revoke(first)
                await eventually(lambda: not world.guard._streams)
                await client.call_tool("ping", {})
                await eventually(lambda: len(world.guard._streams) == 1)
    assert not world.guard._streams


# --- any app ----------------------------------------------------------------------------------


Message = MutableMapping[str, Any]


async def run(
    fake: TokenBroker, token: str, app: Callable[..., Any], then: Callable[[], Any]
) -> list[Message]:
    """A GET to an app behind the guard; gives what was sent."""
    sent: list[Message] = []
    started = asyncio.Event()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)
        started.set()

    guard = Guard(app, resource="https://mcp.example/mcp", broker=fake.broker())
    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/mcp", "headers": headers}
    async with guard.running():
        await eventually(lambda: guard._introspection._hearing)
        call = asyncio.create_task(guard(scope, receive, send))
        await started.wait()
        then()
        await asyncio.wait_for(call, 30)
        assert not guard._streams
    return sent


async def test_an_app_that_does_not_listen_is_ended(fake: TokenBroker) -> None:
    """It is told first that its peer went, and has a moment to tidy up."""
    token = fake.mint("ada", "ping")
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    def then() -> None:
        fake.revoke(token)
        asyncio.get_running_loop().call_later(0.2, fake.clock.advance, GRACE)  # type: ignore[attr-defined]

    sent = await run(fake, token, app, then)
    assert ended.is_set()
    # The answer ends as answers do, so that no client takes it for an accident.
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_after_the_cut_nothing_more_is_sent(fake: TokenBroker) -> None:
    """What an app says once it hears of the end does not leave."""
    token = fake.mint("ada", "ping")
    heard: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"before", "more_body": True})
        heard.append(await receive())
        heard.append(await receive())
        await send({"type": "http.response.body", "body": b"after", "more_body": True})

    sent = await run(fake, token, app, lambda: fake.revoke(token))
    assert [one["type"] for one in heard] == ["http.disconnect"] * 2
    assert b"after" not in [one.get("body") for one in sent]
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_peer_that_reads_nothing_does_not_hold_the_end_up(fake: TokenBroker) -> None:
    """Its server waits for room to send, in the app and at the end: neither is waited for."""
    token = fake.mint("ada", "ping")
    full, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            ended.set()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            full.set()
            await asyncio.Event().wait()

    guard = Guard(app, resource="https://mcp.example/mcp", broker=fake.broker())
    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/mcp", "headers": headers}
    async with guard.running():
        await eventually(lambda: guard._introspection._hearing)
        call = asyncio.create_task(guard(scope, asyncio.Event().wait, send))  # type: ignore[arg-type]
        await full.wait()
        fake.revoke(token)
        await turns()
        await leap(fake, GRACE)
        await asyncio.wait_for(call, 30)
        assert ended.is_set()
        assert not guard._streams


async def test_an_app_that_fails_fails_as_without_the_guard(fake: TokenBroker) -> None:
    """Its exception is the server's business."""
    token = fake.mint("ada", "ping")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise LookupError("of the app")

    with pytest.raises(LookupError, match="of the app"):
        await run(fake, token, app, lambda: None)
