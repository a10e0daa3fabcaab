"""Virtual time: a ``Clock`` on the event loop's time, with suspend and wall jumps.

Use with ``@pytest.mark.looptime``; ``loop.time()`` then moves only when all wait.
"""

from __future__ import annotations

import asyncio

from broker.clock import Clock, SystemClock

EPOCH = 1_800_000_000.0
"""Unix time at which every story starts."""


class VirtualClock(Clock):
    """``now()`` is loop time plus what the machine slept; ``wall()`` also jumps."""

    def __init__(self, *, epoch: float = EPOCH) -> None:
        self._epoch = epoch
        self._slept = 0.0
        self._jumped = 0.0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self._slept

    def wall(self) -> float:
        return self._epoch + self.now() + self._jumped

    def suspend(self, seconds: float) -> None:
        """The machine slept: both clocks moved, timers did not."""
        self._slept += seconds

    def jump_wall(self, seconds: float) -> None:
        """Somebody set the wall clock, or the machine was paused with its boot clock."""
        self._jumped += seconds


class ManualClock(Clock):
    """Both clocks stand until they are set; for what never waits, without a loop."""

    def __init__(self, *, now: float = 1000.0, epoch: float = EPOCH) -> None:
        self.time = now
        self.offset = epoch

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.offset + self.time

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.time += seconds

    def jump_wall(self, seconds: float) -> None:
        """Somebody set the wall clock."""
        self.offset += seconds


class LeapingClock(SystemClock):
    """The machine's clocks, which a test may move on; for what waits on real sockets."""

    def __init__(self) -> None:
        self._leapt = 0.0

    def now(self) -> float:
        return super().now() + self._leapt

    def wall(self) -> float:
        return super().wall() + self._leapt

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._leapt += seconds


class SteppingClock(ManualClock):
    """A manual clock on which waiting takes no time and moves it on."""

    def block(self, seconds: float) -> None:
        self.advance(max(0.0, seconds))

    async def sleep_until(self, deadline: float) -> None:
        self.advance(max(0.0, deadline - self.time))
        await asyncio.sleep(0)
