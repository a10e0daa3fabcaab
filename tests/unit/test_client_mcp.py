"""``broker.client`` inside a real MCP server, asked by the SDK's own client."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from mcp import Client
from mcp.server import MCPServer
from mcp.types import TextContent

from broker.client import redaction
from broker.client.mcp import install, text_for_model
from broker.client.testing import FakeBroker
from broker.errors import (
    BrokerUnreachable,
    CredentialUnavailable,
    CredentialUnknown,
    TooManyRequests,
)
from tests.simulators.clock import EPOCH, ManualClock

KEY = "canary-key-of-the-mcp-test"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=0.0)


@pytest.fixture
def fake(clock: ManualClock) -> FakeBroker:
    fake = FakeBroker(clock=clock)
    fake.put("search-api", {"api_key": KEY})
    return fake


@pytest.fixture
def server(fake: FakeBroker, clock: ManualClock) -> MCPServer[Any]:
    server = MCPServer("test")
    broker = fake.broker(start_wait=0)

    @server.tool()
    async def web_search() -> str:
        """Search."""
        credential = await broker.get("search-api")
        return f"{len(credential.value)} characters"

    @server.tool()
    def orders() -> str:
        """Look up orders, in a worker thread."""
        return f"{len(broker.sync.get('search-api').value)} characters"

    @server.tool()
    async def careful() -> str:
        """Search, or say so."""
        try:
            await broker.get("search-api")
        except CredentialUnavailable as error:
            return f"caught {error.name} {error.reason}"
        return "found"

    install(server, clock=clock, redact=False)
    return server


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Any:
    """The era of the protocol that the client speaks."""
    return request.param


async def call(server: MCPServer[Any], mode: Any, *tools: str) -> tuple[bool, str]:
    """Call tools together; what the last one answered."""
    async with Client(server, mode=mode) as client:
        *_, result = await asyncio.gather(*(client.call_tool(tool) for tool in tools))
    (content,) = result.content
    assert isinstance(content, TextContent)
    return bool(result.is_error), content.text


@pytest.mark.parametrize("tool", ["web_search", "orders"])
async def test_the_broker_learns_which_tool_asks(
    server: MCPServer[Any], mode: Any, fake: FakeBroker, tool: str
) -> None:
    """The tool's name comes with the request, from the loop and from a worker thread."""
    assert await call(server, mode, tool) == (False, f"{len(KEY)} characters")
    (asked,) = fake.asked
    assert asked.tool == tool
    assert asked.headers["broker-mcp-request-id"]


async def test_concurrent_tools_do_not_take_each_others_name(
    server: MCPServer[Any], mode: Any, fake: FakeBroker
) -> None:
    """Names of tools at work at the same time stay apart."""
    await call(server, mode, *["web_search", "orders"] * 5)
    assert sorted({asked.tool for asked in fake.asked}) == ["orders", "web_search"]


@pytest.mark.parametrize("tool", ["web_search", "orders"])
async def test_an_unavailable_credential_is_a_clean_tool_error(
    server: MCPServer[Any], mode: Any, fake: FakeBroker, caplog: pytest.LogCaptureFixture, tool: str
) -> None:
    """The model reads what is missing, since when and when to come back; nobody a traceback."""
    fake.fail("search-api", next_attempt_in=12)
    with caplog.at_level(logging.INFO):
        failed, text = await call(server, mode, tool)
    assert failed
    assert text == (
        f"Error executing tool {tool}: The credential search-api is unavailable since "
        "2027-01-15T08:00:00.000Z. The next attempt is in 12 s, at 2027-01-15T08:00:12.000Z. "
        "Trying again later can help."
    )
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_tool_can_catch_the_typed_error(
    server: MCPServer[Any], mode: Any, fake: FakeBroker
) -> None:
    """Within the tool the error is still the client's own class, with its fields."""
    fake.fail("search-api", reason="vault_sealed")
    assert await call(server, mode, "careful") == (False, "caught search-api vault_sealed")


async def test_an_unknown_credential_says_that_trying_again_does_not_help(
    fake: FakeBroker, clock: ManualClock
) -> None:
    """A mistake in the configuration is told as one."""
    server, broker = MCPServer("test"), fake.broker()

    @server.tool()
    async def wrong() -> str:
        """Ask for what is not there."""
        return (await broker.get("other")).value

    install(server, clock=clock, redact=False)
    failed, text = await call(server, "auto", "wrong")
    assert failed
    assert text == (
        "Error executing tool wrong: There is no credential other for this caller. "
        "Trying again will not help."
    )


def test_installing_twice_changes_nothing(server: MCPServer[Any]) -> None:
    """The middleware stands in the chain once."""
    before = list(server.middleware)
    install(server, redact=False)
    assert server.middleware == before


def test_text_without_times() -> None:
    """What is not known is left out."""
    assert text_for_model(CredentialUnavailable(name="a"), wall=EPOCH) == (
        "The credential a is unavailable. Trying again later can help."
    )
    assert text_for_model(BrokerUnreachable("No answer."), wall=EPOCH) == (
        "No answer. Trying again later can help."
    )
    assert text_for_model(TooManyRequests("Too often."), wall=EPOCH) == (
        "Too often. Trying again later can help."
    )
    assert text_for_model(TooManyRequests("Too often.", retry_after=11.5), wall=EPOCH) == (
        "Too often. Trying again in 12 s can help."
    )
    assert text_for_model(CredentialUnknown("None."), wall=EPOCH) == (
        "None. Trying again will not help."
    )


@pytest.fixture
def masked_logs() -> Iterator[None]:
    factory, hooks = logging.getLogRecordFactory(), (sys.excepthook, threading.excepthook)
    yield
    logging.setLogRecordFactory(factory)
    sys.excepthook, threading.excepthook = hooks


@pytest.mark.usefixtures("masked_logs")
async def test_a_tool_that_fails_with_a_key_in_its_error_leaks_it_to_no_log(
    fake: FakeBroker, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK logs the traceback of a tool that crashed; the key in it is masked."""
    server, broker = MCPServer("test"), fake.broker()

    @server.tool()
    async def leaky() -> str:
        """Put the key into an exception."""
        key = (await broker.get("search-api")).value
        raise RuntimeError(f"GET https://api.example.com/?key={key} failed")

    install(server, clock=clock)
    failed, text = await call(server, "auto", "leaky")
    assert failed
    assert KEY not in text
    assert "Traceback" in caplog.text
    assert "?key=*** failed" in caplog.text
    assert KEY not in caplog.text
    assert redaction.mask(KEY) == "***"
