"""Metrics of scoped tokens: how many are alive, what became of others.

Duty: count; ask what is alive at a scrape; render both.
Not its duty: the other metrics (``metrics``, which asks this one in each scrape).
Rules: those of ``metrics``; no id and no subject is a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from broker.telemetry import catalogue as c
from broker.telemetry.exposition import escape

EVENTS: Final = ("minted", "revoked", "expired")


class TokenMetrics:
    """The part of ``Metrics`` that scoped tokens write to."""

    def __init__(self) -> None:
        self._events = dict.fromkeys(EVENTS, 0)
        self.alive: Callable[[], Mapping[str, int]] = dict
        """Live tokens by client; asked at each scrape; set by ``app``."""
        self.revocations_age: Callable[[], float | None] = lambda: None
        """Seconds since the shared revocations were read; None: they are not read now."""

    def scoped_token(self, event: str) -> None:
        """Count what became of one token: one of ``EVENTS``."""
        self._events[event] += 1

    def lines(self) -> Iterator[str]:
        """The families, for a scrape."""
        yield c.SCOPED_TOKENS.head() + "".join(
            c.SCOPED_TOKENS.line(number, f'client="{escape(client)}"')
            for client, number in self.alive().items()
        )
        yield c.SCOPED_TOKEN_EVENTS.head() + "".join(
            c.SCOPED_TOKEN_EVENTS.line(number, f'event="{event}"')
            for event, number in self._events.items()
        )
        age = self.revocations_age()
        yield c.REVOCATIONS_AGE.head() + ("" if age is None else c.REVOCATIONS_AGE.line(age))
