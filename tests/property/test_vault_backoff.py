"""What must hold of every wait after a failure, whatever failed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.vault.backoff import CAP, FLOOR, RETRY_AFTER_CAP, backoff

MONTHS = 400 * 24 * 3600.0

jitters = st.floats(0, 1, exclude_max=True)
failures = st.integers(0, 10_000)


@given(failures, jitters, st.floats(0.1, MONTHS))
def test_a_floor_and_a_cap_below_the_remaining_life(
    failed: int, jitter: float, left: float
) -> None:
    """At least the floor; at most the cap and a third of what is left of the life."""
    wait = backoff(failed, jitter, left=left)
    assert FLOOR <= wait <= max(FLOOR, min(CAP, left / 3))


@given(failures, jitters, st.floats(max_value=0.0, min_value=-MONTHS))
def test_a_life_that_is_over_bounds_nothing(failed: int, jitter: float, left: float) -> None:
    """The wait is the same as for what never had an end."""
    assert backoff(failed, jitter, left=left) == backoff(failed, jitter)


@given(st.floats(0, RETRY_AFTER_CAP), failures, jitters, st.floats(0.1, MONTHS))
def test_retry_after_is_honoured(asked: float, failed: int, jitter: float, left: float) -> None:
    """No attempt before the moment Vault named, if that is within reason, end or not."""
    assert backoff(failed, jitter, left=left, retry_after=asked) >= asked


@given(st.floats(RETRY_AFTER_CAP, 1e9), failures, jitters)
def test_nothing_stops_the_broker_for_good(asked: float, failed: int, jitter: float) -> None:
    """A Retry-After beyond reason is cut."""
    assert backoff(failed, jitter, retry_after=asked) == RETRY_AFTER_CAP


@given(st.integers(0, 20), st.floats(0.5, 1, exclude_max=True), st.floats(FLOOR, 30))
def test_it_doubles_and_never_goes_below_what_is_asked(
    failed: int, jitter: float, least: float
) -> None:
    """Each failure of a row lets the wait grow, until the cap."""
    once, again = backoff(failed, jitter), backoff(failed + 1, jitter)
    assert again >= once
    assert again == CAP * jitter or again <= max(FLOOR, 2 * once)
    assert backoff(failed, jitter, least=least) >= least
