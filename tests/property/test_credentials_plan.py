"""The plan's promises, for any situation."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from broker.credentials.model import (
    CredentialKey,
    CredentialSpec,
    KvSource,
    Lease,
    LeasedSource,
    Snapshot,
    Source,
)
from broker.credentials.plan import (
    Action,
    Situation,
    is_truncated,
    next_step,
)
from broker.secret import SecretValue
from broker.vault.backoff import FLOOR
from broker.vault.generation import Generation

KEY = CredentialKey("c")
MONTHS = 1e7  # seconds
moments = st.floats(0, MONTHS)
lives = st.floats(0.5, MONTHS)
jitters = st.floats(0, 1, exclude_max=True)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any situation a keeper can be in."""
    now = draw(moments)
    kinds: list[Source] = [KvSource("m", "p"), LeasedSource("d"), LeasedSource("d", increment=600)]
    source = draw(st.sampled_from(kinds))
    spec = CredentialSpec(KEY, source, refused_interval=draw(st.floats(1, 600)))
    snapshot = None
    if draw(st.booleans()):
        at = now - draw(st.floats(0, min(now, 1e5)))
        lease = None
        if isinstance(source, LeasedSource):
            generation = Generation(
                draw(st.integers(1, 3)),
                SecretValue("t"),
                expires_at=now + draw(lives),
                renewable=True,
                ended=draw(st.booleans()),
            )
            life = draw(lives)
            lease = Lease("l", generation, at, at, life, life, draw(st.booleans()))
        snapshot = Snapshot(KEY, "v", {}, at, at, lease=lease)
    return Situation(
        spec=spec,
        now=now,
        jitter=draw(jitters),
        snapshot=snapshot,
        expires_at=-inf if snapshot is None else snapshot.expires_at(now=now, wall=0),
        generation=draw(st.one_of(st.none(), st.integers(1, 3))),
        generation_since=now - draw(st.floats(0, 100)),
        last_attempt=draw(st.one_of(st.just(-inf), st.floats(0, 1e5).map(lambda ago: now - ago))),
        failures=draw(st.integers(0, 100)),
        retry_after=draw(st.floats(0, 1e4)),
        refused=draw(st.booleans()),
        lost=draw(st.booleans()),
        truncated=draw(st.booleans()),
        doubted=draw(st.booleans()),
        wanted=draw(st.one_of(st.just(inf), st.floats(0, 100).map(lambda ahead: now + ahead))),
    )


@given(situations())
def test_never_two_requests_within_the_floor(situation: Situation) -> None:
    """Whatever happened, the next request is at least a floor after the last."""
    assert next_step(situation).at >= situation.last_attempt + FLOOR


@given(situations())
def test_never_a_wait_past_the_effective_expiry(situation: Situation) -> None:
    """While a value lives, something is tried before or at its end, but for the floor."""
    step = next_step(situation)
    if situation.generation is None or situation.doubted:
        return
    if situation.snapshot is not None and situation.now < situation.expires_at:
        assert step.at <= max(situation.expires_at, situation.last_attempt + FLOOR)


@given(situations())
def test_something_is_always_tried_again(situation: Situation) -> None:
    """Nothing is terminal: with a Vault token there is always a next attempt."""
    step = next_step(situation)
    if situation.generation is None:
        assert (step.action, step.at) == (Action.IDLE, inf)
    else:
        assert step.at < inf


@given(situations())
def test_planning_again_changes_nothing(situation: Situation) -> None:
    """A keeper that is woken early waits for the same moment as before."""
    step = next_step(situation)
    later = replace(situation, now=min(step.at, situation.now + 0.25))
    if step.action is not Action.IDLE and later.now < situation.expires_at and not later.failures:
        assert next_step(later).at == step.at


@given(lives, jitters)
def test_a_fresh_lease_is_renewed_with_a_third_of_its_life_left(life: float, jitter: float) -> None:
    """Between 60 and 70 % of any life, of 2 s or of months."""
    generation = Generation(1, SecretValue("t"), expires_at=inf, renewable=True)
    lease = Lease("l", generation, 0.0, 0.0, life, life, renewable=True)
    step = next_step(
        Situation(
            spec=CredentialSpec(KEY, LeasedSource("d")),
            now=0.0,
            jitter=jitter,
            snapshot=Snapshot(KEY, "v", {}, 0.0, 0.0, lease=lease),
            expires_at=life,
            generation=1,
            last_attempt=-FLOOR,
        )
    )
    assert step.action is Action.RENEW
    assert 0.6 * life <= step.at <= 0.7 * life


@given(st.floats(1, 1e6), st.floats(0, 1e6))
def test_a_renewal_is_truncated_when_it_brings_less_than_expected(
    first: float, renewed: float
) -> None:
    """Less than the first grant, but for Vault's rounding to whole seconds."""
    assert is_truncated(LeasedSource("d"), first, renewed) == (renewed < first - 1.0)
