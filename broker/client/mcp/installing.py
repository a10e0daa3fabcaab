"""One line in an MCP server's code: ``install(server)``.

Duty: put the client's middleware into a server, once.
Not its duty: what the middleware does (``naming``, ``broker.client.redaction``); deciding who
may call a tool: that guard stands in front of the server.
"""

from __future__ import annotations

from typing import Any, Protocol

from broker.client import redaction
from broker.client.mcp.naming import ToolNaming
from broker.clock import Clock, SystemClock


class HasMiddleware(Protocol):
    """An ``MCPServer``, or the SDK's low-level ``Server``."""

    @property
    def middleware(self) -> list[Any]:
        """Outermost first."""
        ...


def install(server: HasMiddleware, *, clock: Clock | None = None, redact: bool = True) -> None:
    """Let the tools of ``server`` use the broker's client; a second call changes nothing.

    Args:
        server: the MCP server, before or after its tools were added.
        clock: time, for "in 12 s".
        redact: mask handed-out keys in this process's log records from now on.
    """
    if not any(isinstance(known, ToolNaming) for known in server.middleware):
        server.middleware.append(ToolNaming(clock or SystemClock()))
    if redact:
        redaction.install()
