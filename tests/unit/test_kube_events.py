"""``kube.events``: what of a rotation becomes an Event on the pod, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from broker.errors import KubernetesUnavailable
from broker.kube.events import BURST, REFILL, PodEvents
from broker.kube.ports import Note
from broker.rotation.ports import StepTaken
from tests.simulators.clock import VirtualClock

pytestmark = pytest.mark.looptime


@dataclass
class Api:
    """Takes Events."""

    notes: list[tuple[float, Note]] = field(default_factory=list)
    away: bool = False

    async def write(self, note: Note, *, wall: float) -> None:
        if self.away:
            raise KubernetesUnavailable
        self.notes.append((wall, note))


@asynccontextmanager
async def observing() -> AsyncIterator[tuple[PodEvents, Api]]:
    """An observer at work."""
    api = Api()
    events = PodEvents(api, clock=VirtualClock())
    task = asyncio.create_task(events.run())
    yield events, api
    task.cancel()
    await asyncio.wait([task])


async def test_outcomes_become_events() -> None:
    """A key replaced is normal, one given up a warning with its reason; steps between are none."""
    async with observing() as (events, api):
        events.took(StepTaken("search-api", "intended", 1.0))
        events.took(StepTaken("search-api", "rotated", 2.0, key_id="k2"))
        events.took(StepTaken("search-api", "rolled_back", 3.0, detail="proof_failed"))
        await asyncio.sleep(1)
    assert [(wall, note.kind, note.reason) for wall, note in api.notes] == [
        (2.0, "Normal", "CredentialRotated"),
        (3.0, "Warning", "RotationRolledBack"),
    ]
    assert "proof_failed" in api.notes[1][1].message


async def test_a_bad_night_does_not_fill_the_cluster() -> None:
    """A burst, then one every five minutes."""
    async with observing() as (events, api):
        for _ in range(200):
            events.took(StepTaken("search-api", "failed", 1.0, detail="vault_sealed"))
            await asyncio.sleep(0.01)
        assert len(api.notes) == BURST
        await asyncio.sleep(2 * REFILL)
        for _ in range(10):
            events.took(StepTaken("search-api", "failed", 1.0))
            await asyncio.sleep(0.01)
        assert len(api.notes) == BURST + 2


async def test_an_event_that_cannot_be_written_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The API is away: said once, nothing waits, and the next Event after it is written."""
    async with observing() as (events, api):
        api.away = True
        for _ in range(3):
            events.took(StepTaken("search-api", "rotated", 1.0))
        await asyncio.sleep(1)
        api.away = False
        events.took(StepTaken("search-api", "rotated", 9.0))
        await asyncio.sleep(1)
    assert [wall for wall, _ in api.notes] == [9.0]
    assert len([one for one in caplog.records if "was not written" in one.message]) == 1
