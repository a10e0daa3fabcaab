"""A mishap before, at and after each side effect of a rotation: nothing is lost or left."""

from __future__ import annotations

import pytest

from tests.scenarios.rotation_world import RotationWorld, rotation_world
from tests.simulators.rotation_hands import MISHAPS, Mishap

pytestmark = pytest.mark.looptime

ROTATION = (
    "write state: intended",
    "create",
    "write state: staged",
    "write state: promoting",
    "write readers",
    "write state: overlap",
    "destroy staged",
    "write state: cleaned",
    "write state: retiring",
    "retire",
    "write state: idle",
)


async def weather(world: RotationWorld, number: int, mishap: Mishap) -> None:
    """Let the mishap befall pod-0 at the n-th effect from now; then recover."""
    pod = world.replicas[0]
    pod.hands.script[len(pod.hands.effects) + number] = mishap
    for _ in range(600):
        await world.clock.sleep(0.5)
        if pod.crashed or pod.hands.paused.is_set():
            break
        if len(pod.hands.effects) > number + 14:
            break
    if pod.hands.paused.is_set():
        await world.clock.sleep(200)  # others, where there are any, go on without it
        pod.hands.resume.set()
    await world.recover()


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("number", range(len(ROTATION)), ids=ROTATION)
async def test_of_a_rotation(number: int, mishap: Mishap, replicas: int) -> None:
    """Exactly one key lives afterwards: the one that readers have; they never lacked one."""
    async with rotation_world(replicas=replicas) as world:
        await weather(world, number, mishap)
        await world.settled()
        assert world.judged() == [], world.observed.kinds()
        assert len(world.state().past) >= 1


async def test_the_tables_are_whole() -> None:
    """An undisturbed rotation has exactly the effects that the table names."""
    async with rotation_world() as world:
        await world.settled()
        kinds = [name.split()[0] for name in ROTATION]
        assert [effect.split()[0] for effect in world.replicas[0].hands.effects] == kinds
