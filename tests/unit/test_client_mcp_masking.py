"""No key in what an MCP server answers: real server and client, in both eras of the protocol."""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Self
from urllib.parse import quote

import pytest
from mcp import Client, MCPError
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ElicitResult,
    ErrorData,
    ImageContent,
    TextContent,
)
from pydantic import BaseModel

from broker.client.mcp import Masking, ToolNaming, install
from broker.client.mcp.admission import Admitted
from broker.client.mcp.masking import AT_ONCE, DEEPEST, masked, masked_error
from broker.client.redaction import Memory
from broker.client.testing import FakeBroker
from broker.errors import SettingsError
from tests.simulators.clock import ManualClock
from tests.unit.test_client_redaction import credential
from tests.unit.test_protocol_redaction import ENCODERS, crowd, provider_keys, redactor, steps

KEY = 'canary-key/of+the "masking" tests é'
NUMBER = "73591846"
PRESIGNED = (
    "https://bucket.s3.eu-central-1.amazonaws.com/report.pdf?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20270115%2Feu-central-1%2Fs3%2Faws4_request"
    "&X-Amz-Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
)


@pytest.fixture(autouse=True)
def hooks() -> Iterator[None]:
    """What install() puts in place for the whole process is taken back."""
    factory = logging.getLogRecordFactory()
    before = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    yield
    logging.setLogRecordFactory(factory)
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = before


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Any:
    """The era of the protocol that the client speaks."""
    return request.param


@pytest.fixture
def fake() -> FakeBroker:
    fake = FakeBroker(clock=ManualClock(now=0.0))
    fake.put("search-api", {"api_key": KEY, "pin": NUMBER})
    return fake


# The SDK writes structured content as JSON into the text: one layer more, of three at most.
ENCODED = {name: one for name, one in ENCODERS.items() if name.count(" in JSON") < 2}


class Wire:
    """Middleware outside of all others but tracing: what leaves it goes on the wire."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.errors: list[Exception] = []

    async def __call__(self, ctx: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            result = await call_next(ctx)
        except Exception as error:
            self.errors.append(error)
            raise
        self.results.append(result)
        return result


def forms(text: str) -> list[str]:
    """Each way of writing a text, and the middle of it inside a longer base64 text."""
    inside = [base64.b64encode(b"abc"[:n] + text.encode()).decode()[8:40] for n in range(3)]
    return [encode(text) for encode in ENCODERS.values()] + inside


def assert_clean(text: str) -> None:
    """No form of the key is in ``text``, as written or quoted once."""
    for form in forms(KEY):
        assert form not in text
        assert json.dumps(form)[1:-1] not in text


async def call(server: Any, mode: Any, tool: str) -> CallToolResult:
    """The result; an error comes out by itself, not in a group."""
    async with Client(server, mode=mode) as client:
        try:
            return await client.call_tool(tool)
        except MCPError as error:
            failed = error
    raise failed


# --- results ----------------------------------------------------------------------------


@pytest.mark.parametrize("encode", ENCODED.values(), ids=ENCODED.keys())
async def test_no_text_of_a_result_tells_the_key(
    fake: FakeBroker, mode: Any, encode: Callable[[str], str]
) -> None:
    """Text content and structured content of an ordinary tool, in every encoding."""
    server, broker = MCPServer("test"), fake.broker()

    @server.tool()
    async def leaky() -> dict[str, str]:
        """Answer with the key in a URL, as some upstream's echo does."""
        key = (await broker.get("search-api"))["api_key"]
        return {"echo": f"GET /search?key={encode(key)} 200"}

    install(server)
    result = await call(server, mode, "leaky")
    assert not result.is_error
    assert result.structured_content == {"echo": "GET /search?key=*** 200"}
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert "/search?key=***" in content.text
    assert_clean(result.model_dump_json())


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
async def test_a_key_inside_a_longer_base64_text_is_masked(
    fake: FakeBroker, mode: Any, before: str, encode: Callable[[bytes], bytes]
) -> None:
    """At all three alignments, with and without padding: at most a letter stays at either end."""
    server, broker = MCPServer("test"), fake.broker()

    @server.tool()
    async def basic() -> list[str]:
        """Answer with an Authorization header."""
        key = (await broker.get("search-api"))["api_key"]
        encoded = encode(f"{before}{key}".encode()).decode()
        return [f"Basic {encoded}", f"Basic {encoded.rstrip('=')}"]

    install(server)
    result = await call(server, mode, "basic")
    for content in result.content:
        assert isinstance(content, TextContent)
        kept = content.text.removeprefix("Basic ").replace("***", "").rstrip("=")
        assert len(kept) <= len(encode(before.encode()).rstrip(b"=")) + 1
    assert_clean(result.model_dump_json())


