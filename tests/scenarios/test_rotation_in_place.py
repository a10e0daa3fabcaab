"""A password that Vault replaces in place, rotated: nothing overlaps, nothing is left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from broker.credentials.model import CredentialSpec, StaticRoleSource
from broker.errors import RotationFrozen
from broker.rotation.drivers.port import Driver
from broker.rotation.drivers.vault_role import VaultRoleDriver
from broker.rotation.model import Phase, Policy, Reason, Result
from broker.rotation.wishes import STORM
from tests.scenarios.rotation_judge import HOLD, KEY, NAME, STATE
from tests.scenarios.rotation_world import POLICY, Follows, Replica, RotationWorld
from tests.simulators.rotation_hands import MISHAPS, HandledVault, Mishap
from tests.simulators.session import SessionByHand
from tests.simulators.vault_server import LeasedPath

pytestmark = pytest.mark.looptime

ROLE, ROTATE = "database/static-creds/reports", "database/rotate-role/reports"
PERIOD, POLL = 100_000.0, 10.0
EFFECTS = ("write state: intended", "replace the password", "write state: idle")


class InPlaceWorld(RotationWorld):
    """A static role instead of a provider: one password, and when each one ended."""

    reader = CredentialSpec(KEY, StaticRoleSource(ROLE, poll=POLL), hold=HOLD)
    readers = None

    def __init__(self) -> None:
        super().__init__()
        self.number, self.due = 1, self.clock.now() + PERIOD
        self.replaced: list[float] = []
        read = LeasedPath(leased=False, make=self._shown)
        write = LeasedPath(leased=False, method="write", make=self._replace)
        self.vault.server.leased(ROLE, read)
        self.vault.server.leased(ROTATE, write)

    def driver(self, vault: HandledVault, session: SessionByHand) -> Driver:
        return VaultRoleDriver(ROTATE, vault=vault, session=session, clock=self.clock)

    def _shown(self, _: int) -> Mapping[str, str]:
        return {
            "username": "reports",
            "password": f"canary-{self.number}",
            "ttl": str(round(self.due - self.clock.now())),
        }

    def _replace(self, _: int) -> Mapping[str, str]:
        self.number, self.due = self.number + 1, self.clock.now() + PERIOD
        self.replaced.append(self.clock.now())
        return {}

    def handed_out(self, replica: Replica) -> str:
        entry = replica.store.get(KEY)
        assert entry is not None
        assert entry.snapshot is not None
        assert entry.usable(self.clock.now())
        return entry.snapshot.data["password"].reveal()

    def stale(self) -> list[str]:
        """Replicas that hand out a password which ended."""
        now = f"canary-{self.number}"
        return [one.name for one in self.replicas if self.handed_out(one) != now]

    def results(self) -> list[Result]:
        return [past.result for past in self.state().past]


@asynccontextmanager
async def in_place(*, replicas: int = 1, policy: Policy = POLICY) -> AsyncIterator[InPlaceWorld]:
    world = InPlaceWorld()
    world.policy = policy
    for number in range(replicas):
        await world.replica(f"pod-{number}")
    try:
        yield world
        assert world.violations == []
    finally:
        for replica in world.replicas:
            await world.end(replica)
            await replica.keepers.close(world.clock.now() + 5)


async def idle(world: InPlaceWorld, ended: int) -> None:
    """Wait until so many rotations have ended."""
    async with asyncio.timeout(1200):
        while len(world.state().past) < ended or world.state().phase is not Phase.IDLE:
            await world.clock.sleep(0.5)


async def test_never_rotated_is_due_and_readers_follow_at_once() -> None:
    """One step from intent to end; the rotating process re-reads without waiting for its poll."""
    async with in_place() as world:
        await idle(world, 1)
        (replaced,) = world.replaced
        while world.stale():
            await world.clock.sleep(0.02)
        assert world.clock.now() - replaced <= 1.0
        assert world.results() == [Result.ROTATED]
        assert world.observed.kinds() == ["intended", "rotated"]
        assert [effect.split()[0] for effect in world.replicas[0].hands.effects] == [
            "write",
            "create",
            "write",
        ]
        await world.clock.sleep(500)
        assert len(world.replaced) == 1  # nothing is due, nothing is swept, nothing retired


async def test_other_replicas_follow_within_a_poll() -> None:
    """They are not told; until then a caller may see one refused log-in, as documented."""
    async with in_place(replicas=3) as world:
        await idle(world, 1)
        replaced = world.replaced[-1]
        while world.stale():
            await world.clock.sleep(0.1)
        assert world.clock.now() - replaced <= POLL * 1.1 + 0.2


async def test_by_age_on_demand_and_in_a_storm() -> None:
    """The age counts from the replacement; twenty who ask at once get one."""
    policy = replace(POLICY, max_age=1000.0, jitter=0.1)
    async with in_place(policy=policy) as world:
        await idle(world, 1)
        await idle(world, 2)
        first, second = world.replaced
        assert 890 <= second - first <= 1001
        assert (await world.demand()).rotation == world.state().past[-1].rotation
        assert len(world.replaced) == 2  # what has just been done is what was asked for
        await world.clock.sleep(STORM)
        outcomes = await asyncio.gather(*(world.demand() for _ in range(20)))
        assert {outcome.result for outcome in outcomes} == {Result.ROTATED}
        assert len({outcome.rotation for outcome in outcomes}) == 1
        assert len(world.replaced) == 3
        assert world.state().past[-1].reason is Reason.DEMANDED


async def test_compromised_needs_no_withdrawal() -> None:
    """The stolen password ends as the new one is set."""
    async with in_place() as world:
        await idle(world, 1)
        stolen = world.handed_out(world.replicas[0])
        outcome = await world.demand(compromised=True)
        assert outcome.result is Result.ROTATED
        await world.clock.sleep(1)
        assert world.handed_out(world.replicas[0]) != stolen
        assert "withdrawn" not in world.observed.kinds()


async def test_pinned_and_frozen() -> None:
    """Nothing replaces a pinned password but a compromise, and a frozen one not even that."""
    async with in_place() as world:
        await idle(world, 1)
        rotator = world.replicas[0].rotator
        await rotator.pin(NAME, actor="night shift")
        with pytest.raises(RotationFrozen):
            await rotator.request(NAME, actor="other shift")
        await world.demand(compromised=True)
        await rotator.freeze(NAME, actor="night shift")
        with pytest.raises(RotationFrozen):
            await rotator.request(NAME, actor="thief seen", compromised=True)
        await world.clock.sleep(500)
        assert len(world.replaced) == 2


async def test_a_demand_at_a_follower_is_the_leaders_to_carry_out() -> None:
    """The follower writes the wish down and nothing else."""
    async with in_place() as world:
        await idle(world, 1)
        await world.clock.sleep(STORM)
        follower = await world.replica("follower", Follows(leading=False))
        assert (await world.demand(1)).result is Result.ROTATED
        assert follower.hands.effects == [f"write {STATE.path}"]


async def test_vault_away_and_refusing() -> None:
    """It is tried again with growing waits, and says what holds it up; readers go on."""
    async with in_place() as world:
        await idle(world, 1)
        await world.clock.sleep(STORM)
        world.vault.server.deny(ROTATE)
        asked = world.demand()
        await world.clock.sleep(120)
        (standing,) = world.replicas[0].rotator.status()
        assert standing.problem == "vault_denied"
        assert world.stale() == []
        world.vault.server.allow(ROTATE)
        assert (await asked).result is Result.ROTATED


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("number", range(len(EFFECTS)), ids=EFFECTS)
async def test_a_mishap_at_each_effect(number: int, mishap: Mishap, replicas: int) -> None:
    """It ends rotated, readers have the newest password, and no attempt is left half done.

    A lost answer may cost a second replacement: harmless, for there is only ever one password.
    """
    async with in_place(replicas=replicas) as world:
        pod = world.replicas[0]
        pod.hands.script[len(pod.hands.effects) + number] = mishap
        for _ in range(60):
            await world.clock.sleep(0.5)
            if pod.crashed or pod.hands.paused.is_set():
                break
        if pod.hands.paused.is_set():
            await world.clock.sleep(200)
        await world.recover()
        while Result.ROTATED not in world.results() or world.state().phase is not Phase.IDLE:
            assert world.clock.now() < 2000, (world.state(), world.observed.kinds())
            await world.clock.sleep(5)
        await world.clock.sleep(POLL * 1.1 + 1)
        assert world.stale() == []
        assert 1 <= len(world.replaced) <= 3
        assert world.state().fields == {}
