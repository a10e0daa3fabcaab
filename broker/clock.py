"""Time, and the only ways to wait.

Duty: read the clocks; wait for a moment or an event.
Not its duty: deciding when; that is done in pure functions that get ``now``.
Rules:

* lives and deadlines are counted on ``now()``, a clock that runs while the
  machine sleeps (``CLOCK_BOOTTIME``, see clock_gettime(2));
* ``wall()`` is for what others wrote down as a date and for showing dates;
* no wait is one sleep over ``SLICE`` seconds: timers stand still in a
  sleeping machine, so after each slice the clock is read again.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Final

SLICE: Final = 15.0
"""Longest single sleep, in seconds."""
GRAIN: Final = 0.001
"""Shortest, in seconds: a remainder below a timer's resolution must not become a spin."""


class Clock(ABC):
    """Reads time and waits. Sub-classes say where time comes from."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since some fixed start, counted through suspend; never goes back."""

    @abstractmethod
    def wall(self) -> float:
        """Unix time in seconds; may jump either way."""

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` of ``now()``; zero or less yields to the loop once."""
        await self.sleep_until(self.now() + seconds)

    async def sleep_until(self, deadline: float) -> None:
        """Wait until ``now()`` reaches ``deadline``."""
        while (left := deadline - self.now()) > 0:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(max(GRAIN, min(left, SLICE)))
        await asyncio.sleep(0)

    def block(self, seconds: float) -> None:
        """Wait for ``seconds`` of ``now()`` in a thread that has no loop."""
        deadline = self.now() + seconds
        while (left := deadline - self.now()) > 0:
            time.sleep(min(left, SLICE))

    async def wait(self, event: asyncio.Event, deadline: float) -> bool:
        """Wait until ``event`` is set or ``now()`` reaches ``deadline``.

        Returns:
            True when the event is set, False when the deadline came first.
        """
        while not event.is_set():
            left = deadline - self.now()
            if left <= 0:
                return False
            try:
                async with asyncio.timeout(max(GRAIN, min(left, SLICE))):
                    await event.wait()
            except TimeoutError:
                continue
        return True


class SystemClock(Clock):
    """The clocks of this machine."""

    # CLOCK_BOOTTIME is Linux's; elsewhere (a developer's laptop) monotonic must do.
    _clock: Final = getattr(time, "CLOCK_BOOTTIME", None)

    def now(self) -> float:
        """Seconds of ``CLOCK_BOOTTIME``, see clock_gettime(2)."""
        if self._clock is None:
            return time.monotonic()
        return time.clock_gettime(self._clock)

    def wall(self) -> float:
        """Seconds of ``CLOCK_REALTIME``."""
        return time.time()
