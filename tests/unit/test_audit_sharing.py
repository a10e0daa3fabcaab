"""``audit.sharing``: one record for many refusals, and none of them lost."""

from __future__ import annotations

import pytest

from broker.audit.sharing import Sharing
from tests.simulators.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sharing(clock: ManualClock) -> Sharing[str]:
    return Sharing(clock, others="others", period=60.0, most=3)


def test_the_first_is_due_at_once_and_then_one_a_period(
    sharing: Sharing[str], clock: ManualClock
) -> None:
    """Ten a second for three minutes are four records, and their counts make all of them."""
    start, due = clock.time, []
    for tick in range(1800):
        clock.time = start + tick / 10
        sharing.count("a")
        if number := sharing.due("a"):
            due.append((clock.time - start, number))
    assert due == [(0.0, 1), (60.0, 600), (120.0, 600)]
    clock.time = start + 180
    assert sharing.over() == [("a", 599)]
    assert sharing.over(everything=True) == []


def test_before_the_period_is_over_only_the_stop_tells(
    sharing: Sharing[str], clock: ManualClock
) -> None:
    """One kind does not wait for another."""
    for kind in ("a", "b", "a"):
        sharing.count(kind)
        sharing.due(kind)
    clock.advance(59)
    assert sharing.over() == []
    assert sharing.over(everything=True) == [("a", 1)]


def test_what_was_not_written_is_due_again(sharing: Sharing[str], clock: ManualClock) -> None:
    """With the next of its kind, or once the period is over."""
    sharing.count("a")
    sharing.count("a", sharing.due("a"))
    sharing.count("a")
    assert sharing.due("a") == 0
    clock.advance(60)
    assert sharing.due("a") == 2


def test_of_too_many_kinds_none_is_uncounted(sharing: Sharing[str]) -> None:
    """The one seen longest ago is told as another."""
    for kind in ("a", "b", "c", "a", "d", "e"):
        sharing.count(kind)
    assert dict(sharing.over(everything=True)) == {"a": 2, "d": 1, "e": 1, "others": 2}
