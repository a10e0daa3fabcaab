"""Which MCP tool is at work and on whose behalf, in context variables.

Duty: name the tool whose code asks for a credential, and carry the scoped token of who
called it, so that the broker can check and record both; turn an error into what the tool's
framework wants to see.
Not its duty: knowing a framework (``mcp``); verifying a token.
Rules: context variables follow tasks and AnyIO's worker threads, so a tool of either kind
is named without an argument; the name is a claim, the token a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeAlias

from broker.errors import BrokerError
from broker.secret import SecretValue

Translate: TypeAlias = Callable[[BrokerError], Exception]


class Subject(NamedTuple):
    """On whose behalf: a scoped token that was found good."""

    token: SecretValue
    digest: str
    """Names the token where it must not stand, such as in the key of a cache."""


class Work(NamedTuple):
    """What is at work: claims that the broker checks and records."""

    tool: str = ""
    """As the MCP server lists it; empty outside of a tool."""
    request_id: str = ""
    """Id of the MCP request."""
    subject: Subject | None = None
    """Who called the tool; None: nobody showed a scoped token."""

    @property
    def whose(self) -> str:
        """The digest of the subject's token; empty without one."""
        return "" if self.subject is None else self.subject.digest


_work: ContextVar[Work] = ContextVar("broker_tool", default=Work())  # noqa: B039 - a Work is frozen
_subject: ContextVar[Subject | None] = ContextVar("broker_tool_subject", default=None)
_translate: ContextVar[Translate | None] = ContextVar("broker_tool_translate", default=None)


def current() -> Work:
    """The tool at work, and for whom."""
    work = _work.get()
    if work.subject is None:
        subject = _subject.get()
        return work if subject is None else work._replace(subject=subject)
    return work


@contextmanager
def acting_for(subject: Subject | None) -> Iterator[None]:
    """Say that what follows is done on behalf of ``subject``; None: of nobody known."""
    before = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(before)


@contextmanager
def working(
    tool: str,
    request_id: str = "",
    translate: Translate | None = None,
    subject: Subject | None = None,
) -> Iterator[None]:
    """Say that what follows is done for ``tool``.

    Args:
        tool: its name, as the MCP server lists it.
        request_id: id of the MCP request.
        translate: makes of a ``BrokerError`` the exception that the tool raises.
        subject: who called it; None: who ``acting_for`` said, if anybody.
    """
    work = _work.set(Work(tool, request_id, subject))
    translated = _translate.set(translate)
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
