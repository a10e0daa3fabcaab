"""Server-sent events, read [pure].

Duty: lines of a stream → events.
Not its duty: the connection (``link``), what an event means (``mcp.following``).
Rules: what is no event (comments, unknown fields) is skipped; a line or an event that grows
past ``LARGEST`` is no stream of a broker.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from broker.errors import BrokerAnswerInvalid

LARGEST: Final = 64 * 1024
"""Bytes of one event: names and versions are far below."""


class ServerEvent(NamedTuple):
    """One event."""

    kind: str
    data: str


class EventReader:
    """Takes bytes as they come and gives the events that are complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._kind = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """The events that ``chunk`` completes.

        Raises:
            BrokerAnswerInvalid: an event without end.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) + sum(map(len, self._data)) > LARGEST:
            raise BrokerAnswerInvalid("The broker's stream has an event without end.")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))

    def _line(self, line: str) -> Iterator[ServerEvent]:
        if not line:
            if self._data:
                yield ServerEvent(self._kind or "message", "\n".join(self._data))
            self._kind, self._data = "", []
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._kind = value
        elif field == "data":
            self._data.append(value)
