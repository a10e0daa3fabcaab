"""One line in an MCP server's code: ``install(server)``.

Duty: put the client's middleware into a server, once.
Not its duty: what the middleware does (``naming``, ``admission``, ``masking``), log records
(``broker.client.redaction``); deciding who may call a tool: that guard stands in front of the
server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

from broker.client import redaction
from broker.client.mcp.admission import Admitted
from broker.client.mcp.masking import Masking
from broker.client.mcp.naming import ToolNaming
from broker.clock import Clock, SystemClock


class HasMiddleware(Protocol):
    """An ``MCPServer``, or the SDK's low-level ``Server``."""

    @property
    def middleware(self) -> list[Any]:
        """Outermost first."""
        ...


def install(
    server: HasMiddleware,
    *,
    clock: Clock | None = None,
    redact: bool = True,
    patterns: Iterable[str | re.Pattern[str]] = (),
) -> None:
    """Let the tools of ``server`` use the broker's client; a second call changes nothing.

    Args:
        server: the MCP server, before or after its tools were added.
        clock: time, for "in 12 s".
        redact: mask handed-out keys from now on: in what the server answers, and in this
            process's log records and tracebacks.
        patterns: regular expressions of further texts to mask there, such as keys that do not
            come from the broker. Without any, only handed-out keys are masked.
    """
    if not any(isinstance(known, ToolNaming) for known in server.middleware):
        server.middleware.append(Admitted())
        server.middleware.append(ToolNaming(clock or SystemClock()))
    if redact:
        redaction.install(patterns=patterns)
        if not any(isinstance(known, Masking) for known in server.middleware):
            server.middleware.insert(_inside_tracing(server.middleware), Masking())


def _inside_tracing(middleware: list[Any]) -> int:
    """Behind the SDK's own tracing, which writes down errors; before everything else."""
    return int(bool(middleware) and type(middleware[0]).__name__ == "OpenTelemetryMiddleware")
