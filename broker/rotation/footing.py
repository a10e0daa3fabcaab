"""What the acts of a rotation stand on: its documents, its memory, its voice.

Duty: read and commit the documents; remember what only this process knows; tell of steps.
Not its duty: the acts (``making``, ``switching``, ``saga``).
Rules: what is in memory alone (a minted key, whose proof failed since when) may be lost, and
licenses no side effect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from random import Random

from broker.clock import Clock
from broker.errors import ProofFailed
from broker.rotation.drivers.port import Driver, MintedKey
from broker.rotation.due import Readers
from broker.rotation.model import SCHEDULE, Phase, RotationSpec, RotationState
from broker.rotation.plan import Situation
from broker.rotation.ports import Observer, Readership, StepKind, StepTaken
from broker.rotation.state import Documents, Loaded, Value
from broker.secret import SecretValue

log = logging.getLogger("broker.rotation")

LOOK_BACK = 10
"""Versions looked through for what stood beside a key; as many as Vault keeps by default."""
_LOUD = frozenset(
    {
        *("proof_failed", "rolled_back", "reverted", "adopted", "failed"),
        *("orphan_seen", "key_missing", "restored"),
    }
)


@dataclass(frozen=True, slots=True)
class Deps:
    """What all rotations of a process share."""

    clock: Clock
    documents: Documents
    readership: Readership
    observer: Observer
    rng: Random
    installation: str
    """Whose keys these are at the provider; the same for all replicas."""
    owner: str
    """This process; never used again by another."""
    new_id: Callable[[], str]
    """A rotation id that nobody ever used."""


class Footing:
    """One credential's rotation, as far as this process knows it."""

    def __init__(self, spec: RotationSpec, driver: Driver, deps: Deps) -> None:
        self.spec = spec
        self._driver = driver
        self._d = deps
        self._jitter = deps.rng.random()
        self.loaded: Loaded | None = None
        """As of the newest act."""
        self.value = Value(Readers(), {})
        """The readers' path as of the newest act."""
        self._seen: tuple[Phase, str] | None = None
        self._seen_at = 0.0
        self._created = ""
        self._minted: tuple[str, MintedKey] | None = None
        self._refused_since: float | None = None
        self._prove_at = self._swept_at = -inf
        self._reported: set[str] = set()
        self._newest = (0, 0)
        """Versions of state and readers' path: Vault never counts back by itself."""
        self._switched_at = 0.0
        """When the readers' path was first seen as it is."""
        self._missing = ""

    @property
    def state(self) -> RotationState:
        """The committed state as last read; an empty one when there is none."""
        return (self.loaded and self.loaded.state) or RotationState()

    def situation(self, *, leading: bool) -> Situation:
        """The plan's argument, from what was last read."""
        state = self.state
        minted = self._minted is not None and self._minted[0] == state.rotation
        return Situation(
            now=self._d.clock.now(),
            wall=self._d.clock.wall(),
            policy=self.spec.policy,
            capabilities=self._driver.capabilities,
            installation=self._d.installation,
            owner=self._d.owner,
            leading=leading,
            jitter=self._jitter,
            state=self.loaded.state if self.loaded else None,
            readers=None if self.spec.readers is None else self.value.readers,
            seen_at=self._seen_at,
            created=self._created == state.rotation != "",
            minted=minted,
            refused_since=self._refused_since,
            prove_at=self._prove_at,
            swept_at=self._swept_at,
            missing=self._missing != "" and self._missing == self._key_id(),
        )

    async def _look(self, *, leading: bool) -> None:
        documents, spec = self._d.documents, self.spec
        self.loaded = await documents.load(spec.state)
        if spec.readers is not None:
            self.value = await documents.read(spec.readers)
        self._compare(leading=leading)
        seen = (self.state.phase, self.state.rotation)
        if seen != self._seen:
            self._seen = seen
            self._seen_at = self._d.clock.now()
            self._refused_since, self._prove_at = None, -inf

    def _key_id(self) -> str:
        key = self.value.readers.key()
        return "" if key is None else key.key_id

    def _left(self) -> bool:
        """Whether readers everywhere have left what stood in their path before, by both clocks."""
        clock, note = self._d.clock, self.value.readers.note
        by_now = clock.now() - self._switched_at >= self.spec.policy.overlap
        return by_now and (note is None or clock.wall() >= note.retire_at_wall)

    def _compare(self, *, leading: bool) -> None:
        """Notice a Vault that was restored from a backup: what it knows may be over."""
        found = (self.loaded.version if self.loaded else 0, self.value.readers.version)
        if found[1] != self._newest[1]:
            self._switched_at = self._d.clock.now()
        older = any(now < before for now, before in zip(found, self._newest, strict=True))
        self._newest = found
        if older:
            self._swept_at = -inf  # have the provider's list looked at again now
            self._reported.clear()
            if leading:
                self._tell("restored", self.state)

    async def _beside(self) -> Mapping[str, SecretValue]:
        """What stands beside the key in the readers' value.

        When a person deleted the newest version, the newest one before it that is left tells.
        """
        assert self.spec.readers is not None
        fields, version = self.value.fields, self.value.readers.version
        if self.value.readers.deleted:
            for number in range(version - 1, max(0, version - 1 - LOOK_BACK), -1):
                found = await self._d.documents.read_version(self.spec.readers, number)
                if found is not None:
                    fields = found
                    break
        replaced = self._driver.capabilities.fields
        return {name: value for name, value in fields.items() if name not in replaced}

    async def _commit(self, state: RotationState) -> None:
        assert self.loaded is not None
        self.loaded = await self._d.documents.commit(self.spec.state, state, self.loaded.version)

    def _refuse(self, state: RotationState) -> None:
        """The proof says no; it is asked again within ``settle``."""
        now, policy = self._d.clock.now(), self.spec.policy
        if self._refused_since is None:
            self._refused_since = now
        settled = self._refused_since + policy.settle
        self._prove_at = max(now, min(now + policy.retry, settled))
        key_id = "" if state.candidate is None else state.candidate.key_id
        self._tell("proof_failed", state, key_id=key_id, detail=ProofFailed.code)

    def _tell(
        self,
        kind: StepKind,
        state: RotationState,
        *,
        rotation: str = "",
        key_id: str = "",
        detail: str = "",
        source_version: str = "",
        ended: bool = False,
    ) -> None:
        wall = self._d.clock.wall()
        step = StepTaken(
            credential=self.spec.name,
            kind=kind,
            at_wall=wall,
            rotation=rotation or state.rotation,
            key_id=key_id,
            actor=state.actor or SCHEDULE,
            reason="" if state.reason is None else state.reason.value,
            detail=detail,
            source_version=source_version,
            seconds=wall - state.started_wall if ended else None,
        )
        level = logging.WARNING if kind in _LOUD else logging.INFO
        log.log(level, "rotation: %s", kind, extra={"credential": step.credential})
        self._d.observer.took(step)
