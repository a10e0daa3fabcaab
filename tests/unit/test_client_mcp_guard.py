"""``client.mcp.guard``: real agents of both eras, a real server, a broker in memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from mcp import MCPError

from broker.client.mcp.guard import Guard
from tests.simulators.subject_tokens import UNKNOWN, TokenBroker
from tests.support.guarded import (
    ERAS,
    KEY,
    Era,
    call_body,
    call_headers,
    guarded,
    text_of,
)
from tests.support.patience import eventually

BOTH = pytest.mark.parametrize("era", ERAS)


@pytest.fixture
def fake() -> TokenBroker:
    """A broker with one key."""
    fake = TokenBroker()
    fake.put("search-api", {"api_key": KEY})
    return fake


# --- identity --------------------------------------------------------------------------


@BOTH
async def test_a_session_whose_bearer_changes_speaks_for_the_new_one(
    fake: TokenBroker, era: Era
) -> None:
    """The same subject with a fresh token: the broker sees the fresh one at once."""
    first, second = (fake.mint("ada", "web_search") for _ in range(2))
    async with guarded(fake.broker()) as world, world.agent(first, era) as client:
        await client.call_tool("web_search", {})
        world.clients[-1].headers["Authorization"] = f"Bearer {second}"
        await client.call_tool("web_search", {})
    shown = [one.headers["broker-subject-token"] for one in fake.asked if one.tool]
    assert shown == [first, second]


@BOTH
async def test_the_bearer_is_not_in_tool_code(fake: TokenBroker, era: Era) -> None:
    """Neither header fields nor user nor access token hold it; what a tool needs is there."""
    token = fake.mint("ada", "nosy")
    async with guarded(fake.broker()) as world, world.agent(token, era) as client:
        said = text_of(await client.call_tool("nosy", {}))
        url = world.url
    assert token not in said
    told, _ = json.JSONDecoder().raw_decode(said)
    assert "authorization" not in told["headers"]
    assert "authorization" not in [name for name, _ in told["raw"]]
    access = told["token"]
    assert access["token"].startswith("sha256:")
    assert (access["subject"], access["client_id"]) == ("ada", "search-mcp")
    assert access["claims"] == {"iss": "urn:mcp-secrets-broker:test", "sub": "ada"}
    assert access["resource"] == url
    assert access["scopes"] == ["tool:nosy", "credential:search-api"]
    assert access["expires_at"] > 1_700_000_000


# --- refusals --------------------------------------------------------------------------


@BOTH
async def test_a_token_for_one_tool_does_not_call_another(fake: TokenBroker, era: Era) -> None:
    """403 with the scope that is missing and those the token has; the tool never ran."""
    token = fake.mint("ada", "web_search")
    async with guarded(fake.broker()) as world, world.agent(token, era) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("orders", {})
        assert "does not cover" in str(caught.value)
        assert text_of(await client.call_tool("web_search", {})) == " ada ada"
        async with world.raw(token) as http:
            response = await http.post(
                world.url, json=call_body("orders"), headers=call_headers("orders")
            )
            metadata = world.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
    assert response.status_code == 403
    assert response.headers["www-authenticate"] == (
        f'Bearer error="insufficient_scope", resource_metadata="{metadata}", '
        'scope="tool:web_search credential:search-api tool:orders"'
    )
    assert "orders" not in [tool for tool, _ in fake.subjects]


async def test_a_policy_that_refuses_asks_for_no_scope(fake: TokenBroker) -> None:
    """403 without a challenge: another token would not help, so no client tries."""
    token = fake.mint("ada", "orders")
    fake.forbidden.add("orders")
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        response = await http.post(
            world.url, json=call_body("orders"), headers=call_headers("orders")
        )
    assert response.status_code == 403
    assert "www-authenticate" not in response.headers
    assert response.json()["error"]["message"] == "A policy does not allow this."


@pytest.mark.parametrize("bearer", ["", "unknown", UNKNOWN, "a.b.c", "x" * 9000])
async def test_without_a_good_bearer_nothing_is_answered(fake: TokenBroker, bearer: str) -> None:
    """401 that names the metadata and the scope of the call; why is not told."""
    async with guarded(fake.broker()) as world, world.raw(bearer) as http:
        response = await http.post(
            world.url, json=call_body("orders"), headers=call_headers("orders")
        )
        other = await http.get(world.url)
        anywhere = await http.get(world.url + "/elsewhere")
    assert (response.status_code, other.status_code, anywhere.status_code) == (401, 401, 401)
    challenge = response.headers["www-authenticate"]
    assert 'scope="tool:orders"' in challenge
    assert "/.well-known/oauth-protected-resource/mcp" in challenge
    assert ('error="invalid_token"' in challenge) == bool(bearer)
    assert response.json()["id"] == 1
    assert not fake.questions


async def test_two_bearers_are_none(fake: TokenBroker) -> None:
    """A request that shows two is not guessed at."""
    token = fake.mint("ada", "ping")
    async with guarded(fake.broker()) as world, world.raw() as http:
        response = await http.post(
            world.url,
            json=call_body("ping"),
            headers=[
                ("Authorization", f"Bearer {token}"),
                ("Authorization", f"Bearer {token}"),
                *call_headers("ping").items(),
            ],
        )
    assert response.status_code == 401


async def test_a_token_for_another_server_is_refused(fake: TokenBroker) -> None:
    """The audience of a scoped token counts (RFC 8707)."""
    token = fake.mint("ada", "ping", audience="https://other.example/mcp")
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        refused = await http.post(world.url, json=call_body("ping"), headers=call_headers("ping"))
        own = fake.mint("ada", "ping", audience=world.url)
        http.headers["Authorization"] = f"Bearer {own}"
        taken = await http.post(world.url, json=call_body("ping"), headers=call_headers("ping"))
    assert (refused.status_code, taken.status_code) == (401, 200)


async def test_open_tools_need_a_bearer_and_no_more(fake: TokenBroker) -> None:
    """A tool declared open is for every authenticated agent; the broker is not asked."""
    token = fake.mint("ada")
    async with guarded(fake.broker(), open_tools=["pi*"]) as world:
        async with world.agent(token) as client:
            assert text_of(await client.call_tool("ping", {})) == "pong"
        async with world.raw() as http:
            response = await http.post(
                world.url, json=call_body("ping"), headers=call_headers("ping")
            )
    assert all(one.get("overview") for one in fake.questions)
    assert response.status_code == 401
    assert "scope" not in response.headers["www-authenticate"]


async def test_a_call_is_asked_about_with_all_that_policies_look_at(fake: TokenBroker) -> None:
    """Tool, address, arguments, id of the request."""
    token = fake.mint("ada", "web_search")
    async with guarded(fake.broker()) as world, world.agent(token) as client:
        await client.call_tool("web_search", {"query": "leases"})
    (question,) = [one for one in fake.questions if not one.get("overview")]
    assert question == {
        "action": "call_tool",
        "tools": ["web_search"],
        "address": "127.0.0.1",
        "arguments": {"query": "leases"},
    }
    asked = [one for one in fake.asked if one.path == "/v1/decisions"]
    assert [one for one in asked if one.headers.get("broker-mcp-request-id")]
    assert all(one.headers["broker-subject-token"] == token for one in asked)


async def test_arguments_that_do_not_fit_are_refused_not_cut(fake: TokenBroker) -> None:
    """A policy could be missing one; authors name those that policies look at."""
    token = fake.mint("ada", "web_search")
    big = {"query": "q" * 20_000, "pause": 0.0}
    body, headers = call_body("web_search", big), call_headers("web_search")
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        assert (await http.post(world.url, json=body, headers=headers)).status_code == 413
    async with guarded(fake.broker(), arguments=["pause"]) as world, world.raw(token) as http:
        assert (await http.post(world.url, json=body, headers=headers)).status_code == 200
    assert [one["arguments"] for one in fake.questions] == [{"pause": 0.0}]


# --- bodies and header fields --------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Mcp-Name": "ping"}, 400),
        ({"Mcp-Method": "tools/list"}, 400),
        ({"Mcp-Name": ""}, 400),
        ({"Mcp-Method": ""}, 400),
        ({"Mcp-Name": "=?base64?b3JkZXJz?="}, 200),
        ({"Mcp-Name": "=?base64?cGluZw==?="}, 400),
    ],
)
async def test_header_fields_and_body_say_the_same(
    fake: TokenBroker, headers: dict[str, str], status: int
) -> None:
    """A difference is refused before any policy is asked, with the SDK's code."""
    token = fake.mint("ada", "*")
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        response = await http.post(
            world.url, json=call_body("orders"), headers={**call_headers("orders"), **headers}
        )
    assert response.status_code == status
    assert len(fake.questions) == (status == 200)
    if status == 400:
        assert response.json()["error"]["code"] == -32020


