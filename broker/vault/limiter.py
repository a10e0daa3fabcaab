"""What the broker may cost Vault: the global outbound limiter.

Duty: let requests through at a bounded rate and number, the urgent ones first.
Not its duty: retries and back-off (each loop has its own), threads (``workers``).
Rules:

* ``Budget`` decides, given ``now``, and is pure; ``Limiter`` waits;
* a login goes before a renewal, a renewal before all else; within one
  priority the oldest goes first;
* one slot stands free for renewals and one more for logins, always: reads that
  hang can stop neither (DESIGN promise 4);
* a wait that is cancelled leaves no trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Final

from broker.clock import Clock
from broker.errors import VaultThrottled
from broker.vault.interface import Priority

RESERVED: Final[Mapping[Priority, int]] = {Priority.LOGIN: 0, Priority.RENEW: 1, Priority.READ: 2}
"""Slots a priority, with all less urgent ones together, leaves free for the more urgent."""

LEAST_CONCURRENCY: Final = max(RESERVED.values()) + 1
"""Below this some priority would never run."""

_WHOLE: Final = 1 - 1e-9
"""One token, less what summing floats may lose."""


@dataclass(slots=True)
class Budget:
    """The decision: token bucket and slots. Pure: time is an argument.

    Args:
        rate: requests per second, over time.
        burst: requests that may go at once after a quiet time.
        concurrency: requests under way at once, at least ``LEAST_CONCURRENCY``.
    """

    rate: float
    burst: int
    concurrency: int
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False, default=-inf)
    _running: list[int] = field(init=False, default_factory=lambda: [0] * len(Priority))

    def __post_init__(self) -> None:
        if not (isfinite(self.rate) and self.rate > 0 and self.burst >= 1):
            raise ValueError("rate must be finite and positive, burst at least 1")
        if self.concurrency < LEAST_CONCURRENCY:
            raise ValueError(f"concurrency must be at least {LEAST_CONCURRENCY}")
        self._tokens = float(self.burst)

    @property
    def running(self) -> int:
        """Requests under way."""
        return sum(self._running)

    def delay(self, priority: Priority, now: float) -> float:
        """Seconds until a request may go: 0 now, ``inf`` not before another ends."""
        for urgent in Priority:
            if urgent > priority:
                break
            if sum(self._running[urgent:]) >= self.concurrency - RESERVED[urgent]:
                return inf
        self._fill(now)
        return 0.0 if self._tokens >= _WHOLE else (1 - self._tokens) / self.rate

    def start(self, priority: Priority, now: float) -> None:
        """A request goes; ``delay`` has just said 0."""
        self._fill(now)
        self._tokens = max(0.0, self._tokens - 1)
        self._running[priority] += 1

    def finish(self, priority: Priority) -> None:
        """A request has ended."""
        self._running[priority] -= 1

    def _fill(self, now: float) -> None:
        if now > self._filled_at:
            gained = (now - self._filled_at) * self.rate
            self._tokens = min(float(self.burst), self._tokens + gained)
            self._filled_at = now


class _Waiter:
    """One request in the queue. Compared by identity."""

    __slots__ = ("granted", "poked", "wake_at")

    def __init__(self) -> None:
        self.granted = False
        self.poked = asyncio.Event()
        self.wake_at = inf


class Limiter:
    """Queues requests for a ``Budget``. Use within one event loop.

    Args:
        budget: what decides; owned by this object from now on.
        clock: time.
        patience: longest wait in the queue in seconds.
    """

    def __init__(self, budget: Budget, *, clock: Clock, patience: float = 30.0) -> None:
        self._budget = budget
        self._clock = clock
        self._patience = patience
        # Dictionaries as ordered sets: first in, first out, and O(1) for one that leaves.
        self._queues: tuple[dict[_Waiter, None], ...] = tuple({} for _ in Priority)

    @property
    def concurrency(self) -> int:
        """Requests under way at once, at most."""
        return self._budget.concurrency

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return sum(map(len, self._queues))

    async def acquire(self, priority: Priority) -> None:
        """Wait for a slot; the caller must ``release`` it exactly once.

        Raises:
            VaultThrottled: the queue did not move within ``patience``.
        """
        now = self._clock.now()
        if not self.waiting and self._budget.delay(priority, now) == 0:
            self._budget.start(priority, now)
            return
        waiter = _Waiter()
        queue = self._queues[priority]
        queue[waiter] = None
        try:
            self._pump()
            await self._wait(waiter, now + self._patience)
        except BaseException:
            if waiter.granted:  # granted and cancelled in the same turn of the loop
                self._budget.finish(priority)
            else:
                del queue[waiter]
            self._pump()
            raise

    def release(self, priority: Priority) -> None:
        """The request has ended: its thread and connection are free again."""
        self._budget.finish(priority)
        self._pump()

    async def _wait(self, waiter: _Waiter, deadline: float) -> None:
        while not waiter.granted:
            waiter.poked.clear()
            poked = await self._clock.wait(waiter.poked, min(waiter.wake_at, deadline))
            if poked:
                continue  # granted, or first in the queue now, with a time to wake at
            if self._clock.now() >= deadline:
                raise VaultThrottled(
                    "More requests to Vault are waiting than vault.limits lets through.",
                    remedy="Raise vault.limits, or see why Vault answers slowly.",
                )
            waiter.wake_at = inf  # unless it still is the first: then the pump says when
            self._pump()

    def _pump(self) -> None:
        """Grant what may go; tell the first that must wait for the rate when to look again."""
        now = self._clock.now()
        for priority in Priority:
            queue = self._queues[priority]
            while queue:
                waiter = next(iter(queue))
                delay = self._budget.delay(priority, now)
                if delay > 0:
                    # Whatever holds this one back holds the less urgent ones back too.
                    waiter.wake_at = now + delay
                    waiter.poked.set()
                    return
                del queue[waiter]
                self._budget.start(priority, now)
                waiter.granted = True
                waiter.poked.set()
