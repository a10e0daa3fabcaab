"""Rotation after what somebody deleted, lost or restored: readers' path, state, or both."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.credentials.model import State
from broker.rotation.model import Label, Phase, Reason, Result
from tests.scenarios.rotation_judge import KEY, NAME, STATE
from tests.scenarios.rotation_world import POLICY, RotationWorld, rotation_world
from tests.simulators.vault_kv import KvSecret

pytestmark = pytest.mark.looptime

URL = "https://api.example.com"
COMPROMISED = (Phase.WITHDRAWING, Phase.INTENDED, Phase.STAGED)


async def compromised(world: RotationWorld, phase: Phase) -> asyncio.Task[object]:
    """A thief was seen, and the rotation stands in ``phase``."""
    world.compromised = True
    if phase is Phase.STAGED:
        world.account.settles_after = 1000.0
    else:
        for pod in world.replicas:
            pod.driver.away = True
    asked: asyncio.Task[object] = asyncio.create_task(
        world.replicas[0].rotator.request(NAME, actor="operator", compromised=True, timeout=900)
    )
    if phase is Phase.INTENDED:
        await world.until(Phase.WITHDRAWING)
        for pod in world.replicas:
            pod.driver.away = False
            pod.hands.script[len(pod.hands.effects) + 2] = "pause after"  # retired, committed
        while world.state().phase is not Phase.INTENDED:
            await world.clock.sleep(0.05)
        for pod in world.replicas:
            pod.driver.away = True
            pod.hands.script.clear()
            pod.hands.resume.set()
    await world.until(phase)
    await world.clock.sleep(3)
    return asked


def lose(world: RotationWorld, how: str, before: KvSecret | None) -> None:
    """The state as it was before the compromise, or none at all."""
    kv = world.vault.server.kv
    match how:
        case "restored":
            kv.restore(STATE.path, before)
        case "deleted":
            kv.delete(STATE.path)
        case "wiped":
            kv.wipe(STATE.path)


@pytest.mark.parametrize("how", ["restored", "deleted", "wiped"])
@pytest.mark.parametrize("phase", COMPROMISED)
async def test_a_compromise_goes_on_when_its_state_is_lost(phase: Phase, how: str) -> None:
    """What withdrew the readers stands in their own path: a new key comes without a demand."""
    async with rotation_world(rotated=True) as world:
        stolen = world.account.keys[world.served_id()]
        before = world.vault.server.kv.backup(STATE.path)
        asked = await compromised(world, phase)
        assert world.withdrawn()
        lose(world, how, before)
        asked.cancel()
        world.account.settles_after = 0.0
        await world.recover()
        deadline = world.clock.now() + 300
        while world.withdrawn():
            assert world.clock.now() < deadline, (world.state(), world.observed.kinds())
            await world.clock.sleep(1)
        await world.clock.sleep(80)  # readers ask again a minute after a refusal
        assert stolen.retired_wall is not None
        assert world.account.accepts(world.served()["api_key"])
        assert world.served()["url"] == URL
        assert world.served_id() != stolen.key_id
        entry = world.replicas[0].store.get(KEY)
        assert entry is not None
        assert entry.state is State.FRESH
        assert world.violations == []


async def test_a_withdrawn_value_is_withdrawn_everywhere_within_a_poll() -> None:
    """The version without a key says so to readers on other replicas too; it names no key."""
    async with rotation_world(replicas=2, rotated=True) as world:
        stolen = world.served()["api_key"]
        asked = await compromised(world, Phase.WITHDRAWING)
        await world.clock.sleep(11.1)
        for pod in world.replicas:
            entry = pod.store.get(KEY)
            assert entry is not None
            assert entry.state is State.WITHDRAWN
            assert not entry.usable(world.clock.now())
        assert set(world.served()) == {"url", "broker.rotation"}
        kept = world.vault.server.kv.backup(NAME)
        assert kept is not None
        readable = [v for v in kept.versions if not v.deleted and not v.destroyed]
        assert stolen not in [version.data.get("api_key") for version in readable]
        await world.recover()
        await asyncio.wait([asked])
        await world.settled()
        assert world.judged() == []


async def test_a_new_key_that_fails_while_readers_have_nothing_is_not_waited_a_day_for() -> None:
    """The waits between tries stay short, and a demand does not wait at all."""
    async with rotation_world(rotated=True) as world:
        world.compromised = True
        made = 0
        asked = world.demand(compromised=True)
        for _ in range(8):
            world.account.next_is_bad = True
            while len(world.account.keys) == made or not world.withdrawn():
                await world.clock.sleep(0.5)
            made = len(world.account.keys)
            await world.until(Phase.STAGED, Phase.DISCARDING, within=300)
            await world.until(Phase.IDLE, within=300)
        await asyncio.gather(asked, return_exceptions=True)
        failed = world.clock.now()
        world.account.next_is_bad = False
        while world.withdrawn():
            await world.clock.sleep(1)
        # The newest may have been made bad before it was asked not to be.
        assert world.clock.now() - failed <= 2 * (POLICY.retry_cap + POLICY.settle + 15)


async def test_what_stood_beside_the_key_outlives_a_withdrawal_by_hand() -> None:
    """A person deleted the value; the demanded rotation brings back all but the old key."""
    async with rotation_world(rotated=True) as world:
        world.compromised = True
        world.vault.server.kv.delete(NAME)
        await world.demand()
        assert world.served()["url"] == URL
        await world.settled()
        assert world.judged() == []


@pytest.mark.parametrize("deleted", [(), (1,), (1, 2)])
async def test_as_much_as_vault_still_has(deleted: tuple[int, ...]) -> None:
    """The newest version that can be read tells; when there is none, the key stands alone."""
    async with rotation_world(rotated=True) as world:
        world.compromised = True
        await world.demand()
        await world.settled()
        kept = world.vault.server.kv.backup(NAME)
        assert kept is not None
        assert len(kept.versions) == 3
        for version in (*deleted, 3):
            world.vault.server.kv.delete(NAME, version=version)
        await world.demand()
        assert ("url" in world.served()) is (len(deleted) < 2)
        assert world.account.accepts(world.served()["api_key"])


@pytest.mark.parametrize("restarted", [False, True])
async def test_state_and_readers_restored_together_are_noticed(restarted: bool) -> None:
    """All of Vault is from before the newest rotation: reported, nothing deleted, and healed.

    The provider tells: it lists a key that nobody here knows, and lacks the one readers have.
    """
    async with rotation_world(rotated=True) as world:
        kv = world.vault.server.kv
        old = kv.backup(STATE.path), kv.backup(NAME)
        dead = world.served_id()
        await world.demand()
        await world.until(Phase.IDLE)
        await world.settled()
        living = world.served_id()
        await world.clock.sleep(POLICY.overlap)
        world.observed.steps.clear()

        world.failing = True  # readers have a dead key: no wisdom of ours helps them
        kv.restore(STATE.path, old[0])
        kv.restore(NAME, old[1])
        if restarted:
            await world.restart(world.replicas[0])
        await world.clock.sleep(15)

        told = [(step.kind, step.key_id) for step in world.observed.steps]
        assert ("orphan_seen", living) in told
        assert ("key_missing", dead) in told
        assert (("restored", "") in told) is not restarted
        (standing,) = world.replicas[0].rotator.status()
        assert standing.problem == "rotation_key_missing"
        await world.clock.sleep(3000)
        assert world.account.keys[living].retired_wall is None
        assert [step.kind for step in world.observed.steps].count("key_missing") == 1

        await world.demand()
        await world.until(Phase.OVERLAP)
        await world.clock.sleep(15)
        world.failing = False
        await world.until(Phase.IDLE)
        await world.clock.sleep(POLICY.sweep_every + POLICY.watch)
        (after,) = world.replicas[0].rotator.status()
        assert after.problem == ""
        assert world.account.accepts(world.served()["api_key"])
        assert world.violations == []


async def test_a_key_ended_at_the_provider_is_told_of() -> None:
    """Somebody revoked the readers' key over there: status, audit and metrics say so."""
    async with rotation_world(rotated=True) as world:
        await world.clock.sleep(POLICY.overlap)
        world.failing = True
        world.account.on_retire = lambda _: None
        world.account.retire(world.served_id())
        await world.clock.sleep(POLICY.sweep_every + POLICY.watch)
        assert "key_missing" in world.observed.kinds()
        assert (await world.demand()).result is Result.ROTATED


