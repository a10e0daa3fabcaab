"""The rotation of one credential, act by act.

Duty: read the documents, ask the plan, carry out one act.
Not its duty: when to come again, failures in a row, wishes (``rotator``); what is next
(``plan``); what the state is then (``steps``).
Rules:

* each act reads the committed state first; nothing in memory licenses a side effect;
* a side effect comes before the commit that says it happened, and after the one that
  licensed it; a crash between repeats it, which every effect here bears.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from broker.rotation import plan, steps
from broker.rotation.drivers.port import Driver
from broker.rotation.due import orphans
from broker.rotation.footing import Deps
from broker.rotation.making import Making
from broker.rotation.model import RotationSpec, RotationState
from broker.rotation.plan import Act, Step
from broker.rotation.switching import Switching


class Saga(Making, Switching):
    """One credential's rotation, as far as this process carries it."""

    def __init__(self, spec: RotationSpec, driver: Driver, deps: Deps) -> None:
        super().__init__(spec, driver, deps)
        self._acts: Mapping[Act, Callable[[RotationState, Step], Awaitable[None]]] = {
            Act.ADOPT: self._adopt,
            Act.CLEAN: self._clean,
            Act.BEGIN: self._begin,
            Act.WITHDRAW: self._withdraw,
            Act.CREATE: self._create,
            Act.STAGE: self._stage,
            Act.ABANDON: self._abandon,
            Act.PROVE: self._prove,
            Act.LICENSE: self._license,
            Act.PROMOTE: self._promote,
            Act.CONFIRM: self._confirm,
            Act.END_OVERLAP: self._end_overlap,
            Act.RETIRE: self._retire,
            Act.REVERT: self._revert,
            Act.RETURNED: self._returned,
            Act.END_REVERTED: self._give_up,
            Act.GIVE_UP: self._give_up,
            Act.DISCARD: self._discard,
            Act.SWEEP: self._sweep,
        }

    async def act(self, *, leading: bool) -> Step:
        """Do the next act if it is due; return it. ``WAIT`` says when to come again.

        Raises:
            RotationConflict: another replica was quicker: come again soon.
            BrokerError: it failed; its outcome may be unclear, the next act finds out.
        """
        await self._look(leading=leading)
        state = self.state
        if leading:
            await self._drop_leftovers(state)
        step = plan.next_step(self.situation(leading=leading))
        if step.act is not Act.WAIT:
            await self._acts[step.act](state, step)
        return step

    async def _adopt(self, state: RotationState, step: Step) -> None:
        del step
        wall = self._d.clock.wall()
        self._lose_sight(state)
        await self._commit(steps.adopted(state, self.value.readers, wall=wall))
        self._tell("adopted", self.state, rotation=self.value.readers.rotation)

    def _lose_sight(self, state: RotationState) -> None:
        """Tell of a key that no rotation made: when the state names it no more, no label does."""
        left = state.current
        if left is None or left.rotation or left.key_id in {"", *self._reported}:
            return
        if not self.value.readers.holds(left):
            self._reported.add(left.key_id)
            self._tell("orphan_seen", state, key_id=left.key_id, detail=plan.READERS_CHANGED)

    async def _clean(self, state: RotationState, step: Step) -> None:
        del step
        await self._d.documents.destroy(self.spec.state, state.staged)
        await self._commit(steps.cleaned(state))

    async def _sweep(self, state: RotationState, step: Step) -> None:
        del step
        self._swept_at = self._d.clock.now()
        found = orphans(
            await self._driver.list(),
            state=state,
            readers=self.value.readers,
            installation=self._d.installation,
            credential=self.spec.name,
            policy=self.spec.policy,
            wall=self._d.clock.wall(),
            left=self._left(),
        )
        for key in found.unexplained:
            if key.key_id not in self._reported:
                self._reported.add(key.key_id)
                self._tell("orphan_seen", state, key_id=key.key_id)
        if found.missing and found.missing not in self._reported:
            self._reported.add(found.missing)
            self._tell("key_missing", state, key_id=found.missing)
        self._missing = found.missing
        if found.sweep is not None:
            await self._driver.retire(found.sweep.key_id)
            self._tell("swept", state, key_id=found.sweep.key_id)
