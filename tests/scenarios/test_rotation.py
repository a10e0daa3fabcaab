"""Rotation of one key, step by step, as readers, operators and the provider see it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest

from broker.errors import RotationFrozen, RotationRolledBack, RotationUnknown
from broker.kube.election import LeaseElection
from broker.kube.plan import Times
from broker.rotation.model import Label, Phase, Reason, Result
from tests.scenarios.rotation_judge import KEY, NAME, READERS, STATE
from tests.scenarios.rotation_world import POLICY, Follows, RotationWorld, rotation_world
from tests.simulators.kubernetes import LeaseLine, Objects

pytestmark = pytest.mark.looptime


class TestTheSaga:
    """What happens when nothing goes wrong, and when the new key does."""

    async def test_a_key_never_rotated_is_replaced_and_the_old_one_retired(self) -> None:
        """Created, proved, promoted; the old key lives through the overlap and then ends."""
        async with rotation_world(replicas=2) as world:
            await world.until(Phase.OVERLAP)
            promoted = world.clock.now()
            assert sorted(key.key_id for key in world.own_keys()) == ["k0", "key-2"]
            assert world.served()["url"] == "https://api.example.com"
            await world.settled()
            retired = world.account.keys["k0"].retired_wall
            assert retired is not None
            assert retired - (world.clock.wall() - world.clock.now()) >= promoted + 119
            assert world.judged() == []
            kinds = world.observed.kinds()
            assert kinds[:5] == ["intended", "created", "proved", "rotated", "retired"]

    async def test_readers_of_this_process_switch_at_the_promotion(self) -> None:
        """Who waits for a change is told within 50 ms of the write, floor or not."""
        async with rotation_world(rotated=True) as world:
            pod = world.replicas[0]
            await pod.keepers.refresh(KEY)  # just read: the usual floor would delay the next
            entry = pod.store.get(KEY)
            assert entry is not None
            asked = world.demand()
            changed = entry
            while (
                changed.snapshot is None
                or entry.snapshot is None
                or (changed.snapshot.version == entry.snapshot.version)
            ):
                found = await pod.store.wait_change(KEY, changed.revision, world.clock.now() + 30)
                assert found is not None
                changed = found
            switched = world.clock.wall()
            await asked
            (rotated,) = [step for step in world.observed.steps if step.kind == "rotated"]
            assert abs(switched - rotated.at_wall) <= 0.05

    async def test_a_new_key_that_fails_its_proof_is_retired_and_the_old_stays(self) -> None:
        """After the settling time it is given up; whoever asked is told."""
        async with rotation_world(rotated=True) as world:
            before = world.served()
            world.account.next_is_bad = True
            with pytest.raises(RotationRolledBack):
                await world.demand()
            await world.settled()
            assert world.served() == before
            assert world.judged() == []
            assert world.state().past[-1].result is Result.ROLLED_BACK

    async def test_a_key_that_is_accepted_a_little_later_is_not_given_up(self) -> None:
        """Within the settling time the proof is asked again."""
        async with rotation_world(rotated=True) as world:
            world.account.settles_after = 15.0
            outcome = await world.demand()
            assert outcome.result is Result.ROTATED
            assert "proof_failed" in world.observed.kinds()
            await world.settled()
            assert world.judged() == []

    async def test_a_storm_of_demands_makes_one_rotation(self) -> None:
        """Fifty at two replicas, spread over seconds: one new key, one outcome for all."""
        async with rotation_world(replicas=2, rotated=True) as world:
            asking = []
            for number in range(50):
                asking.append(world.demand(number % 2))
                await world.clock.sleep(0.1)
            outcomes = await asyncio.gather(*asking)
            assert len({outcome.rotation for outcome in outcomes}) == 1
            await world.settled()
            assert world.observed.kinds().count("created") == 1
            assert world.judged() == []

    async def test_by_age_and_before_its_own_expiry(self) -> None:
        """A key is replaced before its age is reached, and in good time before it expires."""
        policy = replace(POLICY, max_age=1000.0, jitter=0.1, before_expiry=300.0)
        async with rotation_world(policy=policy, rotated=True) as world:
            (first,) = world.own_keys()
            await world.until(Phase.OVERLAP, within=1100)
            assert 880 <= world.clock.wall() - first.created_wall <= 1001
            assert world.state().reason is Reason.MAX_AGE
            await world.until(Phase.IDLE)
            world.account.life = 600.0
            await world.demand()
            await world.until(Phase.IDLE)
            await world.until(Phase.OVERLAP, within=500)
            assert world.state().reason is Reason.EXPIRY
            assert world.violations == []


class TestCompromise:
    """No overlap."""

    async def test_the_stolen_key_dies_before_another_is_served(self) -> None:
        """Readers are withdrawn, the key is retired, and only then a new one is made."""
        async with rotation_world(replicas=2, rotated=True) as world:
            stolen = world.account.keys[world.served_id()]
            world.compromised = True
            outcome = await world.demand(1, compromised=True)
            assert outcome.result is Result.ROTATED
            fresh = world.account.keys[world.served_id()]
            assert stolen.retired_wall is not None
            assert stolen.retired_wall <= fresh.created_wall
            await world.clock.sleep(15)
            world.compromised = False
            await world.settled()
            assert world.judged() == []
            assert world.served()["url"] == "https://api.example.com"


class TestOperators:
    """Bad nights."""

    async def test_frozen_takes_no_step(self) -> None:
        """Nothing moves, no demand is taken, until it is unfrozen; then it goes on."""
        async with rotation_world() as world:
            await world.until(Phase.OVERLAP)
            rotator = world.replicas[0].rotator
            await rotator.freeze(NAME, actor="night shift")
            await world.clock.sleep(500)
            assert world.state().phase is Phase.OVERLAP
            with pytest.raises(RotationFrozen):
                await rotator.request(NAME, actor="other shift")
            await rotator.unfreeze(NAME, actor="day shift")
            await world.settled()
            assert world.judged() == []

    async def test_pinned_keeps_the_key(self) -> None:
        """A candidate is discarded, nothing begins by demand; a compromise does."""
        async with rotation_world(rotated=True) as world:
            rotator, before = world.replicas[0].rotator, world.served_id()
            world.account.settles_after = 1000.0
            asked = world.demand()
            await world.until(Phase.STAGED)
            await rotator.pin(NAME, actor="night shift")
            await world.until(Phase.IDLE)
            asked.cancel()
            world.account.settles_after = 0.0
            with pytest.raises(RotationFrozen):
                await rotator.request(NAME, actor="other shift")
            await world.settled()
            assert world.served_id() == before
            world.compromised = True
            await world.demand(compromised=True)
            assert world.served_id() != before

    async def test_a_name_without_rotation(self) -> None:
        """It is an error of its own."""
        async with rotation_world() as world:
            with pytest.raises(RotationUnknown):
                await world.replicas[0].rotator.history("other")

    async def test_what_is_shown(self) -> None:
        """Standing and history tell what happened, and who asked."""
        async with rotation_world(rotated=True) as world:
            await world.demand()
            await world.clock.sleep(1)
            (standing,) = world.replicas[0].rotator.status()
            assert (standing.phase, standing.reason) == (Phase.OVERLAP, Reason.DEMANDED)
            assert standing.key_since_wall == pytest.approx(world.clock.wall(), abs=5)
            await world.settled()
            newest, oldest = await world.replicas[0].rotator.history(NAME)
            assert (newest.actor, newest.reason) == ("operator", Reason.DEMANDED)
            assert (oldest.actor, oldest.reason) == ("schedule", Reason.NEVER_ROTATED)

    async def test_a_value_written_by_hand_is_kept(self) -> None:
        """Somebody writes the readers' path: it is adopted, and the key before is swept later."""
        async with rotation_world(rotated=True) as world:
            world.account.seed("k9", secret="canary-secret-9")
            world.vault.server.kv.put(NAME, {"api_key": "canary-secret-9", "url": "x"})
            await world.clock.sleep(400)
            assert world.served()["api_key"] == "canary-secret-9"
            assert [key.key_id for key in world.account.live()] == ["k9"]
            assert "adopted" in world.observed.kinds()
            assert world.violations == []

    async def test_a_value_withdrawn_by_hand_stays_withdrawn(self) -> None:
        """No rotation by age undoes what a person deleted; a demand does."""
        policy = replace(POLICY, max_age=300.0)
        async with rotation_world(policy=policy, rotated=True) as world:
            world.compromised = True
            world.vault.server.kv.delete(NAME)
            await world.clock.sleep(1000)
            assert world.vault.server.kv.backup(NAME).versions[-1].deleted  # type: ignore[union-attr]
            assert (await world.demand()).result is Result.ROTATED
            await world.settled()
            assert [key.key_id for key in world.own_keys()] == [world.served_id()]
            assert world.account.accepts(world.served()["api_key"])


