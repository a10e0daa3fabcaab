"""What ``docs/client.md`` shows runs as it stands there."""

from __future__ import annotations

import ast
import inspect
import logging
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx2
import pytest

import broker.client
from broker import errors
from broker.client.testing import FakeBroker, header
from broker.protocol import names

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
SNIPPETS = re.findall(r"^<!-- run -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def upstream(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200 if request.headers.get("x-api-key") == "k-1" else 401, text="found")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names that the page takes for granted, on a broker in memory."""
    fake = FakeBroker()
    fake.put("search-api", {"api_key": "k-1"}, use=header("x-api-key", "https://api.example.com"))
    fake.put("orders-db", {"dsn": "postgresql://u:p@orders/db"})
    monkeypatch.setattr(broker.client, "broker", fake.broker())
    connected = partial(httpx2.AsyncClient, transport=httpx2.MockTransport(upstream))

    async def query(dsn: str) -> list[str]:
        return [dsn]

    factory = logging.getLogRecordFactory()
    yield {
        "broker": fake.broker(),
        "httpx2": SimpleNamespace(AsyncClient=connected),
        "client": connected(),
        "query": query,
        "OperationalError": RuntimeError,
    }
    logging.setLogRecordFactory(factory)  # ``install`` masked the process's logs


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
async def test_a_snippet_of_the_page_runs(snippet: str, world: dict[str, Any]) -> None:
    """Each example does what it says without an error."""
    module = ModuleType("example")
    module.__dict__.update(world)
    sys.modules["example"] = module
    try:
        compiled = compile(snippet, "client.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(compiled, module.__dict__)
        if inspect.isawaitable(result):
            await result
        if "server" in module.__dict__:
            found = await module.server.call_tool("web_search", {"query": "leases"})
            assert "found" in str(found)
    finally:
        del sys.modules["example"]
        await world["client"].aclose()


def test_every_example_of_the_page_is_run() -> None:
    """No Python of the page is left out."""
    assert len(SNIPPETS) == PAGE.count("```python") == 7


def test_errors_and_variables_of_the_page_exist() -> None:
    """Its table names classes of the tree, with their word on trying again."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE)
    table = [(name, verdict) for name, verdict in rows if hasattr(errors, name)]
    assert len(table) == 12
    for name, verdict in table:
        assert getattr(errors, name).retryable is (verdict != "no"), name
    assert f"`{names.ENV_URL}`" in PAGE
    assert f"`{names.ENV_TOKEN_FILE}`" in PAGE
