"""An agent: a real MCP client that calls both tools all the while.

Duty: call ``web_search`` and ``list_orders`` in turn; tell the outcome of each call.
Not its duty: being intelligent; judging the outcome.
Rules: a call that brings an error result, an exception or no sensible content has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from mcp import Client

from broker.clock import Clock
from broker.demo.facts import ToolCall

QUESTIONS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("web_search", {"query": "lease"}),
    ("list_orders", {"state": "shipped"}),
    ("web_search", {"query": "rotation key"}),
    ("list_orders", {"state": "ordered"}),
)
"""What it asks, over and over."""


class Agent:
    """Talks to one MCP server.

    Args:
        edition: whose server it is.
        url: of the server's MCP endpoint.
        clock: time.
        on_call: told of each call.
        pause: seconds between two calls.
    """

    def __init__(
        self,
        edition: str,
        url: str,
        *,
        clock: Clock,
        on_call: Callable[[ToolCall], None],
        pause: float = 0.3,
    ) -> None:
        self._edition, self._url = edition, url
        self._clock, self._on_call, self._pause = clock, on_call, pause
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask no more; :meth:`run` ends after the call under way."""
        self._stopping.set()

    async def run(self) -> None:
        """Call the tools in turn until :meth:`stop`."""
        async with Client(self._url, read_timeout_seconds=10.0) as client:
            asked = 0
            while not self._stopping.is_set():
                tool, arguments = QUESTIONS[asked % len(QUESTIONS)]
                asked += 1
                at = self._clock.wall()
                trouble = await self._call(client, tool, arguments)
                self._on_call(ToolCall(at, self._edition, tool, not trouble, trouble))
                await self._clock.wait(self._stopping, self._clock.now() + self._pause)

    @staticmethod
    async def _call(client: Client, tool: str, arguments: dict[str, Any]) -> str:
        """Call a tool; empty when it answered well, else what was wrong."""
        try:
            result = await client.call_tool(tool, arguments)
        except Exception as error:  # whatever it is, the agent has no answer
            return f"{type(error).__name__}: {error}"
        if result.is_error:
            return " ".join(getattr(part, "text", "") for part in result.content) or "an error"
        found = (result.structured_content or {}).get("result")
        return "" if found else "nothing was found"