class TestTheStateItself:
    """Lost, restored, unreadable."""

    async def test_a_deleted_state_is_not_guessed(self) -> None:
        """The readers' key is adopted; keys nobody explains are reported, never retired."""
        async with rotation_world(rotated=True) as world:
            label = Label(world.installation, NAME, "r99").text
            world.account.seed("k9", secret="canary-secret-9", label=label)
            before = world.served_id()
            world.vault.server.kv.delete(STATE.path)
            await world.clock.sleep(1000)
            assert "adopted" in world.observed.kinds()
            assert world.observed.kinds().count("orphan_seen") == 1
            assert {key.key_id for key in world.account.live()} == {before, "k9"}
            await world.demand()
            await world.until(Phase.IDLE)
            assert world.account.keys[before].retired_wall is not None
            assert world.violations == []

    @pytest.mark.parametrize("phase", [Phase.STAGED, Phase.PROMOTING, Phase.OVERLAP, Phase.IDLE])
    async def test_an_old_backup_of_the_state_deletes_nothing_live(self, phase: Phase) -> None:
        """Restored to any phase of an earlier rotation: readers keep their key throughout."""
        async with rotation_world(rotated=True) as world:
            if phase in (Phase.STAGED, Phase.PROMOTING):
                world.account.settles_after = 10.0
            asked = world.demand()
            while world.state().phase is not phase:
                await world.clock.sleep(0.0005 if phase is Phase.PROMOTING else 0.5)
                if phase is Phase.PROMOTING and world.state().phase is Phase.OVERLAP:
                    break  # it is over in no time; the state before is as good
            backup = world.vault.server.kv.backup(STATE.path)
            await asked
            await world.settled()
            world.account.settles_after = 0.0
            await world.demand()
            await world.until(Phase.IDLE)
            world.vault.server.kv.restore(STATE.path, backup)
            await world.clock.sleep(600)
            assert world.state().phase is Phase.IDLE
            assert world.violations == []
            assert world.account.accepts(world.served()["api_key"])
            await world.demand()
            await world.settled()
            assert world.violations == []

    async def test_a_newer_schema_is_not_touched(self) -> None:
        """A broker that does not understand the state takes no step, and says so."""
        async with rotation_world(rotated=True) as world:
            world.vault.server.kv.put(STATE.path, {"state": '{"schema": 2}'})
            await world.clock.sleep(300)
            assert [key.key_id for key in world.own_keys()] == [world.served_id()]
            (standing,) = world.replicas[0].rotator.status()
            assert standing.problem == "rotation_state_unreadable"


