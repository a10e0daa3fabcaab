"""Session and keepers together, with readers who use every value to its last second.

The judge is the simulated server: a value that a reader was told it may use until some
moment must live on the server until then. Stories of fixed times stand in
``test_session_*`` and ``test_credentials``; here the lives are drawn by lot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import pytest

from broker.credentials.keeper import Deps
from broker.credentials.keepers import Keepers
from broker.credentials.model import CredentialKey, CredentialSpec, LeasedSource
from broker.credentials.retire import Retirer
from broker.credentials.store import CredentialStore
from broker.vault.login import KubernetesLogin
from broker.vault.session import Session
from tests.scenarios.session_story import Counters
from tests.scenarios.world import Said
from tests.simulators.clock import VirtualClock
from tests.simulators.service_account import service_account_jwt
from tests.simulators.vault import VaultSimulator
from tests.simulators.vault_server import Lease, LeasedPath, Role

pytestmark = pytest.mark.looptime

NAMES = ("orders", "billing", "search")
HOLD = 50.0
"""Longer than an old token lingers for requests under way: promises alone must keep it."""


@dataclass
class Pod:
    """A broker's session and keepers, its readers, and Vault."""

    clock: VirtualClock
    vault: VaultSimulator
    role: Role
    session: Session
    store: CredentialStore
    keepers: Keepers
    used: dict[int, tuple[Lease, float]] = field(default_factory=dict)
    """Lease number to the latest ``use_until`` a reader was given for it, on the server's clock."""
    missed: list[tuple[float, str]] = field(default_factory=list)
    """When a reader found nothing."""

    def read(self, name: str) -> None:
        """One hand-out, as the service does it."""
        key, now = CredentialKey(name), self.clock.now()
        self.store.observe(now, self.clock.wall())
        entry = self.store.get(key)
        if entry is None or entry.snapshot is None or not entry.usable(now):
            self.missed.append((round(now, 3), name))
            return
        use_until = min(entry.expires_at, now + HOLD)
        self.store.promise(key, entry.snapshot.version, use_until)
        assert entry.snapshot.lease is not None
        lease_id = entry.snapshot.lease.lease_id
        lease = next(one for one in self.vault.server.leases if one.lease_id == lease_id)
        self.used[lease.number] = lease, use_until + self.vault.server.ahead

    def dead_keys(self) -> list[str]:
        """Leases that ended on the server while a reader might still use them."""
        return [
            f"{lease.lease_id}: dead at {died:.3f}, promised until {until:.3f}"
            for lease, until in self.used.values()
            if (died := end_of(lease)) < until - 0.001
        ]


def end_of(lease: Lease) -> float:
    """When the lease died on the server, or will."""
    token = lease.token
    ends = (lease.expires_at, lease.revoked_at, token.expires_at, token.revoked_at)
    return min(end for end in ends if end is not None)


@asynccontextmanager
async def pod(directory: Path, role: Role, path: LeasedPath, seed: int) -> AsyncIterator[Pod]:
    clock, rng, said = VirtualClock(), Random(seed), Said()
    vault = VaultSimulator(clock)
    vault.server.role(like=role)
    for name in NAMES:
        vault.server.leased(f"database/creds/{name}", path)
    file = directory / "token"
    file.write_text(service_account_jwt())
    login = KubernetesLogin(vault, mount="kubernetes", role="broker", token_file=str(file))
    session = Session(vault, login, clock=clock, rng=rng, metrics=Counters())
    store = CredentialStore(clock)
    retirer = Retirer(clock=clock, vault=vault, session=session, rng=rng)
    versions = count(1)
    deps = Deps(
        clock=clock,
        vault=vault,
        session=session,
        store=store,
        retirer=retirer,
        rng=rng,
        recorder=said,
        events=said,
        new_version=lambda: f"v{next(versions)}",
    )
    specs = [
        CredentialSpec(CredentialKey(name), LeasedSource(f"database/creds/{name}"))
        for name in NAMES
    ]
    keepers = Keepers(specs, deps)
    await session.start()
    tasks = [asyncio.create_task(session.run())]
    keepers.start()
    await keepers.settled(clock.now() + 60)
    made = Pod(clock, vault, role, session, store, keepers)
    tasks.append(asyncio.create_task(read_for_ever(made, rng)))
    try:
        yield made
    finally:
        await keepers.close(clock.now() + 5)
        await retirer.close()
        assert [task for task in tasks if task.done()] == []
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await session.close(clock.now() + 5)