async def test_every_part_of_a_result_is_masked(fake: FakeBroker, mode: Any) -> None:
    """``_meta``, keys of mappings, numbers, lists, images; what tells nothing stays as it is."""
    server, broker = MCPServer("test"), fake.broker()

    @server.tool()
    async def whole() -> CallToolResult:
        """Put the key everywhere."""
        found = await broker.get("search-api")
        key, pin = found["api_key"], found["pin"]
        return CallToolResult(
            content=[
                TextContent(type="text", text=f"a {key} b", _meta={"x/k": key}),
                ImageContent(
                    type="image", data=base64.b64encode(key.encode()).decode(), mime_type="i/png"
                ),
            ],
            structured_content={
                key: 1,
                "deep": [[{"n": int(pin), "f": 1.5, "t": True, "none": None}]],
                "text": f"pin {pin}",
            },
            _meta={"x/trace": {"header": quote(key, safe="")}},
        )

    install(server)
    result = await call(server, mode, "whole")
    dumped = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    assert dumped["content"] == [
        {"type": "text", "text": "a *** b", "_meta": {"x/k": "***"}},
        {"type": "image", "data": "***", "mimeType": "i/png"},
    ]
    assert dumped["structuredContent"] == {
        "***": 1,
        "deep": [[{"n": "***", "f": 1.5, "t": True, "none": None}]],
        "text": "pin ***",
    }
    assert dumped["_meta"]["x/trace"] == {"header": "***"}
    assert_clean(json.dumps(dumped))
    assert NUMBER not in json.dumps(dumped)


async def test_resources_and_prompts_are_masked_too(fake: FakeBroker, mode: Any) -> None:
    """Every request's answer, not only that of a tool."""
    server, broker = MCPServer("test"), fake.broker()

    @server.resource("config://a")
    async def resource() -> str:
        return f"key: {(await broker.get('search-api'))['api_key']}"

    @server.prompt()
    async def prompt() -> str:
        return f"Use {(await broker.get('search-api'))['api_key']}"

    install(server)
    async with Client(server, mode=mode) as client:
        read = await client.read_resource("config://a")
        got = await client.get_prompt("prompt")
    assert read.contents[0].model_dump()["text"] == "key: ***"
    assert got.messages[0].content.model_dump()["text"] == "Use ***"


async def test_an_answer_without_a_secret_is_the_object_it_was(mode: Any) -> None:
    """Nothing is copied, and a presigned URL survives: no text is masked for its looks."""
    server, wire = MCPServer("test"), Wire()

    @server.tool()
    async def link() -> CallToolResult:
        """Answer with a presigned URL."""
        text = TextContent(type="text", text=PRESIGNED)
        return CallToolResult(content=[text], structured_content={"result": PRESIGNED})

    install(server)
    server.middleware.insert(1, wire)  # before Masking
    inner = Wire()
    server.middleware.append(inner)  # behind it
    result = await call(server, mode, "link")
    assert result.structured_content == {"result": PRESIGNED}
    assert wire.results[-1] is inner.results[-1]


