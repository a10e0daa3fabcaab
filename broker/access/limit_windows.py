"""Moving windows: how often something happened within the last so many seconds.

Duty: count at most so many events a window and key, exactly; stay within bounded memory.
Not its duty: what is limited, and by which rate (``limits``, ``failed_authentications``).
Rules:

* an event at ``t`` counts until ``t + period``, that moment left out: then the next is allowed.
  So no half-open stretch of ``period`` seconds, wherever it begins, holds more than ``limit``;
* a refused event is not counted: who keeps asking is allowed as soon as who waits;
* of a key the last ``limit`` moments are kept, eight bytes each, as a ring: whether the next
  is allowed depends on the oldest alone, so a decision costs the same for any rate;
* at most ``COUNTERS`` keys and ``MOMENTS`` moments are kept together. Idle keys go first, as new
  ones come; when none is idle the one used longest ago goes, and is counted as dropped;
* time is read from the ``Clock`` once a decision and stays readable as ``decided_at``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from math import inf, nextafter
from typing import Final

from broker.clock import Clock

COUNTERS: Final = 10_000
"""Keys kept at most: some 5 MB with short names and few moments each."""
MOMENTS: Final = 1_000_000
"""Moments kept at most, all keys together: 8 MB. No single limit may be larger."""
REAPED: Final = 8
"""Idle keys removed for each new one at most, so that no request pays for a crowd."""


class _Window:
    """The last moments of one key: a ring once it is full."""

    __slots__ = ("head", "moments", "used")

    def __init__(self) -> None:
        self.moments = array("d")
        self.head = 0
        """Index of the oldest moment."""
        self.used = 0.0
        """When it was last asked; never before its newest moment."""


class Windows:
    """Counts events by key. All methods belong to one thread.

    Args:
        clock: the only source of time.
        counters: keys kept at most.
        moments: moments kept at most; no limit may be larger.
    """

    __slots__ = ("_counters", "_kept", "_lanes", "_most", "_now", "decided_at", "dropped")

    def __init__(self, clock: Clock, *, counters: int = COUNTERS, moments: int = MOMENTS) -> None:
        self._now = clock.now
        self._counters = counters
        self._most = moments
        self._kept = 0
        # By period, each in the order of last use: within one, what was used first is idle first.
        self._lanes: dict[int, OrderedDict[str, _Window]] = {}
        self.decided_at = 0.0
        """``Clock.now()`` of the last decision."""
        self.dropped = 0
        """Keys forgotten before they were idle, since the start."""

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    @property
    def moments(self) -> int:
        """Moments kept."""
        return self._kept

    def take(self, key: str, limit: int, period: int, amount: int = 1) -> bool:
        """Count ``amount`` events at once if all are allowed now; else none. Hot path.

        Args:
            key: what is counted; the same key always comes with the same limit and period.
            limit: events allowed within ``period``.
            period: seconds.
            amount: events.
        """
        self.decided_at = now = self._now()
        if amount > limit:
            return False
        lane = self._lanes.get(period)
        window = None if lane is None else lane.get(key)
        if lane is None or window is None:
            window = self._new(key, period, now)
        else:
            lane.move_to_end(key)
        window.used = now
        moments = window.moments
        if amount == 1 and len(moments) < limit and self._kept < self._most:
            moments.append(now)
            self._kept += 1
            return True
        if amount == 1 and len(moments) == limit:
            head = window.head
            if moments[head] + period > now:
                return False
            moments[head] = now
            window.head = head + 1 if head + 1 < limit else 0
            return True
        return self._take(window, limit, period, amount, now)

    def _take(self, window: _Window, limit: int, period: int, amount: int, now: float) -> bool:
        moments = window.moments
        overwritten = amount - (limit - len(moments))
        if overwritten > 0:
            last = moments[(window.head + overwritten - 1) % len(moments)]
            if last + period > now:
                return False
        for _ in range(amount):
            if len(moments) < limit:
                moments.append(now)
                self._kept += 1
            else:
                moments[window.head] = now
                window.head = (window.head + 1) % limit
        while self._kept > self._most and self._drop(besides=window):
            pass
        return True

    def ask(self, key: str, limit: int, period: int) -> float:
        """Seconds until one more event is allowed; 0.0 if it is now. Counts nothing. Hot path."""
        self.decided_at = now = self._now()
        lane = self._lanes.get(period)
        window = None if lane is None else lane.get(key)
        if lane is None or window is None:
            return 0.0
        lane.move_to_end(key)
        window.used = now
        moments = window.moments
        if len(moments) < limit or moments[window.head] + period <= now:
            return 0.0
        return self.wait(key, limit, period)

    def standing(self, key: str, period: int) -> tuple[float, int]:
        """The oldest moment that counts now, and how many do; now itself and 0 if none does."""
        self.decided_at = now = self._now()
        lane = self._lanes.get(period)
        window = None if lane is None else lane.get(key)
        if lane is None or window is None:
            return now, 0
        lane.move_to_end(key)
        window.used = now
        moments, head, size = window.moments, window.head, len(window.moments)
        gone = bisect_right(
            range(size), now, key=lambda index: moments[(head + index) % size] + period
        )
        if gone == size:
            return now, 0
        return moments[(head + gone) % size], size - gone

    def wait(self, key: str, limit: int, period: int) -> float:
        """Seconds from ``decided_at`` until one more event is allowed; 0.0 if it was then.

        ``decided_at`` plus the answer, in floating point too, is a moment at which it is allowed.
        """
        lane = self._lanes.get(period)
        window = None if lane is None else lane.get(key)
        if window is None or len(window.moments) < limit:
            return 0.0
        free_at = window.moments[window.head] + period
        seconds = max(0.0, free_at - self.decided_at)
        while self.decided_at + seconds < free_at:
            seconds = nextafter(seconds, inf)
        return seconds

    def idle_at(self, key: str, period: int) -> float:
        """``Clock.now()`` from which on nothing of ``key`` counts any more."""
        lane = self._lanes.get(period)
        window = None if lane is None else lane.get(key)
        if window is None:
            return self._now()
        return window.moments[window.head - 1] + period

    def forget(self, key: str) -> None:
        """Begin anew with ``key``."""
        for lane in self._lanes.values():
            window = lane.pop(key, None)
            if window is not None:
                self._kept -= len(window.moments)

    def clear(self) -> int:
        """Begin anew with every key; returns how many there were."""
        count = len(self)
        self._lanes.clear()
        self._kept = 0
        return count

    def _new(self, key: str, period: int, now: float) -> _Window:
        self._reap(now)
        if len(self) >= self._counters:
            self._drop()
        window = _Window()
        self._lanes.setdefault(period, OrderedDict())[key] = window
        return window

    def _reap(self, now: float) -> None:
        """Remove some of the idle keys; nothing is lost by it."""
        left = REAPED
        for period, lane in list(self._lanes.items()):
            while left and lane:
                key, window = next(iter(lane.items()))
                if window.used + period > now:
                    break
                del lane[key]
                self._kept -= len(window.moments)
                left -= 1
            if not lane:
                del self._lanes[period]

    def _drop(self, *, besides: _Window | None = None) -> bool:
        """Forget the key used longest ago, be it that it still counts.

        Args:
            besides: never this one, whoever else was used in the same moment.

        Returns:
            False when there is no other.
        """
        oldest = [
            (window.used, period)
            for period, lane in self._lanes.items()
            if lane and (window := next(iter(lane.values()))) is not besides
        ]
        if not oldest:
            return False
        period = min(oldest)[1]
        lane = self._lanes[period]
        _, window = lane.popitem(last=False)
        self._kept -= len(window.moments)
        if window.moments[window.head - 1] + period > self.decided_at:
            self.dropped += 1
        return True
