"""The library ``limits`` on our clock and in bounded memory.

Duty: be a storage of its strategy "moving window"; hold a rate's key ready.
Not its duty: counting (``limit_windows``), what is limited (``limits``).
Rules:

* the strategy decides nothing by itself: ``hit`` and ``test`` of its
  ``MovingWindowRateLimiter`` ask the storage, and read no clock (seen in 5.8.0; a test with a
  clock that stands still would notice). The library's own memory storage reads
  ``time.time()``, starts a timer in a thread for its housekeeping and has no bound;
* fixed and sliding windows are refused: they would let through up to twice the rate around
  the end of a window, or guess;
* building the key of a rate costs more than all the rest (measured: 1.5 µs of 2.8 µs), so it
  is built once (``Prepared``). ``test`` of the strategy counts what is in the window, so its cost
  grows with the rate: of several rules each is asked by ``Windows.ask``, which says the same;
* only ``limits`` imports this module, and only when limits are configured: the library
  costs a start 20 ms and 1.1 MB.
"""

from __future__ import annotations

from collections.abc import Sequence

from limits import RateLimitItem, parse
from limits.storage.base import MovingWindowSupport, Storage
from limits.strategies import MovingWindowRateLimiter

from broker.access.limit_windows import Windows

__all__ = ["MovingWindowRateLimiter", "Prepared", "WindowStorage", "named"]


class WindowStorage(Storage, MovingWindowSupport):
    """A storage on ``Windows``, for ``MovingWindowRateLimiter`` alone."""

    # No scheme: nobody shall get it by an address.
    STORAGE_SCHEME = None

    def __init__(self, windows: Windows) -> None:
        super().__init__()
        self._windows = windows
        # In place of the method, which the library wraps for errors that memory does not have.
        self.acquire_entry = windows.take  # type: ignore[method-assign,assignment]

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """Of a backend that may fail: memory does not."""
        return ()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """See ``MovingWindowSupport``. Hot path."""
        return self._windows.take(key, limit, expiry, amount)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """See ``MovingWindowSupport``."""
        del limit
        return self._windows.standing(key, expiry)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Fixed windows are not for this storage."""
        raise NotImplementedError(f"{type(self).__name__} counts in moving windows only")

    def get(self, key: str) -> int:
        """Fixed windows are not for this storage."""
        raise NotImplementedError(f"{type(self).__name__} counts in moving windows only")

    def get_expiry(self, key: str) -> float:
        """Fixed windows are not for this storage."""
        raise NotImplementedError(f"{type(self).__name__} counts in moving windows only")

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int:
        """Begin anew with every key; returns how many there were."""
        return self._windows.clear()

    def clear(self, key: str) -> None:
        """Begin anew with ``key``."""
        self._windows.forget(key)


class Prepared(RateLimitItem):
    """A rate together with the key that it counts under."""

    __slots__ = ("key", "seconds")

    def __init__(self, item: RateLimitItem, identifiers: Sequence[str]) -> None:
        super().__init__(item.amount, item.multiples, item.namespace)
        self.key = item.key_for(*identifiers)
        self.seconds = item.get_expiry()

    def __repr__(self) -> str:
        return f"{self.amount} per {self.seconds} s for {self.key}"

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """The key, as ``RateLimitItem.key_for`` made it."""
        del identifiers
        return self.key

    def get_expiry(self) -> int:
        """Seconds of the window."""
        return self.seconds


def named(rate: str, name: str) -> RateLimitItem:
    """Read a rate in the library's words, such as ``60/minute``.

    Args:
        rate: checked before (``settings.rates``).
        name: of the rule, so that rules do not share counters.
    """
    item = parse(rate)
    return type(item)(item.amount, item.multiples, name)