async def test_a_key_that_no_rotation_made_is_not_missed() -> None:
    """A list by our label does not show it."""
    async with rotation_world(policy=replace(POLICY, max_age=10_000.0), rotated=True) as world:
        world.account.seed("k9", secret="canary-secret-9")
        world.vault.server.kv.put(
            NAME, {"api_key": "canary-secret-9", "url": URL}, custom_metadata={}
        )
        await world.clock.sleep(1000)
        assert "adopted" in world.observed.kinds()
        assert "key_missing" not in world.observed.kinds()


async def test_the_last_living_key_is_not_swept_because_a_person_went_back() -> None:
    """``vault kv rollback`` to a key that is over: told of, and the way forward stays open."""
    async with rotation_world(rotated=True) as world:
        over = world.served_id()
        await world.demand()
        await world.settled()
        living, kv = world.account.keys[world.served_id()], world.vault.server.kv
        world.failing = True  # until the person notices
        kv.rollback(NAME, 2)
        assert world.served_id() == over
        await world.clock.sleep(2 * POLICY.orphan_age)
        assert ("key_missing", over) in [(s.kind, s.key_id) for s in world.observed.steps]
        (standing,) = world.replicas[0].rotator.status()
        assert standing.problem == "rotation_key_missing"
        assert living.retired_wall is None
        kv.rollback(NAME, 3)
        await world.clock.sleep(15)
        world.failing = False
        await world.settled()
        assert world.judged() == []


