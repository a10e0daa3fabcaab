"""What a rotation is [pure].

Duty: the values that plan, state, rotator and drivers share.
Not its duty: deciding (``plan``), storing (``state``), doing (``rotator``).
Rules:

* a rotation has an id of its own; the id is in the provider's label, in the state
  and, once promoted, in the readers' path, so that any replica can tell them apart;
* every side effect is licensed by a committed ``Phase``; two phases that license
  contrary things are never both reachable from a third without check-and-set;
* times end in ``_wall`` (Unix seconds): the state is read by other machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

from broker.credentials.model import CredentialKey
from broker.secret import SecretValue

SCHEMA: Final = 1
"""Version of the state document; a newer one is not touched."""
SCHEDULE: Final = "schedule"
"""The actor of what nobody asked for."""
LABEL_PREFIX: Final = "broker"
SEPARATOR: Final = "/"


class Phase(StrEnum):
    """Where a rotation stands, and what that licenses."""

    IDLE = "idle"
    """Nothing is under way. Licenses the sweep."""
    WITHDRAWING = "withdrawing"
    """Compromised: readers may be withdrawn, the current key retired."""
    INTENDED = "intended"
    """A key with this rotation's label may be created."""
    STAGED = "staged"
    """The candidate is known; it may be proved."""
    PROMOTING = "promoting"
    """The candidate may be written for the readers; nobody may discard it."""
    OVERLAP = "overlap"
    """Readers have the candidate; the old key works until ``retire_at_wall``."""
    RETIRING = "retiring"
    """The old key may be retired; nobody may return to it."""
    REVERTING = "reverting"
    """The old key may be written for the readers again; nobody may retire it."""
    REVERTED = "reverted"
    """Readers have the old key again; the candidate works until ``retire_at_wall``."""
    DISCARDING = "discarding"
    """The candidate may be retired; nobody may promote it."""


class Reason(StrEnum):
    """Why a rotation began."""

    NEVER_ROTATED = "never_rotated"
    MAX_AGE = "max_age"
    EXPIRY = "expiry"
    """The key's own expiry at the provider comes near."""
    DEMANDED = "demanded"
    COMPROMISED = "compromised"
    """No overlap: readers are withdrawn and the old key is retired first."""


class Result(StrEnum):
    """How a rotation ended."""

    ROTATED = "rotated"
    ROLLED_BACK = "rolled_back"
    """The candidate failed its proof; the old key stays, the candidate is retired."""
    ABANDONED = "abandoned"
    """Its process went, or the provider's answer was lost; the sweep collects what it made."""
    ADOPTED = "adopted"
    """Somebody else wrote the readers' path, or the state was lost or restored from a backup."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a key is called at the provider: whose it is, what for, from which rotation.

    Raises:
        ValueError: a part is empty or holds the separator.
    """

    installation: str
    credential: str
    rotation: str

    def __post_init__(self) -> None:
        parts = (self.installation, self.credential, self.rotation)
        if not all(parts) or any(SEPARATOR in part for part in parts):
            raise ValueError("a label's parts are not empty and hold no slash")

    @property
    def text(self) -> str:
        """``broker/<installation>/<credential>/<rotation>``."""
        return SEPARATOR.join((LABEL_PREFIX, self.installation, self.credential, self.rotation))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The label a text is, or None when it is none of ours."""
        prefix, *parts = text.split(SEPARATOR)
        if prefix != LABEL_PREFIX or len(parts) != 3 or not all(parts):
            return None
        return cls(*parts)


@dataclass(frozen=True, slots=True)
class UpstreamKey:
    """A key as the provider lists it; never its secret."""

    key_id: str
    label: str
    """As the provider has it; may be anybody's."""
    created_wall: float | None = None
    expires_wall: float | None = None


@dataclass(frozen=True, slots=True)
class KvPath:
    """A secret in a KV version 2 engine; ``path`` is below the mount, without ``data/``."""

    mount: str
    path: str


@dataclass(frozen=True, slots=True)
class Policy:
    """When one credential is rotated, and how long the steps may take. Seconds."""

    max_age: float | None = None
    """None: rotated for other reasons only."""
    jitter: float = 0.1
    """Part of ``max_age`` over which equal ages are spread; always earlier, never later."""
    before_expiry: float = 86_400.0
    """A key with an expiry of its own is replaced this long before it."""
    settle: float = 60.0
    """A new key's failing proof is retried for this long."""
    overlap: float = 3600.0
    """How long the old key works after the promotion."""
    patience: float = 120.0
    """How long another replica's creation of a key is waited for before it is abandoned."""
    retry: float = 5.0
    """Shortest wait after a failure; doubles up to ``retry_cap``, with jitter."""
    retry_cap: float = 300.0
    watch: float = 30.0
    """Longest wait before the state is read again: wishes come from other replicas."""
    sweep_every: float = 3600.0
    orphan_age: float = 86_400.0
    """The sweep leaves younger keys alone."""


@dataclass(frozen=True, slots=True)
class RotationSpec:
    """One credential whose upstream key is rotated."""

    key: CredentialKey
    state: KvPath
    readers: KvPath | None
    """Where readers find the value; None for keys rotated in place (a database static role)."""
    policy: Policy = field(default_factory=Policy)

    @property
    def name(self) -> str:
        """The credential's name."""
        return self.key.name


@dataclass(frozen=True, slots=True)
class KeyRef:
    """A key known by its id; ``key_id`` is empty when nobody knows it (written by hand)."""

    key_id: str
    rotation: str
    since_wall: float
    """When it was created, or found."""
    expires_wall: float | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """One rotation that ended."""

    rotation: str
    result: Result
    reason: Reason | None
    actor: str
    started_wall: float
    ended_wall: float
    key_id: str = ""
    """Of the key it made, when that was learned."""
    detail: str = ""
    """Code of the error that ended it, if any."""


@dataclass(frozen=True, slots=True)
class RotationState:
    """The document that any replica resumes from. Written with check-and-set only."""

    phase: Phase = Phase.IDLE
    current: KeyRef | None = None
    """The key that readers had when the rotation began; in ``IDLE``: have."""
    rotation: str = ""
    """Id of the rotation under way; empty in ``IDLE``."""
    reason: Reason | None = None
    actor: str = ""
    owner: str = ""
    """The process that intended it: it alone knows whether its call is still under way."""
    started_wall: float = 0.0
    candidate: KeyRef | None = None
    fields: Mapping[str, SecretValue] = field(default_factory=dict)
    """The candidate's, until it is promoted or discarded."""
    base: int = 0
    """Version of the readers' path that the next write of it must replace (check-and-set)."""
    previous: int = 0
    """Version of the readers' path that holds the old key's fields, for a way back."""
    promoted_wall: float = 0.0
    retire_at_wall: float = 0.0
    detail: str = ""
    """Code of the error because of which the candidate is given up."""
    wish: Reason | None = None
    """``DEMANDED`` or ``COMPROMISED``, asked for at any replica."""
    wish_actor: str = ""
    suspected: bool = False
    """A caller reported a 401 of the promoted key within the overlap; the proof decides."""
    frozen: bool = False
    """No step at all is taken."""
    pinned: bool = False
    """Readers keep the key they have: nothing begins by age, expiry or demand."""
    past: tuple[Past, ...] = ()
    """Newest last, bounded. The sweep knows its own keys by these."""
    staged: tuple[int, ...] = ()
    """Versions of the state that hold secret fields, to be destroyed."""
