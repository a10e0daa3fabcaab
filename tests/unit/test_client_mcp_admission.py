"""``client.mcp.admission``: the second look, inside the server."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from mcp import MCPError

from broker.client.mcp.admission import ADMISSION, Admission, Admitted, admission_of
from broker.client.mcp.agent import Agent
from broker.errors import TokensUnavailable

AGENT = Agent("digest", "https://as.example", "ada", "c", (), (), 9e9)


def context(method: str, admitted: str | None = None, **params: Any) -> Any:
    """A message, behind an admission for a tool."""

    async def visible(tools: Sequence[str]) -> frozenset[str]:
        if "broken" in tools:
            raise TokensUnavailable
        return frozenset(tools) & {"web_search"}

    admission = Admission(AGENT, admitted, visible)
    request = SimpleNamespace(scope={ADMISSION: admission})
    return SimpleNamespace(method=method, params=params, request=request)


async def passed(result: Any, message: Any) -> Any:
    async def call_next(_: Any) -> Any:
        return result

    return await Admitted()(message, call_next)


@pytest.mark.parametrize("admitted", [None, "web_search"])
async def test_another_call_than_the_one_decided_about_is_refused(admitted: str | None) -> None:
    """Whatever led to it: the guard and the server read the request differently."""
    with pytest.raises(MCPError, match="another call"):
        await passed({}, context("tools/call", admitted, name="orders"))
    assert await passed({"a": 1}, context("tools/call", "orders", name="orders")) == {"a": 1}


async def test_a_list_is_the_callers_own_and_for_no_shared_cache() -> None:
    """Names that the caller may not call are gone; pages and hints stay."""
    tools = [{"name": "web_search"}, {"name": "orders"}, {"description": "no name"}]
    page = {"tools": tools, "nextCursor": "2", "ttlMs": 5, "cacheScope": "public"}
    assert await passed(page, context("tools/list")) == {
        "tools": [{"name": "web_search"}],
        "nextCursor": "2",
        "ttlMs": 5,
        "cacheScope": "private",
    }


async def test_a_list_that_is_not_decided_is_an_error() -> None:
    """Neither empty nor full."""
    with pytest.raises(MCPError, match="Nobody can decide"):
        await passed({"tools": [{"name": "broken"}]}, context("tools/list"))


@pytest.mark.parametrize("request_", [None, SimpleNamespace(scope={}), SimpleNamespace()])
async def test_without_a_guard_nothing_changes(request_: Any) -> None:
    """stdio, or a test's client in the same process."""
    message: Any = SimpleNamespace(method="tools/list", params={}, request=request_)
    assert admission_of(message) is None
    assert await passed({"tools": [{"name": "orders"}]}, message) == {"tools": [{"name": "orders"}]}
