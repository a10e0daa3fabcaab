"""Rotation of one key, step by step, as readers and the provider see it."""

from __future__ import annotations

import pytest

from broker.rotation.model import Phase
from tests.scenarios.rotation_world import rotation_world

pytestmark = pytest.mark.looptime


async def test_a_key_never_rotated_is_replaced_and_the_old_one_retired() -> None:
    """The whole saga: created, proved, promoted, after the overlap the old key is retired."""
    async with rotation_world(replicas=2) as world:
        await world.until(Phase.OVERLAP)
        assert sorted(key.key_id for key in world.own_keys()) == ["k0", "key-2"]
        assert world.served()["url"] == "https://api.example.com"
        await world.settled()
        assert world.judged() == []
        assert world.observed.kinds()[:5] == ["intended", "created", "proved", "rotated", "retired"]
