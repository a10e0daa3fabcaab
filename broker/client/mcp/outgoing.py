"""No key in what an MCP server says of its own accord, while it serves a request.

Duty: mask notifications (progress, log messages) and questions to the client (elicitation,
sampling) that go out by a request's session.
Not its duty: results and errors (``masking``), which decides what is masked and how.
Rule: what holds no secret is sent as the object it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar, cast

from mcp.server.session import ServerSession

Clean: TypeAlias = Callable[[Any], Awaitable[Any]]
"""``Masking.clean``: the same object, or a plain copy without secrets."""
Said = TypeVar("Said")

_OURS: Final = "_broker_clean"


class MaskingSession(ServerSession):
    """A request's session that masks what it sends; made by ``masking_session``."""

    async def send_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """See ``ServerSession.send_request``; ``elicit`` and ``create_message`` come by here."""
        return await super().send_request(await self._cleaned(request), *args, **kwargs)

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """See ``ServerSession.report_progress``."""
        await super().report_progress(progress, total, await vars(self)[_OURS](message))

    async def _notify(self, notification: Any, *, request_scoped: bool) -> None:
        # The one way of log messages too, whose public method warns of its age.
        await super()._notify(await self._cleaned(notification), request_scoped=request_scoped)

    async def _cleaned(self, said: Said) -> Said:
        clean = await vars(self)[_OURS](said)
        if clean is said:
            return said
        kind: Any = type(said)  # a pydantic model, each of them
        return cast("Said", kind.model_validate(clean))


def masking_session(session: Any, clean: Clean) -> Any:
    """``session`` with its outgoing texts masked; another kind of session as it is."""
    if type(session) is not ServerSession:
        return session
    result = MaskingSession.__new__(MaskingSession)
    vars(result).update(vars(session))
    vars(result)[_OURS] = clean
    return result
