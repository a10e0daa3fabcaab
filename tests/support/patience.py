"""Waiting in tests: until something is so, however busy the machine is.

No test says how fast a machine must be. What must come is waited for with ``PATIENCE``,
which only a fault uses up; what must not come is looked for after ``turns`` of the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 60.0
"""Seconds after which what has not happened is taken for what never will."""


async def eventually(true: Callable[[], object], patience: float = PATIENCE) -> None:
    """Give the loop turns until ``true()``.

    Raises:
        TimeoutError: it did not become true within ``patience`` seconds.
    """
    async with asyncio.timeout(patience):
        while not true():
            await asyncio.sleep(0.002)


async def turns(count: int = 10) -> None:
    """Give the loop ``count`` turns, and the system a millisecond at each.

    Enough for bytes on loopback to arrive and for what follows from them at once.
    """
    for _ in range(count):
        await asyncio.sleep(0.001)


def until(true: Callable[[], object], told: Callable[[], str] = str) -> None:
    """Wait for another process until ``true()``; ``told()`` explains a failure."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, told()
        time.sleep(0.05)
