"""The worlds in which the contract suites run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.worlds import RealWorld, SimulatedWorld, World

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


@pytest.fixture
def database(request: pytest.FixtureRequest, world: World) -> None:
    """A world whose ``users`` engine works; starts PostgreSQL on the real side."""
    if isinstance(world, RealWorld):
        request.getfixturevalue("orders_database")
