"""The guard at work: many agents at once, and the SDK's client that steps up by itself."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from broker.access.authorizer import ListAuthorizer
from broker.access.principal import Principal
from broker.api.sockets import UnixAddress
from broker.client.aio import Broker
from broker.demo.openbao import OpenBao
from broker.errors import CallerForbidden
from tests.conftest import KubernetesAuth
from tests.simulators.authorization_server import authorization_server
from tests.simulators.subject_tokens import TokenBroker
from tests.support.broker import TOKEN, Assembly, serving
from tests.support.broker_process import BrokerProcess
from tests.support.guarded import ERAS, KEY, Era, call_body, call_headers, guarded, text_of
from tests.support.patience import eventually

pytestmark = pytest.mark.real

BOTH = pytest.mark.parametrize("era", ERAS)


@pytest.fixture
def fake() -> TokenBroker:
    """A broker with one key."""
    fake = TokenBroker()
    fake.put("search-api", {"api_key": KEY})
    return fake


@BOTH
@pytest.mark.parametrize("stateless", [False, True])
async def test_a_hundred_interleaved_calls_of_two_subjects_never_swap(
    fake: TokenBroker, era: Era, stateless: bool
) -> None:
    """Whoever calls, tool code and broker are told it was he, at every moment of the call."""
    tokens = {name: fake.mint(name, "web_search", "orders") for name in ("ada", "edsger")}
    async with (
        guarded(fake.broker(), stateless=stateless) as world,
        world.agent(tokens["ada"], era) as ada,
        world.agent(tokens["edsger"], era) as edsger,
    ):

        async def one(number: int) -> None:
            name, client = (("ada", ada), ("edsger", edsger))[number % 2]
            tool = ("web_search", "orders")[number // 2 % 2]
            said = {"query": f"{name}{number}"}
            if tool == "web_search":
                said["pause"] = 0.001 * (number % 7)  # type: ignore[assignment]
            result = await client.call_tool(tool, said)
            assert text_of(result) == f"{name}{number} {name} {name}"

        await asyncio.gather(*map(one, range(100)))
    # Values are cached for each subject and tool: so many questions, none in a wrong name.
    assert sorted(set(fake.subjects)) == [
        ("orders", "ada"),
        ("orders", "edsger"),
        ("web_search", "ada"),
        ("web_search", "edsger"),
    ]


@BOTH
async def test_the_sdks_client_steps_up_by_itself(fake: TokenBroker, era: Era) -> None:
    """No token, a token to connect, a token for the tool: three answers, no line of client code."""
    async with (
        authorization_server() as server,
        guarded(
            fake.broker(),
            issuers=[server.issuer()],
            scopes=["mcp:connect"],
            open_tools=["ping"],
        ) as world,
    ):
        server.audience = world.url
        async with world.agent(era=era, auth=server.client(world.url)) as client:
            assert text_of(await client.call_tool("ping", {})) == "pong"
            assert server.asked == ["mcp:connect"]
            assert text_of(await client.call_tool("web_search", {"query": "q"})) == "q agent agent"
            assert text_of(await client.call_tool("orders", {})) == " agent agent"
            assert text_of(await client.call_tool("web_search", {"query": "q"})) == "q agent agent"
    # The union each time (SEP-2350): what was granted stays granted.
    assert server.asked == [
        "mcp:connect",
        "mcp:connect tool:web_search",
        "mcp:connect tool:web_search tool:orders",
    ]
    subject = {"iss": server.url, "sub": "agent"}
    assert all(one["subject"] == subject for one in fake.questions)


@BOTH
async def test_who_may_not_have_a_scope_is_refused_once(fake: TokenBroker, era: Era) -> None:
    """An authorization server that grants less leads to a refusal, not to a loop."""
    async with (
        authorization_server() as server,
        guarded(fake.broker(), issuers=[server.issuer()], scopes=["mcp:connect"]) as world,
    ):
        server.audience = world.url
        server.granted = {"mcp:connect"}
        async with world.agent(era=era, auth=server.client(world.url)) as client:
            with pytest.raises(Exception, match="does not cover"):
                await client.call_tool("web_search", {})
    # Without a handshake the first request is the call itself, and its 401 names everything.
    assert len(server.asked) == (2 if era == "legacy" else 1)
    assert not [one for one in fake.questions if not one.get("overview")]


class Policies(ListAuthorizer):
    """One subject may search; what depends on arguments is the other's."""

    def authorize_tool(
        self, principal: Principal, tool: str, *, arguments: Any = None, **others: Any
    ) -> tuple[str, ...]:
        del others
        if not principal.subject.endswith("/as|agent"):
            raise CallerForbidden(reason="stranger")
        if tool == "web_search" and (arguments or {}).get("query") != "forbidden":
            return ("search",)
        raise CallerForbidden(reason="no_policy")


