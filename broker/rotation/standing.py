"""Where a rotation stands, for people and metrics [pure].

Duty: a ``Standing`` from what the plan decides on. Not its duty: showing it.
"""

from __future__ import annotations

from math import isfinite

from broker.rotation.due import next_due
from broker.rotation.model import Phase, RotationState
from broker.rotation.plan import Situation
from broker.rotation.ports import Standing

_BEFORE = frozenset({Phase.WITHDRAWING, Phase.INTENDED, Phase.STAGED, Phase.PROMOTING})
_SWITCHED = frozenset({Phase.OVERLAP, Phase.RETIRING})


def standing(name: str, s: Situation, *, problem: str, next_attempt_wall: float | None) -> Standing:
    """The standing in a situation."""
    state = s.state or RotationState()
    due_wall = None
    if state.phase is Phase.IDLE:
        due = next_due(state, s.readers, s.policy, s.jitter)
        if due is not None:
            due_wall = due.wall if isfinite(due.wall) else s.wall
    key = state.candidate if state.phase in _SWITCHED else state.current
    if key is None and s.readers is not None and state.phase is Phase.IDLE:
        key = s.readers.key()
    return Standing(
        name=name,
        phase=state.phase,
        leading=s.leading,
        rotation=state.rotation,
        reason=state.reason,
        key_since_wall=None if key is None else key.since_wall,
        key_expires_wall=None if key is None else key.expires_wall,
        due_wall=due_wall,
        overdue=_overdue(s, state, due_wall),
        retire_at_wall=state.retire_at_wall or None,
        frozen=state.frozen,
        pinned=state.pinned,
        suspected=state.suspected,
        problem=problem,
        next_attempt_wall=next_attempt_wall,
    )


def _overdue(s: Situation, state: RotationState, due_wall: float | None) -> bool:
    grace = 2 * s.policy.retry_cap + s.policy.settle + s.policy.patience
    if state.phase in _BEFORE:
        return s.wall > state.started_wall + grace
    return due_wall is not None and s.wall > due_wall + grace
