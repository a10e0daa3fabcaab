"""``api.listeners``: tending takes turns."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from broker.api.listeners import SLICE, tend
from broker.api.sockets import TcpAddress
from tests.simulators.clock import VirtualClock
from tests.support.broker import Assembly


class Turns:
    """Connections that note in which turn of the loop they were tended."""

    def __init__(self) -> None:
        self.turn = 0
        self.tended: list[int] = []

    def next(self) -> None:
        self.turn += 1


class Idle:
    """One of them."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def tend(self, now: float) -> None:
        del now
        if self._turns.turn not in self._turns.tended:
            asyncio.get_running_loop().call_soon(self._turns.next)
        self._turns.tended.append(self._turns.turn)


@pytest.mark.looptime
async def test_a_full_listener_is_tended_in_slices(tmp_path: Path) -> None:
    """Thousands of connections that somebody left open do not hold the loop once a second."""
    clock, turns = VirtualClock(), Turns()
    listener = Assembly(tmp_path, clock=clock).listener(TcpAddress("127.0.0.1", 0))
    count = 5 * SLICE + 1
    listener._state.connections.update(cast("Any", Idle(turns)) for _ in range(count))
    task = asyncio.create_task(tend([listener], clock))
    await clock.sleep(1.5)
    task.cancel()
    assert len(turns.tended) == count
    assert max(map(turns.tended.count, set(turns.tended))) <= SLICE