async def read_for_ever(pod: Pod, rng: Random) -> None:
    while True:
        pod.read(rng.choice(NAMES))
        await pod.clock.sleep(rng.uniform(0.2, 2))


@pytest.mark.parametrize("seed", range(8))
async def test_lives_by_lot(tmp_path: Path, seed: int) -> None:
    """Whatever Vault grants: no reader misses a value, and none outlives its promise."""
    rng = Random(seed)
    ttl, lease_ttl = rng.uniform(60, 400), rng.uniform(60, 400)
    role = Role(
        ttl=ttl,
        max_ttl=ttl * rng.uniform(1, 5),
        renewable=rng.random() < 0.8,
        kind="service" if rng.random() < 0.8 else "batch",
    )
    path = LeasedPath(
        ttl=lease_ttl, max_ttl=lease_ttl * rng.uniform(1, 4), renewable=rng.random() < 0.8
    )
    async with pod(tmp_path, role, path, seed) as it:
        it.vault.latency[""] = 0.05
        await it.clock.sleep_until(2000)
        assert it.missed == []
        assert it.used
        assert it.dead_keys() == []
        assert it.vault.peak_rate(10) <= 30
        assert len(it.vault.server.live_tokens()) <= 4
    assert [token for token in it.vault.server.live_tokens() if token.kind == "service"] == []


Trouble = Callable[[Pod], object]

TROUBLES: dict[str, tuple[Trouble, float]] = {
    "outage": (lambda it: it.vault.outage(), 30),
    "seal": (lambda it: it.vault.seal(), 30),
    "throttled": (lambda it: it.vault.throttle(5), 30),
    "garbage": (lambda it: it.vault.garble(), 30),
    "hangs": (lambda it: it.vault.hang(), 30),
    "login refused": (lambda it: setattr(it.role, "audience", "another"), 60),
    "no renewal of tokens": (lambda it: it.vault.outage("renew_self"), 300),
    "no renewal of leases": (lambda it: it.vault.outage("renew_lease"), 300),
    "no revocation": (lambda it: it.vault.outage("revoke_self"), 300),
    "half of the answers lost": (lambda it: it.vault.lose_answers("lease", times=2), 30),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_trouble_that_passes(tmp_path: Path, trouble: str) -> None:
    """Trouble shorter than a third of the lives costs no reader a value, nor a promise."""
    begin, lasts = TROUBLES[trouble]
    role, path = Role(ttl=200, max_ttl=500), LeasedPath(ttl=200, max_ttl=600)
    async with pod(tmp_path, role, path, seed=7) as it:
        at = 100.0
        while at < 1500:
            await it.clock.sleep_until(at)
            begin(it)
            await it.clock.sleep(lasts)
            it.vault.heal()
            role.audience = ""
            at += lasts + 170
        assert it.missed == []
        assert it.dead_keys() == []
        generation = it.session.generation
        assert generation is not None
        assert generation.number >= 4


async def test_token_revoked_behind_our_back(tmp_path: Path) -> None:
    """All leases died with the token: they are replaced at the first denial, all by one login."""
    async with pod(tmp_path, Role(ttl=600), LeasedPath(ttl=200), seed=3) as it:
        await it.clock.sleep_until(100)
        it.vault.server.revoke(it.vault.server.tokens[0])
        await it.clock.sleep_until(400)
        assert it.vault.count("login_kubernetes") == 2
        assert it.vault.count("lookup_self") == 2
        alive = [one for one in it.vault.server.live_leases() if one.token.number == 2]
        assert len(alive) >= len(NAMES)
        assert it.missed == []


@pytest.mark.parametrize("pause", [450, 7200], ids=["token still lives", "token is dead"])
async def test_machine_paused(tmp_path: Path, pause: float) -> None:
    """After a pause that the boot clock did not count, no dead or dying value is handed out."""
    async with pod(tmp_path, Role(ttl=600), LeasedPath(ttl=1200), seed=3) as it:
        await it.clock.sleep_until(100)
        it.used.clear()
        it.clock.jump_wall(pause)
        it.vault.server.ahead += pause
        for name in NAMES:
            it.read(name)
        assert it.used == {}
        await it.clock.sleep_until(1000)
        assert len(it.used) >= len(NAMES)
        assert it.dead_keys() == []
