"""Any story of replicas, mishaps, operators and thieves: what promise 9 says holds at its end.

The alphabet is that of the tables in ``tests/scenarios``; here any word of it is tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import looptime
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.errors import BrokerError
from broker.rotation.model import Phase
from tests.scenarios.rotation_world import NAME, STATE, RotationWorld
from tests.simulators.rotation_hands import MISHAPS, Mishap
from tests.simulators.vault_kv import KvSecret

pods = st.integers(0, 1)


class Rotations(RuleBasedStateMachine):
    """Two replicas without an election, on virtual time."""

    def __init__(self) -> None:
        super().__init__()
        plain = asyncio.new_event_loop()
        assert isinstance(plain, asyncio.BaseEventLoop)
        self.loop = looptime.patch_event_loop(plain)
        # No file, socket or thread is waited for: time may jump as soon as nothing can run.
        self.loop.setup_looptime(start=0, end=None, noop_cycles=0)
        self.demands: list[asyncio.Task[Any]] = []
        self.backup: KvSecret | None = None
        self.lost_state = False
        self.away = 0.0
        self.world = self.play(self._begin())

    def play(self, part: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(part)

    async def _begin(self) -> RotationWorld:
        world = RotationWorld()
        world.seed()
        for number in range(2):
            await world.replica(f"pod-{number}")
        world.watch()
        return world

    @rule(seconds=st.sampled_from([0.5, 3.0, 40.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.play(self.world.clock.sleep(seconds))

    @rule(pod=pods, number=st.integers(0, 8), mishap=st.sampled_from(MISHAPS))
    def mishap(self, pod: int, number: int, mishap: Mishap) -> None:
        hands = self.world.replicas[pod].hands
        hands.script[len(hands.effects) + number] = mishap

    @rule(pod=pods)
    def killed(self, pod: int) -> None:
        self.play(self.world.restart(self.world.replicas[pod]))

    @rule(pod=pods)
    def goes_on(self, pod: int) -> None:
        hands = self.world.replicas[pod].hands
        hands.resume.set()

    @rule(pod=pods)
    def demanded(self, pod: int) -> None:
        self.play(self._demand(pod, compromised=False))

    @rule(pod=pods)
    def stolen(self, pod: int) -> None:
        self.world.compromised = True  # from here on a gap may be wanted
        self.play(self._demand(pod, compromised=True))

    async def _demand(self, pod: int, *, compromised: bool) -> None:
        self.demands.append(self.world.demand(pod, compromised=compromised))
        await self.world.clock.sleep(0.1)

    @rule()
    def next_key_is_bad(self) -> None:
        self.world.account.next_is_bad = True

    @rule(seconds=st.sampled_from([0.0, 10.0]))
    def keys_settle(self, seconds: float) -> None:
        self.world.account.settles_after = seconds

    @rule(pod=pods, away=st.booleans())
    def provider(self, pod: int, away: bool) -> None:
        self.world.replicas[pod].driver.away = away

    @rule(pod=pods)
    def reported(self, pod: int) -> None:
        self.play(self._try(self.world.replicas[pod].rotator.suspect(NAME)))

    @rule(pod=pods, how=st.sampled_from(["freeze", "unfreeze", "pin"]))
    def held(self, pod: int, how: str) -> None:
        rotator = self.world.replicas[pod].rotator
        self.play(self._try(getattr(rotator, how)(NAME, actor="night shift")))

    @rule(seconds=st.sampled_from([20.0, 10_000.0, -20.0]))
    def wall_clock_is_set(self, seconds: float) -> None:
        self.world.clock.jump_wall(seconds)

    @rule()
    def vault_away_for_a_moment(self) -> None:
        self.play(self._outage())

    async def _outage(self) -> None:
        fault = self.world.vault.outage()
        await self.world.clock.sleep(8)  # readers bear 40 s; outages are told one by one
        self.world.vault.heal(fault)
        await self.world.clock.sleep(15)

    @rule()
    def backed_up(self) -> None:
        self.backup = self.world.vault.server.kv.backup(STATE.path)

    @rule()
    def restored(self) -> None:
        if self.backup is not None:
            self.lost_state = True
            self.world.vault.server.kv.restore(STATE.path, self.backup)

    @rule()
    def deleted_state(self) -> None:
        if self.world.vault.server.kv.backup(STATE.path) is not None:
            self.lost_state = True
            self.world.vault.server.kv.delete(STATE.path)

    async def _try(self, wish: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(200):
                await wish
        except (BrokerError, TimeoutError):
            pass  # whoever wished is told
        except BaseException as error:
            if type(error).__name__ != "Crash":
                raise

    @invariant()
    def nobody_was_harmed(self) -> None:
        assert self.world.violations == []

    def teardown(self) -> None:
        try:
            self.play(self._end())
        finally:
            self.loop.close()

    async def _end(self) -> None:
        world = self.world
        for demand in self.demands:
            demand.cancel()
        await asyncio.gather(*self.demands, return_exceptions=True)
        world.account.settles_after, world.account.next_is_bad = 0.0, False
        await world.recover()
        await self._try(world.replicas[0].rotator.unfreeze(NAME, actor="day shift"))
        await world.settled()
        await world.recover()
        found = world.judged()
        explained = world.served_id() in [key.key_id for key in world.own_keys()]
        phase = world.state().phase
        if world._judge is not None:
            world._judge.cancel()
        for replica in world.replicas:
            await world.end(replica)
            await replica.keepers.close(world.clock.now() + 5)
        if self.lost_state:  # keys whose intent was lost are reported and left to a person
            found = [one for one in found if not one.startswith(("live keys", "version"))]
            assert explained, world.observed.kinds()
        assert found == [], world.observed.kinds()
        assert phase is Phase.IDLE


TestRotations = Rotations.TestCase
TestRotations.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