async def test_patterns_are_the_authors_wish(mode: Any) -> None:
    """With one, what it matches is masked, anchors and all; without, only handed-out values are."""
    memory = Memory()
    server = MCPServer("test")

    @server.tool()
    async def link() -> list[str]:
        """Answer with a presigned URL and a token of somebody else."""
        return [PRESIGNED, "ghp_0123456789", "a ghp_0123456789"]

    install(server, redact=False)
    server.middleware.insert(1, Masking(memory))
    assert "Signature=5d67" in (await call(server, mode, "link")).model_dump_json()
    memory.add([r"(?<=X-Amz-Signature=)\w+", re.compile("^ghp_[0-9]+$")])
    content = (await call(server, mode, "link")).content
    shown = [part.text for part in content if isinstance(part, TextContent)]
    assert shown[0].endswith("&X-Amz-Signature=***")
    assert shown[0].startswith("https://bucket.s3.eu-central-1")
    assert shown[1:] == ["***", "a ghp_0123456789"]


@pytest.mark.parametrize("pattern", ["(", "a*", "^", ""])
def test_a_pattern_of_no_use_is_an_error(pattern: str) -> None:
    """One that cannot be read, or that matches everywhere, changes nothing."""
    server = MCPServer("test")
    before = list(server.middleware)
    with pytest.raises(SettingsError) as caught:
        install(server, patterns=["fine-[0-9]+", pattern])
    assert caught.value.key == "patterns.1"
    assert [type(one) for one in server.middleware if isinstance(one, Masking)] == []
    added = server.middleware[len(before) :]
    assert [type(one) for one in added] == [Admitted, ToolNaming]


async def test_a_long_answer_is_masked_off_the_loop(mode: Any) -> None:
    """It comes out as clean, and another thread did the work."""
    looked: list[tuple[bool, int]] = []
    loop = threading.get_ident()

    class Watched(Memory):
        def tells(self, texts: Sequence[str]) -> bool:
            looked.append((threading.get_ident() == loop, sum(map(len, texts))))
            return super().tells(texts)

    memory = Watched()
    memory.learn(credential(KEY))
    server = MCPServer("test")

    @server.tool()
    async def long() -> str:
        """Answer at length."""
        return "lorem ipsum " * AT_ONCE + KEY

    install(server, redact=False)
    server.middleware.insert(1, Masking(memory))
    result = await call(server, mode, "long")
    assert_clean(result.model_dump_json())
    assert "***" in result.model_dump_json()
    assert all(here is (size <= AT_ONCE) for here, size in looked)
    assert {here for here, _ in looked} == {True, False}


# --- what a server says of its own accord ---------------------------------------------------


async def test_no_notification_and_no_question_tells_the_key(fake: FakeBroker, mode: Any) -> None:
    """Progress, log messages and elicitation leave masked; what tells nothing, as it was."""
    server, broker = MCPServer("test"), fake.broker()
    said: list[Any] = []

    class Answer(BaseModel):
        sure: bool

    @server.tool()
    async def talks(ctx: Context[Any, Any]) -> str:
        """Say the key in every way there is but the result."""
        key = (await broker.get("search-api"))["api_key"]
        await ctx.report_progress(0.5, 1.0, f"used {key}")
        await ctx.report_progress(1.0, 1.0, "plain")
        with warnings.catch_warnings(action="ignore"):
            await ctx.info(f"GET /?key={quote(key)}")
            await ctx.session.send_log_message("info", {"deep": [key]}, key)
        if mode == "legacy":  # in the other era a question is a result
            await ctx.elicit(f"Really use {key}?", Answer)
        return "done"

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        said.append(message)

    async def logged(params: Any) -> None:
        said.append(params.model_dump())

    async def elicited(context: Any, params: Any) -> ElicitResult:
        said.append(params.message)
        return ElicitResult(action="accept", content={"sure": True})

    install(server)
    async with Client(
        server, mode=mode, logging_callback=logged, elicitation_callback=elicited
    ) as client:
        result = await client.call_tool("talks", progress_callback=progress)
    assert not result.is_error, result
    assert_clean(json.dumps(said, default=repr))
    assert {"used ***", "plain"} <= {one for one in said if isinstance(one, str)}
    if mode == "legacy":
        assert "Really use ***?" in said
        logs = [one for one in said if isinstance(one, dict)]
        assert [one["data"] for one in logs] == ["GET /?key=***", {"deep": ["***"]}]
        assert logs[1]["logger"] == "***"


