"""``tests.bench.report``: medians, rows as promised, targets beside them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.bench.report import CASES, CONNECTIONS, Load, Memory, Results, Waits, rows, show, targets
from tests.bench.wrk import Round


@pytest.fixture
def results() -> Results:
    """Three rounds a case, the middle one told apart by each figure."""
    made = Results()
    for case, rate in zip(CASES, (60_000.0, 50_000.0, 20_000.0, 2_500.0), strict=True):
        for connections in CONNECTIONS:
            made.loads[Load(case, connections)] = [
                Round(rate * 0.5, 900.0, 100_000_000 / rate),
                Round(rate, 300.0, 50_000_000 / rate),
                Round(rate * 2, 100.0, 25_000_000 / rate),
            ]
    made.memory["broker"] = Memory(64.04, 66.06, 0.9)
    made.memory["broker, policy and limits"] = Memory(70.0, 72.0, 1.2)
    made.memory["bao proxy"] = Memory(73.0, 137.0, 0.25)
    return made


def test_rows(results: Results) -> None:
    """A row a case and number of connections, with medians; then a row a process."""
    told = rows(results)
    assert told[0] == {
        "case": "handout",
        "connections": 1,
        "requests_per_second": 60_000.0,
        "p50_us": 300.0,
        "p99_us": 833.3,
    }
    assert [(one["case"], one.get("connections")) for one in told] == [
        *((case, connections) for case in CASES for connections in CONNECTIONS),
        ("handout", None),
        ("handout_policy", None),
        ("bao_proxy_cached", None),
    ]
    assert told[12] == {
        "case": "handout",
        "rss_idle_mb": 64.0,
        "rss_loaded_mb": 66.1,
        "start_to_ready_s": 0.9,
    }


def test_targets(results: Results) -> None:
    """What was aimed at is compared with ratios of this run, and says whether it was met."""
    told = {target.text: target for target in targets(results)}
    assert len(told) == 14
    assert told["requests/s against the cached lease at 16 connections"].value == 3.0
    assert all(target.met for target in told.values())
    results.memory["broker"] = Memory(74.0, 90.0, 1.6)
    missed = [target.text for target in targets(results) if not target.met]
    assert len(missed) == 3


def test_show(results: Results) -> None:
    """The tables name every case, process and target."""
    text = io.StringIO()
    show(results, Console(file=text, width=120))
    for word in (*CASES, "bao proxy", "60,000", "requests/s against the KV read", "met"):
        assert word in text.getvalue()


def test_waiters(results: Results) -> None:
    """A row of its own; measured alone, it stands alone; one late waiter misses the target."""
    waits = Waits(4, 50, [0.001 * number for number in range(1, 201)])
    row = {
        "case": "waiters",
        "waiters": 4,
        "rotations": 50,
        "p50_ms": 100.0,
        "p99_ms": 198.0,
        "max_ms": 200.0,
    }
    assert rows(Results(waits=waits)) == [row]
    results.waits = waits
    assert rows(results)[-1] == row
    (target,) = targets(Results(waits=waits))
    assert (target.value, target.met) == (200.0, False)
    assert targets(results)[-1] == target
    text = io.StringIO()
    show(Results(waits=waits), Console(file=text, width=120))
    assert "198.0" in text.getvalue()
    assert "requests/s" not in text.getvalue()
