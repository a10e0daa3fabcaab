"""What the guard let in, seen from inside the server.

Duty: carry the guard's decision in the request's scope; a middleware that shows each caller
its own tools, and refuses a call that is not the one the guard decided about.
Not its duty: deciding (``guard``).
Rules:

* without an admission (stdio, a test's client in the same process) nothing is filtered:
  there was no guard;
* a list that cannot be decided about is an error, not an empty or a full one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcp import MCPError
from mcp.server.context import ServerRequestContext

from broker.client.mcp.agent import Agent
from broker.client.mcp.challenge import REFUSED, UNAVAILABLE
from broker.client.mcp.message import CALL_TOOL
from broker.errors import BrokerError

log = logging.getLogger("broker.client.mcp")

ADMISSION: Final = "broker.admission"
"""Key in the ASGI scope."""


@dataclass(frozen=True, slots=True)
class Admission:
    """One request that the guard let in."""

    agent: Agent
    tool: str | None
    """The tool that may be called; None: the request calls none."""
    visible: Callable[[Sequence[str]], Awaitable[frozenset[str]]]
    """Of some tools, those the agent may call."""


def admission_of(context: ServerRequestContext[Any, Any]) -> Admission | None:
    """The admission behind a message; None without a guard."""
    scope = getattr(context.request, "scope", None)
    found = scope.get(ADMISSION) if isinstance(scope, dict) else None
    return found if isinstance(found, Admission) else None


class Admitted:
    """Middleware: nothing is done that the guard did not decide about."""

    async def __call__(
        self,
        context: ServerRequestContext[Any, Any],
        call_next: Callable[[ServerRequestContext[Any, Any]], Awaitable[Any]],
    ) -> Any:
        """See ``mcp.server.context.ServerMiddleware``."""
        admission = admission_of(context)
        if admission is None:
            return await call_next(context)
        if context.method == CALL_TOOL and (context.params or {}).get("name") != admission.tool:
            raise MCPError(REFUSED, "The guard decided about another call.")
        result = await call_next(context)
        if context.method == "tools/list":
            return await _own(result, admission)
        return result


async def _own(result: Any, admission: Admission) -> Any:
    """The list without the tools that the agent may not call."""
    if not isinstance(result, dict):
        result = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    tools = [one for one in result.get("tools", ()) if isinstance(one, dict)]
    try:
        visible = await admission.visible([str(one.get("name")) for one in tools])
    except BrokerError as error:
        log.warning("a list of tools could not be decided about: %s", error)
        raise MCPError(UNAVAILABLE, "Nobody can decide now which tools are allowed.") from error
    own = {**result, "tools": [one for one in tools if one.get("name") in visible]}
    if "cacheScope" in own:
        own["cacheScope"] = "private"  # no cache between may show it to another caller
    return own
