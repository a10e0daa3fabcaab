"""The acts that move readers: promotion, confirmation, the way back, the end of a key.

Duty: carry each out. Not its duty: when (``plan``), the acts before (``making``).
Rules: readers are written with check-and-set and the rotation's id inside, so that a lost
answer is found again by reading; an overlap counts from when readers surely had the version.
"""

from __future__ import annotations

from broker.credentials.reserved import Note
from broker.errors import ProofFailed, RotationError
from broker.rotation import steps
from broker.rotation.drivers.port import MintedKey
from broker.rotation.due import Readers
from broker.rotation.footing import Footing
from broker.rotation.model import Result, RotationState
from broker.rotation.plan import Step
from broker.rotation.ports import StepKind


class Switching(Footing):
    """Gives readers a key, and ends the other."""

    async def _promote(self, state: RotationState, step: Step) -> None:
        del step
        assert self.spec.readers is not None
        assert state.candidate is not None
        readers, policy, wall = self.value.readers, self.spec.policy, self._d.clock.wall()
        can = self._driver.capabilities
        overlap = policy.overlap if can.overlap and state.current is not None else 0.0
        if readers.note is not None and readers.rotation == state.rotation:
            version = readers.version
        else:
            note = Note(
                installation=self._d.installation,
                rotation=state.rotation,
                key_id=state.candidate.key_id,
                since_wall=state.candidate.since_wall,
                expires_wall=state.candidate.expires_wall,
                replaces=_before(readers),
                retire_at_wall=wall + overlap,
            )
            fields = {**await self._beside(), **state.fields}
            version = await self._d.documents.publish(self.spec.readers, fields, note, state.base)
        self._d.readership.announce(self.spec.key)
        wall = self._d.clock.wall()  # the write may have taken long: the overlap begins now
        await self._commit(
            steps.promoted(
                state,
                version=version,
                retire_at_wall=wall + overlap,
                wall=wall,
                prove=can.rollback and not can.prove_first,
            )
        )
        self._tell("rotated", state, source_version=str(version), ended=True)

    async def _confirm(self, state: RotationState, step: Step) -> None:
        del step
        assert self.spec.readers is not None
        assert state.candidate is not None
        key_id, policy = state.candidate.key_id, self.spec.policy
        try:
            await self._driver.prove(MintedKey(key_id, self.value.fields))
        except ProofFailed:
            wall = self._d.clock.wall()
            settling = not self._driver.capabilities.prove_first
            if settling and wall < state.promoted_wall + policy.settle:
                self._refuse(state)
            elif await self._way_back(state, wall):
                await self._commit(steps.refused(state))
                self._tell("proof_failed", state, key_id=key_id, detail=ProofFailed.code)
            else:
                await self._commit(steps.confirmed(state))
                self._tell("failed", state, key_id=key_id, detail="no_way_back")
            return
        await self._commit(steps.confirmed(state))
        self._tell("proved", state, key_id=key_id)

    async def _way_back(self, state: RotationState, wall: float) -> bool:
        assert self.spec.readers is not None
        if state.current is None or not state.previous:
            return False
        if state.current.expires_wall is not None and state.current.expires_wall <= wall:
            return False
        old = await self._d.documents.read_version(self.spec.readers, state.previous)
        return old is not None

    async def _revert(self, state: RotationState, step: Step) -> None:
        del step
        assert self.spec.readers is not None
        assert state.current is not None
        readers, overlap = self.value.readers, self.spec.policy.overlap
        if readers.note is not None and readers.note.reverts == state.rotation:
            version = readers.version
        else:
            old = await self._d.documents.read_version(self.spec.readers, state.previous)
            if old is None:
                raise RotationError("The readers' version before this rotation is gone.")
            note = Note(
                installation=self._d.installation,
                rotation=state.current.rotation,
                key_id=state.current.key_id,
                since_wall=state.current.since_wall,
                expires_wall=state.current.expires_wall,
                replaces=_before(readers),
                retire_at_wall=self._d.clock.wall() + overlap,
                reverts=state.rotation,
            )
            names = self._driver.capabilities.fields
            key = {name: value for name, value in old.items() if name in names}
            fields = {**await self._beside(), **key}
            version = await self._d.documents.publish(
                self.spec.readers, fields, note, readers.version
            )
        self._d.readership.announce(self.spec.key)
        retire_at = self._d.clock.wall() + overlap
        await self._commit(steps.reverted(state, version=version, retire_at_wall=retire_at))
        self._tell("reverted", state, source_version=str(version))

    async def _returned(self, state: RotationState, step: Step) -> None:
        del step
        retire_at = self._d.clock.wall() + self.spec.policy.overlap
        version = self.value.readers.version
        await self._commit(steps.reverted(state, version=version, retire_at_wall=retire_at))
        self._tell("reverted", state, source_version=str(version), detail="returned")

    async def _end_overlap(self, state: RotationState, step: Step) -> None:
        del step
        await self._commit(steps.retiring(state))

    async def _retire(self, state: RotationState, step: Step) -> None:
        del step
        key_id = "" if state.current is None else state.current.key_id
        if key_id:
            await self._driver.retire(key_id)
        await self._commit(steps.retired(state, wall=self._d.clock.wall()))
        if key_id:
            self._tell("retired", state, key_id=key_id, source_version=str(state.base))

    async def _give_up(self, state: RotationState, step: Step) -> None:
        await self._commit(steps.given_up(state, detail=step.detail))

    async def _discard(self, state: RotationState, step: Step) -> None:
        del step
        assert state.candidate is not None
        await self._driver.retire(state.candidate.key_id)
        await self._commit(steps.discarded(state, wall=self._d.clock.wall()))
        result = self.state.past[-1].result
        kind: StepKind = "rolled_back" if result is Result.ROLLED_BACK else "discarded"
        key_id, detail = state.candidate.key_id, state.detail
        has = str(self.value.readers.version)
        self._tell(kind, state, key_id=key_id, detail=detail, source_version=has, ended=True)


def _before(readers: Readers) -> int:
    """The version that readers may still hold when the next is written; 0: none."""
    if readers.withdrawn_by and readers.note is not None:
        return readers.note.replaces
    return 0 if readers.deleted else readers.version
