"""What to do next for a rotation, and when [pure].

Duty: from the committed state, the readers' path and the time, the next act.
Not its duty: carrying it out (``rotator``), what the state is afterwards (``steps``).
Rules:

* an act with a side effect is planned only in the phase that licenses it for ever:
  nothing is created without its intent, promoted without ``PROMOTING``, retired
  without ``RETIRING`` or ``DISCARDING``, whichever replicas work at the same time;
* a key that readers have, by the readers' path itself, is never retired: a state that
  says so is older than the truth (a restored backup) and is corrected instead; nor is one
  that they may have had until just now;
* who leads may be paused at any point: no rule below trusts that only one acts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from broker.errors import ProofFailed, RotationConflict, RotationFrozen, RotationKeyMissing
from broker.rotation.drivers.port import Capabilities
from broker.rotation.due import Readers, next_due
from broker.rotation.model import Phase, Policy, Reason, RotationState

READERS_CHANGED = "readers_changed"
"""Detail of a rotation given up because somebody else wrote the readers' path."""
OVERTAKEN = "overtaken"
"""The same, where readers may have had the candidate before: it lives for an overlap more."""
PINNED = "pinned"
"""Detail of a rotation given up because an operator keeps the old key."""
WITHDRAWN = "withdrawn"
"""Detail of a rotation given up because an operator withdrew the value meanwhile."""

CLOCK_DOUBT = 86_400.0
"""Seconds by which no wall clock is wrong for long."""


class Act(StrEnum):
    """What the rotator does next."""

    WAIT = "wait"
    ADOPT = "adopt"
    """Take the readers' path for the truth; nothing is retired."""
    CLEAN = "clean"
    """Destroy versions of the state that hold staged secrets."""
    BEGIN = "begin"
    """Commit the intent."""
    WITHDRAW = "withdraw"
    """Take the key back from the readers, retire the compromised key."""
    CREATE = "create"
    STAGE = "stage"
    """Commit what ``CREATE`` brought."""
    ABANDON = "abandon"
    """Commit that nothing made under this intent will be promoted."""
    PROVE = "prove"
    LICENSE = "license"
    """Commit that the candidate will be promoted."""
    PROMOTE = "promote"
    CONFIRM = "confirm"
    """Prove the promoted key, which somebody reported."""
    END_OVERLAP = "end_overlap"
    """Commit that the old key will be retired."""
    RETIRE = "retire"
    REVERT = "revert"
    """Give readers the old key again."""
    RETURNED = "returned"
    """Commit that an operator gave readers the old key again."""
    END_REVERTED = "end_reverted"
    GIVE_UP = "give_up"
    """Commit that the candidate will be discarded."""
    DISCARD = "discard"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True)
class Step:
    """An act, and when (``Clock.now()``; in the past: now)."""

    act: Act
    at: float = -inf
    reason: Reason | None = None
    """With ``BEGIN``."""
    detail: str = ""
    problem: str = ""
    """With ``WAIT``: the code of what holds the rotation up."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the next step depends on; times are ``Clock.now()`` unless ``_wall``."""

    now: float
    wall: float
    policy: Policy
    capabilities: Capabilities
    installation: str
    owner: str
    """This process."""
    leading: bool
    jitter: float
    """In [0, 1), drawn once a process."""
    state: RotationState | None
    """None when there is no document, or it was deleted."""
    readers: Readers | None
    """None for keys rotated in place."""
    seen_at: float
    """Since when this very phase of this rotation is known here."""
    created: bool = False
    """``CREATE`` was called here for this rotation, and its answer is not known."""
    minted: bool = False
    """What it brought is in memory."""
    refused_since: float | None = None
    """When the proof first refused this candidate here, without accepting it since."""
    prove_at: float = -inf
    """Earliest next proof."""
    swept_at: float = -inf
    missing: bool = False
    """The provider's list lacks the key that readers have."""


