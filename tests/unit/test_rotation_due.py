"""When a rotation is due and why; which listed keys are orphans: as tables."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from broker.credentials.reserved import Note
from broker.rotation.due import LONGEST_HOLD, Due, Orphans, Readers, next_due, orphans
from broker.rotation.model import (
    KeyRef,
    Label,
    Past,
    Policy,
    Reason,
    Result,
    RotationState,
    UpstreamKey,
)

WALL = 1_800_000_000.0
DAY = 86_400.0
POLICY = Policy(max_age=30 * DAY, before_expiry=2 * DAY, retry_cap=300.0, overlap=7200.0)
NOTE = Note("here", "r1", "k1", since_wall=WALL)
KEY = KeyRef("k1", "r1", WALL)
ROTATED = Past("r1", Result.ROTATED, Reason.MAX_AGE, "schedule", WALL - 9, WALL, "k1")
HAND = Readers(3, key_id="k0", created_wall=WALL)
MADE = Readers(4, note=NOTE)
TAKEN = Readers(5, note=replace(NOTE, withdrawn_by="r2"))
IDLE = RotationState(current=KEY, base=4, past=(ROTATED,))


def failed(count: int, *, last: Result = Result.ROLLED_BACK) -> RotationState:
    """So many rotations in a row were rolled back; the newest ended at ``WALL``."""
    past = [
        Past(f"f{n}", Result.ROLLED_BACK, Reason.MAX_AGE, "", WALL - 1, WALL) for n in range(count)
    ]
    return replace(IDLE, past=(ROTATED, *past[:-1], replace(past[-1], result=last)))


def lost(count: int) -> RotationState:
    """Of a key long overdue so many rotations in a row were abandoned."""
    past = [
        Past(f"f{n}", Result.ABANDONED, Reason.MAX_AGE, "", WALL - 1, WALL) for n in range(count)
    ]
    due = replace(KEY, since_wall=WALL - 60 * DAY)
    return replace(IDLE, current=due, past=(ROTATED, *past))


class Case:
    """One row; ``due`` None: nothing begins a rotation."""

    def __init__(
        self,
        name: str,
        due: Due | None,
        state: RotationState = IDLE,
        readers: Readers | None = MADE,
        policy: Policy = POLICY,
        jitter: float = 0.0,
    ) -> None:
        self.name, self.due, self.state = name, due, state
        self.readers, self.policy, self.jitter = readers, policy, jitter


AGE = WALL + 30 * DAY
AT_ONCE = -inf
CASES = [
    Case("by age", Due(AGE, Reason.MAX_AGE)),
    Case("jitter makes it earlier", Due(AGE - 3 * DAY, Reason.MAX_AGE), jitter=1.0),
    Case(
        "another jitter",
        Due(AGE - 3 * DAY, Reason.MAX_AGE),
        policy=replace(POLICY, jitter=0.2),
        jitter=0.5,
    ),
    Case("no age, no expiry", None, policy=replace(POLICY, max_age=None)),
    Case(
        "its own expiry comes before its age",
        Due(WALL + 18 * DAY, Reason.EXPIRY),
        replace(IDLE, current=replace(KEY, expires_wall=WALL + 20 * DAY)),
    ),
    Case(
        "its age comes before its own expiry",
        Due(AGE, Reason.MAX_AGE),
        replace(IDLE, current=replace(KEY, expires_wall=WALL + 45 * DAY)),
    ),
    Case(
        "a short life is left two thirds",
        Due(WALL + 2 * DAY, Reason.EXPIRY),
        replace(IDLE, current=replace(KEY, expires_wall=WALL + 3 * DAY)),
    ),
    Case("never rotated", Due(AT_ONCE, Reason.NEVER_ROTATED), RotationState(), HAND),
    Case("no value at all", Due(AT_ONCE, Reason.NEVER_ROTATED), RotationState(), Readers()),
    Case("in place, never", Due(AT_ONCE, Reason.NEVER_ROTATED), RotationState(), None),
    Case("in place, by age", Due(AGE, Reason.MAX_AGE), IDLE, None),
    Case(
        "a person's key after a rotation counts from then",
        Due(WALL + 5 + 30 * DAY, Reason.MAX_AGE),
        replace(IDLE, current=KeyRef("", "", WALL + 5)),
        HAND,
    ),
    Case(
        "a person's key after failures alone is due, later",
        Due(WALL + 300, Reason.NEVER_ROTATED),
        replace(failed(1), current=KeyRef("", "", WALL), past=failed(1).past[1:]),
        HAND,
    ),
    Case("demanded", Due(AT_ONCE, Reason.DEMANDED), replace(IDLE, wish=Reason.DEMANDED)),
    Case("compromised", Due(AT_ONCE, Reason.COMPROMISED), replace(IDLE, wish=Reason.COMPROMISED)),
    Case("pinned", None, replace(IDLE, pinned=True)),
    Case("pinned, never rotated", None, RotationState(pinned=True), HAND),
    Case("pinned, demanded", None, replace(IDLE, pinned=True, wish=Reason.DEMANDED)),
    Case(
        "pinned, compromised",
        Due(AT_ONCE, Reason.COMPROMISED),
        replace(IDLE, pinned=True, wish=Reason.COMPROMISED),
    ),
    Case("withdrawn by a person", None, IDLE, Readers(5, deleted=True)),
    Case(
        "withdrawn by a person, demanded",
        Due(AT_ONCE, Reason.DEMANDED),
        replace(IDLE, wish=Reason.DEMANDED),
        Readers(5, deleted=True),
    ),
    Case("withdrawn by a compromise", Due(AT_ONCE, Reason.COMPROMISED), IDLE, TAKEN),
    Case(
        "withdrawn by a compromise, state lost",
        Due(AT_ONCE, Reason.COMPROMISED),
        RotationState(),
        TAKEN,
    ),
    Case(
        "withdrawn by a compromise, pinned",
        Due(AT_ONCE, Reason.COMPROMISED),
        replace(IDLE, pinned=True),
        TAKEN,
    ),
    Case(
        "withdrawn, and the new key failed many times",
        Due(WALL + 300, Reason.COMPROMISED),
        replace(failed(9), current=None),
        TAKEN,
    ),
    Case(
        "rolled back once, overdue",
        Due(WALL + 300, Reason.MAX_AGE),
        replace(failed(1), current=replace(KEY, since_wall=WALL - 60 * DAY)),
    ),
    Case(
        "rolled back three times: longer",
        Due(WALL + 1200, Reason.MAX_AGE),
        replace(failed(3), current=replace(KEY, since_wall=WALL - 60 * DAY)),
    ),
    Case(
        "rolled back for ever: once a day",
        Due(WALL + LONGEST_HOLD, Reason.MAX_AGE),
        replace(failed(40), current=replace(KEY, since_wall=WALL - 60 * DAY)),
    ),
    Case(
        "an abandoned one among them changes nothing",
        Due(WALL + 300, Reason.MAX_AGE),
        replace(failed(2, last=Result.ABANDONED), current=replace(KEY, since_wall=WALL - 60 * DAY)),
    ),
    Case("one or two lost answers hold nothing up", Due(WALL - 30 * DAY, Reason.MAX_AGE), lost(2)),
    Case("three in a row do", Due(WALL + 300, Reason.MAX_AGE), lost(3)),
    Case("and more, for longer", Due(WALL + 2400, Reason.MAX_AGE), lost(6)),
    Case("but no wish", Due(AT_ONCE, Reason.DEMANDED), replace(lost(6), wish=Reason.DEMANDED)),
    Case(
        "nor for long where readers have nothing",
        Due(WALL + 300, Reason.COMPROMISED),
        replace(lost(6), current=None),
        TAKEN,
    ),
    Case(
        "a success ends the row",
        Due(WALL - 30 * DAY, Reason.MAX_AGE),
        replace(failed(2, last=Result.ROTATED), current=replace(KEY, since_wall=WALL - 60 * DAY)),
    ),
    Case(
        "rolled back, but wished for",
        Due(AT_ONCE, Reason.DEMANDED),
        replace(failed(3), wish=Reason.DEMANDED),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_due(case: Case) -> None:
    """When, and why."""
    assert next_due(case.state, case.readers, case.policy, case.jitter) == case.due


@pytest.mark.parametrize(
    ("readers", "key", "rotation"),
    [
        (Readers(), None, ""),
        (Readers(3, deleted=True), None, ""),
        (HAND, KeyRef("k0", "", WALL), ""),
        (MADE, KEY, "r1"),
        (TAKEN, None, ""),
        (
            Readers(4, note=replace(NOTE, expires_wall=WALL + 9)),
            replace(KEY, expires_wall=WALL + 9),
            "r1",
        ),
    ],
)
def test_the_key_that_readers_have(readers: Readers, key: KeyRef | None, rotation: str) -> None:
    """What a version without a key withdrew is not one that readers have."""
    assert (readers.key(), readers.rotation) == (key, rotation)
    assert readers.holds(KEY) is (key is not None and key.key_id == "k1")
    assert not readers.holds(None)


# --- orphans ----------------------------------------------------------------------------


def label(rotation: str, installation: str = "here", credential: str = "search") -> str:
    return Label(installation, credential, rotation).text


def key(key_id: str, text: str, age: float | None = 2 * DAY) -> UpstreamKey:
    return UpstreamKey(key_id, text, None if age is None else WALL - age)


CURRENT = key("k1", label("r1"))
ENDED = Past("r0", Result.ABANDONED, None, "schedule", WALL - 9, WALL)
SWEEPING = replace(IDLE, past=(ENDED, ROTATED))
LISTINGS: dict[str, tuple[list[UpstreamKey], str | None, list[str], str]] = {
    "nothing but the readers' key": ([CURRENT], None, [], ""),
    "a lost one of an ended rotation": ([CURRENT, key("x", label("r0"))], "x", [], ""),
    "the oldest listed first, one in a run": (
        [CURRENT, key("x", label("r0")), key("y", label("r0"))],
        "x",
        [],
        "",
    ),
    "younger than a day": ([CURRENT, key("x", label("r0"), DAY - 1)], None, [], ""),
    "of unknown age": ([CURRENT, key("x", label("r0"), None)], None, [], ""),
    "a duplicate of the readers' key": ([CURRENT, key("x", label("r1"))], "x", [], ""),
    "of a rotation nobody knows": ([CURRENT, key("x", label("r9"))], None, ["x"], ""),
    "of another installation": ([CURRENT, key("x", label("r0", "stage"))], None, [], ""),
    "of another credential": ([CURRENT, key("x", label("r0", credential="ads"))], None, [], ""),
    "of no label": ([CURRENT, key("x", "made by hand"), key("y", "")], None, [], ""),
    "the readers' key is not listed": ([key("x", label("r9"))], None, ["x"], "k1"),
    "a lost one while the readers' key is missing": ([key("x", label("r0"))], None, [], "k1"),
    "an empty list": ([], None, [], "k1"),
}


@pytest.mark.parametrize(
    ("listed", "sweep", "unexplained", "missing"), LISTINGS.values(), ids=LISTINGS.keys()
)
def test_a_listing(
    listed: list[UpstreamKey], sweep: str | None, unexplained: list[str], missing: str
) -> None:
    """What is retired in this run, and what is only told of."""
    found = sorted_out(listed)
    assert (found.sweep.key_id if found.sweep else None) == sweep
    assert [one.key_id for one in found.unexplained] == unexplained
    assert found.missing == missing


def sorted_out(
    listed: list[UpstreamKey],
    *,
    state: RotationState = SWEEPING,
    readers: Readers = MADE,
    wall: float = WALL + DAY,
    left: bool = True,
) -> Orphans:
    return orphans(
        listed,
        state=state,
        readers=readers,
        installation="here",
        credential="search",
        policy=replace(POLICY, orphan_age=2 * DAY),
        wall=wall,
        left=left,
    )


def test_a_key_under_way_is_no_orphan() -> None:
    """Neither the candidate nor what the rotation under way may have made twice."""
    state = replace(IDLE, rotation="r2", candidate=KeyRef("k2", "r2", WALL))
    found = sorted_out([CURRENT, key("k2", label("r2")), key("k3", label("r2"))], state=state)
    assert (found.sweep, found.unexplained) == (None, ())


def test_a_fresh_key_is_not_missed_yet() -> None:
    """A list may know it a little later than its maker."""
    assert sorted_out([], wall=WALL + POLICY.overlap - 1).missing == ""
    assert sorted_out([], wall=WALL + POLICY.overlap).missing == "k1"


def test_what_is_not_ours_is_not_missed() -> None:
    """A person's key has no label of ours, and a withdrawn one shall be gone."""
    assert sorted_out([], readers=HAND).missing == ""
    assert sorted_out([], readers=TAKEN).missing == ""


def test_nothing_is_swept_while_readers_may_use_it() -> None:
    """The state forgot whose key it was: the readers' path may have held it a moment ago."""
    assert sorted_out([CURRENT, key("x", label("r0"))], left=False).sweep is None
