"""The acts before readers have the new key: intent, creation, staging, proof.

Duty: carry each out. Not its duty: when (``plan``), the acts after (``switching``).
Rules: nothing is created without a committed intent that names its rotation; what was
created and cannot be staged is left, by its label, to the sweep.
"""

from __future__ import annotations

from broker.credentials.reserved import Note
from broker.errors import (
    ProofFailed,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    VaultRefused,
)
from broker.rotation import steps
from broker.rotation.drivers.port import MintedKey
from broker.rotation.footing import Footing
from broker.rotation.model import Label, Result, RotationState
from broker.rotation.plan import Act, Step


class Making(Footing):
    """Makes a candidate."""

    async def _begin(self, state: RotationState, step: Step) -> None:
        assert step.reason is not None
        readers = None if self.spec.readers is None else self.value.readers
        await self._commit(
            steps.begun(
                state,
                readers,
                reason=step.reason,
                rotation=self._d.new_id(),
                owner=self._d.owner,
                wall=self._d.clock.wall(),
            )
        )
        self._tell("intended", self.state)

    async def _withdraw(self, state: RotationState, step: Step) -> None:
        """Readers lose the key by a newer version without it; so what withdrew it is known."""
        del step
        assert self.spec.readers is not None
        assert state.current is not None
        readers, documents, current = self.value.readers, self._d.documents, state.current
        # Somebody may have written beside the key meanwhile: readers have it all the same.
        expected = readers.version == state.base or readers.holds(current)
        version, old = state.base, 0
        if expected and not readers.withdrawn_by:
            note = Note(
                installation=self._d.installation,
                rotation=current.rotation,
                key_id=current.key_id,
                since_wall=current.since_wall,
                expires_wall=current.expires_wall,
                replaces=readers.version,
                retire_at_wall=self._d.clock.wall(),
                withdrawn_by=state.rotation,
            )
            beside, old = await self._beside(), readers.version
            version = await documents.publish(self.spec.readers, beside, note, old)
            self._d.readership.announce(self.spec.key)
        elif readers.note is not None and (expected or readers.withdrawn_by == state.rotation):
            version, old = readers.version, readers.note.replaces
        if old:
            await documents.withdraw(self.spec.readers, old)
        if current.key_id:
            await self._driver.retire(current.key_id)
        await self._commit(steps.withdrawn(state, version=version, owner=self._d.owner))
        self._tell("withdrawn", self.state, key_id=current.key_id)

    async def _create(self, state: RotationState, step: Step) -> None:
        del step
        label = Label(self._d.installation, self.spec.name, state.rotation)
        self._created = state.rotation
        try:
            minted = await self._driver.create(label)
        except (UpstreamRefused, VaultRefused):
            self._created = ""
            raise
        except UpstreamUnavailable as error:
            if not error.unclear:
                self._created = ""
            raise
        self._check(minted, state)
        self._minted = (state.rotation, minted)
        await self._stage(state, Step(Act.STAGE))

    def _check(self, minted: MintedKey, state: RotationState) -> None:
        """Raise UpstreamMalformed unless it is a new key, told from others, that will last."""
        if self.spec.readers is None:
            return
        known = {past.key_id for past in state.past}
        known |= {key.key_id for key in (state.current, self.value.readers.key()) if key}
        if not minted.key_id or minted.key_id in known - {""}:
            raise UpstreamMalformed("The provider gave a key id that is empty, or not new.")
        ends, wall = minted.expires_wall, self._d.clock.wall()
        if ends is not None and ends <= wall + self.spec.policy.overlap:
            raise UpstreamMalformed(
                "The provider gave a key that ends before its overlap with the old one does.",
                remedy="Compare times, answer.expires_at and create.life with the provider's API.",
            )
        held = self.value.fields
        if not minted.fields or all(held.get(k) == v for k, v in minted.fields.items()):
            raise UpstreamMalformed("The provider gave no key, or the one that readers have.")

    async def _stage(self, state: RotationState, step: Step) -> None:
        del step
        assert self._minted is not None
        minted, wall = self._minted[1], self._d.clock.wall()
        if self.spec.readers is None:
            await self._commit(steps.rotated_in_place(state, minted, wall=wall))
            self._d.readership.announce(self.spec.key)
            self._tell("rotated", state, key_id=minted.key_id, ended=True)
        else:
            await self._commit(steps.staged(state, minted, wall=wall))
            self._tell("created", self.state, key_id=minted.key_id)
        self._minted, self._created = None, ""

    async def _abandon(self, state: RotationState, step: Step) -> None:
        del step
        await self._commit(steps.abandoned(state, wall=self._d.clock.wall()))
        self._created = ""
        self._tell("abandoned", state)

    async def _prove(self, state: RotationState, step: Step) -> None:
        del step
        assert state.candidate is not None
        key_id = state.candidate.key_id
        try:
            await self._driver.prove(MintedKey(key_id, state.fields, state.candidate.expires_wall))
        except ProofFailed:
            self._refuse(state)
            return
        self._refused_since = None
        await self._commit(steps.licensed(state))
        self._tell("proved", state, key_id=key_id)

    async def _license(self, state: RotationState, step: Step) -> None:
        del step
        await self._commit(steps.licensed(state))

    async def _drop_leftovers(self, state: RotationState) -> None:
        """A key this process made for a rotation that was abandoned meanwhile."""
        if self._minted is None or self._minted[0] == state.rotation:
            return
        rotation, minted = self._minted
        gone = any(p.rotation == rotation and p.result is Result.ABANDONED for p in state.past)
        kept = [key for key in (state.current, state.candidate, self.value.readers.key()) if key]
        if gone and minted.key_id not in [key.key_id for key in kept]:
            await self._driver.retire(minted.key_id)
            self._tell("discarded", state, key_id=minted.key_id, rotation=rotation)
        self._minted = None  # if the state forgot the rotation, its key is the sweep's to report
