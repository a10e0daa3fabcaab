"""``app.floods``: floods are told in slices."""

from __future__ import annotations

import asyncio

import pytest

from broker.access.failed_authentications import FailedAuthentications, Rate
from broker.app.floods import PERIOD, SLICE, record_floods
from tests.simulators.clock import VirtualClock

PEERS = 5 * SLICE


class Turns:
    """A recorder that notes in which turn of the loop it was told."""

    def __init__(self) -> None:
        self.turn = 0
        self.told: list[int] = []

    def record_flood(self, peer: str, count: int) -> None:
        del peer, count
        if self.turn not in self.told:
            asyncio.get_running_loop().call_soon(self._next)
        self.told.append(self.turn)

    def _next(self) -> None:
        self.turn += 1


@pytest.mark.looptime
async def test_a_thousand_floods_do_not_hold_the_loop() -> None:
    """Whoever may choose its uid makes a peer of each: their records take turns."""
    clock, recorder = VirtualClock(), Turns()
    failures = FailedAuthentications(clock, Rate(1, 30))
    for uid in range(PEERS):
        for _ in range(3):
            failures.failed(f"search-mcp uid {uid}")
    task = asyncio.create_task(record_floods(failures, recorder, clock))
    await clock.sleep(PERIOD + 1)
    task.cancel()
    assert len(recorder.told) == PEERS
    assert max(map(recorder.told.count, set(recorder.told))) <= SLICE
