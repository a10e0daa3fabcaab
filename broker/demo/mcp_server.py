"""The example MCP server: a shop's helper that searches the web and reads orders.

Duty: show an author how tools get their keys, in two editions of the same server that
differ in ``FromBroker`` and ``FromEnvironment`` only.
Not its duty: the story; this file knows nothing of it and can be copied.
Rules: a tool never holds a key longer than its call; what a tool raises for the model
names no key.

Run one by hand::

    BROKER_URL=unix:///run/broker/shop/broker.sock SEARCH_URL=… \
        python -m broker.demo.mcp_server --keys broker --port 8000
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import psycopg
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from psycopg.rows import class_row

from broker.client import Broker
from broker.client.mcp import install
from broker.secret import SecretValue

log = logging.getLogger("shop-helper")


class Keys(Protocol):
    """Where the tools get their credentials."""

    def prepare(self, server: MCPServer[Any]) -> None:
        """What must be done to the server once."""
        ...

    def search_auth(self) -> httpx2.Auth:
        """Puts the search API's key into a request."""
        ...

    def orders_dsn(self) -> AbstractAsyncContextManager[str]:
        """A connection string for the orders database, for one piece of work."""
        ...


class FromBroker:
    """Asks the broker at each tool call. The environment says only where the broker is."""

    def __init__(self, broker: Broker | None = None) -> None:
        self._broker = broker or Broker()

    def prepare(self, server: MCPServer[Any]) -> None:
        """Tell the broker which tool asks, and keep keys out of this process's log."""
        install(server)

    def search_auth(self) -> httpx2.Auth:
        """Adds the key for the origins the broker lists.

        On a 401 it reports the key and tries once more with the newer one.
        """
        return self._broker.auth("search-api")

    @asynccontextmanager
    async def orders_dsn(self) -> AsyncIterator[str]:
        """One version for the whole piece of work; reported if PostgreSQL refuses it."""
        async with self._broker.use("orders-db") as key:
            try:
                yield key["dsn"]
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    key.refused(detail="PostgreSQL refused the user")
                raise


class FromEnvironment:
    """Reads its environment once, at its start, as most MCP servers do today."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._key = SecretValue(environment["SEARCH_API_KEY"])
        self._dsn = SecretValue(environment["ORDERS_DSN"])

    def prepare(self, server: MCPServer[Any]) -> None:
        """Nothing: nobody knows of the keys."""

    def search_auth(self) -> httpx2.Auth:
        """The key as it was at the start."""
        return _HeaderAuth(self._key)

    @asynccontextmanager
    async def orders_dsn(self) -> AsyncIterator[str]:
        """The user as it was at the start."""
        yield self._dsn.reveal()


class _HeaderAuth(httpx2.Auth):
    def __init__(self, key: SecretValue) -> None:
        self._key = key

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["x-api-key"] = self._key.reveal()
        yield request


@dataclass
class Page:
    """A search result."""

    title: str
    url: str
    text: str


@dataclass
class Order:
    """An order as the shop has it."""

    id: int
    customer: str
    item: str
    cents: int
    state: str


def create_server(keys: Keys, *, search_url: str, edition: str) -> MCPServer[httpx2.AsyncClient]:
    """The server.

    Args:
        keys: where the tools get their credentials.
        search_url: origin of the search API.
        edition: what it calls itself upstream.
    """

    @asynccontextmanager
    async def lifespan(_: MCPServer[httpx2.AsyncClient]) -> AsyncIterator[httpx2.AsyncClient]:
        headers = {"User-Agent": edition}
        async with httpx2.AsyncClient(base_url=search_url, timeout=5.0, headers=headers) as search:
            yield search

    server = MCPServer(
        "shop-helper",
        instructions="Searches the web and looks up the shop's orders.",
        log_level="WARNING",
        lifespan=lifespan,
    )
    keys.prepare(server)

    @server.tool()
    async def web_search(
        query: str, context: Context[httpx2.AsyncClient], limit: int = 3
    ) -> list[Page]:
        """Search the web; the best pages first."""
        log.info("searching for %r", query)
        search = context.request_context.lifespan_context
        answer = await search.get(
            "/search", params={"q": query, "limit": limit}, auth=keys.search_auth()
        )
        if answer.is_error:
            raise ToolError(f"The search API answered {answer.status_code}.")
        return [Page(**page) for page in answer.json()["results"]]

    @server.tool()
    async def list_orders(state: str = "shipped") -> list[Order]:
        """The shop's orders in one state: ordered, packed, shipped or returned."""
        query = "SELECT id, customer, item, cents, state FROM orders WHERE state = %s ORDER BY id"
        try:
            async with keys.orders_dsn() as dsn, connect(dsn) as connection:
                rows = await connection.cursor(row_factory=class_row(Order)).execute(query, [state])
                return await rows.fetchall()
        except psycopg.OperationalError as error:
            raise ToolError("The orders database refused the connection.") from error

    return server


@asynccontextmanager
async def connect(dsn: str) -> AsyncGenerator[psycopg.AsyncConnection]:
    """A connection for one piece of work."""
    connection = await psycopg.AsyncConnection.connect(dsn, connect_timeout=5)
    async with connection:
        yield connection


def main() -> None:
    """Serve streamable HTTP under ``/mcp`` until a signal comes."""
    parser = argparse.ArgumentParser(description="An example MCP server with two tools.")
    parser.add_argument("--keys", choices=["broker", "environment"], default="broker")
    parser.add_argument("--host", default="127.0.0.1", help="in a pod: 0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    keys = FromBroker() if arguments.keys == "broker" else FromEnvironment(os.environ)
    server = create_server(keys, search_url=os.environ["SEARCH_URL"], edition=arguments.keys)
    server.run("streamable-http", host=arguments.host, port=arguments.port, stateless_http=True)


if __name__ == "__main__":
    main()
