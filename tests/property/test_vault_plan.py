"""What must hold of the plan for the Vault token, whatever Vault grants."""

from __future__ import annotations

from itertools import pairwise
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from broker.vault import plan
from broker.vault.backoff import CAP, FLOOR, RETRY_AFTER_CAP
from broker.vault.plan import Action, TokenLife

MONTHS = 400 * 24 * 3600.0

times = st.floats(0, MONTHS)
ttls = st.floats(0.01, MONTHS)
jitters = st.floats(0, 1, exclude_max=True)
failures = st.integers(1, 10_000)
asked = st.none() | st.floats(0, 1e9)


@st.composite
def lives(draw: st.DrawFn) -> TokenLife:
    full = draw(ttls)
    return TokenLife(
        granted_at=draw(times),
        ttl=full * draw(st.floats(0.001, 1)),
        full=full,
        renewable=draw(st.booleans()),
    )


@given(lives(), jitters)
def test_success_waits_the_floor_and_ends_before_the_token(life: TokenLife, jitter: float) -> None:
    """After a grant: never past the token's end, and never sooner than the floor.

    But for a login that a renewal just cut short calls for: logins have their own floor.
    """
    step = plan.due(life, jitter=jitter)
    wait = step.at - life.granted_at
    if step.action is Action.RENEW or not life.cut:
        assert wait >= FLOOR - 1e-6
    assert wait <= max(life.ttl, FLOOR) + 1e-6
    assert step.action is (Action.RENEW if life.extendable else Action.LOG_IN)


@given(ttls, times, jitters)
def test_a_full_grant_leaves_a_third(ttl: float, now: float, jitter: float) -> None:
    """A token that can be renewed has a third of its life left when it is, and a tenth more."""
    life = plan.life_of(ttl=ttl, renewable=True, sent_at=now)
    step = plan.due(life, jitter=jitter)
    left = life.expires_at - step.at
    if step.at > now + FLOOR + 1e-6:
        assert ttl / 3 - 1e-4 <= left <= ttl * (1 / 3 + 0.1) + 1e-4


@given(st.none() | lives(), st.floats(0, 2 * MONTHS), failures, jitters, asked)
def test_failure_waits_the_floor_and_ends_before_the_token(
    life: TokenLife | None, now: float, failures: int, jitter: float, asked: float | None
) -> None:
    """After a failure: the floor, the cap, and the rest of the life bound the wait."""
    step = plan.retry(life, now=now, failures=failures, jitter=jitter, retry_after=asked)
    wait = step.at - now
    assert wait >= FLOOR - 1e-6
    assert wait <= (CAP if asked is None else RETRY_AFTER_CAP) + 1e-6
    if asked is None and life is not None and life.expires_at > now:
        assert wait <= max(life.expires_at - now, FLOOR) + 1e-6


@given(lives(), st.floats(0, 2 * MONTHS), failures, jitters)
def test_only_what_can_be_renewed_is(
    life: TokenLife, now: float, failures: int, jitter: float
) -> None:
    """A token that is dead, cut short or not renewable is never renewed: a login replaces it."""
    step = plan.retry(life, now=now, failures=failures, jitter=jitter)
    if now >= life.expires_at or not life.extendable:
        assert step.action is Action.LOG_IN


@given(st.floats(6, MONTHS), st.lists(jitters, min_size=200, max_size=200))
def test_failing_for_a_whole_life(ttl: float, jitters: list[float]) -> None:
    """However long attempts fail, two are never closer than the floor."""
    life = plan.life_of(ttl=ttl, renewable=True, sent_at=0)
    now, at = plan.due(life, jitter=jitters[0]).at, []
    for count, jitter in enumerate(jitters, 1):
        if now >= life.expires_at:
            break
        at.append(now)
        now = plan.retry(life, now=now, failures=count, jitter=jitter).at
    assert all(later - earlier >= FLOOR - 1e-6 for earlier, later in pairwise(at))
    assert len(at) > 1


@given(ttls, ttls, times)
def test_a_grown_life_is_not_cut(first: float, second: float, now: float) -> None:
    """A renewal that brings as much as ever, or more, is no sign of a limit; less is."""
    before = plan.life_of(ttl=first, renewable=True, sent_at=now)
    after = plan.life_of(ttl=second, renewable=True, sent_at=now + 1, before=before)
    assert after.full == max(first, second)
    assert after.extendable is (second >= first * plan.SHORT)


@given(jitters)
def test_for_ever(jitter: float) -> None:
    """A token that never expires needs nothing."""
    life = plan.life_of(ttl=0, renewable=False, sent_at=5)
    assert (life.expires_at, plan.due(life, jitter=jitter)) == (inf, plan.Step(Action.REST, inf))


@given(times, times | st.just(-inf) | st.just(inf), st.floats(0, 60))
def test_revoked_after_everything(replaced: float, free: float, linger: float) -> None:
    """An old token is never revoked before its last promise, nor before requests came back."""
    at = plan.revocable_at(replaced_at=replaced, free_at=free, linger=linger)
    assert at >= free
    assert at >= replaced + linger
