"""``kube.plan``: what a candidate does with the Lease it sees."""

from __future__ import annotations

import pytest

from broker.kube.plan import Create, Leave, Record, Seen, Times, Update, decide, look, released

NOW, WALL = 1000.0, 1_800_000_000.0
TIMES = Times()
OTHERS = Record("pod-b", 15.0, WALL - 500, WALL - 300, transitions=4)


def test_no_lease_is_made() -> None:
    """Without a Lease one is created, held from the start."""
    step = decide(None, "pod-a", TIMES, now=NOW, wall=WALL)
    assert step == Create(Record("pod-a", 15.0, WALL, WALL))


def test_who_holds_it_renews_it() -> None:
    """A holder renews, however old the record; since when and the transitions stay."""
    mine = Record("pod-a", 15.0, WALL - 900, WALL - 800, transitions=4)
    step = decide(Seen(mine, "7", NOW - 800), "pod-a", TIMES, now=NOW, wall=WALL)
    assert step == Update(Record("pod-a", 15.0, WALL - 900, WALL, transitions=4), "7")


@pytest.mark.parametrize(
    ("age", "taken"), [(0.0, False), (14.9, False), (15.0, True), (600.0, True)]
)
def test_anothers_lease_ends_by_its_own_age_on_our_clock(age: float, taken: bool) -> None:
    """It is taken once it has not changed for its duration; before that it is left alone."""
    step = decide(Seen(OTHERS, "7", NOW - age), "pod-a", TIMES, now=NOW, wall=WALL)
    if taken:
        assert step == Update(Record("pod-a", 15.0, WALL, WALL, transitions=5), "7")
    else:
        assert step == Leave(NOW - age + 15.0)


@pytest.mark.parametrize("skew", [-86_400.0, 0.0, 86_400.0])
def test_the_times_in_the_lease_decide_nothing(skew: float) -> None:
    """Another machine's clock may be a day off: only the change of the record counts."""
    skewed = Record("pod-b", 15.0, WALL + skew, WALL + skew)
    seen = look(None, skewed, "7", NOW)
    assert isinstance(decide(seen, "pod-a", TIMES, now=NOW + 14, wall=WALL), Leave)
    seen = look(seen, skewed, "7", NOW + 14)
    assert isinstance(decide(seen, "pod-a", TIMES, now=NOW + 15, wall=WALL), Update)


def test_the_holders_own_duration_counts() -> None:
    """Whose Lease promises a minute is given the minute, whatever we are configured for."""
    slow = Seen(Record("pod-b", 60.0, WALL, WALL), "7", NOW)
    assert decide(slow, "pod-a", TIMES, now=NOW + 59, wall=WALL) == Leave(NOW + 60)


def test_a_released_lease_is_taken_at_once() -> None:
    """Nobody is waited for when nobody holds it."""
    given_back = released(OTHERS, wall=WALL)
    assert (given_back.holder, given_back.duration, given_back.transitions) == ("", 1, 4)
    step = decide(Seen(given_back, "8", NOW), "pod-a", TIMES, now=NOW, wall=WALL)
    assert step == Update(Record("pod-a", 15.0, WALL, WALL, transitions=5), "8")


def test_an_unchanged_record_keeps_its_age() -> None:
    """Another version of the object with the same record is no sign of life; a renewal is."""
    first = look(None, OTHERS, "7", NOW)
    touched = look(first, OTHERS, "8", NOW + 5)
    assert (touched.changed_at, touched.version) == (NOW, "8")
    renewed = look(touched, Record("pod-b", 15.0, WALL - 500, WALL - 290, 4), "9", NOW + 6)
    assert renewed.changed_at == NOW + 6


@pytest.mark.parametrize(
    "times", [(10.0, 10.0, 2.0), (15.0, 2.4, 2.0), (15.0, 10.0, 0.0), (9.0, 10.0, 2.0)]
)
def test_times_that_let_two_lead_are_refused(times: tuple[float, float, float]) -> None:
    """Two leaders at once, or a lead that one late attempt ends, are faults of the set-up."""
    with pytest.raises(ValueError, match="must hold"):
        Times(*times)
