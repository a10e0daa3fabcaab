"""Bodies that parsers read differently, through the guard into a real server of the SDK.

The broker behind it is the real API, so that a question which it would not take shows as well.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.server import MCPServer

from broker.access.authorizer import ListAuthorizer
from broker.access.principal import Principal
from broker.api.sockets import UnixAddress
from broker.client.aio import Broker
from broker.client.mcp import Guard, Issuer, install
from broker.client.mcp.message import DEEPEST, Fault, read_message
from broker.errors import SettingsError
from broker.protocol.names import LONGEST_ASSERTED
from tests.simulators.authorization_server import AuthorizationServer, authorization_server
from tests.support.broker import TOKEN, Assembly, serving
from tests.support.guarded import call_headers
from tests.support.serving import bound, served


class Everything(ListAuthorizer):
    """A policy for any tool but one."""

    asked: list[tuple[str, Any]] = []

    def authorize_tool(
        self, principal: Principal, tool: str, *, arguments: Any = None, **others: Any
    ) -> tuple[str, ...]:
        del principal, others
        self.asked.append((tool, arguments))
        return ("all",)


@asynccontextmanager
async def world(
    directory: Path, issuer_tail: str = ""
) -> AsyncIterator[tuple[httpx2.AsyncClient, str, list[Any], AuthorizationServer]]:
    """An agent, the address of a guarded server, what its tools were called with, and who signs."""
    ran: list[Any] = []
    server: MCPServer[Any] = MCPServer("bodies")

    @server.tool()
    async def echo(value: Any = None) -> str:
        """Answer."""
        ran.append(("echo", value))
        return "done"

    @server.tool()
    async def other(value: Any = None) -> str:
        """Another tool."""
        ran.append(("other", value))
        return "done"

    install(server, redact=False)
    Everything.asked = []
    real = Assembly(directory, authorizer=Everything)
    (directory / "client-token").write_text(TOKEN)
    socket = directory / "broker.sock"
    taken = bound()
    url = f"http://127.0.0.1:{taken.getsockname()[1]}/mcp"
    async with serving(real) as listeners, authorization_server() as issuer:
        await listeners.start(real.listener(UnixAddress(socket), client="search-mcp"))
        guard = Guard(
            server.streamable_http_app(stateless_http=True),
            broker=Broker(f"unix://{socket}"),
            resource=url,
            issuers=[
                Issuer(
                    issuer.url + issuer_tail,
                    jwks_uri=f"{issuer.url}/jwks",
                    unsafe_loopback=True,
                )
            ],
        )
        issuer.audience = url
        headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Authorization": f"Bearer {issuer.sign(scope='tool:*')}",
        }
        async with (
            served(guard, taken),
            httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http,
        ):
            yield http, url, ran, issuer


def call(value: str, *, name: str = '"echo"', request_id: str = "1", more: str = "") -> str:
    """A call as a text, so that nothing tidies it up."""
    meta = (
        '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        '"io.modelcontextprotocol/clientCapabilities":{}}'
    )
    return (
        f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/call","params":{{"name":{name},'
        f'"arguments":{{"value":{value}}},{meta}{more}}}}}'
    )


def nested(levels: int) -> str:
    """A call whose ``value`` makes the body so deep: ``arguments`` is on the third level."""
    return call("[" * (levels - 3) + "]" * (levels - 3))


REFUSED: dict[str, str | bytes] = {
    "infinite by size": call("1e999"),
    "infinite by size, negative": call("-1e999"),
    "infinite in a list": call('[[{"a":1E400}]]'),
    "infinite as id": call("1", request_id="1e999"),
    "NaN": call("NaN"),
    "Infinity": call("Infinity"),
    "-Infinity": call("-Infinity"),
    "a number of 5,000 digits": call("9" * 5000),
    "an id of 5,000 digits": call("1", request_id="9" * 5000),
    "deep": nested(DEEPEST + 1),
    "deeper than the SDK goes": nested(250),
    "as deep as Python goes": nested(900),
    "deeper than Python goes": nested(100_000),
    "deep objects": call('{"a":' * 500 + "1" + "}" * 500),
    "name twice": call("1", more=',"name":"other"'),
    "name twice, once escaped": call("1", more=',"n\\u0061me":"other"'),
    "arguments twice": call("1", more=',"arguments":{"value":2}'),
    "an argument twice": call('1,"value":2'),
    "a member of a member twice": call('{"a":1,"a":2}'),
    "half a pair": call('"\\ud800"'),
    "half a pair, the other half": call('"\\uDC00x"'),
    "half a pair as name": call("1", name='"\\ud800"'),
    "half a pair as id": call("1", request_id='"\\udfff"'),
    "half a pair as key": call('{"\\ud800":1}'),
    "not UTF-8": call('"?"').encode().replace(b"?", b"\xff"),
    "overlong UTF-8": call('"?"').encode().replace(b"?", b"\xc0\xaf"),
    "a pair in UTF-8": call('"?"').encode().replace(b"?", b"\xed\xa0\x80\xed\xb0\x80"),
    "a byte order mark": b"\xef\xbb\xbf" + call("1").encode(),
    "UTF-16": call("1").encode("utf-16"),
    "UTF-32": call("1").encode("utf-32-be"),
    "a line end in a text": call('"a\nb"'),
    "a zero byte": call("1") + "\0",
    "two bodies": call("1") + call("2"),
    "a comma too many": call("[1,]"),
    "a comment": call("1/**/"),
    "a number with a plus": call("+1"),
    "a number with a zero": call("01"),
    "a number of other digits": call("\u0661"),
    "a batch": f"[{call('1')}]",
}

TAKEN: dict[str, tuple[str, Any]] = {
    "a large number": (call("123456789012345678901234567890"), 123456789012345678901234567890),
    "a number of 4,000 digits": (call("9" * 4000), 10**4000 - 1),
    "a tiny number": (call("1e-999"), 0.0),
    "a large float": (call("1e308"), 1e308),
    "a whole pair": (call('"\\ud83d\\ude00"'), "\U0001f600"),
    "an escaped backslash": (call('"\\\\ud800"'), "\\ud800"),
    "an escaped zero": (call('"a\\u0000b"'), "a\0b"),
    "the deepest": (nested(DEEPEST), json.loads("[" * (DEEPEST - 3) + "]" * (DEEPEST - 3))),
    "brackets in a text": (call('"' + "[" * 5000 + '"'), "[" * 5000),
    "an id of letters": (call("1", request_id='"' + "\u00e9\U0001f600" * 200 + '"'), 1),
    "an id with line ends": (call("1", request_id='"a\\r\\nb\\u0000"'), 1),
    "an id of 4,000 digits": (call("1", request_id="9" * 4000), 1),
    "an escaped name": (call("1", name='"\\u0065cho"'), 1),
}


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_a_body_has_one_meaning_or_is_400(tmp_path: Path, era: str) -> None:
    """Never a 500 or 503; no tool runs, no policy is asked, and a good call goes on after it."""
    headers = call_headers("echo") if era != "legacy" else {"MCP-Protocol-Version": "2025-11-25"}
    async with world(tmp_path) as (http, url, ran, _):
        wrong = {}
        for case, body in REFUSED.items():
            content = body.encode() if isinstance(body, str) else body
            answer = await http.post(url, content=content, headers=headers)
            code = answer.json()["error"]["code"]
            if answer.status_code != 400 or code not in {-32700, -32600}:
                wrong[case] = (answer.status_code, answer.text)
        assert wrong == {}
        assert (Everything.asked, ran) == ([], [])
        assert (await http.post(url, content=call("1"), headers=headers)).status_code == 200


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_what_is_taken_means_the_same_to_policy_and_tool(tmp_path: Path, era: str) -> None:
    """The broker was asked about the very tool and value that the tool got."""
    headers = call_headers("echo") if era != "legacy" else {"MCP-Protocol-Version": "2025-11-25"}
    async with world(tmp_path) as (http, url, ran, _):
        for case, (body, value) in TAKEN.items():
            ran.clear()
            Everything.asked.clear()
            answer = await http.post(url, content=body.encode(), headers=headers)
            assert (case, answer.status_code) == (case, 200), answer.text
            assert (case, Everything.asked) == (case, [("echo", {"value": value})])
            # Python and the SDK take 4,300 digits, and what they take they take alike.
            assert (case, ran) == (case, [("echo", value)]), answer.text


@pytest.mark.parametrize("name", ["x" * 129, "x" * 5000, "a\\u0000b", "a\\nb", "\U0001f600" * 100])
async def test_an_odd_name_of_a_tool_is_refused_not_undecided(tmp_path: Path, name: str) -> None:
    """403 or the SDK's own answer; no 503, which would have the agent try for ever."""
    async with world(tmp_path) as (http, url, ran, _):
        headers = {"MCP-Protocol-Version": "2025-11-25"}
        answer = await http.post(url, content=call("1", name=f'"{name}"').encode(), headers=headers)
    assert answer.status_code in {200, 400, 403}
    assert ran == []


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_no_parser_of_the_sdk_disagrees(case: str) -> None:
    """The reader alone refuses each, so that nothing depends on what stands behind."""
    body = REFUSED[case]
    found = read_message(body.encode() if isinstance(body, str) else body)
    assert isinstance(found, Fault)


async def test_an_issuer_and_subject_too_long_to_ask_about_are_401(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the broker takes is taken; one character more is no outage, and the log says why."""
    caplog.set_level(logging.INFO)
    tail = "/" + "i" * 300
    async with world(tmp_path, tail) as (http, url, ran, issuer):
        name = issuer.url + tail
        room = LONGEST_ASSERTED - len(name) - 1
        statuses = []
        for length in (room, room + 1, 255):
            token = issuer.sign(iss=name, sub="s" * length, scope="tool:*")
            headers = call_headers("echo") | {"Authorization": f"Bearer {token}"}
            answer = await http.post(url, content=call("1").encode(), headers=headers)
            statuses.append(answer.status_code)
    assert statuses == [200, 401, 401]
    assert ran == [("echo", 1)]
    assert caplog.text.count("refused a bearer: subject_too_long") == 2


@pytest.mark.parametrize("url", ["https://as.example/a|b", "https://as.example/\n"])
def test_an_issuer_that_no_question_can_name_is_refused(url: str) -> None:
    """A bar parts issuer and subject, so an issuer with one is a mistake from the start."""
    with pytest.raises(SettingsError, match="issuer"):
        Issuer(url)