async def test_what_is_said_without_a_secret_is_sent_as_it_was() -> None:
    """Nothing is copied or read anew."""
    memory = Memory()
    memory.learn(credential(KEY))
    said = TextContent(type="text", text="plain")
    assert await Masking(memory).clean(said) is said
    assert await Masking(memory).clean(None) is None
    with_key = TextContent(type="text", text=KEY)
    assert (await Masking(memory).clean(with_key))["text"] == "***"


# --- errors -------------------------------------------------------------------------------


class Odd(Exception):
    """An exception that cannot be made anew."""

    def __new__(cls, key: str) -> Self:
        return super().__new__(cls, key)

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def __str__(self) -> str:
        return f"odd {self.key}"


class Mute(Exception):
    """An exception whose text is an exception of its own, and tells."""

    def __str__(self) -> str:
        raise ValueError(KEY)


class Stubborn(Exception):
    """An exception that tells whatever it was made of."""

    def __str__(self) -> str:
        return f"stubborn {KEY}"


def raising(what: str) -> Exception:
    """An exception that tells the key in some way."""
    match what:
        case "tool error":
            return ToolError(f"refused: {KEY}")
        case "crash":
            return RuntimeError(f"GET /?key={quote(KEY)} failed")
        case "protocol error":
            return MCPError(-32000, f"no {KEY}", {"tried": [KEY, 1], KEY: "x"})
        case "data alone":
            return MCPError(-32000, "no", data=KEY)
        case "note":
            noted = ValueError("plain")
            noted.add_note(f"with {KEY}")
            return noted
        case "group":
            return ExceptionGroup("several", [ValueError(KEY), ValueError("b")])
        case "odd":
            return Odd(KEY)
        case "stubborn":
            return Stubborn()
        case "mute":
            return Mute(KEY)
    error = ToolError("plain")
    error.__cause__ = ValueError(KEY)
    return error


ERRORS = [
    *("tool error", "crash", "protocol error", "data alone", "note", "group", "odd", "stubborn"),
    "cause",
    "mute",
]


