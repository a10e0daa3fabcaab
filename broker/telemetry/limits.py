"""Metrics of limits: who met one, and how full their memory is.

Duty: count refusals, ask for the counters held, render both for a scrape.
Not its duty: the other metrics (``metrics``, which asks this one in each scrape); limiting.
Rules: those of ``metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from broker.telemetry import catalogue as c
from broker.telemetry.exposition import escape


class LimitMetrics:
    """The part of ``Metrics`` that limits write to."""

    def __init__(self) -> None:
        self._credentials: frozenset[str] = frozenset()
        self._clients: frozenset[str] = frozenset()
        self._limited: dict[tuple[str, str], int] = {}
        self._failures = 0
        self._held: Callable[[], tuple[int, int]] = lambda: (0, 0)

    def reconfigure(self, credentials: Collection[str], clients: Collection[str]) -> None:
        """Take the names of a new configuration: the series of others end."""
        self._credentials, self._clients = frozenset(credentials), frozenset(clients)
        for client, credential in list(self._limited):
            if client not in self._clients or credential not in self._credentials:
                del self._limited[client, credential]

    def watch(self, held: Callable[[], tuple[int, int]]) -> None:
        """Ask ``held`` at each scrape: counters in memory, and how many were dropped so far."""
        self._held = held

    def limited(self, client: str, credential: str) -> None:
        """Count a hand-out that a limit refused. Hot path of a caller that asks too often."""
        place = (client, credential)
        if place not in self._limited:
            place = (
                client if client in self._clients else c.OTHER,
                credential if credential in self._credentials else c.OTHER,
            )
        self._limited[place] = self._limited.get(place, 0) + 1

    def failure_limited(self) -> None:
        """Count a failed authentication over the limit."""
        self._failures += 1

    def lines(self) -> Iterator[str]:
        """Items for ``sliced``."""
        yield c.LIMITED.head()
        for (client, credential), count in tuple(self._limited.items()):
            labels = f'client="{escape(client)}",credential="{escape(credential)}"'
            yield c.LIMITED.line(count, labels)
        held, dropped = self._held()
        yield c.LIMIT_COUNTERS.head() + c.LIMIT_COUNTERS.line(held)
        yield c.LIMIT_DROPPED.head() + c.LIMIT_DROPPED.line(dropped)
        yield c.FAILURES_LIMITED.head() + c.FAILURES_LIMITED.line(self._failures)