async def test_a_hand_made_key_that_is_lost_sight_of_is_told_of() -> None:
    """A person writes another value within the first overlap: nobody will retire the old key."""
    async with rotation_world() as world:
        await world.until(Phase.OVERLAP)
        world.account.seed("k9", secret="canary-secret-9")
        world.vault.server.kv.put(
            NAME,
            {"api_key": "canary-secret-9", "url": URL},
            custom_metadata={"broker_key_id": "k9"},
        )
        await world.settled(within=600)
        told = [(step.kind, step.key_id) for step in world.observed.steps]
        assert told.count(("orphan_seen", "k0")) == 1
        assert {key.key_id for key in world.account.live()} == {"k0", "k9"}
        assert world.violations == []


async def test_who_starts_within_an_overlap_waits_for_the_whole_of_it() -> None:
    """The wall clock was set forward and the process restarted: the old key lives on."""
    async with rotation_world() as world:
        await world.until(Phase.OVERLAP)
        world.clock.jump_wall(10_000)
        await world.restart(world.replicas[0])
        started = world.clock.now()
        await world.clock.sleep(POLICY.overlap - 5)
        assert "k0" in [key.key_id for key in world.account.live()]
        await world.settled()
        retired = world.account.keys["k0"].retired_wall
        assert retired is not None
        assert retired - (world.clock.wall() - world.clock.now()) >= started + POLICY.overlap
        assert world.judged() == []


@pytest.mark.parametrize("demanded", [False, True])
async def test_a_provider_that_never_answers_well_is_not_filled_with_keys(demanded: bool) -> None:
    """Each answer is garbage after the key was made: the tries thin out, a demand ends."""
    policy = replace(POLICY, max_age=300.0, retry_cap=300.0)
    async with rotation_world(policy=policy, rotated=True) as world:
        pod = world.replicas[0]
        pod.driver.garbage = True
        if demanded:
            asked = world.demand()
        await world.clock.sleep(4 * 3600)
        if demanded:
            assert world.state().wish is None
            await asyncio.gather(asked, return_exceptions=True)
        made = [key for key in world.account.keys.values() if key.created_wall > 0]
        assert len(made) <= 11
        assert world.violations == []
        pod.driver.garbage = False
        assert (await world.demand()).result is Result.ROTATED  # a person does not wait


async def test_a_key_that_ends_too_soon_is_not_given_to_readers() -> None:
    """Its expiry would come before the old one is gone: refused, and readers keep theirs."""
    async with rotation_world(rotated=True) as world:
        before = world.served_id()
        world.account.life = POLICY.overlap - 1
        asked = world.demand()
        await world.clock.sleep(300)
        assert world.served_id() == before
        assert world.account.accepts(world.served()["api_key"])
        (standing,) = world.replicas[0].rotator.status()
        assert "failed" in world.observed.kinds()
        assert standing.phase is not Phase.OVERLAP
        world.account.life = None
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert (await world.demand()).result is Result.ROTATED
        assert world.violations == []


async def test_a_state_restored_within_an_overlap_ends_no_key_early() -> None:
    """It knows nothing of the overlap any more: the old key looks like an orphan, and is in use."""
    async with rotation_world(replicas=2, rotated=True) as world:
        before = world.vault.server.kv.backup(STATE.path)
        old = world.account.keys[world.served_id()]
        await world.clock.sleep(POLICY.orphan_age)
        await world.demand()
        promoted = world.clock.now()
        world.vault.server.kv.restore(STATE.path, before)
        while old.retired_wall is None:
            await world.clock.sleep(1)
            assert world.clock.now() < promoted + 1000
        assert world.clock.now() - promoted >= POLICY.overlap
        assert "swept" in world.observed.kinds()
        assert world.judged() == []


async def test_the_reason_of_what_goes_on_is_told() -> None:
    """History says that the compromise was taken up again, and by nobody's wish."""
    async with rotation_world(rotated=True) as world:
        before = world.vault.server.kv.backup(STATE.path)
        asked = await compromised(world, Phase.WITHDRAWING)
        lose(world, "restored", before)
        asked.cancel()
        await world.recover()
        await world.settled()
        newest = world.state().past[-1]
        assert (newest.reason, newest.actor) == (Reason.COMPROMISED, "schedule")
        label = Label.parse(world.account.keys[world.served_id()].label)
        assert label is not None
        assert label.rotation == newest.rotation