@BOTH
async def test_policies_of_the_broker_hold_for_other_issuers_subjects(
    tmp_path: Path, era: Era
) -> None:
    """The real API over a client's own socket: asked at each call, refusals in its audit."""
    real = Assembly(tmp_path, authorizer=Policies)
    real.publish("search-api")
    (tmp_path / "client-token").write_text(TOKEN)
    socket = tmp_path / "broker.sock"
    async with serving(real) as listeners, authorization_server() as server:
        await listeners.start(real.listener(UnixAddress(socket), client="search-mcp"))
        broker = Broker(f"unix://{socket}")
        async with guarded(broker, issuers=[server.issuer()]) as world:
            server.audience = world.url
            bearer = server.sign(scope="tool:*")
            async with world.agent(bearer, era) as client:
                assert [one.name for one in (await client.list_tools()).tools] == ["web_search"]
                found = await client.call_tool("web_search", {"query": "leases"})
                assert text_of(found) == "leases agent agent"
                for tool, query in (("orders", ""), ("web_search", "forbidden")):
                    with pytest.raises(MCPError, match="policy"):
                        await client.call_tool(tool, {"query": query})
            async with world.agent(server.sign(sub="mallory", scope="tool:*"), era) as client:
                assert (await client.list_tools()).tools == []
    real.audit.flush()
    lines = [json.loads(line) for line in real.audit_file.read_text().splitlines()]
    refused = [one for one in lines if one["kind"] == "refusal"]
    assert [(one["tool"], one["reason"]) for one in refused] == [
        ("orders", "no_policy"),
        ("web_search", "no_policy"),
    ]
    assert {one["subject"] for one in refused} == {f"{server.url}|agent"}
    assert all(one["mcp_request_id"] and one["address"] == "127.0.0.1" for one in refused)
    assert bearer not in real.audit_file.read_text()


async def test_a_broker_that_restarts_is_found_again(tmp_path: Path) -> None:
    """Connections that were kept are dead then: 503 while it is away, and on it goes."""
    real = Assembly(tmp_path)
    real.publish("search-api")
    (tmp_path / "client-token").write_text(TOKEN)
    address = UnixAddress(tmp_path / "broker.sock")
    async with serving(real) as listeners, authorization_server() as server:
        listener = await listeners.start(real.listener(address, client="search-mcp"))
        broker = Broker(f"unix://{tmp_path}/broker.sock")
        async with guarded(broker, issuers=[server.issuer()]) as world:
            server.audience = world.url
            async with world.raw(server.sign(scope="tool:ping")) as http:

                async def call() -> int:
                    body, headers = call_body("ping"), call_headers("ping")
                    return (await http.post(world.url, json=body, headers=headers)).status_code

                assert [await call(), await call()] == [200, 200]
                await listener.stop(real.clock.now())
                assert await call() == 503
                await listeners.start(real.listener(address, client="search-mcp"))
                assert [await call(), await call()] == [200, 200]


