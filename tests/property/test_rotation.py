"""Any story of replicas, mishaps, operators, thieves and neighbours: what promise 9 says holds.

The alphabet is that of the tables in ``tests/scenarios``; here any word of it is tried, by two
installations on one account at a provider. What is excused because a person wanted it, and
nothing else, stands in ``tests/scenarios/rotation_judge``. After a person has brought a dead key
back to readers, the broker must have told of it, and one demand must heal it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import looptime
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.errors import BrokerError, RotationKeyMissing
from broker.rotation.model import Phase
from tests.scenarios.rotation_judge import NAME, Restored
from tests.scenarios.rotation_world import Follows, Replica, RotationWorld
from tests.simulators.rotation_hands import MISHAPS, Mishap
from tests.simulators.vault_kv import KvSecret

pytestmark = pytest.mark.timeout(300)  # half a minute of work, more where others work too
pods = st.integers(0, 2)
"""Two of one installation, one of its neighbour."""
installations = st.integers(0, 1)

FOREIGN = (
    "made by hand",
    "",
    "broker",
    "broker/prod",
    f"broker/prod/{NAME}",
    f"broker/prod/{NAME}/",
    f"broker/prod/{NAME}/r1/x",
    f"broker/prod/{NAME}-2/r1",
    f"broker/prod-2/{NAME}/r1",
    f"broker/PROD/{NAME}/r1",
    f" broker/prod/{NAME}/r1",
    f"Broker/stage/{NAME}/r1",
    f"broker//{NAME}/r1",
    f"broker/{NAME}/prod/r1",
)
"""Labels of keys that are nobody's here, though some look alike."""


