"""What rotation gives to those above, and needs of those beside it, as small ports.

Duty: name them. Not its duty: implementing them (``rotator``; ``credentials``, ``app``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from broker.credentials.model import CredentialKey
from broker.rotation.model import Past, Phase, Reason, Result

StepKind: TypeAlias = Literal[
    "demanded",
    "intended",
    "created",
    "proved",
    "proof_failed",
    "rotated",
    "reverted",
    "rolled_back",
    "withdrawn",
    "retired",
    "discarded",
    "abandoned",
    "adopted",
    "swept",
    "orphan_seen",
    "key_missing",
    "restored",
    "suspected",
    "frozen",
    "unfrozen",
    "pinned",
    "failed",
]


@dataclass(frozen=True, slots=True)
class StepTaken:
    """Something happened to a rotation: for audit, events and metrics. Holds no secret."""

    credential: str
    kind: StepKind
    at_wall: float
    rotation: str = ""
    key_id: str = ""
    actor: str = ""
    """Who asked, or reported; the rotator itself says ``schedule``."""
    reason: str = ""
    """Why it began."""
    detail: str = ""
    """Code of an error, or empty."""
    source_version: str = ""
    """Version of the readers' path that readers have since."""
    seconds: float | None = None
    """With ``rotated`` and ``rolled_back``: since the rotation began."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the rotation of one credential stands. Times are Unix seconds."""

    name: str
    phase: Phase
    leading: bool
    rotation: str = ""
    reason: Reason | None = None
    key_since_wall: float | None = None
    """When the key that readers have was made; None while nothing is known."""
    key_expires_wall: float | None = None
    due_wall: float | None = None
    """When the next rotation begins; None when nothing will begin one."""
    overdue: bool = False
    """Due, and not begun or not ended for longer than a rotation takes."""
    retire_at_wall: float | None = None
    frozen: bool = False
    pinned: bool = False
    suspected: bool = False
    problem: str = ""
    """Code of the error that holds it up; empty when all is well."""
    next_attempt_wall: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rotation that somebody waited for ended."""

    name: str
    rotation: str
    result: Result
    detail: str = ""


class Observer(Protocol):
    """Told of every step. Must be quick; called on the loop."""

    def took(self, step: StepTaken) -> None:
        """A step was taken and is committed."""
        ...

    def stands(self, standing: Standing) -> None:
        """Where a rotation stands has changed."""
        ...


class Readership(Protocol):
    """The part of ``credentials.keepers.Keepers`` that a rotation uses."""

    def announce(self, key: CredentialKey) -> None:
        """The source has a new value: read it at once. Returns without waiting for that."""
        ...


class Rotations(Protocol):
    """What API, CLI and reports ask of ``rotator.Rotator``.

    ``name`` is the credential's; ``actor`` who asks, for audit. Each raises ``RotationUnknown``
    for a name without a rotation, ``VaultError`` or ``LoginError`` when the wish cannot be
    written down.
    """

    async def request(
        self, name: str, *, actor: str, compromised: bool = False, timeout: float = 120.0
    ) -> Outcome:
        """Have the key rotated now; wait for the outcome. A storm of requests makes one rotation.

        Any replica may be asked; the one that leads carries it out. Ends with the promotion,
        or the roll-back: the overlap is not waited for.

        Raises:
            RotationFrozen: it is frozen, or pinned and not ``compromised``.
            RotationRolledBack: the new key failed its proof.
            RotationError: no outcome within ``timeout`` seconds; the wish stays.
        """
        ...

    async def suspect(self, name: str, *, actor: str) -> None:
        """A caller reported a 401 of the current key: within the overlap the proof decides.

        ``actor``: whose report it was; of several, the one that had the proof asked for.
        """
        ...

    def status(self) -> Sequence[Standing]:
        """All rotations, by name."""
        ...

    async def history(self, name: str) -> Sequence[Past]:
        """Rotations that ended, newest first, read from the state now."""
        ...

    async def freeze(self, name: str, *, actor: str) -> None:
        """Take no step at all until ``unfreeze``, on any replica."""
        ...

    async def unfreeze(self, name: str, *, actor: str) -> None:
        """Go on; ends a pin as well."""
        ...

    async def pin(self, name: str, *, actor: str) -> None:
        """Readers keep their key: only a compromise begins a rotation until ``unfreeze``."""
        ...
