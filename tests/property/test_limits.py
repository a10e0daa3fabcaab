"""Limits: what must hold for any rate and any sequence of requests."""

from __future__ import annotations

from bisect import bisect_left
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from broker.access.limit_windows import Windows
from broker.access.limits import Counter, LimitRule, Limits
from tests.simulators.clock import ManualClock

PAUSES = st.lists(
    st.one_of(
        st.sampled_from([0.0, 0.5, 1.0, 29.999999999, 30.0, 60.0, 60.000000001]),
        st.floats(0.0, 90.0),
    ),
    max_size=60,
)
STARTS = st.floats(0.0, 1e8)


def place(limits: Limits, name: str) -> Counter:
    found = limits.counter(name, "", "k")
    assert found is not None
    return found


@given(amount=st.integers(1, 7), period=st.integers(1, 60), start=STARTS, pauses=PAUSES)
def test_no_window_anywhere_sees_more_than_the_rate(
    amount: int, period: int, start: float, pauses: list[float]
) -> None:
    """Any stretch of the period's length, wherever it begins, holds at most the amount."""
    clock = ManualClock(now=start)
    one = place(Limits(clock, [LimitRule("r", f"{amount} per {period} seconds")]), "a")
    allowed: list[float] = []
    for pause in pauses:
        clock.advance(pause)
        if one.hit() == 0.0:
            allowed.append(clock.time)
    for first in allowed:
        inside = bisect_left(allowed, first + period) - bisect_left(allowed, first)
        assert inside <= amount


@given(amount=st.integers(1, 7), period=st.integers(1, 60), start=STARTS, pauses=PAUSES)
def test_a_request_is_refused_only_when_its_window_is_full(
    amount: int, period: int, start: float, pauses: list[float]
) -> None:
    """The decision is that of the plain definition: fewer than the amount within the period."""
    clock = ManualClock(now=start)
    one = place(Limits(clock, [LimitRule("r", f"{amount} per {period} seconds")]), "a")
    allowed: list[float] = []
    for pause in pauses:
        clock.advance(pause)
        counting = [moment for moment in allowed if moment + period > clock.time]
        wait = one.hit()
        assert (wait == 0.0) == (len(counting) < amount)
        if wait == 0.0:
            allowed.append(clock.time)
        else:
            assert clock.time + wait >= counting[0] + period
            assert clock.time + wait * (1 - 1e-9) <= counting[0] + period


@given(
    start=STARTS,
    steps=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.floats(0.0, 10.0)), min_size=1, max_size=80
    ),
)
def test_several_rules_allow_what_each_of_them_allows(
    start: float, steps: list[tuple[str, float]]
) -> None:
    """As by the plain definition of all rules together; refused requests count for none."""
    clock = ManualClock(now=start)
    rules = {"r": (2, 5, False), "s": (5, 30, False), "t": (6, 30, True)}
    limits = Limits(
        clock,
        [
            LimitRule(name, f"{n} per {s} seconds", per=("credential",) if shared else ("client",))
            for name, (n, s, shared) in rules.items()
        ],
    )
    taken: list[tuple[str, float]] = []
    for who, pause in steps:
        clock.advance(pause)
        expected = all(
            sum(
                1
                for other, moment in taken
                if (shared or other == who) and moment + seconds > clock.time
            )
            < amount
            for amount, seconds, shared in rules.values()
        )
        assert (place(limits, who).hit() == 0.0) is expected
        if expected:
            taken.append((who, clock.time))


@given(
    counters=st.integers(1, 5),
    moments=st.integers(4, 12),
    steps=st.lists(
        st.tuples(st.sampled_from(list(product("abcdefgh", (1, 3)))), st.floats(0.0, 3.0)),
        max_size=80,
    ),
)
def test_memory_is_bounded_and_nothing_is_allowed_that_a_kept_key_forbids(
    counters: int, moments: int, steps: list[tuple[tuple[str, int], float]]
) -> None:
    """Whatever comes: no more keys and moments than allowed, and each count is what is there."""
    clock = ManualClock(now=0.0)
    windows = Windows(clock, counters=counters, moments=moments)
    for (key, period), pause in steps:
        clock.advance(pause)
        key = f"{key}{period}"
        _, before = windows.standing(key, period)
        assert windows.take(key, 3, period) == (before < 3)
        _, after = windows.standing(key, period)
        assert after == min(3, before + 1)
        assert len(windows) <= counters
        assert windows.moments <= moments