class TestNeighbours:
    """Others at the same provider, others that lead."""

    async def test_a_second_installation_on_the_same_account(self) -> None:
        """Its keys are neither swept nor reported, whatever they are called."""
        async with rotation_world(rotated=True) as world:
            for number, label in enumerate(
                (Label("stage", NAME, "r1").text, Label("prod", "other", "r1").text, "broker/x", "")
            ):
                world.account.seed(f"other-{number}", secret=f"canary-{number}", label=label)
            await world.clock.sleep(1000)
            assert len([k for k in world.account.live() if k.key_id.startswith("other")]) == 4
            assert "orphan_seen" not in world.observed.kinds()

    async def test_two_installations_rotate_on_one_account(self) -> None:
        """The same credential, even the same rotation ids: each keeps to its own keys."""
        async with rotation_world(replicas=2) as world:
            neighbour = RotationWorld(installation="stage")
            neighbour.beside(world)
            neighbour.seed()
            await neighbour.replica("neighbour")
            neighbour.watch()
            both = (world, neighbour)
            for _ in range(3):
                await asyncio.gather(*(one.demand() for one in both))
                for one in both:
                    await one.settled()
            await world.clock.sleep(2 * POLICY.orphan_age)
            assert [one.judged() for one in both] == [[], []]
            labels = [Label.parse(key.label) for key in world.account.keys.values()]
            ids = [
                {label.rotation for label in labels if label and label.installation == name}
                for name in ("prod", "stage")
            ]
            assert ids[0] & ids[1]
            for key in world.account.keys.values():
                if key.retired_wall is not None:
                    (owner,) = [one for one in both if one.owns(key)]
                    assert key.retired_by == owner.installation
            for one in both:
                assert "orphan_seen" not in one.observed.kinds()
                one.leave()
            await neighbour.end(neighbour.replicas[0])
            await neighbour.replicas[0].keepers.close(world.clock.now() + 5)

    async def test_readers_that_another_installation_serves(self) -> None:
        """Two installations configured for one readers' path: the second keeps its hands off."""
        async with rotation_world(rotated=True) as world:
            stranger = RotationWorld(installation="stage")
            stranger.clock, stranger.vault = world.clock, world.vault
            stranger.account = world.account
            pod = await stranger.replica("stranger")
            try:
                await world.clock.sleep(300)
                (standing,) = pod.rotator.status()
                assert standing.problem == "rotation_conflict"
                assert pod.hands.effects == []
            finally:
                await stranger.end(pod)
                await pod.keepers.close(world.clock.now())

    async def test_who_does_not_lead_does_nothing_but_passes_wishes_on(self) -> None:
        """A demand at a follower is carried out by the leader; the follower tells the outcome."""
        async with rotation_world(rotated=True) as world:
            follower = await world.replica("follower", Follows(leading=False))
            outcome = await world.demand(1)
            assert outcome.result is Result.ROTATED
            assert all("rotation" in effect for effect in follower.hands.effects)
            assert len(follower.hands.effects) == 1  # the wish itself
            await world.settled()
            assert world.judged() == []

    @pytest.mark.parametrize("wish", ["demand", "suspect", "freeze"])
    async def test_a_wish_at_a_follower_reaches_the_leader_with_its_next_renewal(
        self, wish: str
    ) -> None:
        """Within two seconds and some, not at the leader's next look half a minute later."""
        policy = replace(POLICY, watch=30.0)
        async with rotation_world(policy=policy, rotated=True) as world:
            await world.end(world.replicas.pop(0))
            objects = Objects()
            elections = [
                LeaseElection(
                    LeaseLine(objects, world.clock),
                    identity=name,
                    times=Times(),
                    clock=world.clock,
                    rng=Random(name),
                )
                for name in ("leader", "follower")
            ]
            async with asyncio.TaskGroup() as group:
                tasks = []
                for election in elections:
                    tasks.append(group.create_task(election.run()))
                    await world.clock.sleep(0.5)
                    await world.replica(f"pod-{len(tasks)}", election)
                await world.clock.sleep(45)
                assert [one.leading for one in elections] == [True, False]
                follower = world.replicas[1].rotator
                if wish == "suspect":
                    await world.demand(1)
                    await world.clock.sleep(5)
                began = world.clock.now()
                match wish:
                    case "demand":
                        outcome = await world.demand(1)
                        assert outcome.result is Result.ROTATED
                    case "suspect":
                        proved = world.observed.kinds().count("proved")
                        await follower.suspect(NAME, actor="search-mcp")
                        while world.observed.kinds().count("proved") == proved:
                            await world.clock.sleep(0.1)
                    case _:
                        await follower.freeze(NAME, actor="night shift")
                        while not world.replicas[0].rotator.status()[0].frozen:
                            await world.clock.sleep(0.1)
                assert world.clock.now() - began <= 3.5
                for task in tasks:
                    task.cancel()

    async def test_three_without_any_election(self) -> None:
        """Three that all lead make one key a rotation, and lose none."""
        async with rotation_world(replicas=3, rotated=True) as world:
            await asyncio.gather(*(world.demand(number) for number in range(3)))
            await world.settled()
            assert world.judged() == []

    async def test_vault_and_provider_away_in_the_middle(self) -> None:
        """Whatever is away, and whenever, readers go on, and it ends well."""
        async with rotation_world(replicas=2) as world:
            await world.until(Phase.OVERLAP)
            for pod in world.replicas:
                pod.driver.away = True
            await world.clock.sleep(200)
            assert world.state().phase is Phase.RETIRING
            outage = world.vault.outage()
            await world.clock.sleep(25)  # readers bear 40
            world.vault.heal(outage)
            await world.recover()
            await world.settled()
            assert world.judged() == []

    async def test_a_wall_clock_set_forward_ends_no_overlap(self) -> None:
        """The time that passed counts as well."""
        async with rotation_world() as world:
            await world.until(Phase.OVERLAP)
            await world.clock.sleep(1)
            world.clock.jump_wall(10_000)
            await world.clock.sleep(60)
            assert world.account.keys["k0"].retired_wall is None
            await world.settled()
            assert world.account.keys["k0"].retired_wall is not None


