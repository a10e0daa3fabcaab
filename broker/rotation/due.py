"""When the next rotation is due, and why; which listed keys are orphans [pure].

Duty: both decisions. Not its duty: what to do next within a rotation (``plan``).
Rules:

* a key that no rotation made is due; so is one whose age or own expiry says so; jitter
  makes it earlier, never later;
* after a roll-back, or answers lost in a row, the next try waits, longer each time, unless
  readers have nothing meanwhile; a person's wish does not wait;
* what an operator withdrew (deleted the readers' version) is not brought back by age; what a
  rotation withdrew because of a compromise is, even when the state has forgotten why;
* an orphan is retired only if its label names this installation and a rotation whose end
  stands in the state, it is older than ``orphan_age``, and readers do not have it, nor may
  have had it until just now; and none is while the key that readers have is missing, for
  another may be all that is left, and the one that a person will bring back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from broker.credentials.reserved import Note
from broker.rotation.model import (
    KeyRef,
    Label,
    Policy,
    Reason,
    Result,
    RotationState,
    UpstreamKey,
)

LOST_FREELY = 2
"""Rotations in a row that may be abandoned before the next one waits."""
LONGEST_HOLD = 86_400.0
"""Seconds: a provider that is broken for good is asked once a day."""


@dataclass(frozen=True, slots=True)
class Readers:
    """The readers' path as it was read."""

    version: int = 0
    """Newest version; 0 when there never was one."""
    deleted: bool = False
    """The newest version was deleted or destroyed."""
    note: Note | None = None
    """What a rotation wrote into it; None when a person wrote it, or it cannot be read."""
    key_id: str = ""
    """Without a note: the provider's id of the key, when a person wrote that down."""
    created_wall: float = 0.0

    @property
    def withdrawn_by(self) -> str:
        """The rotation that withdrew them because of a compromise; empty when none did."""
        return "" if self.note is None else self.note.withdrawn_by

    @property
    def rotation(self) -> str:
        """The rotation that made the key readers have; empty when none did."""
        return "" if self.note is None or self.withdrawn_by else self.note.rotation

    def holds(self, key: KeyRef | None) -> bool:
        """Whether readers are given this key."""
        has = self.key()
        return key is not None and has is not None and has.key_id == key.key_id != ""

    def key(self) -> KeyRef | None:
        """The key readers have; None when there is none to be known."""
        if self.withdrawn_by:
            return None
        if self.note is None and (self.version == 0 or self.deleted):
            return None
        return self.written()

    def written(self) -> KeyRef:
        """The key that the newest version is about, be it withdrawn."""
        if self.note is None:
            return KeyRef(self.key_id, "", self.created_wall)
        note = self.note
        return KeyRef(note.key_id, note.rotation, note.since_wall, note.expires_wall)


@dataclass(frozen=True, slots=True)
class Due:
    """When a rotation begins (Unix seconds; ``-inf``: at once), and why."""

    wall: float
    reason: Reason


def next_due(
    state: RotationState, readers: Readers | None, policy: Policy, jitter: float
) -> Due | None:
    """The next rotation; None when nothing but a wish will begin one.

    Args:
        state: in ``IDLE``.
        readers: None for keys rotated in place.
        policy: ages and distances.
        jitter: in [0, 1), steady for a process.
    """
    if state.wish is Reason.COMPROMISED:
        return Due(-inf, Reason.COMPROMISED)
    if readers is not None and readers.withdrawn_by:
        return Due(_held_until(state, policy, longest=policy.retry_cap), Reason.COMPROMISED)
    if state.pinned:
        return None
    if state.wish is not None:
        return Due(-inf, state.wish)
    if readers is not None and readers.deleted:
        return None
    held = _held_until(state, policy)
    key = state.current if state.current is not None or readers is None else readers.key()
    if key is None or (not key.rotation and not _adopted(state)):
        return Due(held, Reason.NEVER_ROTATED)
    found: list[Due] = []
    if policy.max_age is not None:
        age = policy.max_age * (1.0 - policy.jitter * jitter)
        found.append(Due(max(held, key.since_wall + age), Reason.MAX_AGE))
    if key.expires_wall is not None:
        ahead = min(policy.before_expiry, (key.expires_wall - key.since_wall) / 3)
        found.append(Due(max(held, key.expires_wall - ahead), Reason.EXPIRY))
    return min(found, key=lambda due: due.wall, default=None)


def _adopted(state: RotationState) -> bool:
    """Whether a person replaced the key of an earlier rotation: its age counts from then."""
    return any(past.result in (Result.ROTATED, Result.ADOPTED) for past in state.past)


def lost_in_a_row(state: RotationState) -> int:
    """How many of the newest rotations ended without anybody knowing what they made."""
    lost = 0
    for past in reversed(state.past):
        if past.result is not Result.ABANDONED:
            break
        lost += 1
    return lost


def _held_until(state: RotationState, policy: Policy, *, longest: float = LONGEST_HOLD) -> float:
    # A crash or two hold nothing up; a provider that never answers well is left a key each time.
    failed = max(0, lost_in_a_row(state) - LOST_FREELY)
    for past in reversed(state.past):
        if past.result is Result.ABANDONED:
            continue
        if past.result is not Result.ROLLED_BACK:
            break
        failed += 1
    if not failed:
        return -inf
    last = max(past.ended_wall for past in state.past)
    return last + min(longest, policy.retry_cap * 2.0 ** min(failed - 1, 16))


@dataclass(frozen=True, slots=True)
class Orphans:
    """What a listing showed."""

    sweep: UpstreamKey | None
    """The one to retire in this run."""
    unexplained: tuple[UpstreamKey, ...]
    """With a label of this installation and credential, and no rotation we know: reported."""
    missing: str
    """Id of the key that readers have, when a rotation made it and the list lacks it: somebody
    ended it at the provider, or all of Vault is older than that. Reported."""


def orphans(
    listed: Iterable[UpstreamKey],
    *,
    state: RotationState,
    readers: Readers,
    installation: str,
    credential: str,
    policy: Policy,
    wall: float,
    left: bool,
) -> Orphans:
    """Sort a listing; see the rules above.

    ``left``: readers everywhere have left every version of their path but the newest.
    """
    listed = tuple(listed)
    ended = {past.rotation for past in state.past}
    refs = (state.current, state.candidate, readers.key())
    kept = {ref.key_id for ref in refs if ref}
    if readers.rotation and readers.note is not None and readers.note.key_id:
        ended.add(readers.rotation)  # its key is known: another with its label is a duplicate
    sweep: UpstreamKey | None = None
    unexplained: list[UpstreamKey] = []
    for key in listed:
        label = Label.parse(key.label)
        if label is None or (label.installation, label.credential) != (installation, credential):
            continue
        if key.key_id in kept or label.rotation == state.rotation:
            continue
        if label.rotation not in ended:
            unexplained.append(key)
        elif (
            left
            and sweep is None
            and key.created_wall is not None
            and wall - key.created_wall >= policy.orphan_age
        ):
            sweep = key
    missing = _missing(listed, readers, policy, wall)
    return Orphans(None if missing else sweep, tuple(unexplained), missing)


def _missing(listed: Iterable[UpstreamKey], readers: Readers, policy: Policy, wall: float) -> str:
    key = readers.key()
    if key is None or not readers.rotation or wall - key.since_wall < policy.overlap:
        return ""  # a list may come to know a key a little later than its own maker
    return "" if key.key_id in {each.key_id for each in listed} else key.key_id
