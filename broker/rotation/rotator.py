"""All rotations of a process: one loop each, and the wishes of operators.

Duty: come again when the plan says so, back off after failures, write wishes down where
the leader finds them, tell who waits.
Not its duty: the acts (``saga``), the decisions (``plan``), electing (``election``).
Rules:

* a wish is part of the committed state: it survives a crash, any replica may take it, and
  a storm of them makes one rotation;
* a failure of one credential touches no other, and none ends a loop;
* between two failures lies a wait that doubles; a conflict with another replica is none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.errors import (
    BrokerError,
    RotationConflict,
    RotationError,
    RotationRolledBack,
    RotationUnknown,
    VaultUnavailable,
)
from broker.rotation.drivers.port import Driver
from broker.rotation.election import Always, Election
from broker.rotation.footing import Deps
from broker.rotation.model import SCHEDULE, Past, Phase, RotationSpec, RotationState
from broker.rotation.plan import Act, Step, retry_delay
from broker.rotation.ports import Outcome, Standing, StepKind, StepTaken
from broker.rotation.saga import Saga
from broker.rotation.standing import standing
from broker.rotation.wishes import Asked, ask_for, frozen, outcome_of, pinned, suspected, unfrozen

log = logging.getLogger("broker.rotation")

ATTENTION = 1.0
"""Seconds between two looks while somebody waits for an outcome that another replica makes."""
IN_A_ROW = 30
"""Acts without a wait after which a loop pauses: a fault of ours must not become a storm."""
CONFLICTS = 20
"""Attempts to write a wish down while replicas write the state."""


@dataclass
class _Loop:
    """One rotation and what its loop knows."""

    saga: Saga
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: int = 0
    failures: int = 0
    problem: str = ""
    next_wall: float | None = None
    stands: Standing | None = None


class Rotator:
    """Implements ``ports.Rotations``.

    Args:
        rotations: each spec with the driver of its provider.
        deps: what they share.
        election: who carries out; correct without one, too.
    """

    def __init__(
        self,
        rotations: Iterable[tuple[RotationSpec, Driver]],
        deps: Deps,
        *,
        election: Election | None = None,
    ) -> None:
        self._d = deps
        self._election: Election = election or Always()
        self._loops: Mapping[str, _Loop] = {
            spec.name: _Loop(Saga(spec, driver, deps)) for spec, driver in rotations
        }
        self._election.on_change(self._wake_all)

    async def run(self) -> None:
        """Carry all rotations on until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, loop in self._loops.items():
                group.create_task(self._drive(loop), name=f"rotation {name}")

    # --- wishes ---------------------------------------------------------------------

    async def request(
        self, name: str, *, actor: str, compromised: bool = False, timeout: float = 120.0
    ) -> Outcome:
        """See ``Rotations``."""
        loop = self._loop(name)
        clock = self._d.clock
        deadline, asked_wall = clock.now() + timeout, clock.wall()
        asked: list[Asked] = []

        def change(state: RotationState) -> RotationState | None:
            asked[:] = [
                ask_for(
                    state,
                    actor=actor,
                    compromised=compromised,
                    asked_wall=asked_wall,
                    in_place=loop.saga.spec.readers is None,
                )
            ]
            return asked[0].state

        if await self._wish(loop, change):
            self._took(name, "demanded", actor)
        loop.waiters += 1
        loop.wake.set()  # once: the loop looks more often while somebody waits
        try:
            while True:
                progress = loop.progress
                found = outcome_of(loop.saga.state, asked[0])
                if isinstance(found, RotationRolledBack):
                    raise found
                if found is not None:
                    rotation, result = found
                    return Outcome(name, rotation, result)
                if not await clock.wait(progress, deadline):
                    raise RotationError("No outcome yet; the wish is written down and stays.")
        finally:
            loop.waiters -= 1

    async def suspect(self, name: str, *, actor: str) -> None:
        """See ``Rotations``."""
        loop = self._loop(name)
        if loop.saga.state.phase is Phase.IDLE and loop.stands is not None:
            return  # the usual case: nothing to return to, and nothing to ask Vault for
        if await self._wish(loop, suspected):
            self._took(name, "suspected", actor)

    async def freeze(self, name: str, *, actor: str) -> None:
        """See ``Rotations``."""
        await self._hold(name, frozen, "frozen", actor)

    async def unfreeze(self, name: str, *, actor: str) -> None:
        """See ``Rotations``."""
        await self._hold(name, unfrozen, "unfrozen", actor)

    async def pin(self, name: str, *, actor: str) -> None:
        """See ``Rotations``."""
        await self._hold(name, pinned, "pinned", actor)

    async def _hold(
        self,
        name: str,
        change: Callable[[RotationState], RotationState | None],
        kind: StepKind,
        actor: str,
    ) -> None:
        if await self._wish(self._loop(name), change):
            self._took(name, kind, actor)

    async def _wish(
        self, loop: _Loop, change: Callable[[RotationState], RotationState | None]
    ) -> bool:
        """Commit a change to the state; whether there was anything to change."""
        documents, path = self._d.documents, loop.saga.spec.state
        for _ in range(CONFLICTS):
            loaded = await documents.load(path)
            wanted = change(loaded.state or RotationState())
            if wanted is None:
                return False
            try:
                await documents.commit(path, wanted, loaded.version)
            except RotationConflict:
                await self._d.clock.sleep(self._d.rng.uniform(0.0, 0.1))
                continue
            except VaultUnavailable:
                found = await documents.load(path)
                if found.state is None or change(found.state) is not None:
                    raise
            loop.wake.set()
            if not self._election.leading:
                await self._election.ring()
            return True
        raise RotationConflict

    # --- what is known ------------------------------------------------------------------

    def status(self) -> Sequence[Standing]:
        """See ``Rotations``."""
        return [
            loop.stands or Standing(name, Phase.IDLE, leading=self._election.leading)
            for name, loop in sorted(self._loops.items())
        ]

    async def history(self, name: str) -> Sequence[Past]:
        """See ``Rotations``."""
        loaded = await self._d.documents.load(self._loop(name).saga.spec.state)
        return list(reversed((loaded.state or RotationState()).past))

    def _loop(self, name: str) -> _Loop:
        try:
            return self._loops[name]
        except KeyError:
            raise RotationUnknown(f"no rotation is configured for {name!r}") from None

    # --- the loop -----------------------------------------------------------------------

    async def _drive(self, loop: _Loop) -> None:
        in_a_row = 0
        while True:
            loop.wake.clear()
            try:
                step = await loop.saga.act(leading=self._election.leading)
            except RotationConflict:
                await self._d.clock.sleep(self._d.rng.uniform(0.05, 0.5))
                continue
            except BrokerError as error:
                await self._failed(loop, error)
                continue
            except Exception as error:  # a fault of ours must not end the loop
                log.exception("a fault while rotating", exc_info=error)
                await self._failed(loop, BrokerError("a fault while rotating"))
                continue
            self._went_on(loop, step)
            if step.act is Act.WAIT or in_a_row >= IN_A_ROW:
                in_a_row = 0
                await self._wait(loop, step)
            else:
                in_a_row += 1

    async def _wait(self, loop: _Loop, step: Step) -> None:
        clock = self._d.clock
        at = max(step.at, clock.now() + ATTENTION)
        if loop.waiters:
            at = clock.now() + ATTENTION
        await clock.wait(loop.wake, at)

    def _went_on(self, loop: _Loop, step: Step) -> None:
        waiting = step.act is Act.WAIT and loop.saga.state.phase is not Phase.INTENDED
        if waiting or step.act not in (Act.WAIT, Act.BEGIN, Act.ABANDON):
            loop.failures = 0
        loop.problem, loop.next_wall = step.problem, None
        self._publish(loop)

    async def _failed(self, loop: _Loop, error: BrokerError) -> None:
        clock = self._d.clock
        loop.failures += 1
        name = loop.saga.spec.name
        if loop.problem != error.code:  # logged and told once a kind
            log.warning(
                "rotation held up: %s",
                error,
                extra={"credential": name, "reason": error.code, "remedy": error.remedy},
            )
            self._took(name, "failed", SCHEDULE, detail=error.code)
        delay = retry_delay(
            loop.saga.spec.policy,
            loop.failures,
            self._d.rng.random(),
            getattr(error, "retry_after", None) or 0.0,
        )
        loop.problem, loop.next_wall = error.code, clock.wall() + delay
        self._publish(loop)
        await clock.sleep(delay)

    def _publish(self, loop: _Loop) -> None:
        stands = standing(
            loop.saga.spec.name,
            loop.saga.situation(leading=self._election.leading),
            problem=loop.problem,
            next_attempt_wall=loop.next_wall,
        )
        loop.progress.set()
        loop.progress = asyncio.Event()  # a new one: each who waits sees its own set
        if stands != loop.stands:
            loop.stands = stands
            self._d.observer.stands(stands)

    def _wake_all(self) -> None:
        for loop in self._loops.values():
            loop.wake.set()

    def _took(self, name: str, kind: StepKind, actor: str, *, detail: str = "") -> None:
        wall = self._d.clock.wall()
        state = self._loops[name].saga.state
        self._d.observer.took(
            StepTaken(name, kind, wall, rotation=state.rotation, actor=actor, detail=detail)
        )
