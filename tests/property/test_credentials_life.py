"""Any story of readers, outages, tokens and clocks: two promises hold throughout."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import looptime
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scenarios.world import LEASED, World, world
from tests.simulators.vault_line import Fault
from tests.simulators.vault_server import LeasedPath, Role

Step = tuple[str, float]

steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "read",
                "read",
                "outage",
                "heal",
                "new token",
                "report",
                "refresh",
                "sleep",
                "jump",
                "slow",
                "quick",
                "no renewal",
                "short lives",
            ]
        ),
        st.floats(0.1, 40),
    ),
    max_size=30,
)


@dataclass
class Witness:
    """What readers were promised, and what then happened."""

    w: World
    promised: dict[str, float] = field(default_factory=dict)
    """By lease id: the last ``use_until``."""
    violations: list[str] = field(default_factory=list)
    fault: Fault | None = None
    wishes: set[asyncio.Task[object]] = field(default_factory=set)

    def read(self) -> None:
        """A hand-out; what it gives must live in Vault now and until its promise ends."""
        w, now = self.w, self.w.clock.now()
        if w.read(LEASED, hold=10) is None:
            return
        entry = w.entry(LEASED)
        assert entry.snapshot is not None
        assert entry.snapshot.lease is not None
        lease_id = entry.snapshot.lease.lease_id
        until = w.store.promised_until(LEASED.key, entry.snapshot.version)
        self.promised[lease_id] = max(self.promised.get(lease_id, 0), until)
        (lease,) = [one for one in w.vault.server.leases if one.lease_id == lease_id]
        if not lease.alive(now):
            self.violations.append(f"dead lease handed out at {now}")

    def check_revocations(self) -> None:
        """No lease was revoked before its last promise had passed."""
        for lease in self.w.vault.server.leases:
            until = self.promised.get(lease.lease_id)
            if until is None or lease.revoked_at is None:
                continue
            if lease.revoked_at < until - 0.03:  # the grain of timers
                self.violations.append(f"revoked at {lease.revoked_at}, promised until {until}")


async def tell(story: list[Step]) -> list[str]:
    """Play a story; returns what went wrong."""
    async with world(LEASED) as w:
        witness = Witness(w)
        for act, delay in story:
            await ACTS[act](witness)
            witness.read()
            await w.clock.sleep(delay)
            witness.read()
        for wish in witness.wishes:
            wish.cancel()
        witness.check_revocations()
        return witness.violations


async def nothing(_: Witness) -> None:
    """Time passes."""


async def outage(x: Witness) -> None:
    x.fault = x.fault or x.w.vault.outage()


async def heal(x: Witness) -> None:
    if x.fault is not None:
        x.w.vault.heal(x.fault)
        x.fault = None


async def new_token(x: Witness) -> None:
    x.w.session.log_in(Role(ttl=200, max_ttl=200))


async def report(x: Witness) -> None:
    entry = x.w.entry(LEASED)
    if entry.snapshot is not None:
        _wish(x, x.w.keepers.report(LEASED.key, entry.snapshot.version, 401))


async def refresh(x: Witness) -> None:
    _wish(x, x.w.keepers.refresh(LEASED.key))


def _wish(x: Witness, work: Awaitable[object]) -> None:
    x.wishes.add(asyncio.ensure_future(work))


async def sleep(x: Witness) -> None:
    x.w.clock.suspend(45)


async def jump(x: Witness) -> None:
    x.w.clock.jump_wall(120)


async def slow(x: Witness) -> None:
    x.w.vault.latency["lease"] = 4.0


async def quick(x: Witness) -> None:
    x.w.vault.latency.pop("lease", None)


async def no_renewal(x: Witness) -> None:
    x.w.vault.server.leased("database/creds/orders").renewable = False


async def short_lives(x: Witness) -> None:
    path: LeasedPath = x.w.vault.server.leased("database/creds/orders")
    path.ttl, path.max_ttl = 3, 9


ACTS: dict[str, Callable[[Witness], Awaitable[None]]] = {
    "read": nothing,
    "outage": outage,
    "heal": heal,
    "new token": new_token,
    "report": report,
    "refresh": refresh,
    "sleep": sleep,
    "jump": jump,
    "slow": slow,
    "quick": quick,
    "no renewal": no_renewal,
    "short lives": short_lives,
}


@settings(max_examples=60)
@given(steps)
def test_no_dead_value_is_handed_out_and_none_is_revoked_under_a_promise(
    story: list[Step],
) -> None:
    """Whatever happens to Vault, tokens, clocks and readers."""
    plain = asyncio.new_event_loop()
    assert isinstance(plain, asyncio.BaseEventLoop)
    loop = looptime.patch_event_loop(plain)
    try:
        loop.setup_looptime(start=0, end=None, noop_cycles=0)
        assert loop.run_until_complete(tell(story)) == []
    finally:
        loop.close()
