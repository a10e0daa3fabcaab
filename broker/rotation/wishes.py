"""Wishes of operators and callers, as changes of the state [pure].

Duty: one function a wish, from the state before to the state after, None when there is
nothing to change; and what became of a demanded rotation.
Not its duty: writing (``rotator``), fulfilling (``plan``).
Rules: a rotation that is under way, or began after somebody asked, fulfils the wish; a
compromise asks for more: the key must be gone, so only a rotation begun for it counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from broker.errors import ProofFailed, RotationFrozen, RotationRolledBack
from broker.rotation.model import Past, Phase, Reason, Result, RotationState

STORM: Final = 60.0
"""Seconds: a rotation promoted so short a time before a demand is what was demanded."""

_UNDER_WAY: Final = frozenset({Phase.INTENDED, Phase.STAGED, Phase.PROMOTING})
_PROMOTED: Final = frozenset({Phase.OVERLAP, Phase.RETIRING})
_TAKEN_BACK: Final = frozenset({Phase.REVERTING, Phase.REVERTED, Phase.DISCARDING})


@dataclass(frozen=True, slots=True)
class Asked:
    """A demand, as the state took it."""

    state: RotationState | None
    """What to commit; None when another's wish or rotation serves."""
    earlier: frozenset[str]
    """Rotations whose outcome is not the one asked for."""


def ask_for(
    state: RotationState, *, actor: str, compromised: bool, asked_wall: float, in_place: bool
) -> Asked:
    """Demand a rotation.

    ``in_place``: it has no overlap in which later demands could find it; so one that has just
    ended serves them.

    Raises:
        RotationFrozen: it is frozen, or pinned and not compromised.
    """
    if state.frozen or (state.pinned and not compromised):
        raise RotationFrozen
    ended = frozenset(past.rotation for past in state.past)
    if _serves(state, compromised=compromised, asked_wall=asked_wall):
        return Asked(None, ended)
    newest = state.past[-1] if state.past else None
    if in_place and not compromised and newest is not None and _just_ended(newest, asked_wall):
        return Asked(None, ended - {newest.rotation})
    earlier = ended | {state.rotation}
    wish = Reason.COMPROMISED if compromised else Reason.DEMANDED
    if state.wish in (wish, Reason.COMPROMISED):
        return Asked(None, earlier)
    return Asked(replace(state, wish=wish, wish_actor=actor), earlier)


def _serves(state: RotationState, *, compromised: bool, asked_wall: float) -> bool:
    if not state.rotation:
        return False
    if compromised:
        return state.reason is Reason.COMPROMISED and state.phase not in _TAKEN_BACK
    if state.phase in _PROMOTED:
        return state.started_wall >= asked_wall - STORM
    return state.phase in _UNDER_WAY or state.phase is Phase.WITHDRAWING


def _just_ended(newest: Past, asked_wall: float) -> bool:
    return newest.result is Result.ROTATED and newest.started_wall >= asked_wall - STORM


def outcome_of(
    state: RotationState, asked: Asked
) -> tuple[str, Result] | RotationRolledBack | None:
    """What became of a demand; None while nobody knows."""
    if state.rotation and state.rotation not in asked.earlier:
        if state.phase in _PROMOTED:
            return state.rotation, Result.ROTATED
        if state.phase in _TAKEN_BACK and state.detail == ProofFailed.code:
            return RotationRolledBack()
    for past in reversed(state.past):
        if past.rotation in asked.earlier:
            continue
        if past.result is Result.ROTATED:
            return past.rotation, past.result
        if past.result is Result.ROLLED_BACK:
            return RotationRolledBack()
    return None


def suspected(state: RotationState) -> RotationState | None:
    """Somebody reported a 401 of the key that readers have."""
    if state.phase is not Phase.OVERLAP or state.suspected:
        return None
    return replace(state, suspected=True)


def frozen(state: RotationState) -> RotationState | None:
    """Take no step at all."""
    return None if state.frozen else replace(state, frozen=True)


def unfrozen(state: RotationState) -> RotationState | None:
    """Go on, unpinned as well."""
    if not state.frozen and not state.pinned:
        return None
    return replace(state, frozen=False, pinned=False)


def pinned(state: RotationState) -> RotationState | None:
    """Readers keep the key they have."""
    return None if state.pinned else replace(state, pinned=True)
