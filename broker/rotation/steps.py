"""What the state is after each act [pure].

Duty: one function a commit: from the state before to the state after.
Not its duty: when (``plan``), writing it (``state``), the side effects (``rotator``).
Rules: the past is bounded; staged secrets leave the document as soon as readers have them
or nobody will; the versions that held them are remembered until they are destroyed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from broker.errors import ProofFailed
from broker.rotation.drivers.port import MintedKey
from broker.rotation.due import LOST_FREELY, Readers, lost_in_a_row
from broker.rotation.model import SCHEDULE, KeyRef, Past, Phase, Reason, Result, RotationState
from broker.rotation.plan import OVERTAKEN, READERS_CHANGED

REMEMBERED: Final = 50
"""Rotations kept in the past; keys of older ones are reported by the sweep, not retired."""


def begun(
    state: RotationState,
    readers: Readers | None,
    *,
    reason: Reason,
    rotation: str,
    owner: str,
    wall: float,
) -> RotationState:
    """The intent. A compromised key that readers have, or were withdrawn from, is ended first."""
    current = state.current
    if readers is not None and not readers.deleted:
        current = readers.written() if readers.withdrawn_by else readers.key()
    withdraw = reason is Reason.COMPROMISED and current is not None and readers is not None
    return replace(
        state,
        phase=Phase.WITHDRAWING if withdraw else Phase.INTENDED,
        current=current,
        rotation=rotation,
        reason=reason,
        actor=state.wish_actor if state.wish is reason else SCHEDULE,
        owner=owner,
        started_wall=wall,
        candidate=None,
        fields={},
        base=0 if readers is None else readers.version,
        detail="",
        wish=None,
        wish_actor="",
        suspected=False,
    )


def withdrawn(state: RotationState, *, version: int, owner: str) -> RotationState:
    """Readers are withdrawn, by ``version`` of their path, and the compromised key is retired."""
    return replace(state, phase=Phase.INTENDED, current=None, base=version, owner=owner)


def staged(state: RotationState, minted: MintedKey, *, wall: float) -> RotationState:
    """The candidate is known."""
    return replace(
        state,
        phase=Phase.STAGED,
        candidate=KeyRef(minted.key_id, state.rotation, wall, minted.expires_wall),
        fields=minted.fields,
    )


def rotated_in_place(state: RotationState, minted: MintedKey, *, wall: float) -> RotationState:
    """Made where readers read already: nothing to promote, nothing to retire."""
    made = KeyRef(minted.key_id, state.rotation, wall, minted.expires_wall)
    return _ended(replace(state, candidate=made), Result.ROTATED, current=made, wall=wall)


def abandoned(state: RotationState, *, wall: float) -> RotationState:
    """Nothing made under this intent will be promoted; what was wished for still is.

    A demand ends when answers are lost in a row: each try may leave a key behind.
    """
    ended = _ended(state, Result.ABANDONED, current=state.current, wall=wall)
    again = lost_in_a_row(ended) <= LOST_FREELY
    if state.reason is Reason.COMPROMISED or (state.reason is Reason.DEMANDED and again):
        return _still_wished(state, ended)
    return ended


def _still_wished(state: RotationState, ended: RotationState) -> RotationState:
    if ended.wish is Reason.COMPROMISED:
        return ended
    return replace(ended, wish=state.reason, wish_actor=state.actor)


def licensed(state: RotationState) -> RotationState:
    """The candidate will be promoted."""
    return replace(state, phase=Phase.PROMOTING)


def promoted(
    state: RotationState, *, version: int, retire_at_wall: float, wall: float, prove: bool
) -> RotationState:
    """Readers have the candidate, in ``version`` of their path. ``prove``: it still must be."""
    nothing_before = state.current is None or not state.current.key_id
    at_once = state.reason is Reason.COMPROMISED and nothing_before
    return replace(
        state,
        phase=Phase.RETIRING if at_once else Phase.OVERLAP,
        fields={},
        base=version,
        previous=state.base,
        promoted_wall=wall,
        retire_at_wall=retire_at_wall,
        suspected=prove and not at_once,
    )


def confirmed(state: RotationState) -> RotationState:
    """The proof accepts the promoted key."""
    return replace(state, suspected=False)


def refused(state: RotationState) -> RotationState:
    """The proof refuses the promoted key: readers will have the old one again."""
    return replace(state, phase=Phase.REVERTING, suspected=False, detail=ProofFailed.code)


def reverted(state: RotationState, *, version: int, retire_at_wall: float) -> RotationState:
    """Readers have the old key again, in ``version`` of their path."""
    return replace(
        state,
        phase=Phase.REVERTED,
        base=version,
        retire_at_wall=retire_at_wall,
        detail=state.detail or "returned",
    )


def retiring(state: RotationState) -> RotationState:
    """Nobody may return to the old key."""
    return replace(state, phase=Phase.RETIRING)


def given_up(state: RotationState, *, detail: str) -> RotationState:
    """Nobody may promote the candidate."""
    return replace(state, phase=Phase.DISCARDING, fields={}, detail=detail or state.detail)


def retired(state: RotationState, *, wall: float) -> RotationState:
    """The old key is gone: the rotation ended well."""
    return _ended(state, Result.ROTATED, current=state.candidate, wall=wall)


def discarded(state: RotationState, *, wall: float) -> RotationState:
    """The candidate is gone.

    What was demanded still is when all that came between was a write of the readers' path.
    """
    failed = state.detail in (ProofFailed.code, "returned")
    result = Result.ROLLED_BACK if failed else Result.ABANDONED
    ended = _ended(state, result, current=state.current, wall=wall)
    overtaken = state.detail in (READERS_CHANGED, OVERTAKEN)
    if overtaken and state.reason is Reason.DEMANDED and lost_in_a_row(ended) <= LOST_FREELY:
        return _still_wished(state, ended)
    return ended


def adopted(state: RotationState, readers: Readers, *, wall: float) -> RotationState:
    """The readers' path is the truth; what was under way is left to the sweep."""
    current = readers.key()
    if readers.deleted:  # by a person: nobody knows the key, and it is not to be made anew
        current = KeyRef("", "", wall)
    before = state.rotation or ("" if state.current is None else state.current.rotation)
    ended = replace(state, rotation=before or "unknown")
    after = _ended(ended, Result.ADOPTED, current=current, wall=wall)
    return replace(after, base=readers.version)


def stored(state: RotationState, *, version: int) -> RotationState:
    """As it is written: remembers that ``version``, which this makes, holds secrets."""
    return replace(state, staged=(*state.staged, version)) if state.fields else state


def cleaned(state: RotationState) -> RotationState:
    """The versions that held secrets are destroyed."""
    return replace(state, staged=())


def _ended(
    state: RotationState, result: Result, *, current: KeyRef | None, wall: float
) -> RotationState:
    past = Past(
        rotation=state.rotation,
        result=result,
        reason=state.reason,
        actor=state.actor,
        started_wall=state.started_wall,
        ended_wall=wall,
        key_id="" if state.candidate is None else state.candidate.key_id,
        detail=state.detail,
    )
    return replace(
        state,
        phase=Phase.IDLE,
        current=current,
        rotation="",
        reason=None,
        actor="",
        owner="",
        candidate=None,
        fields={},
        retire_at_wall=0.0,
        detail="",
        suspected=False,
        past=(*state.past, past)[-REMEMBERED:],
    )
