"""A static role on virtual time: Vault replaces the password in place, and readers follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from broker.clock import Clock
from broker.credentials.model import CredentialKey, CredentialSpec, State, StaticRoleSource
from tests.scenarios.world import World, world
from tests.simulators.vault_server import LeasedPath

pytestmark = pytest.mark.looptime

PATH = "database/static-creds/reports"
SPEC = CredentialSpec(CredentialKey("reports"), StaticRoleSource(PATH, poll=20.0))
PERIOD = 100.0


@dataclass
class Role:
    """A role of period ``PERIOD`` whose replacement comes ``late`` seconds after its time."""

    clock: Clock
    late: float = 3.0
    number: int = 1
    due: float = PERIOD

    def read(self, _: int) -> dict[str, str]:
        now = self.clock.now()
        while now >= self.due + self.late:
            self.number, self.due = self.number + 1, self.due + self.late + PERIOD
        return {
            "username": "reports",
            "password": f"canary-{self.number}",
            "ttl": str(max(0, round(self.due - now))),
            "rotation_period": str(int(PERIOD)),
            "last_vault_rotation": f"rotation {self.number}",
        }

    def rotate(self) -> None:
        """Somebody has it replaced now."""
        self.number, self.due = self.number + 1, self.clock.now() + PERIOD


async def enter(w: World, late: float = 3.0) -> Role:
    role = Role(w.clock, late)
    w.vault.server.leased(PATH, LeasedPath(leased=False, make=role.read))
    w.keepers.start()
    await w.keepers.settled(w.clock.now() + 10)
    return role


async def test_readers_get_user_and_password_and_nothing_about_the_role() -> None:
    """What Vault says about the schedule is no part of the value, so it makes no new version."""
    async with world(SPEC, start=False, settle=False) as w:
        await enter(w)
        first = w.read(SPEC)
        snapshot = w.entry(SPEC).snapshot
        assert snapshot is not None
        assert sorted(snapshot.data) == ["password", "username"]
        await w.until(95)
        assert w.read(SPEC) == first
        assert w.state(SPEC) is State.FRESH


async def test_nothing_is_handed_out_past_its_end_and_the_new_one_at_once() -> None:
    """From the told end on Vault is asked every second until it has replaced the password."""
    async with world(SPEC, start=False, settle=False) as w:
        await enter(w)
        first = w.read(SPEC)
        await w.until(99.5)
        assert w.read(SPEC) == first
        await w.until(100.5)
        assert w.read(SPEC) is None
        await w.until(104.5)
        assert w.value(SPEC, "password") == "canary-2"
        assert w.read(SPEC) not in (None, first)
        hot = [at for at in w.vault.times("lease") if 99 <= at <= 104.5]
        assert 4 <= len(hot) <= 6
        assert all(later - at >= 0.99 for at, later in pairwise(hot))


async def test_a_replacement_before_its_time_is_found_by_polling_or_at_once_when_told() -> None:
    """Another replica's rotation shows within a poll; one's own refresh within a second."""
    async with world(SPEC, start=False, settle=False) as w:
        role = await enter(w)
        await w.until(30)
        role.rotate()
        await w.until(30 + 22.1)
        assert w.value(SPEC, "password") == "canary-2"
        role.rotate()
        await w.keepers.refresh(SPEC.key)
        assert w.value(SPEC, "password") == "canary-3"
        assert w.clock.now() < 30 + 22.1 + 1.1


@pytest.mark.parametrize(
    "data",
    [{"password": "x"}, *({"password": "x", "ttl": ttl} for ttl in ("soon", "-1", "inf", "nan"))],
)
async def test_an_answer_without_an_end_is_refused(data: dict[str, str]) -> None:
    """A password that ends nobody knows when is not handed out."""
    async with world(SPEC, start=False, settle=False) as w:
        w.vault.server.leased(PATH, LeasedPath(leased=False, make=lambda _: data))
        w.keepers.start()
        await w.keepers.settled(10)
        assert w.state(SPEC) is State.REFUSED


async def test_a_lease_where_none_belongs_is_given_back() -> None:
    """A path of the other kind is refused, and leaves no lease behind."""
    spec = replace(SPEC, source=StaticRoleSource("database/creds/orders"))
    async with world(spec) as w:
        assert w.state(spec) is State.REFUSED
        assert w.vault.server.live_leases() == []
