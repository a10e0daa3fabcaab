"""Which MCP tool is at work, in a context variable.

Duty: name the tool whose code asks for a credential, so that the broker can check and
record it; turn an error into what the tool's framework wants to see.
Not its duty: knowing a framework (``mcp``).
Rules: context variables follow tasks and AnyIO's worker threads, so a tool of either kind
is named without an argument; the name is a claim, not a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeAlias

from broker.errors import BrokerError

Translate: TypeAlias = Callable[[BrokerError], Exception]


class Work(NamedTuple):
    """What is at work: claims that the broker checks and records."""

    tool: str = ""
    """As the MCP server lists it; empty outside of a tool."""
    request_id: str = ""
    """Id of the MCP request."""


_work: ContextVar[Work] = ContextVar("broker_tool", default=Work())  # noqa: B039 - a Work is frozen
_translate: ContextVar[Translate | None] = ContextVar("broker_tool_translate", default=None)


def current() -> Work:
    """The tool at work."""
    return _work.get()


@contextmanager
def working(tool: str, request_id: str = "", translate: Translate | None = None) -> Iterator[None]:
    """Say that what follows is done for ``tool``.

    Args:
        tool: its name, as the MCP server lists it.
        request_id: id of the MCP request.
        translate: makes of a ``BrokerError`` the exception that the tool raises.
    """
    work, translated = _work.set(Work(tool, request_id)), _translate.set(translate)
    try:
        yield
    finally:
        _translate.reset(translated)
        _work.reset(work)


@contextmanager
def errors_told() -> Iterator[None]:
    """Raise a ``BrokerError`` in the form that the tool at work wants."""
    try:
        yield
    except BrokerError as error:
        translate = _translate.get()
        if translate is None:
            raise
        raise translate(error) from error