def next_step(s: Situation) -> Step:
    """The next act for one credential."""
    watch = s.now + s.policy.watch
    if not s.leading:
        return Step(Act.WAIT, watch)
    state = s.state or RotationState()
    if state.frozen:
        return Step(Act.WAIT, watch, problem=RotationFrozen.code)
    note = None if s.readers is None else s.readers.note
    if note is not None and note.installation != s.installation:
        return Step(Act.WAIT, watch, problem=RotationConflict.code)
    if state.staged and not state.fields and state.phase in _QUIET:
        return Step(Act.CLEAN)
    step = _PHASES[state.phase](s, state)
    if step.act is Act.WAIT:
        return replace(step, at=min(step.at, watch))
    return step


def overlap_left(s: Situation, state: RotationState) -> float:
    """Seconds until readers everywhere have left the version before; 0 or less: they have.

    The wall clock must say so, and the time that passed here since this process knows of the
    phase: a clock set forward, or another machine's that is ahead, must not end the life of a
    key that readers still use. Who starts within an overlap waits for the whole of it. Either
    clock is believed alone when it says so for a day.
    """
    lasts = min(s.policy.overlap, max(0.0, state.retire_at_wall - state.promoted_wall))
    by_wall, by_now = state.retire_at_wall - s.wall, s.seen_at + lasts - s.now
    return min(max(by_wall, by_now), by_wall + CLOCK_DOUBT, by_now + CLOCK_DOUBT)


def _idle(s: Situation, state: RotationState) -> Step:
    if _strange(s, state):
        return Step(Act.ADOPT)
    due = next_due(state, s.readers, s.policy, s.jitter)
    if due is not None and due.wall <= s.wall:
        return Step(Act.BEGIN, reason=due.reason)
    wake = inf if due is None else s.now + (due.wall - s.wall)
    if s.capabilities.list and s.readers is not None and not s.readers.deleted and state.past:
        sweep_at = s.swept_at + s.policy.sweep_every
        if sweep_at <= s.now:
            return Step(Act.SWEEP)
        wake = min(wake, sweep_at)
    return Step(Act.WAIT, wake, problem=RotationKeyMissing.code if s.missing else "")


def _strange(s: Situation, state: RotationState) -> bool:
    """Whether the readers' path is not as the state left it."""
    readers = s.readers
    if readers is None or readers.withdrawn_by:
        return False  # what a compromise withdrew is due, whatever the state knows of it
    if s.state is None:
        return readers.note is not None  # the state was lost: a rotation had been here
    if readers.version == state.base:
        return False
    if state.current is None and not state.past and readers.note is None:
        return False  # nothing was rotated yet
    known = "" if state.current is None else state.current.rotation
    return not known or readers.rotation != known


def _withdrawing(s: Situation, state: RotationState) -> Step:
    del s, state
    return Step(Act.WITHDRAW)


def _intended(s: Situation, state: RotationState) -> Step:
    if s.minted:
        return Step(Act.STAGE)
    if state.owner != s.owner:
        over = s.seen_at + s.policy.patience
        return Step(Act.ABANDON) if over <= s.now else Step(Act.WAIT, over)
    if s.created or (state.pinned and state.reason is not Reason.COMPROMISED):
        return Step(Act.ABANDON)
    return Step(Act.CREATE)


def _staged(s: Situation, state: RotationState) -> Step:
    readers = s.readers or Readers()
    if readers.rotation == state.rotation:
        return Step(Act.PROMOTE)  # the state is older than the readers' path: it was promoted
    if readers.version != state.base:
        return Step(Act.GIVE_UP, detail=READERS_CHANGED)
    wished = state.reason in (Reason.DEMANDED, Reason.COMPROMISED)
    if readers.deleted and state.current is not None and not wished:
        return Step(Act.GIVE_UP, detail=WITHDRAWN)
    if state.pinned and state.reason is not Reason.COMPROMISED:
        return Step(Act.GIVE_UP, detail=PINNED)
    if not s.capabilities.prove_first:
        return Step(Act.LICENSE)
    if s.refused_since is not None and s.now - s.refused_since >= s.policy.settle:
        return Step(Act.GIVE_UP, detail=ProofFailed.code)
    if s.prove_at > s.now:
        return Step(Act.WAIT, s.prove_at)
    return Step(Act.PROVE)


