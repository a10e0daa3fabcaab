"""``app.rotation_seen``: a step is in the audit, the metrics, the bus and the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.app.rotation_seen import RotationSeen
from broker.audit.log import AuditLog
from broker.audit.sinks import opener
from broker.rotation.model import Phase
from broker.rotation.ports import Standing, StepTaken
from broker.telemetry.events import Events
from broker.telemetry.metrics import Metrics
from tests.simulators.clock import EPOCH, ManualClock
from tests.unit.test_telemetry_metrics import labels, scrape


class Other:
    """Another observer."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def took(self, step: StepTaken) -> None:
        self.told.append(step)

    def stands(self, standing: Standing) -> None:
        self.told.append(standing)


class World:
    """What is told."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "audit.jsonl"
        self.clock = ManualClock(now=0.0)
        self.metrics = Metrics(["search-api"], clock=self.clock)
        self.metrics.rotation.configure(("search-api",))
        self.audit = AuditLog(opener(str(self.file)), clock=self.clock, metrics=self.metrics)
        self.events = Events(self.metrics)
        self.other = Other()
        self.seen = RotationSeen(self.audit, self.metrics, self.events, [self.other])

    def records(self) -> Iterator[dict[str, str]]:
        yield from map(json.loads, self.file.read_text().splitlines())


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path)


ROTATED = StepTaken(
    "search-api",
    "rotated",
    EPOCH,
    rotation="r-7",
    key_id="key-2",
    actor="operator uid 0",
    reason="demanded",
    source_version="4",
    seconds=2.0,
)


async def test_a_step_is_seen_everywhere(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """One promotion: a record with versions and actor, a count, an event, a line, an observer."""
    caplog.set_level(logging.INFO)
    with world.events.subscribe() as subscription:
        world.seen.took(ROTATED)
        (event,) = subscription.take()
    assert list(world.records()) == [
        {
            "time": "2027-01-15T08:00:00.000Z",
            "kind": "rotation",
            "step": "rotated",
            "credential": "search-api",
            "actor": "operator uid 0",
            "rotation": "r-7",
            "key_id": "key-2",
            "reason": "demanded",
            "source_version": "4",
        }
    ]
    assert (event.kind, event.fields["source_version"]) == ("rotated", "4")
    told = scrape(world.metrics)
    steps = told["broker_rotation_steps_total"]
    assert steps[labels(credential="search-api", step="rotated")] == 1
    assert told["broker_rotation_seconds_sum"] == {(): 2.0}
    assert world.other.told == [ROTATED]
    assert "rotation of search-api: rotated" in caplog.text


@pytest.mark.parametrize("kind", ["intended", "created", "proved", "retired", "swept"])
async def test_steps_that_change_no_reader_are_no_event(world: World, kind: str) -> None:
    """They are in the audit, and not on the bus that callers may listen to."""
    with world.events.subscribe() as subscription:
        world.seen.took(StepTaken("search-api", kind, EPOCH, actor="schedule"))  # type: ignore[arg-type]
        assert subscription.take() == []
    (record,) = world.records()
    assert record == {
        "time": "2027-01-15T08:00:00.000Z",
        "kind": "rotation",
        "step": kind,
        "credential": "search-api",
        "actor": "schedule",
    }


async def test_an_audit_that_cannot_be_written_stops_no_rotation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The step is committed already: said in the log, counted, and gone on from."""
    world = World(tmp_path)
    audit = AuditLog(opener("/dev/full"), clock=world.clock, metrics=world.metrics)
    seen = RotationSeen(audit, world.metrics, world.events, [world.other])
    seen.took(ROTATED)
    assert world.other.told == [ROTATED]
    assert "not in the audit" in caplog.text


async def test_how_a_rotation_stands(world: World) -> None:
    """Gauges follow it."""
    standing = Standing(
        "search-api", Phase.STAGED, leading=True, key_since_wall=EPOCH - 5, overdue=True
    )
    world.seen.stands(standing)
    told = scrape(world.metrics)
    assert told["broker_rotation_phase"] == {labels(credential="search-api", phase="staged"): 1}
    assert told["broker_rotation_key_age_seconds"] == {labels(credential="search-api"): 5}
    assert told["broker_rotation_overdue"] == {labels(credential="search-api"): 1}
    assert world.other.told == [standing]
