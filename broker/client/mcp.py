"""The client inside an MCP server of the ``mcp`` SDK.

Duty: name the tool at work; give the model a clean text when a credential is not to be had;
keep keys out of the process's logs.
Not its duty: deciding who may call a tool; that guard stands in front of the server.
Rules:

* one line in the server's code: ``install(server)``;
* a tool's own ``except CredentialUnavailable`` works as ever: the exception is of both
  trees, ours and the SDK's ``ToolError``, whose text alone reaches the model;
* nothing but this module imports ``mcp``, and nothing of the client imports this module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError

from broker.client import redaction
from broker.client.tool import working
from broker.clock import Clock, SystemClock
from broker.errors import BrokerError, CredentialUnavailable
from broker.protocol.models import format_time


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


class ToolNaming:
    """Middleware: a credential asked for during a ``tools/call`` is asked for by that tool."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def __call__(
        self,
        context: ServerRequestContext[Any, Any],
        call_next: Callable[[ServerRequestContext[Any, Any]], Awaitable[Any]],
    ) -> Any:
        """See ``mcp.server.context.ServerMiddleware``."""
        if context.method != "tools/call":
            return await call_next(context)
        # Not validated yet: a call without a name is refused further in.
        name = (context.params or {}).get("name")
        request_id = "" if context.request_id is None else str(context.request_id)
        with working(name if isinstance(name, str) else "", request_id, self._tool_error):
            return await call_next(context)

    def _tool_error(self, error: BrokerError) -> Exception:
        if isinstance(error, ToolError):
            return error
        kind = _both(type(error))
        told = kind.__new__(kind)
        told.__dict__.update(error.__dict__)
        told.args = (text_for_model(error, wall=self._clock.wall()),)
        return told


_BOTH: Final[dict[str, type[BrokerError]]] = {}


def _both(kind: type[BrokerError]) -> type[BrokerError]:
    """Of a class of our tree, one that is a ``ToolError`` too."""
    name = f"Tool{kind.__name__}"
    if name not in _BOTH:
        _BOTH[name] = type(name, (kind, ToolError), {"__module__": __name__})
    return _BOTH[name]


def text_for_model(error: BrokerError, *, wall: float) -> str:
    """What a model can do something with: what is missing, since when, whether to try again.

    Args:
        error: from the client.
        wall: Unix time now.
    """
    if not isinstance(error, CredentialUnavailable):
        return f"{error} {_again(error.retryable)}"
    parts = [f"The credential {error.name} is unavailable"]
    if error.since is not None:
        parts.append(f" since {format_time(error.since)}")
    parts.append(". ")
    if error.next_attempt_at is not None:
        seconds = max(0.0, error.next_attempt_at - wall)
        parts.append(
            f"The next attempt is in {seconds:.0f} s, at {format_time(error.next_attempt_at)}. "
        )
    return "".join(parts) + _again(error.retryable)


def _again(retryable: bool) -> str:
    return "Trying again later can help." if retryable else "Trying again will not help."