class TestOtherDrivers:
    """What a driver cannot do is left out."""

    async def test_proved_only_after_the_promotion(self) -> None:
        """Such a key goes to readers first, and is taken back when its proof fails."""
        async with rotation_world(rotated=True) as world:
            world.capabilities = replace(world.capabilities, prove_first=False)
            await world.end(world.replicas[0])
            pod = await world.replica("late-prover")
            good = world.served_id()
            world.account.next_is_bad, world.failing = True, True
            asked = asyncio.create_task(pod.rotator.request(NAME, actor="operator"))
            await world.until(Phase.REVERTED)
            await world.clock.sleep(15)
            world.failing = False
            await asyncio.gather(asked, return_exceptions=True)
            await world.settled()
            assert world.served_id() == good
            assert world.judged() == []

    async def test_without_a_list_nothing_is_swept(self) -> None:
        """An orphan of a crash stays: the driver was configured so."""
        async with rotation_world(rotated=True) as world:
            world.capabilities = replace(world.capabilities, list=False)
            await world.end(world.replicas[0])
            pod = await world.replica("no-list")
            pod.hands.script[len(pod.hands.effects) + 2] = "crash after"  # wish, intent, creation
            asked = asyncio.create_task(pod.rotator.request(NAME, actor="operator"))
            await world.clock.sleep(5)
            asked.cancel()
            await world.restart(pod)
            await world.until(Phase.OVERLAP)
            await world.until(Phase.IDLE)
            await world.clock.sleep(500)
            assert len(world.own_keys()) == 2
            assert world.violations == []


async def test_a_report_that_the_proof_does_not_confirm_changes_nothing() -> None:
    """A caller's word alone takes nothing back."""
    async with rotation_world() as world:
        await world.until(Phase.OVERLAP)
        served = world.served()
        await world.replicas[0].rotator.suspect(NAME, actor="search-mcp")
        await world.settled()
        assert world.served() == served
        (suspected,) = [step for step in world.observed.steps if step.kind == "suspected"]
        assert suspected.actor == "search-mcp"
        assert READERS.path == NAME
        assert world.judged() == []
