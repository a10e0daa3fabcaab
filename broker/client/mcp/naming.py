"""Which tool is at work, told to the client; its errors in the SDK's own class.

Duty: name the tool of each ``tools/call``; make of the client's errors what the SDK shows to
the model as a text, without a traceback.
Not its duty: the text (``texts``); deciding who may call a tool.
Rules: a tool's own ``except CredentialUnavailable`` works as ever: the exception is of both
trees, ours and the SDK's ``ToolError``, whose text alone reaches the model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError

from broker.client.mcp.admission import admission_of
from broker.client.mcp.texts import text_for_model
from broker.client.tool import working
from broker.clock import Clock
from broker.errors import BrokerError


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
        # By the request itself, since a session may outlive the request that began it.
        admission = admission_of(context)
        subject = None if admission is None else admission.agent.acting
        tool = name if isinstance(name, str) else ""
        with working(tool, request_id, self._tool_error, subject):
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