def _promoting(s: Situation, state: RotationState) -> Step:
    readers = s.readers or Readers()
    if readers.rotation == state.rotation or readers.version == state.base:
        return Step(Act.PROMOTE)
    # Every write licensed here checks against ``base``: none can succeed any more. One may have.
    return Step(Act.GIVE_UP, detail=OVERTAKEN)


def _overlap(s: Situation, state: RotationState) -> Step:
    readers = s.readers or Readers()
    if readers.version != state.base and readers.rotation != state.rotation:
        returned = state.current is not None and state.current.rotation == readers.rotation
        return Step(Act.RETURNED if returned and readers.rotation else Act.ADOPT)
    if state.wish is Reason.COMPROMISED:
        return Step(Act.END_OVERLAP)
    if state.suspected and s.capabilities.rollback and not readers.deleted:
        return Step(Act.WAIT, s.prove_at) if s.prove_at > s.now else Step(Act.CONFIRM)
    if (left := overlap_left(s, state)) <= 0:
        return Step(Act.END_OVERLAP)
    return Step(Act.WAIT, s.now + max(1.0, left))


def _retiring(s: Situation, state: RotationState) -> Step:
    if s.readers is not None and s.readers.holds(state.current):
        return Step(Act.ADOPT)
    return Step(Act.RETIRE)


def _reverting(s: Situation, state: RotationState) -> Step:
    readers = s.readers or Readers()
    reverted = readers.note is not None and readers.note.reverts == state.rotation
    # Somebody may have written beside the candidate: readers have it all the same.
    if reverted or readers.version == state.base or readers.rotation == state.rotation:
        return Step(Act.REVERT)
    return Step(Act.GIVE_UP, detail=OVERTAKEN)


def _reverted(s: Situation, state: RotationState) -> Step:
    left = overlap_left(s, state)
    if state.wish is Reason.COMPROMISED or left <= 0:
        return Step(Act.END_REVERTED)
    return Step(Act.WAIT, s.now + max(1.0, left))


def _discarding(s: Situation, state: RotationState) -> Step:
    if s.readers is not None and s.readers.holds(state.candidate):
        return Step(Act.ADOPT)
    left_at = s.seen_at + s.policy.overlap
    if state.detail == OVERTAKEN and state.wish is not Reason.COMPROMISED and s.now < left_at:
        return Step(Act.WAIT, left_at)
    return Step(Act.DISCARD)


_QUIET = frozenset({Phase.IDLE, Phase.OVERLAP, Phase.REVERTED})
_PHASES = {
    Phase.IDLE: _idle,
    Phase.WITHDRAWING: _withdrawing,
    Phase.INTENDED: _intended,
    Phase.STAGED: _staged,
    Phase.PROMOTING: _promoting,
    Phase.OVERLAP: _overlap,
    Phase.RETIRING: _retiring,
    Phase.REVERTING: _reverting,
    Phase.REVERTED: _reverted,
    Phase.DISCARDING: _discarding,
}


def retry_delay(policy: Policy, failures: int, jitter: float, retry_after: float = 0.0) -> float:
    """Seconds to wait after ``failures`` in a row: doubling, half of it jittered, capped.

    Source: AWS, "Exponential Backoff And Jitter" (equal jitter: never a storm, never nothing).
    """
    ceiling = min(policy.retry_cap, policy.retry * 2.0 ** min(max(failures - 1, 0), 16))
    return max(ceiling * (0.5 + 0.5 * jitter), min(retry_after, policy.retry_cap))