CEDAR = """
@id("agents")
permit (principal is Subject, action == Action::"call_tool", resource);
@id("never")
forbid (principal, action == Action::"call_tool", resource == Tool::"ping");
"""


@pytest.fixture
def process(openbao: OpenBao, kubernetes_auth: KubernetesAuth) -> Iterator[BrokerProcess]:
    """A broker as shipped, with one KV key, scoped tokens and a policy file."""
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        directory = Path(name)
        kubernetes_auth.project(directory / "jwt")
        (directory / "agents.cedar").write_text(CEDAR)
        openbao.admin.kv_write("secret", "app/search", {"api_key": KEY})
        auth = {"method": "kubernetes", "role": "broker", "audience": "vault"}
        source = {"kind": "kv", "mount": "secret", "path": "app/search"}
        broker = BrokerProcess(
            directory,
            {
                "vault": {
                    "address": openbao.address,
                    "auth": {**auth, "token_file": str(directory / "jwt")},
                },
                "clients": {"search-mcp": {"credentials": ["search-api"]}},
                "credentials": {"search-api": {"source": source}},
                "policies": {"files": [str(directory / "agents.cedar")]},
            },
        )
        try:
            yield broker
        finally:
            broker.close()


def mint(process: BrokerProcess, subject: str, *tools: str) -> tuple[str, str]:
    """A token and its id, from the broker's own API."""
    reply = process.http.post(
        "/v1/tokens",
        headers={"Authorization": f"Bearer {process.token('search-mcp')}"},
        json={"subject": subject, "tools": list(tools), "credentials": ["search-api"]},
    )
    assert reply.status_code == 201, reply.text
    return reply.json()["token"], reply.json()["id"]


async def test_the_whole_way_with_the_broker_as_shipped(process: BrokerProcess) -> None:
    """Mint, call, step out of scope, be refused by a policy, be revoked, lose the broker."""
    await asyncio.to_thread(process.start)
    directory = process.directory / "run" / "search-mcp"
    broker = Broker(f"unix://{directory}/broker.sock")
    token, identity = mint(process, "ada", "web_search", "ping")
    async with guarded(broker) as world, world.raw(token) as http:

        async def call(tool: str) -> Any:
            body, headers = call_body(tool), call_headers(tool)
            return await http.post(world.url, json=body, headers=headers)

        await eventually(lambda: world.guard._introspection._hearing)
        found = await call("web_search")
        assert found.status_code == 200, found.text
        assert "ada ada" in found.text
        outside = await call("orders")
        assert outside.status_code == 403
        needed = 'scope="tool:web_search tool:ping credential:search-api tool:orders"'
        assert needed in outside.headers["www-authenticate"]
        by_policy = await call("ping")
        assert (by_policy.status_code, "www-authenticate" in by_policy.headers) == (403, False)
        async with world.agent(token) as client:
            assert [one.name for one in (await client.list_tools()).tools] == ["web_search"]

        revoked = process.http.delete(
            f"/v1/tokens/{identity}",
            headers={"Authorization": f"Bearer {process.token('search-mcp')}"},
        )
        assert revoked.status_code == 204
        assert (await call("web_search")).status_code == 401
        await eventually(lambda: not world.guard._introspection._kept)
        assert (await http.get(world.url)).status_code == 401

        process.stop()
        assert (await call("web_search")).status_code == 503
    records = process.audit()
    (handout,) = [one for one in records if one["kind"] == "handout"]
    assert handout["subject"] == "ada"
    assert (handout["tool"], handout["token_id"]) == ("web_search", identity)
    assert handout["mcp_request_id"]
    refused = [(one.get("tool"), one["result"]) for one in records if one["kind"] == "refusal"]
    assert ("orders", "insufficient_scope") in refused
    assert ("ping", "caller_forbidden") in refused
    assert token not in process.audit_file.read_text() + process.log_file.read_text()