@pytest.mark.parametrize("what", ERRORS)
async def test_no_error_of_a_tool_tells_the_key(
    fake: FakeBroker, mode: Any, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Not to the model, not to a log, not to a middleware outside, not in its traceback."""
    server, broker, wire = MCPServer("test"), fake.broker(), Wire()

    @server.tool()
    async def fails() -> str:
        """Fail with the key in the error."""
        await broker.get("search-api")
        raise raising(what)

    install(server)
    server.middleware.insert(1, wire)
    with caplog.at_level(logging.DEBUG):
        try:
            answer = (await call(server, mode, "fails")).model_dump_json()
        except MCPError as error:
            answer = f"{error} {error.error.model_dump_json()}"
    assert_clean(answer)
    assert_clean(caplog.text)
    assert_clean(repr(wire.results))
    for left in wire.errors:
        assert left.__cause__ is left.__context__ is None
        assert_clean(str(left) + repr(vars(left)))
    if what in {"tool error", "protocol error"}:
        assert "***" in answer


@pytest.mark.parametrize("what", ERRORS)
async def test_no_error_of_a_low_level_server_tells_the_key(
    fake: FakeBroker, mode: Any, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """There an exception's text goes to the client as it is, in the older era."""
    broker, wire = fake.broker(), Wire()

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        del context, params
        await broker.get("search-api")
        raise raising(what)

    server = Server("test", on_call_tool=call_tool)
    install(server)
    server.middleware.insert(1, wire)
    with caplog.at_level(logging.DEBUG), pytest.raises(MCPError) as caught:
        await call(server, mode, "any")
    assert_clean(f"{caught.value} {caught.value.error.model_dump_json()}")
    assert_clean(caplog.text)
    (error,) = wire.errors
    assert_clean(str(error) + repr(vars(error)))
    if what not in {"odd", "stubborn", "group", "mute"}:  # those cannot be made anew
        assert type(error) is type(raising(what))
    # Logs still tell where it happened.
    (*_, note) = error.__notes__
    assert note.startswith("Masked: ")
    assert "raise raising(what)" in note


def test_an_error_without_a_secret_is_itself() -> None:
    """Class, cause and traceback stay."""
    memory = Memory()
    memory.learn(credential(KEY))
    for error in (ValueError("plain"), MCPError(-32000, "no", {"a": [1, None]})):
        error.__cause__ = KeyError("x")
        assert masked_error(memory.mask, error) is error


async def test_an_error_that_is_returned_is_masked(fake: FakeBroker, mode: Any) -> None:
    """A handler or a middleware may return ``ErrorData`` instead of raising."""
    broker = fake.broker()

    async def refuse(ctx: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        key = (await broker.get("search-api"))["api_key"]
        return ErrorData(code=-32000, message=f"no {key}", data={"key": key})

    server = MCPServer("test")
    install(server)
    server.middleware.append(refuse)
    with pytest.raises(MCPError) as caught:
        await call(server, mode, "any")
    assert (caught.value.error.message, caught.value.error.data) == ("no ***", {"key": "***"})


# --- where it stands, what it costs --------------------------------------------------------


def test_it_stands_inside_tracing_and_outside_of_all_else() -> None:
    """The SDK's span sees masked errors; a second installation changes nothing."""
    server = MCPServer("test")
    tracing, *others = server.middleware
    install(server)
    install(server)
    assert type(tracing).__name__ == "OpenTelemetryMiddleware"
    assert server.middleware[0] is tracing
    assert isinstance(server.middleware[1], Masking)
    assert server.middleware[2 : 2 + len(others)] == others
    assert sum(isinstance(one, Masking) for one in server.middleware) == 1


def test_without_tracing_it_is_the_outermost() -> None:
    """Whatever else a server has."""

    class Bare:
        middleware: list[Any] = [Wire()]

    server = Bare()
    install(server)
    assert isinstance(server.middleware[0], Masking)


def test_redaction_can_be_left_out() -> None:
    """Then neither results nor logs are touched."""
    server, factory = MCPServer("test"), logging.getLogRecordFactory()
    install(server, redact=False)
    assert not any(isinstance(one, Masking) for one in server.middleware)
    assert logging.getLogRecordFactory() is factory


def test_the_work_for_a_result_does_not_depend_on_the_number_of_values() -> None:
    """Ten values or ten thousand: the same number of steps, to the last one."""
    few, many = Memory(), Memory()
    few._redactor, many._redactor = redactor(*provider_keys(10)), crowd()
    result = {
        "content": [{"type": "text", "text": 'GET "/v1/search" 200 %2F \\" ' * 10}],
        "structuredContent": {"pages": [{"title": "Leases", "rank": 1}] * 5},
    }
    works = [Masking(memory)._clean for memory in (few, many)]
    texts = [json.dumps(result)]
    assert works[0](result, texts) is result
    assert steps(lambda: works[0](result, texts)) == steps(lambda: works[1](result, texts))
    assert steps(lambda: masked(few.mask, result)) == steps(lambda: masked(many.mask, result))


def test_a_very_deep_result_is_masked_whole_or_not_at_all() -> None:
    """No depth breaks the walk, and none hides a key."""
    memory = Memory()
    memory.learn(credential(KEY))
    for leaf, shown in ((KEY, "***"), ("plain", "plain")):
        value: Any = leaf
        for _ in range(2 * DEEPEST):
            value = [value]
        clean = masked(memory.mask, value)
        assert (clean is value) is (leaf == "plain")
        assert_clean(repr(clean))
        assert shown in repr(clean)


def test_a_key_that_spans_two_texts_of_a_result_is_none() -> None:
    """Texts are looked at together, yet each is masked for itself."""
    memory = Memory()
    memory.learn(credential("first\nsecond"))
    result = ["first", "second"]
    assert memory.tells(result)
    assert masked(memory.mask, result) is result
