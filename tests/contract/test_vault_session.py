"""The session lives alike on the simulated Vault and on OpenBao.

Times are asserted on the simulator alone (``tests/scenarios``); here it is shown that the
server grants, cuts, forgets and refuses as those scenarios take for granted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from broker.errors import VaultDenied
from broker.vault.generation import Generation
from broker.vault.login import KubernetesLogin
from broker.vault.session import Session
from tests.contract.worlds import RealWorld, SimulatedWorld, World
from tests.scenarios.session_story import Counters

SIMULATOR = pytest.param("simulator", marks=pytest.mark.looptime)
OPENBAO = pytest.param("openbao", marks=pytest.mark.real)


@pytest.fixture(params=[SIMULATOR, OPENBAO])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made: World
    if request.param == "simulator":
        made = SimulatedWorld()
    else:
        openbao = request.getfixturevalue("openbao")
        made = RealWorld(openbao, request.getfixturevalue("kubernetes_auth"))
    yield made
    await made.end()


def over(generation: Generation) -> bool:
    return generation.ended


@asynccontextmanager
async def session(
    world: World, directory: Path, *, linger: float = 30.0, **role: object
) -> AsyncIterator[Session]:
    """A running session; closed at the end, which must leave no living token."""
    file = directory / "token"
    file.write_text(world.jwt().reveal())
    name = await world.role("session", **role)
    login = KubernetesLogin(world.port, mount=world.auth_mount, role=name, token_file=str(file))
    made = Session(
        world.port,
        login,
        clock=world.clock,
        rng=Random(1),
        metrics=Counters(),
        linger=linger,
    )
    await made.start()
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        await made.close(world.clock.now() + 60)
    assert made.generation is not None
    with pytest.raises(VaultDenied):
        await world.port.lookup_self(made.generation.token)


async def test_a_token_at_its_maximum(world: World, tmp_path: Path) -> None:
    """A token of 6 s that may live 9 s is renewed, cut, replaced in time, and revoked."""
    async with session(world, tmp_path, linger=0.5, ttl=6, max_ttl=9) as it:
        first = it.generation
        assert first is not None
        begin = world.clock.now()
        ends = {first.expires_at}
        while it.generation is first:
            ends.add(first.expires_at)
            await world.port.lookup_self((await it.ready(world.clock.now())).token)
            await world.clock.sleep(0.1)
        assert len(ends) >= 2  # renewed
        assert not over(first)
        assert world.clock.now() < begin + 9
        while not over(first):
            await world.port.lookup_self((await it.ready(world.clock.now())).token)
            await world.clock.sleep(0.1)
        await world.clock.sleep(1)  # Vault tells lives in whole seconds, rounded down
        with pytest.raises(VaultDenied):
            await world.port.lookup_self(first.token)


async def test_a_token_revoked_behind_our_back(world: World, tmp_path: Path) -> None:
    """Twenty callers that are denied with a dead token get one living one."""
    async with session(world, tmp_path, ttl=60) as it:
        first = it.generation
        assert first is not None
        await world.clock.sleep(1.1)  # the floor of look-ups
        await world.revoke_token((await world.port.lookup_self(first.token)).accessor)
        answers = await asyncio.gather(*(it.denied(first) for _ in range(20)))
        assert set(answers) == {it.generation}
        assert it.generation is not first
        assert first.ended
        assert it.generation is not None
        await world.port.lookup_self(it.generation.token)


async def test_a_denied_path_is_not_a_dead_token(world: World, tmp_path: Path) -> None:
    """When the policy refuses a path, the token is found alive and stays."""
    async with session(world, tmp_path, ttl=60) as it:
        first = it.generation
        assert first is not None
        await world.clock.sleep(1.1)
        await world.deny("secret/data/started")
        with pytest.raises(VaultDenied):
            await world.port.kv_read(first.token, mount="secret", path="started", kv_version=2)
        await world.allow_all()
        assert await it.denied(first) is None
        assert it.generation is first
