"""A small world on virtual time: Vault, session, keepers, store, and what they said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Literal

from broker.clock import Clock
from broker.credentials.keeper import Deps
from broker.credentials.keepers import Keepers
from broker.credentials.model import (
    CredentialKey,
    CredentialSpec,
    Entry,
    KvSource,
    LeasedSource,
    State,
)
from broker.credentials.ports import RefreshObserver
from broker.credentials.proof import Proof
from broker.credentials.retire import Retirer
from broker.credentials.store import CredentialStore
from broker.secret import SecretValue
from broker.vault.interface import KvValue, Priority
from broker.vault.limiter import Budget, Limiter
from tests.simulators.clock import VirtualClock
from tests.simulators.session import SessionByHand
from tests.simulators.vault import VaultSimulator
from tests.simulators.vault_server import LeasedPath

KV = CredentialSpec(CredentialKey("search-api"), KvSource("secret", "search-api"))
LEASED = CredentialSpec(CredentialKey("orders-db"), LeasedSource("database/creds/orders"))


@dataclass
class Said:
    """What the keepers recorded and announced."""

    refreshes: list[tuple[float, str, str]] = field(default_factory=list)
    """(time, credential, result)"""
    events: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    now: Callable[[], float] = lambda: 0.0

    def credential(self, name: str, **known: object) -> None:
        """Gauges are read from the store in these tests."""

    def refresh(self, name: str, result: str) -> None:
        self.refreshes.append((self.now(), name, result))

    def publish(self, kind: str, **fields: str) -> None:
        self.events.append((kind, fields))

    def results(self, name: str) -> list[str]:
        """Results of the refreshes of one credential, in order."""
        return [result for _, of, result in self.refreshes if of == name]


@dataclass
class World:
    """Everything a story needs."""

    clock: VirtualClock
    vault: VaultSimulator
    session: SessionByHand
    store: CredentialStore
    keepers: Keepers
    retirer: Retirer
    said: Said
    history: list[tuple[float, Entry]]

    def entry(self, spec: CredentialSpec) -> Entry:
        """What readers see of a credential now."""
        entry = self.store.get(spec.key)
        assert entry is not None
        return entry

    def state(self, spec: CredentialSpec) -> State:
        return self.entry(spec).state

    def usable(self, spec: CredentialSpec) -> bool:
        return self.entry(spec).usable(self.clock.now())

    def read(self, spec: CredentialSpec, *, hold: float = 30.0) -> str | None:
        """A hand-out as the service does it: the version, promised until now + hold."""
        now = self.clock.now()
        self.store.observe(now, self.clock.wall())
        entry = self.entry(spec)
        if entry.snapshot is None or not entry.usable(now):
            return None
        self.store.promise(spec.key, entry.snapshot.version, min(entry.expires_at, now + hold))
        return entry.snapshot.version

    def value(self, spec: CredentialSpec, name: str) -> str:
        """The value readers see now; only simulated secrets live here."""
        snapshot = self.entry(spec).snapshot
        assert snapshot is not None
        return snapshot.data[name].reveal()

    async def until(self, at: float) -> None:
        """Let the world go on until ``Clock.now()`` is ``at``."""
        await self.clock.sleep_until(at)


class LimitedVault(VaultSimulator):
    """The simulated Vault behind the real limiter with its defaults."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self._limiter = Limiter(Budget(rate=50, burst=50, concurrency=8), clock=clock)

    async def kv_read(
        self, token: SecretValue, *, mount: str, path: str, kv_version: Literal[1, 2]
    ) -> KvValue:
        await self._limiter.acquire(Priority.READ)
        try:
            return await super().kv_read(token, mount=mount, path=path, kv_version=kv_version)
        finally:
            self._limiter.release(Priority.READ)


@asynccontextmanager
async def world(
    *specs: CredentialSpec,
    proofs: dict[str, Proof] | None = None,
    seed: int = 1,
    log_in: bool = True,
    settle: bool = True,
    limited: bool = False,
    start: bool = True,
    capacity: int = 10_000,
    observe: Callable[[Clock], RefreshObserver] | None = None,
) -> AsyncIterator[World]:
    """A world at time 0 in which ``specs`` have had their first attempt.

    It comes with ``search-api`` in KV, ``database/creds/orders`` with a lease of 60 s and at
    most 150 s, and a root token.
    """
    clock = VirtualClock()
    vault = LimitedVault(clock) if limited else VaultSimulator(clock)
    vault.server.kv.put("search-api", {"api_key": "canary-key-1"})
    vault.server.leased("database/creds/orders", LeasedPath(ttl=60, max_ttl=150))
    session = SessionByHand(vault)
    store = CredentialStore(clock)
    rng = Random(seed)
    retirer = Retirer(clock=clock, vault=vault, session=session, rng=rng)
    said = Said(now=clock.now)
    versions = count(1)
    history: list[tuple[float, Entry]] = []
    store.subscribe(lambda _, after: history.append((clock.now(), after)))
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
        observer=None if observe is None else observe(clock),
    )
    keepers = Keepers(specs, deps, proofs=proofs, capacity=capacity)
    if log_in:
        session.log_in()
    if start:
        keepers.start()
    if settle:
        await keepers.settled(clock.now() + 60)
    try:
        yield World(clock, vault, session, store, keepers, retirer, said, history)
    finally:
        await keepers.close(clock.now() + 5)
        await retirer.close()
        vault.resume()
        await vault.aclose()
