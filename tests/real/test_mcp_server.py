"""The example MCP server, called by a real MCP client over HTTP, in both protocol eras."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import quote

import psycopg
import pytest
from mcp import Client, MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from psycopg import sql

from broker.client.mcp import install
from broker.client.testing import FakeBroker, header
from broker.demo.mcp_server import FromBroker, FromEnvironment, Keys, create_server
from broker.demo.postgres import DATABASE, Postgres
from broker.demo.search_api import SearchApi
from broker.demo.serving import ServedApp

pytestmark = pytest.mark.real

Era = Literal["legacy", "2026-07-28"]
CANARY = "canary/key+of a leaking server"
ERAS: list[Era] = ["legacy", "2026-07-28"]


@pytest.fixture
def search_api() -> Iterator[SearchApi]:
    """The upstream, with no key yet."""
    api = SearchApi()
    api.start()
    yield api
    api.stop()


@pytest.fixture
def fake(search_api: SearchApi) -> FakeBroker:
    """A broker that knows one good search key."""
    fake = FakeBroker()
    _, text = search_api.keys.mint()
    use = header("x-api-key", search_api.address, field="api_key")
    fake.put("search-api", {"api_key": text.reveal()}, use=use)
    return fake


def user_dsn(postgres: Postgres, name: str) -> str:
    """A new user that may read the orders."""
    with postgres.connect() as connection:
        user = sql.Identifier(name)
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(user, sql.Literal("good-one"))
        )
        connection.execute(sql.SQL("GRANT SELECT ON orders TO {}").format(user))
    return f"postgresql://{name}:good-one@127.0.0.1:{postgres.port}/{DATABASE}?sslmode=disable"


def drop_user(postgres: Postgres, name: str) -> None:
    with postgres.connect() as connection:
        user = sql.Identifier(name)
        connection.execute(sql.SQL("DROP OWNED BY {}").format(user))
        connection.execute(sql.SQL("DROP ROLE {}").format(user))


@asynccontextmanager
async def agent(
    keys: Keys, search_api: SearchApi, era: Era = "2026-07-28"
) -> AsyncIterator[Client]:
    """A client of a running server, which has a thread and a loop of its own."""
    server = create_server(keys, search_url=search_api.address, edition="test")
    app = server.streamable_http_app(stateless_http=True)
    with ServedApp(app, lifespan=True) as served:
        async with Client(f"{served.address}/mcp", mode=era) as client:
            yield client


def texts(result: Any) -> str:
    return " ".join(part.text for part in result.content)


@pytest.mark.parametrize("era", ERAS)
async def test_web_search_asks_the_broker(
    search_api: SearchApi, fake: FakeBroker, era: Era
) -> None:
    """The tool answers with pages, and the key came from the broker."""
    async with agent(FromBroker(fake.broker()), search_api, era) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {
            "web_search",
            "list_orders",
        }
        result = await client.call_tool("web_search", {"query": "lease"})
    assert not result.is_error, texts(result)
    assert [page["title"] for page in result.structured_content["result"]] == ["Leases"]
    assert [call.verdict for call in search_api.calls] == ["ok"]
    assert [(asked.method, asked.tool) for asked in fake.asked] == [("GET", "web_search")]


async def test_a_key_changed_behind_the_brokers_back_costs_no_call(
    search_api: SearchApi, fake: FakeBroker
) -> None:
    """The first 401 is reported and the call goes through with the newer key."""
    newer, text = search_api.keys.mint("newer")
    async with agent(FromBroker(fake.broker()), search_api) as client:
        assert not (await client.call_tool("web_search", {"query": "lease"})).is_error
        search_api.keys.revoke(search_api.keys.known()[0].id)
        fake.put_on_report("search-api", {"api_key": text.reveal()})
        result = await client.call_tool("web_search", {"query": "lease"})
    assert not result.is_error, texts(result)
    assert [(call.verdict) for call in search_api.calls] == ["ok", "revoked", "ok"]
    assert search_api.calls[-1].key_id == newer.id
    assert [(said.name, said.status) for said in fake.reported] == [("search-api", 401)]


async def test_the_environment_edition_is_stuck_with_its_key(
    search_api: SearchApi, postgres: Postgres
) -> None:
    """The same server with the key from the environment fails from the change on."""
    old, text = search_api.keys.mint()
    dsn = user_dsn(postgres, "v-stuck")
    keys = FromEnvironment({"SEARCH_API_KEY": text.reveal(), "ORDERS_DSN": dsn})
    async with agent(keys, search_api) as client:
        assert not (await client.call_tool("web_search", {"query": "lease"})).is_error
        assert not (await client.call_tool("list_orders", {})).is_error
        search_api.keys.revoke(old.id)
        drop_user(postgres, "v-stuck")
        for tool, arguments in (("web_search", {"query": "lease"}), ("list_orders", {})):
            for _ in range(2):
                assert (await client.call_tool(tool, arguments)).is_error
    assert [call.verdict for call in search_api.calls] == ["ok", "revoked", "revoked"]


@pytest.mark.parametrize("era", ERAS)
async def test_list_orders_connects_with_the_brokers_dsn(
    search_api: SearchApi, fake: FakeBroker, postgres: Postgres, era: Era
) -> None:
    """The orders come by the leased user's DSN; a refused user is reported as a 401."""
    name = f"v-orders-{era}"
    fake.put("orders-db", {"dsn": user_dsn(postgres, name)})
    async with agent(FromBroker(fake.broker()), search_api, era) as client:
        result = await client.call_tool("list_orders", {"state": "shipped"})
        assert not result.is_error, texts(result)
        customers = [order["customer"] for order in result.structured_content["result"]]
        assert customers == ["Ada", "Edsger"]

        drop_user(postgres, name)
        refused = await client.call_tool("list_orders", {"state": "shipped"})
    assert refused.is_error
    assert "good-one" not in texts(refused)
    assert [(said.name, said.status) for said in fake.reported] == [("orders-db", 401)]


