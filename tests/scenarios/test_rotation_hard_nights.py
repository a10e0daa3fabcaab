"""A mishap at each side effect of a roll-back, and of a rotation because of a compromise."""

from __future__ import annotations

import asyncio

import pytest

from broker.rotation.model import Phase, Result
from tests.scenarios.rotation_judge import NAME
from tests.scenarios.rotation_world import RotationWorld, rotation_world
from tests.simulators.rotation_hands import MISHAPS, Mishap

pytestmark = pytest.mark.looptime

TAKEN_BACK = (
    "write state: suspected",
    "write state: reverting",
    "write readers: the old key",
    "write state: reverted",
    "write state: discarding",
    "retire the new key",
    "write state: idle",
)
COMPROMISED = (
    "write state: wish",
    "write state: withdrawing",
    "write readers: withdrawn",
    "delete the stolen version",
    "retire the stolen key",
    "write state: intended",
    "create",
    "write state: staged",
    "write state: promoting",
    "write readers",
    "write state: retiring",
    "write state: idle",
    "destroy staged",
    "write state: cleaned",
)


async def weather(world: RotationWorld, *, pause: float = 200.0) -> None:
    """Wait for the mishap of pod-0's script; let time pass; recover."""
    pod = world.replicas[0]
    (number,) = pod.hands.script
    for _ in range(400):
        if pod.crashed or pod.hands.paused.is_set() or len(pod.hands.effects) > number:
            break
        await world.clock.sleep(0.5)
    assert len(pod.hands.effects) > number, (pod.hands.effects, number)
    await world.clock.sleep(pause if pod.hands.paused.is_set() else 1)
    await world.recover()


def script(world: RotationWorld, number: int, mishap: Mishap) -> None:
    hands = world.replicas[0].hands
    hands.script[len(hands.effects) + number] = mishap


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("number", range(len(TAKEN_BACK)), ids=TAKEN_BACK)
async def test_of_a_roll_back_within_the_overlap(number: int, mishap: Mishap) -> None:
    """A promoted key stops working: readers get the old one again, and the new one is retired."""
    async with rotation_world(rotated=True) as world:
        good = world.served_id()
        await world.demand()
        await world.until(Phase.OVERLAP)
        await world.clock.sleep(15)
        bad = world.account.keys[world.served_id()]
        world.failing = True  # readers hold a bad key until it is taken back: no fault of ours
        bad.bad = True
        script(world, number, mishap)
        suspecting = asyncio.create_task(_suspect(world))
        await weather(world, pause=20)
        await asyncio.gather(suspecting, return_exceptions=True)
        await _suspect(world)
        await world.until(Phase.REVERTED, Phase.DISCARDING, Phase.IDLE)
        await world.clock.sleep(15)
        world.failing = False
        await world.settled()
        assert world.judged() == [], world.observed.kinds()
        assert world.served_id() == good


async def _suspect(world: RotationWorld) -> None:
    await world.replicas[0].rotator.suspect(NAME, actor="search-mcp")


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("number", range(len(COMPROMISED)), ids=COMPROMISED)
async def test_of_a_compromise(number: int, mishap: Mishap) -> None:
    """The stolen key is dead before another is served, and one key lives afterwards."""
    async with rotation_world(rotated=True) as world:
        stolen = world.account.keys[world.served_id()]
        world.compromised = True
        script(world, number, mishap)
        asking = world.demand(compromised=True)
        await weather(world)
        await asyncio.wait([asking], timeout=1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        if stolen.retired_wall is None:  # the wish was lost on the way: its caller was told so
            await world.demand(compromised=True)
        await world.settled()
        await world.clock.sleep(15)
        assert stolen.retired_wall is not None
        assert world.judged() == [], world.observed.kinds()
        assert world.served_id() != stolen.key_id
        assert world.served()["api_key"] != stolen.secret


async def test_somebody_writes_beside_a_key_that_is_being_withdrawn() -> None:
    """The demand is carried out all the same: readers still had the stolen key."""
    async with rotation_world(rotated=True) as world:
        stolen = world.account.keys[world.served_id()]
        world.compromised = True
        script(world, COMPROMISED.index("write readers: withdrawn"), "conflict")
        await world.demand(compromised=True)
        assert stolen.retired_wall is not None
        assert stolen.retired_wall <= world.account.keys[world.served_id()].created_wall
        await world.settled()
        await world.clock.sleep(15)
        assert world.judged() == []


@pytest.mark.parametrize("number", [3, 4], ids=["write state: promoting", "write readers"])
async def test_somebody_writes_beside_a_key_that_is_being_replaced(number: int) -> None:
    """A demand outlives it: whoever asked is told of the rotation that was made then."""
    async with rotation_world(rotated=True) as world:
        before = world.served_id()
        hands = world.replicas[0].hands
        asked = world.demand()
        hands.script[len(hands.effects) + 1 + number] = "pause before"
        await hands.paused.wait()
        value = world.served() | {"url": "https://elsewhere.example.com"}
        world.vault.server.kv.put(NAME, value)
        hands.resume.set()
        assert (await asked).result is Result.ROTATED
        assert world.served_id() != before
        assert world.served()["url"] == "https://elsewhere.example.com"
        await world.settled()
        assert world.judged() == []