@pytest.mark.parametrize(
    ("dropped", "version", "status"),
    [
        (["Mcp-Name"], "2026-07-28", 400),
        (["Mcp-Method"], "2026-07-28", 400),
        (["Mcp-Name", "Mcp-Method"], "2026-07-28", 400),
        (["Mcp-Name", "Mcp-Method"], "9999-01-01", 400),
        (["Mcp-Name", "Mcp-Method"], "2025-11-25", 200),
        (["Mcp-Name"], "2025-11-25", 200),
    ],
)
async def test_only_the_newest_era_must_send_them(
    fake: TokenBroker, dropped: list[str], version: str, status: int
) -> None:
    """Clients of the initialize era send none, and are decided about by the body alike."""
    token = fake.mint("ada", "ping")
    headers = {**call_headers("ping"), "MCP-Protocol-Version": version}
    for name in dropped:
        del headers[name]
    async with guarded(fake.broker(), stateless=True) as world, world.raw(token) as http:
        response = await http.post(world.url, json=call_body("ping"), headers=headers)
    assert response.status_code == status
    assert len(fake.questions) == (status == 200)


async def test_fields_of_the_wrong_call_are_refused_in_the_old_era_too(fake: TokenBroker) -> None:
    """``Mcp-Name: ping`` around a call of another tool hides it from a gateway."""
    token = fake.mint("ada", "*")
    headers = {"MCP-Protocol-Version": "2025-11-25", "Mcp-Method": "tools/call", "Mcp-Name": "ping"}
    async with guarded(fake.broker(), stateless=True) as world, world.raw(token) as http:
        response = await http.post(world.url, json=call_body("orders"), headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32020


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        ('{"jsonrpc":"2.0"}'.encode("utf-16"), -32700),
        (b"[" * 100_000, -32700),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"tools/list"}', -32700),
        (b'{"method":"tools/call","params":{"name":"a","arguments":{"x":-Infinity}}}', -32700),
        (b'{"id":1,"method":"tools/call","params":{"name":"\\ud800"}}', -32700),
        (b'{"id":"\\uDFFF","method":"tools/call","params":{"name":"ping"}}', -32700),
        (b'{"method":"tools/call","params":{"name":"a","arguments":{"\\udc00":1}}}', -32700),
        (b"[]", -32600),
        (json.dumps([call_body("ping")]).encode(), -32600),
        (b'"tools/call"', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","result":{}}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}', -32600),
        (b'{"id":1,"method":"tools/call","params":{"name":"ping","name":"orders"}}', -32600),
        (b'{"jsonrpc":"2.0","id":[1],"method":"tools/list"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":""}}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["ping"]}}', -32602),
        (b'{"id":1,"method":"tools/call","params":{"name":"ping","arguments":[]}}', -32602),
    ],
)
async def test_a_body_that_is_no_message_is_400(fake: TokenBroker, body: bytes, code: int) -> None:
    """Batches, members that stand twice, other encodings, odd shapes: nothing is guessed."""
    token = fake.mint("ada", "*")
    headers = {"Content-Type": "application/json"}
    async with guarded(fake.broker(), stateless=True) as world, world.raw(token) as http:
        response = await http.post(world.url, content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code
    assert not fake.questions


async def test_a_stranger_causes_no_error_of_ours(fake: TokenBroker) -> None:
    """Half a surrogate pair is no text: a challenge, not a 503 and no traceback in the log."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800"}}'
    whole = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud83d\\ude00"}}'
    async with guarded(fake.broker()) as world, world.raw() as http:
        for content in (body, whole):
            assert (await http.post(world.url, content=content)).status_code == 401


async def test_too_large_encoded_and_other_methods(fake: TokenBroker) -> None:
    """413 over 4 MiB, said or sent; 415 for an encoded body; 405 for what MCP has not."""
    token = fake.mint("ada", "*")
    large = b" " * (4 * 1024 * 1024 + 1)

    async def chunks() -> Any:
        yield large

    async with guarded(fake.broker()) as world, world.raw(token) as http:
        assert (await http.post(world.url, content=large)).status_code == 413
        assert (await http.post(world.url, content=chunks())).status_code == 413
        gzip = {"Content-Encoding": "gzip"}
        assert (await http.post(world.url, content=b"{}", headers=gzip)).status_code == 415
        put = await http.put(world.url, json=call_body("ping"))
        assert (put.status_code, put.headers["allow"]) == (405, "GET, POST, DELETE")
        http.headers["Authorization"] = "Bearer nobody"
        # Who shows no good bearer does not have megabytes read.
        assert (await http.post(world.url, content=b" " * 100_000)).status_code == 401
    assert not fake.questions


async def test_the_connection_of_a_slow_peer_ends(fake: TokenBroker) -> None:
    """It gets its answer, and the server's end is not held up by what it might still send."""
    token = fake.mint("ada", "ping")
    async with guarded(fake.broker(), body_timeout=0.1) as world:
        port = int(world.url.split(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 100\r\n"
            f"Authorization: Bearer {token}\r\n\r\n{{".encode()
        )
        said = await asyncio.wait_for(reader.read(), 30)  # to its end
        writer.close()
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive in time" in said


# --- tokens where none belong ---------------------------------------------------------------

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
FOREIGN = UNKNOWN


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"access_token={JWT}", 400),
        ("access_token=", 400),
        ("Access-Token=x", 400),
        (f"q={FOREIGN}", 400),
        (f"q=a-{FOREIGN.replace('_', '%5F')}", 400),
        (f"token={JWT}", 400),
        ("token=continue", 200),
        ("X-Amz-Security-Token=IQoJb3JpZ2luX2VjEJv%2F&X-Amz-Signature=0f", 200),
        ("sv=2026-01-01&sig=eyJhbGciOiJSUzI1NiJ9%3D", 200),
        (f"next={JWT}", 200),
    ],
)
async def test_a_token_in_the_url_is_refused(
    fake: TokenBroker, query: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """400, whether or not a good bearer is shown; presigned addresses and cursors survive."""
    token = fake.mint("ada", "ping")
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        response = await http.post(
            f"{world.url}?{query}", json=call_body("ping"), headers=call_headers("ping")
        )
    assert response.status_code == status


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_token_in_the_path_is_refused(fake: TokenBroker, method: str) -> None:
    """It is part of the URL like the query, and of every access log."""
    token = fake.mint("ada", "ping")
    body = json.dumps(call_body("ping")) if method == "POST" else None
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        for stray in (token, FOREIGN, FOREIGN.replace("_", "%5F")):
            response = await http.request(method, f"{world.url}/{stray}", content=body)
            assert response.status_code == 400
        # Without a good bearer too.
        http.headers.pop("Authorization")
        response = await http.request(method, f"{world.url}/{FOREIGN}", content=body)
        assert response.status_code == 400


async def test_the_own_bearer_is_refused_wherever_it_stands(fake: TokenBroker) -> None:
    """In the query, in an argument, in ``_meta``, as a name: it would leave with the call."""
    token = fake.mint("ada", "web_search")
    headers = call_headers("web_search")
    bodies = [
        call_body("web_search", {"query": f"my token is {token}"}),
        call_body("web_search", {"query": [{"deep": [token]}]}),
        call_body("web_search", {token: 1}),
        call_body("web_search", other={"authorization": token}),
    ]
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        answers = [await http.post(world.url, json=one, headers=headers) for one in bodies]
    assert [one.status_code for one in answers] == [400] * 4
    assert all("Authorization field" in one.json()["error"]["message"] for one in answers)
    assert not fake.questions


@pytest.mark.parametrize(
    ("arguments", "meta", "status"),
    [
        ({"query": FOREIGN}, {}, 400),
        ({}, {"authorization": f"Bearer {JWT}"}, 400),
        ({}, {"example.com/x": {"access_token": JWT}}, 400),
        ({}, {"token": JWT}, 400),
        ({}, {"progressToken": "eyJhbGciOiJSUzI1NiJ9"}, 200),
        ({}, {"progressToken": JWT}, 200),
        ({"query": JWT}, {}, 200),
        ({"query": f"https://x.example/?X-Amz-Security-Token={JWT}&X-Amz-Signature=1"}, {}, 200),
        ({"query": "mbt_short and mbs_short"}, {}, 200),
    ],
)
async def test_tokens_in_arguments_and_meta(
    fake: TokenBroker, arguments: dict[str, Any], meta: dict[str, Any], status: int
) -> None:
    """Scoped tokens anywhere, JWTs in ``_meta`` under a name that says so; nothing else."""
    token = fake.mint("ada", "web_search")
    body = call_body("web_search", arguments)
    body["params"]["_meta"] |= meta
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        response = await http.post(world.url, json=body, headers=call_headers("web_search"))
    assert response.status_code == status


# --- lists --------------------------------------------------------------------------------


@BOTH
async def test_each_caller_sees_its_own_tools(fake: TokenBroker, era: Era) -> None:
    """``tools/list`` without what the caller may not call, by token or by policy."""
    ada, edsger = fake.mint("ada", "web_search", "orders"), fake.mint("edsger", "n*")
    fake.forbidden.add("orders")
    async with guarded(fake.broker(), open_tools=["ping"]) as world:
        async with world.agent(ada, era) as client:
            assert [one.name for one in (await client.list_tools()).tools] == ["web_search", "ping"]
        async with world.agent(edsger, era) as client:
            assert [one.name for one in (await client.list_tools()).tools] == ["nosy", "ping"]
    assert all(one["overview"] for one in fake.questions)


async def test_tools_within_reach_of_another_scope_can_be_shown(fake: TokenBroker) -> None:
    """So that an agent may ask for the scope; what a policy refuses stays hidden."""
    token = fake.mint("ada", "web_search")
    fake.forbidden.add("orders")
    async with guarded(fake.broker(), list_reachable=True) as world, world.agent(token) as client:
        names = [one.name for one in (await client.list_tools()).tools]
    assert names == ["web_search", "nosy", "ping"]


# --- revocation and outage -------------------------------------------------------------------


async def test_revocation_beats_the_cache(fake: TokenBroker) -> None:
    """Known for five seconds while revocations are heard; a revocation counts at once."""
    token = fake.mint("ada", "ping")
    async with guarded(fake.broker(), open_tools=["ping"]) as world, world.raw(token) as http:

        async def call() -> int:
            body, headers = call_body("ping"), call_headers("ping")
            return (await http.post(world.url, json=body, headers=headers)).status_code

        await eventually(lambda: world.guard._introspection._hearing)
        assert [await call() for _ in range(5)] == [200] * 5
        assert len(fake.introspected) == 1
        fake.revoke(token)
        # An open tool, so that nothing but the verdict about the bearer stands in the way.
        await eventually(lambda: not world.guard._introspection._kept)
        assert await call() == 401


async def test_a_decision_sees_a_revocation_whose_news_is_late(fake: TokenBroker) -> None:
    """The broker is asked with the token for each call: a cached verdict opens no tool."""
    token = fake.mint("ada", "ping")
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        body, headers = call_body("ping"), call_headers("ping")
        await eventually(lambda: world.guard._introspection._hearing)
        assert (await http.post(world.url, json=body, headers=headers)).status_code == 200
        fake.revoke(token, told=False)
        assert (await http.post(world.url, json=body, headers=headers)).status_code == 401


async def test_without_a_broker_everything_is_503(fake: TokenBroker) -> None:
    """Retry-After, no 500, nothing allowed; not with a bearer known a moment ago either."""
    token = fake.mint("ada", "web_search")
    body, headers = call_body("web_search"), call_headers("web_search")
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        assert (await http.post(world.url, json=body, headers=headers)).status_code == 200
        fake.down = True
        fake.cut()
        await eventually(lambda: not world.guard._introspection._hearing)
        asked = len(fake.asked)
        response = await http.post(world.url, json=body, headers=headers)
        assert (await http.get(world.url)).status_code == 503
        fake.down = False
        fake.tokens_down = True
        confused = await http.post(world.url, json=body, headers=headers)
        fake.tokens_down = False
        assert (await http.post(world.url, json=body, headers=headers)).status_code == 200
    assert response.status_code == confused.status_code == 503
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert response.json()["error"]["code"] == -32011
    assert response.json()["id"] == 1
    assert len(fake.asked) > asked


async def test_a_list_that_cannot_be_decided_about_is_an_error(fake: TokenBroker) -> None:
    """Neither a full list nor an empty one."""
    token = fake.mint("ada", "web_search")
    async with guarded(fake.broker()) as world, world.agent(token) as client:
        await client.list_tools()
        await eventually(lambda: world.guard._introspection._hearing)
        await client.call_tool("web_search", {})  # its verdict is kept
        fake.down = True
        with pytest.raises(MCPError, match="Nobody can decide"):
            await client.session.list_tools()


# --- beside the MCP endpoint ------------------------------------------------------------------


async def test_metadata_is_for_everybody(fake: TokenBroker) -> None:
    """RFC 9728, at the address that challenges name."""
    options: dict[str, Any] = {
        "scopes": ["mcp:connect"],
        "authorization_servers": ["https://as.example"],
    }
    async with guarded(fake.broker(), name="Search", **options) as world, world.raw() as http:
        address = world.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
        response = await http.get(address)
        assert response.json() == {
            "resource": world.url,
            "bearer_methods_supported": ["header"],
            "authorization_servers": ["https://as.example"],
            "scopes_supported": ["mcp:connect"],
            "resource_name": "Search",
        }
        assert (await http.post(address)).status_code == 401
        refused = await http.post(world.url, json=call_body("ping"))
        assert 'scope="mcp:connect tool:ping"' in refused.headers["www-authenticate"]


async def test_public_paths_are_exact_and_only_read(fake: TokenBroker) -> None:
    """A health check needs no bearer; nothing else becomes open by it."""
    async with guarded(fake.broker(), public=["/healthz"]) as world, world.raw() as http:
        origin = world.url.removesuffix("/mcp")
        statuses = [
            (await http.get(f"{origin}/healthz")).status_code,  # the app has no such route
            (await http.post(f"{origin}/healthz")).status_code,
            (await http.get(f"{origin}/healthz/x")).status_code,
            (await http.get(f"{origin}/healthz/../mcp")).status_code,
        ]
    assert statuses == [404, 401, 401, 401]


async def test_a_public_path_sees_no_bearer_either(fake: TokenBroker) -> None:
    """Whatever an agent sends along: nothing there needs it."""
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(list(scope["headers"]))

    guard = Guard(app, resource="https://mcp.example/mcp", broker=fake.broker(), public=["/ok"])
    headers = [(b"authorization", b"Bearer x"), (b"host", b"mcp.example")]
    scope = {"type": "http", "method": "GET", "path": "/ok", "headers": headers}

    async def nothing(message: Any = None) -> Any:
        return message

    await guard(scope, nothing, nothing)
    assert seen == [[(b"host", b"mcp.example")]]