async def test_an_unavailable_credential_is_an_error_that_names_it_and_no_key(
    search_api: SearchApi, fake: FakeBroker
) -> None:
    """Without a value the tool ends with an error; the upstream sees no call."""
    fake.fail("search-api")
    async with agent(FromBroker(fake.broker()), search_api) as client:
        result = await client.call_tool("web_search", {"query": "lease"})
    assert result.is_error
    assert "search-api is unavailable since" in texts(result)
    assert "Trying again later can help." in texts(result)
    assert search_api.calls == []


async def test_a_key_in_a_prompt_is_masked_in_the_servers_log(
    search_api: SearchApi, fake: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """What the server logs of a search shows no key that the broker handed out."""
    _, text = search_api.keys.mint()
    fake.put("search-api", {"api_key": text.reveal()})
    caplog.set_level(logging.INFO)
    async with agent(FromBroker(fake.broker()), search_api) as client:
        await client.call_tool("web_search", {"query": "lease"})
        await client.call_tool("web_search", {"query": f"what is {text.reveal()}"})
    assert "what is ***" in caplog.text
    assert text.reveal() not in caplog.text


@pytest.mark.parametrize("era", ERAS)
async def test_no_answer_and_no_log_of_a_leaking_server_tells_the_key(
    fake: FakeBroker, era: Era, caplog: pytest.LogCaptureFixture
) -> None:
    """Over HTTP too: results, tool errors, crashes, protocol errors, logs and tracebacks."""
    fake.put("leaked", {"api_key": CANARY})
    server, broker = MCPServer("leaking"), fake.broker()

    @server.tool()
    async def leak(how: str) -> dict[str, str]:
        """Leak the key in some way."""
        key = (await broker.get("leaked")).value
        encoded = base64.b64encode(f"user:{key}".encode()).decode()
        logging.getLogger("leaking").warning("asked with %s and Basic %s", key, encoded)
        match how:
            case "result":
                return {key: f"/?key={quote(key, safe='')}", "basic": encoded}
            case "tool error":
                raise ToolError(f"401 for {key}")
            case "protocol error":
                raise MCPError(-32000, f"401 for {key}", {"headers": [encoded]})
        raise RuntimeError(f"401 for {key}")

    install(server)
    caplog.set_level(logging.DEBUG)
    shown = []
    app = server.streamable_http_app(stateless_http=True)
    with ServedApp(app, lifespan=True) as served:
        async with Client(f"{served.address}/mcp", mode=era) as client:
            for how in ("result", "tool error", "crash"):
                result = await client.call_tool("leak", {"how": how})
                assert result.is_error is (how != "result")
                shown.append(result.model_dump_json())
            try:
                await client.call_tool("leak", {"how": "protocol error"})
            except MCPError as error:
                shown.append(error.error.model_dump_json())
    assert len(shown) == 4
    for text in (*shown, caplog.text):
        for form in (CANARY, quote(CANARY, safe=""), base64.b64encode(CANARY.encode())[4:-4]):
            assert (form if isinstance(form, str) else form.decode()) not in text
    assert "401 for ***" in shown[1]
    assert "401 for ***" in shown[3]
    assert "asked with *** and Basic" in caplog.text
    assert "RuntimeError: 401 for ***" in caplog.text


def test_a_dropped_user_is_refused(postgres: Postgres) -> None:
    """The helper of these tests takes a user away for good."""
    dsn = user_dsn(postgres, "v-dropped")
    psycopg.connect(dsn).close()
    drop_user(postgres, "v-dropped")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
