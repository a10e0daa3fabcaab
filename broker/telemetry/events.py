"""What happens to credentials, told to whoever listens in this process.

Duty: pass each event to each subscriber that wants it, without ever waiting for one.
Not its duty: server-sent events (``api``), who may know of which credential (the subscriber's
filter, from ``access``).
Rules:

* kinds and field names are closed sets; fields hold names and versions, never a value;
* publishing is quick and never fails for a subscriber's sake; a subscriber's queue is
  bounded. One that reads too slowly loses what it has not read and gets a ``gap`` in its
  place: then it asks for the present state instead of relying on the story;
* everything happens on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

KINDS: Final = frozenset(
    {"published", "expiring", "suspect", "refused", "rotated", "audit_head", "revoked"}
)
GAP: Final = "gap"
"""The kind of the marker in a slow subscriber's stream; its field ``missed`` is a count."""
FIELDS: Final = frozenset(
    {"credential", "version", "source_version", "reason", "sequence", "chain", "token"}
)
QUEUE: Final = 256
"""Events held for one subscriber: some 100 KiB at most."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    id: int
    """Counts up from 1 in this process; a gap has the id of the last event missed."""
    kind: str
    fields: Mapping[str, str]
    client: str = ""
    """Whom alone it concerns; empty: whoever may know of its fields. Never told itself."""


class Recorder(Protocol):
    """The part of ``telemetry.metrics.Metrics`` that events write to."""

    def event_gap(self) -> None:
        """A slow subscriber missed some."""
        ...


class Events:
    """The bus of one process.

    Args:
        metrics: counts gaps.
    """

    def __init__(self, metrics: Recorder) -> None:
        self._metrics = metrics
        self._last = 0
        self._closed = False
        self._subscriptions: set[Subscription] = set()

    def publish(self, kind: str, *, client: str = "", **fields: str) -> None:
        """Tell every subscriber that wants it.

        Args:
            kind: one of ``KINDS``.
            client: whom alone it concerns.
            fields: by names of ``FIELDS``.

        Raises:
            ValueError: another kind or field, which is a fault of the broker.
        """
        if kind not in KINDS or not fields.keys() <= FIELDS:
            raise ValueError(f"no event {kind!r} with fields {sorted(fields)}")
        self._last += 1
        event = Event(self._last, kind, fields, client)
        for subscription in self._subscriptions:
            if subscription.offer(event):
                self._metrics.event_gap()

    def subscribe(
        self, wanted: Callable[[Event], bool] = lambda _: True, *, size: int = QUEUE
    ) -> Subscription:
        """Listen from now on; leave with ``close`` or at the end of a ``with``.

        Args:
            wanted: says which events count; quick, and applied before the queue's bound, so
                that what others do cannot crowd out what is wanted.
            size: events held at most.
        """
        subscription = Subscription(wanted, size, self._subscriptions.discard)
        if self._closed:
            subscription.close()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        """The broker stops: every subscription ends, and later ones have ended at once."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()


class Subscription:
    """One subscriber's bounded queue.

    Wait for ``ready`` (``Clock.wait`` takes it), then ``take`` all there is::

        with events.subscribe(wanted) as subscription:
            while not subscription.closed:
                if await clock.wait(subscription.ready, deadline):
                    for event in subscription.take(): ...
    """

    def __init__(
        self,
        wanted: Callable[[Event], bool],
        size: int,
        left: Callable[[Subscription], None],
    ) -> None:
        self.ready = asyncio.Event()
        """Set while there is something to take, and for ever once closed."""
        self.closed = False
        self._wanted, self._size, self._left = wanted, size, left
        self._queue: deque[Event] = deque()
        self._missed = 0
        self._missed_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def offer(self, event: Event) -> bool:
        """For the bus: queue ``event`` if it is wanted.

        Returns:
            True when a gap began: the queue was full, and what was in it is lost.
        """
        if self.closed or not self._wanted(event):
            return False
        self.ready.set()
        began = False
        if len(self._queue) >= self._size:
            began = self._missed == 0
            self._missed += len(self._queue)
            self._missed_id = self._queue[-1].id
            self._queue.clear()
        self._queue.append(event)
        return began

    def take(self) -> list[Event]:
        """All that waits, oldest first, after a ``gap`` if some was lost; empty when closed."""
        taken = list(self._queue)
        if self._missed:
            taken.insert(0, Event(self._missed_id, GAP, {"missed": str(self._missed)}))
        self._queue.clear()
        self._missed = 0
        if not self.closed:
            self.ready.clear()
        return taken

    def close(self) -> None:
        """End it; what was not taken is dropped. Harmless when it has ended already."""
        if self.closed:
            return
        self.closed = True
        self._queue.clear()
        self._missed = 0
        self._left(self)
        self.ready.set()
