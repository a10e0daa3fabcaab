"""What the next act of a rotation is, phase by phase: as tables."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.credentials.reserved import Note
from broker.errors import ProofFailed
from broker.rotation.drivers.port import Capabilities
from broker.rotation.due import Readers
from broker.rotation.model import KeyRef, Past, Phase, Policy, Reason, Result, RotationState
from broker.rotation.plan import (
    CLOCK_DOUBT,
    OVERTAKEN,
    PINNED,
    READERS_CHANGED,
    WITHDRAWN,
    Act,
    Situation,
    Step,
    next_step,
    overlap_left,
    retry_delay,
)

NOW, WALL = 5000.0, 1_800_000_000.0
POLICY = Policy(
    max_age=10_000.0,
    jitter=0.0,
    settle=20.0,
    overlap=120.0,
    patience=30.0,
    watch=10.0,
    sweep_every=600.0,
)
ALL = Capabilities(
    overlap=True, prove_first=True, rollback=True, list=True, fields=frozenset({"api_key"})
)
OLD, NEW = KeyRef("k1", "r1", WALL - 500), KeyRef("k2", "r2", WALL - 50)
NOTE1 = Note("here", "r1", "k1", since_wall=WALL - 500)
NOTE2 = Note("here", "r2", "k2", since_wall=WALL - 50)
AT1, AT2 = Readers(7, note=NOTE1), Readers(8, note=NOTE2)
BACK = Readers(9, note=replace(NOTE1, reverts="r2"))
HAND = Readers(9, created_wall=WALL)
GONE = Readers(7, deleted=True)
TAKEN = Readers(8, note=replace(NOTE1, replaces=7, withdrawn_by="r2"))
PAST = (Past("r1", Result.ROTATED, Reason.MAX_AGE, "schedule", WALL - 510, WALL - 500, "k1"),)
IDLE = RotationState(current=OLD, base=7, past=PAST)
UNDER_WAY = replace(
    IDLE, rotation="r2", reason=Reason.MAX_AGE, owner="me", started_wall=WALL - 60, candidate=NEW
)


def of(phase: Phase, **like: Any) -> RotationState:
    return replace(UNDER_WAY, phase=phase, **like)


PROMOTED = of(Phase.OVERLAP, base=8, previous=7, promoted_wall=WALL - 20, retire_at_wall=WALL + 100)


def situation(
    state: RotationState | None = IDLE, readers: Readers | None = AT1, **like: Any
) -> Situation:
    plain = Situation(
        now=NOW,
        wall=WALL,
        policy=POLICY,
        capabilities=ALL,
        installation="here",
        owner="me",
        leading=True,
        jitter=0.0,
        state=state,
        readers=readers,
        seen_at=NOW - 20,
        swept_at=NOW,
    )
    return replace(plain, **like)


WAIT = Step(Act.WAIT, NOW + POLICY.watch)
TABLE: dict[str, tuple[Situation, Step]] = {
    # who acts at all
    "a follower waits": (situation(leading=False), WAIT),
    "a follower waits in any phase": (situation(of(Phase.RETIRING), leading=False), WAIT),
    "frozen": (
        situation(of(Phase.RETIRING, frozen=True)),
        replace(WAIT, problem="rotation_frozen"),
    ),
    "frozen and compromised": (
        situation(replace(IDLE, frozen=True, wish=Reason.COMPROMISED)),
        replace(WAIT, problem="rotation_frozen"),
    ),
    "another installation's readers": (
        situation(readers=Readers(7, note=replace(NOTE1, installation="stage"))),
        replace(WAIT, problem="rotation_conflict"),
    ),
    "staged secrets are destroyed in a quiet phase": (
        situation(replace(PROMOTED, staged=(3,)), AT2),
        Step(Act.CLEAN),
    ),
    "and not before": (situation(of(Phase.PROMOTING, staged=(3,))), Step(Act.PROMOTE)),
    # idle
    "nothing to do": (situation(), WAIT),
    "due": (
        situation(wall=WALL + 10_000),
        Step(Act.BEGIN, reason=Reason.MAX_AGE),
    ),
    "due in a moment": (situation(wall=WALL + 9_497), Step(Act.WAIT, NOW + 3)),
    "wished for": (
        situation(replace(IDLE, wish=Reason.DEMANDED)),
        Step(Act.BEGIN, reason=Reason.DEMANDED),
    ),
    "swept": (situation(swept_at=-inf), Step(Act.SWEEP)),
    "not without a list": (
        situation(swept_at=-inf, capabilities=replace(ALL, list=False)),
        WAIT,
    ),
    "not while a person has withdrawn the value": (situation(readers=GONE, swept_at=-inf), WAIT),
    "not before anything was rotated": (
        situation(None, HAND, swept_at=-inf),
        Step(Act.BEGIN, reason=Reason.NEVER_ROTATED),
    ),
    "the provider lacks the readers' key": (
        situation(missing=True),
        replace(WAIT, problem="rotation_key_missing"),
    ),
    "a person wrote the readers' path": (situation(readers=HAND), Step(Act.ADOPT)),
    "a rotation that the state forgot": (situation(readers=AT2), Step(Act.ADOPT)),
    "the same key written again": (situation(readers=Readers(9, note=NOTE1)), WAIT),
    "no state, a rotation was here": (situation(None), Step(Act.ADOPT)),
    "no state, no rotation ever": (
        situation(None, HAND),
        Step(Act.BEGIN, reason=Reason.NEVER_ROTATED),
    ),
    "withdrawn by a compromise": (
        situation(replace(IDLE, current=None, base=8), TAKEN),
        Step(Act.BEGIN, reason=Reason.COMPROMISED),
    ),
    "withdrawn, and the state is from before": (
        situation(readers=TAKEN),
        Step(Act.BEGIN, reason=Reason.COMPROMISED),
    ),
    "withdrawn, and there is no state": (
        situation(None, TAKEN),
        Step(Act.BEGIN, reason=Reason.COMPROMISED),
    ),
    "in place, nothing to do": (situation(readers=None), WAIT),
    # withdrawing, intended
    "withdraw": (situation(of(Phase.WITHDRAWING)), Step(Act.WITHDRAW)),
    "withdraw what was withdrawn": (situation(of(Phase.WITHDRAWING), TAKEN), Step(Act.WITHDRAW)),
    "create": (situation(of(Phase.INTENDED)), Step(Act.CREATE)),
    "created, and its answer is here": (
        situation(of(Phase.INTENDED), created=True, minted=True),
        Step(Act.STAGE),
    ),
    "created, and its answer is lost": (
        situation(of(Phase.INTENDED), created=True),
        Step(Act.ABANDON),
    ),
    "another process creates": (
        situation(of(Phase.INTENDED, owner="other"), seen_at=NOW - 25),
        Step(Act.WAIT, NOW + 5),
    ),
    "another process has created for too long": (
        situation(of(Phase.INTENDED, owner="other"), seen_at=NOW - 30),
        Step(Act.ABANDON),
    ),
    "pinned before the creation": (
        situation(of(Phase.INTENDED, pinned=True)),
        Step(Act.ABANDON),
    ),
    "pinned, but compromised": (
        situation(of(Phase.INTENDED, pinned=True, reason=Reason.COMPROMISED)),
        Step(Act.CREATE),
    ),
    # staged
    "prove": (situation(of(Phase.STAGED)), Step(Act.PROVE)),
    "prove again, in a while": (
        situation(of(Phase.STAGED), refused_since=NOW - 1, prove_at=NOW + 4),
        Step(Act.WAIT, NOW + 4),
    ),
    "refused for the whole settling time": (
        situation(of(Phase.STAGED), refused_since=NOW - 20),
        Step(Act.GIVE_UP, detail=ProofFailed.code),
    ),
    "cannot be proved before": (
        situation(of(Phase.STAGED), capabilities=replace(ALL, prove_first=False)),
        Step(Act.LICENSE),
    ),
    "staged, and readers have it: an old state": (
        situation(of(Phase.STAGED), AT2),
        Step(Act.PROMOTE),
    ),
    "staged, and a person wrote": (
        situation(of(Phase.STAGED), HAND),
        Step(Act.GIVE_UP, detail=READERS_CHANGED),
    ),
    "staged, and a compromise withdrew": (
        situation(of(Phase.STAGED), replace(TAKEN, note=replace(NOTE1, withdrawn_by="r9"))),
        Step(Act.GIVE_UP, detail=READERS_CHANGED),
    ),
    "staged by the compromise that withdrew": (
        situation(of(Phase.STAGED, reason=Reason.COMPROMISED, current=None, base=8), TAKEN),
        Step(Act.PROVE),
    ),
    "staged, and a person withdrew": (
        situation(of(Phase.STAGED), GONE),
        Step(Act.GIVE_UP, detail=WITHDRAWN),
    ),
    "staged by a wish, and withdrawn before": (
        situation(of(Phase.STAGED, reason=Reason.DEMANDED), GONE),
        Step(Act.PROVE),
    ),
    "staged, and pinned": (
        situation(of(Phase.STAGED, pinned=True)),
        Step(Act.GIVE_UP, detail=PINNED),
    ),
    # promoting
    "promote": (situation(of(Phase.PROMOTING)), Step(Act.PROMOTE)),
    "promoted, and the answer was lost": (situation(of(Phase.PROMOTING), AT2), Step(Act.PROMOTE)),
    "a person was quicker": (
        situation(of(Phase.PROMOTING), HAND),
        Step(Act.GIVE_UP, detail=OVERTAKEN),
    ),
    "pinned too late": (situation(of(Phase.PROMOTING, pinned=True)), Step(Act.PROMOTE)),
    # overlap
    "both work": (situation(PROMOTED, AT2), WAIT),
    "both work, not for long": (
        situation(PROMOTED, AT2, wall=WALL + 96, seen_at=NOW - 116),
        Step(Act.WAIT, NOW + 4),
    ),
    "the old one's time is over": (
        situation(PROMOTED, AT2, wall=WALL + 100, seen_at=NOW - 120),
        Step(Act.END_OVERLAP),
    ),
    "the clock alone says so": (situation(PROMOTED, AT2, wall=WALL + 5000), WAIT),
    "time alone says so": (situation(PROMOTED, AT2, seen_at=NOW - 200), WAIT),
    "reported": (situation(replace(PROMOTED, suspected=True), AT2), Step(Act.CONFIRM)),
    "reported, asked a moment ago": (
        situation(replace(PROMOTED, suspected=True), AT2, prove_at=NOW + 3),
        Step(Act.WAIT, NOW + 3),
    ),
    "reported, no way back": (
        situation(
            replace(PROMOTED, suspected=True), AT2, capabilities=replace(ALL, rollback=False)
        ),
        WAIT,
    ),
    "the new one is compromised": (
        situation(replace(PROMOTED, wish=Reason.COMPROMISED), AT2),
        Step(Act.END_OVERLAP),
    ),
    "an operator gave the old one back": (
        situation(PROMOTED, Readers(9, note=NOTE1)),
        Step(Act.RETURNED),
    ),
    "a person wrote within the overlap": (situation(PROMOTED, HAND), Step(Act.ADOPT)),
    "the same rotation's note, another version": (
        situation(PROMOTED, Readers(9, note=NOTE2)),
        WAIT,
    ),
    "a compromise that the state forgot": (
        situation(PROMOTED, replace(TAKEN, version=9)),
        Step(Act.ADOPT),
    ),
    # retiring
    "retire": (situation(of(Phase.RETIRING), AT2), Step(Act.RETIRE)),
    "readers have the key that is to be retired": (
        situation(of(Phase.RETIRING), AT1),
        Step(Act.ADOPT),
    ),
    "in place there is nothing to hold": (situation(of(Phase.RETIRING), None), Step(Act.RETIRE)),
    "withdrawn readers hold nothing": (situation(of(Phase.RETIRING), TAKEN), Step(Act.RETIRE)),
    # reverting, reverted
    "give the old one back": (situation(of(Phase.REVERTING, base=8), AT2), Step(Act.REVERT)),
    "give it back over what somebody wrote beside": (
        situation(of(Phase.REVERTING, base=8), replace(AT2, version=9)),
        Step(Act.REVERT),
    ),
    "given back, and the answer was lost": (
        situation(of(Phase.REVERTING, base=8), BACK),
        Step(Act.REVERT),
    ),
    "a person wrote before": (
        situation(of(Phase.REVERTING, base=8), HAND),
        Step(Act.GIVE_UP, detail=OVERTAKEN),
    ),
    "given back": (situation(replace(PROMOTED, phase=Phase.REVERTED), BACK), WAIT),
    "given back, and all have left the new one": (
        situation(
            replace(PROMOTED, phase=Phase.REVERTED), BACK, wall=WALL + 100, seen_at=NOW - 120
        ),
        Step(Act.END_REVERTED),
    ),
    "given back, and compromised": (
        situation(replace(PROMOTED, phase=Phase.REVERTED, wish=Reason.COMPROMISED), BACK),
        Step(Act.END_REVERTED),
    ),
    # discarding
    "discard": (situation(of(Phase.DISCARDING), AT1), Step(Act.DISCARD)),
    "readers may have had the candidate": (
        situation(of(Phase.DISCARDING, detail=OVERTAKEN), HAND, seen_at=NOW - 117),
        Step(Act.WAIT, NOW + 3),
    ),
    "and have left it": (
        situation(of(Phase.DISCARDING, detail=OVERTAKEN), HAND, seen_at=NOW - 120),
        Step(Act.DISCARD),
    ),
    "it is compromised": (
        situation(of(Phase.DISCARDING, detail=OVERTAKEN, wish=Reason.COMPROMISED), HAND),
        Step(Act.DISCARD),
    ),
    "readers have the key that is to be discarded": (
        situation(of(Phase.DISCARDING), AT2),
        Step(Act.ADOPT),
    ),
}


@pytest.mark.parametrize(("given_", "step"), TABLE.values(), ids=TABLE.keys())
def test_next(given_: Situation, step: Step) -> None:
    """The act, when, and why."""
    found = next_step(given_)
    if step.act is not Act.WAIT:
        found = replace(found, at=step.at)
    assert found == step


@given(
    st.sampled_from(Phase),
    st.sampled_from([AT1, AT2, BACK, HAND, GONE, TAKEN, Readers(), None]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, *Reason]),
    st.integers(0, 9),
    st.booleans(),
    st.floats(-1e6, 1e6),
)
def test_no_key_that_readers_have_is_ended(
    phase: Phase,
    readers: Readers | None,
    pinned: bool,
    suspected: bool,
    wish: Reason | None,
    base: int,
    known: bool,
    jump: float,
) -> None:
    """Whatever the state says, however old it is, and wherever the wall clock stands."""
    state = of(phase, pinned=pinned, suspected=suspected, wish=wish, base=base)
    if phase is Phase.IDLE:
        state = replace(state, rotation="", candidate=None)
    s = situation(state if known else None, readers, wall=WALL + jump)
    step = next_step(s)
    assert step.act is Act.WAIT or step.at <= NOW
    if step.act is Act.RETIRE:
        assert phase is Phase.RETIRING
        assert readers is None or not readers.holds(state.current)
    if step.act is Act.DISCARD:
        assert phase is Phase.DISCARDING
        assert readers is None or not readers.holds(state.candidate)
    if step.act is Act.CREATE:
        assert phase is Phase.INTENDED
    if step.act is Act.PROMOTE:
        assert phase in (Phase.STAGED, Phase.PROMOTING)


@pytest.mark.parametrize(
    ("wall", "seen", "left"),
    [
        (0.0, 20.0, 100.0),  # by the wall clock, and by ours
        (0.0, 0.0, 120.0),  # only just seen: the whole of it
        (60.0, 20.0, 100.0),  # the wall clock is ahead
        (-60.0, 20.0, 160.0),  # it is behind
        (100.0, 120.0, 0.0),  # both say so
        (100.0 + CLOCK_DOUBT, 0.0, 0.0),  # the wall clock has said so for a day
        (-1e9, 120.0 + CLOCK_DOUBT, 0.0),  # it stands in another century
    ],
)
def test_what_is_left_of_an_overlap(wall: float, seen: float, left: float) -> None:
    """Both clocks must say that it is over; either is believed alone after a day."""
    s = situation(PROMOTED, AT2, wall=WALL + wall, seen_at=NOW - seen)
    assert overlap_left(s, PROMOTED) == pytest.approx(left)


def test_without_an_overlap_nothing_is_left() -> None:
    """A driver that cannot overlap promoted with none."""
    s = situation(replace(PROMOTED, retire_at_wall=WALL - 20), AT2, seen_at=NOW)
    assert s.state is not None
    assert overlap_left(s, s.state) <= 0


@pytest.mark.parametrize(
    ("failures", "jitter", "asked", "expected"),
    [
        (1, 0.0, 0.0, 2.5),
        (1, 1.0, 0.0, 5.0),
        (2, 1.0, 0.0, 10.0),
        (7, 1.0, 0.0, 300.0),
        (10_000, 0.0, 0.0, 150.0),
        (1, 0.0, 60.0, 60.0),
        (1, 0.0, 3600.0, 300.0),
    ],
)
def test_waits_between_failures(
    failures: int, jitter: float, asked: float, expected: float
) -> None:
    """Doubling, half of it jittered, capped; Retry-After is kept to within the cap."""
    assert retry_delay(Policy(), failures, jitter, asked) == expected
