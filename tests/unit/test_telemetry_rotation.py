"""Metrics of rotations: words, series and what alerts count on."""

from __future__ import annotations

from typing import get_args

import pytest

from broker.rotation.model import Phase
from broker.rotation.ports import StepKind
from broker.telemetry import catalogue
from broker.telemetry.metrics import Metrics
from tests.simulators.clock import ManualClock
from tests.unit.test_telemetry_metrics import START, labels, scrape

SEARCH = labels(credential="search-api")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=0.0, epoch=START)


@pytest.fixture
def metrics(clock: ManualClock) -> Metrics:
    made = Metrics(["search-api"], clock=clock)
    made.rotation.configure(("search-api",))
    return made


def test_the_words_are_those_of_rotation() -> None:
    """Phases and steps that this layer cannot import are the same all the same."""
    assert tuple(Phase) == catalogue.PHASES
    assert set(get_args(StepKind)) == catalogue.STEPS


def test_a_broker_that_rotates_nothing_shows_nothing() -> None:
    """No series of credentials, and nobody who leads."""
    told = scrape(Metrics(["search-api"]))
    assert {name for name in told if name.startswith("broker_rotation")} == {
        *("broker_rotation_seconds_bucket", "broker_rotation_seconds_count"),
        "broker_rotation_seconds_sum",
    }


def test_what_alerts_count_on_is_there_from_the_start(metrics: Metrics) -> None:
    """Counters of outcomes begin at zero, so that the first one is an increase."""
    told = scrape(metrics)
    steps = told["broker_rotation_steps_total"]
    assert {dict(series)["step"]: value for series, value in steps.items()} == {
        "rotated": 0,
        "rolled_back": 0,
        "failed": 0,
    }
    assert told["broker_rotation_overdue"] == {SEARCH: 0}


def test_age_grows_with_the_clock(metrics: Metrics, clock: ManualClock) -> None:
    """The key's age is counted at the scrape; a key nobody knows has none."""
    assert "broker_rotation_key_age_seconds" not in scrape(metrics)
    metrics.rotation.stands(
        "search-api", phase="idle", since_wall=START - 60, due_wall=START + 5, overdue=True
    )
    clock.advance(40)
    told = scrape(metrics)
    assert told["broker_rotation_key_age_seconds"] == {SEARCH: 100}
    assert told["broker_rotation_due_timestamp_seconds"] == {SEARCH: START + 5}
    assert told["broker_rotation_overdue"] == {SEARCH: 1}
    assert told["broker_rotation_phase"] == {labels(credential="search-api", phase="idle"): 1}


def test_only_one_phase_at_a_time(metrics: Metrics) -> None:
    """A phase that is over has no series."""
    for phase in ("idle", "intended", "overlap"):
        metrics.rotation.stands(
            "search-api", phase=phase, since_wall=None, due_wall=None, overdue=False
        )
    assert scrape(metrics)["broker_rotation_phase"] == {
        labels(credential="search-api", phase="overlap"): 1
    }


def test_steps_and_their_time(metrics: Metrics) -> None:
    """The steps that end a rotation for its readers carry its duration; odd words are 'other'."""
    metrics.rotation.step("search-api", "created")
    metrics.rotation.step("search-api", "rotated", 3.0)
    metrics.rotation.step("search-api", "made up")
    metrics.rotation.step("unknown", "rotated", 9.0)
    told = scrape(metrics)
    steps = {dict(s)["step"]: v for s, v in told["broker_rotation_steps_total"].items()}
    assert steps == {"rotated": 1, "rolled_back": 0, "failed": 0, "created": 1, "other": 1}
    assert told["broker_rotation_seconds_count"] == {(): 1}
    assert told["broker_rotation_seconds_sum"] == {(): 3.0}


@pytest.mark.parametrize("leading", [True, False])
def test_who_leads(metrics: Metrics, leading: bool) -> None:
    """One or nought, once it is known."""
    metrics.rotation.leading(leading)
    assert scrape(metrics)["broker_rotation_leading"] == {(): int(leading)}