class Rotations(RuleBasedStateMachine):
    """Two replicas that may both lead and a neighbour, on virtual time."""

    def __init__(self) -> None:
        super().__init__()
        plain = asyncio.new_event_loop()
        assert isinstance(plain, asyncio.BaseEventLoop)
        self.loop = looptime.patch_event_loop(plain)
        # No file, socket or thread is waited for: time may jump as soon as nothing can run.
        self.loop.setup_looptime(start=0, end=None, noop_cycles=0)
        self.demands: list[asyncio.Task[Any]] = []
        self.backups: dict[int, tuple[KvSecret | None, KvSecret | None]] = {}
        self.elections = [Follows(), Follows()]
        self.foreign = 0
        self.acted = [0, 0]
        """How many steps each installation had told of when a person last went back."""
        self.worlds: list[RotationWorld] = self.play(self._begin())
        self.world = self.worlds[0]

    def play(self, part: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(part)

    async def _begin(self) -> list[RotationWorld]:
        world, neighbour = RotationWorld(), RotationWorld(installation="stage")
        neighbour.beside(world)
        world.seed()
        neighbour.seed()
        for number, election in enumerate(self.elections):
            await world.replica(f"pod-{number}", election)
        await neighbour.replica("neighbour")
        world.watch()
        neighbour.watch()
        return [world, neighbour]

    def pod(self, number: int) -> tuple[RotationWorld, Replica]:
        return (
            (self.worlds[1], self.worlds[1].replicas[0])
            if number == 2
            else (self.world, self.world.replicas[number])
        )

    # --- time, processes, mishaps -------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 3.0, 40.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.play(self.world.clock.sleep(seconds))

    @rule(pod=pods, number=st.integers(0, 8), mishap=st.sampled_from(MISHAPS))
    def mishap(self, pod: int, number: int, mishap: Mishap) -> None:
        hands = self.pod(pod)[1].hands
        hands.script[len(hands.effects) + number] = mishap

    @rule(pod=pods)
    def killed(self, pod: int) -> None:
        world, replica = self.pod(pod)
        self.play(world.restart(replica))

    @rule(pod=pods)
    def goes_on(self, pod: int) -> None:
        self.pod(pod)[1].hands.resume.set()

    @rule(leading=st.tuples(st.booleans(), st.booleans()))
    def elected(self, leading: tuple[bool, bool]) -> None:
        """None, one or two lead; whoever is in the middle of an act does not notice."""
        for election, leads in zip(self.elections, leading, strict=True):
            election.leading = leads

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

    # --- the provider -------------------------------------------------------------------

    @rule()
    def next_key_is_bad(self) -> None:
        self.world.account.next_is_bad = True

    @rule(seconds=st.sampled_from([0.0, 10.0]))
    def keys_settle(self, seconds: float) -> None:
        self.world.account.settles_after = seconds

    @rule(pod=pods, away=st.booleans())
    def provider(self, pod: int, away: bool) -> None:
        self.pod(pod)[1].driver.away = away

    @rule(label=st.sampled_from(FOREIGN))
    def somebody_makes_a_key(self, label: str) -> None:
        self.play(self._foreign(label))

    async def _foreign(self, label: str) -> None:
        self.foreign += 1
        name = f"foreign-{self.foreign}"
        self.world.account.seed(name, secret=f"canary-{name}", label=label)

    # --- persons ------------------------------------------------------------------------

    @rule(pod=pods)
    def demanded(self, pod: int) -> None:
        self.play(self._demand(pod, compromised=False))

    @rule(pod=pods)
    def stolen(self, pod: int) -> None:
        self.play(self._demand(pod, compromised=True))

    async def _demand(self, pod: int, *, compromised: bool) -> None:
        world, replica = self.pod(pod)
        number = world.replicas.index(replica)
        self.demands.append(world.demand(number, compromised=compromised))
        await world.clock.sleep(0.1)

    @rule(pod=pods)
    def reported(self, pod: int) -> None:
        self.play(self._try(self.pod(pod)[1].rotator.suspect(NAME, actor="search-mcp")))

    @rule(pod=pods, how=st.sampled_from(["freeze", "unfreeze", "pin"]))
    def held(self, pod: int, how: str) -> None:
        rotator = self.pod(pod)[1].rotator
        self.play(self._try(getattr(rotator, how)(NAME, actor="night shift")))

    @rule(of=installations)
    def backed_up(self, of: int) -> None:
        """State and readers' path at one moment."""
        self.backups[of] = self.worlds[of].backup()

    @rule(of=installations, what=st.sampled_from(["state", "readers", "both"]))
    def restored(self, of: int, what: Restored) -> None:
        if of in self.backups:
            self.play(self._restore(of, what))

    async def _restore(self, of: int, what: Restored) -> None:
        await self._still()
        self.worlds[of].restore(self.backups[of], what)
        self.acted[of] = len(self.worlds[of].observed.steps)

    @rule(of=installations, how=st.sampled_from(["delete", "wipe"]))
    def state_is_deleted(self, of: int, how: str) -> None:
        world = self.worlds[of]
        if world.backup()[0] is not None:
            world.state_lost = True
            getattr(world.vault.server.kv, how)(world.state_path.path)

    @rule(of=installations)
    def readers_are_deleted(self, of: int) -> None:
        self.play(self._delete_readers(self.worlds[of]))

    async def _delete_readers(self, world: RotationWorld) -> None:
        world.delete_readers()

    @rule(of=installations, back=st.integers(1, 3))
    def readers_are_rolled_back(self, of: int, back: int) -> None:
        """As by ``vault kv rollback``: an old value, its note included, as a new version."""
        self.play(self._roll_back(of, back))

    async def _roll_back(self, of: int, back: int) -> None:
        await self._still()
        world = self.worlds[of]
        kept = world.backup()[1]
        assert world.readers is not None
        assert kept is not None
        number = len(kept.versions) - back
        if number < 1 or kept.versions[number - 1].deleted:
            return
        world.vault.server.kv.rollback(world.readers.path, number)
        world.brought_back()
        self.acted[of] = len(world.observed.steps)

    async def _still(self) -> None:
        """Until nobody is between two calls of one act: that instant no check can cover."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def _try(self, wish: Coroutine[Any, Any, Any]) -> None:
        try:
            async with asyncio.timeout(200):
                await wish
        except (BrokerError, TimeoutError):
            pass  # whoever wished is told
        except BaseException as error:
            if type(error).__name__ != "Crash":
                raise

    # --- what must hold -----------------------------------------------------------------

    @invariant()
    def nobody_was_harmed(self) -> None:
        told = [one.violations for one in self.worlds]
        assert told == [[], []], told

    @invariant()
    def each_minds_its_own_keys(self) -> None:
        """Neither ends, sweeps or reports a key of the other, nor one that is nobody's."""
        keys = self.world.account.keys
        for key in keys.values():
            if key.retired_wall is not None:
                (owner,) = [one.installation for one in self.worlds if one.owns(key)]
                assert key.retired_by == owner
        for one in self.worlds:
            told = {step.key_id for step in one.observed.steps if step.key_id in keys}
            assert [each for each in told if not one.owns(keys[each])] == []

    def teardown(self) -> None:
        try:
            self.play(self._end())
        finally:
            self.loop.close()

    async def _end(self) -> None:
        for demand in self.demands:
            demand.cancel()
        await asyncio.gather(*self.demands, return_exceptions=True)
        account = self.world.account
        account.settles_after, account.next_is_bad = 0.0, False
        for election in self.elections:
            election.leading = True
        for world in self.worlds:
            await world.recover()
        found = [await self._judged(world) for world in self.worlds]
        for world in self.worlds:
            world.leave()
            for replica in world.replicas:
                await world.end(replica)
                await replica.keepers.close(world.clock.now() + 5)
        self.nobody_was_harmed()
        self.each_minds_its_own_keys()
        kinds = [world.observed.kinds() for world in self.worlds]
        assert found == [[], []], (found, kinds)
        foreign = [key.key_id for key in account.live() if key.key_id.startswith("foreign")]
        assert len(foreign) == self.foreign

    async def _judged(self, world: RotationWorld) -> list[str]:
        """What is wrong with one installation after all of it."""
        rotator = world.replicas[0].rotator
        await self._try(rotator.unfreeze(NAME, actor="day shift"))
        await world.settled(within=1500)
        await world.recover()
        found = []
        if world.deleted() or not world.account.accepts(world.served()["api_key"]):
            # Nothing but a person brings back what a person took away.
            if not world.deleted() and not self._told(world):
                found.append("readers have a dead key, and nobody was told")
            await self._try(rotator.request(NAME, actor="day shift"))
            await world.settled(within=1500)
        # Keys whose intent was lost, and keys without a label that were lost sight of, are
        # reported and left to a person.
        judged = world.judged()
        lost = ("live keys", "version") if world.state_lost else ("live keys",)
        found += [one for one in judged if not one.startswith(lost)] + self._unexplained(world)
        if world.state().phase is not Phase.IDLE:
            found.append(f"it rests in {world.state().phase}")
        return found

    def _told(self, world: RotationWorld) -> bool:
        """Whether somebody reading steps or status knows that the readers' key may be over."""
        kinds = {"adopted", "restored", "key_missing"}
        since = world.observed.kinds()[self.acted[self.worlds.index(world)] :]
        problems = [one.problem for pod in world.replicas for one in pod.rotator.status()]
        return bool(kinds & set(since)) or RotationKeyMissing.code in problems

    def _unexplained(self, world: RotationWorld) -> list[str]:
        served = world.served_id()
        live = [key.key_id for key in world.own_keys()]
        found = [] if served in live else [f"live keys {live}, readers have {served!r}"]
        told = {s.key_id for s in world.observed.steps if s.kind == "orphan_seen"}
        first = {world.first_id}
        known = told if world.state_lost else told & first
        if world.state_lost or world.never_known:
            known = known | first
        unknown = [each for each in live if each not in {served, *known}]
        return found + [f"{each} lives and nobody was told" for each in unknown]


TestRotations = Rotations.TestCase
TestRotations.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
