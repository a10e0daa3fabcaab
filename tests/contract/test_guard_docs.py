"""What ``docs/guard.md`` shows runs as it stands there."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest

import broker.client
from broker.client.mcp import Guard, Issuer
from tests.simulators.subject_tokens import TokenBroker
from tests.support.guarded import call_body, call_headers

PAGE = (Path(__file__).parents[2] / "docs" / "guard.md").read_text()
SNIPPETS = re.findall(r"^<!-- run -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RESOURCE = "https://mcp.example.com/mcp"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenBroker]:
    """A broker in memory in the place of the one of the environment."""
    fake = TokenBroker()
    fake.put("search-api", {"api_key": "k-1"})
    monkeypatch.setattr(broker.client, "broker", fake.broker())
    factory = logging.getLogRecordFactory()
    yield fake
    logging.setLogRecordFactory(factory)  # ``install`` masked the process's logs


def run(snippet: str, **names: Any) -> ModuleType:
    module = ModuleType("example")
    module.__dict__.update(names)
    sys.modules["example"] = module
    try:
        exec(compile(snippet, "guard.md", "exec"), module.__dict__)
    finally:
        del sys.modules["example"]
    return module


async def test_the_example_guards(fake: TokenBroker) -> None:
    """The app of the first example answers who may, and nobody else."""
    app = run(SNIPPETS[0]).app
    token = fake.mint("ada", "web_search")
    headers = {
        **call_headers("web_search"),
        "Accept": "application/json, text/event-stream",
        "Host": "localhost:80",
    }
    body = call_body("web_search", {"query": "leases"})
    transport = httpx2.ASGITransport(app)
    async with (
        app._app.router.lifespan_context(app._app),
        httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as http,
    ):
        nobody = await http.post("/mcp", json=body)
        http.headers["Authorization"] = f"Bearer {token}"
        found = await http.post("/mcp", json=body)
    assert nobody.status_code == 401
    assert "leases: asked with a key of 3 characters" in found.text
    assert fake.subjects == [("web_search", "ada")]


def test_the_other_examples_run(fake: TokenBroker) -> None:
    """Issuers, identity, verifier."""
    del fake
    first = run(SNIPPETS[0])
    for snippet in SNIPPETS[1:]:
        run(snippet, Issuer=Issuer, MCPServer=first.MCPServer)


def test_every_example_of_the_page_is_run_and_every_argument_told() -> None:
    """No Python is left out; the table is what the constructor takes."""
    assert len(SNIPPETS) == PAGE.count("```python") == 4
    told = {
        name
        for row in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert told == inspect.signature(Guard).parameters.keys() - {"app"}
    options = {name for name in inspect.signature(Issuer).parameters if f"{name}=" in PAGE}
    assert options >= {"audience", "algorithms", "jwks_uri", "scopes", "tools_claim", "networks"}
