"""Scoped tokens without a broker around them: records to look at, replicas over one Vault."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from broker.access.principal import Caller, Grant
from broker.access.tokens.documents import TokenDocuments
from broker.access.tokens.model import Target, Wish
from broker.access.tokens.pod import PodTokens
from broker.access.tokens.port import Minted, TokenStore
from broker.access.tokens.shared import SharedTokens
from broker.clock import Clock
from broker.errors import AuditUnavailable, SubjectTokenRefused
from tests.simulators.session import SessionByHand
from tests.simulators.vault import VaultSimulator

CALLER = Caller("search-mcp", "token")
OTHER = Caller("other-mcp", "token")
WISH = Wish("alice", ("search", "fetch_*"), ("search-api", "orders-db"))
LIFE = 900.0


@dataclass
class RecordsSimulator:
    """Implements ``TokenRecords``; ``told`` is what happened, as kind and id."""

    told: list[tuple[str, str]] = field(default_factory=list)
    reasons: list[tuple[str, str]] = field(default_factory=list)
    broken: bool = False

    def minted(self, grant: Grant, *, actor: str, request_id: str) -> None:
        if self.broken:
            raise AuditUnavailable
        self.told.append(("minted", grant.id))

    def expired(self, grant: Grant) -> None:
        self.told.append(("expired", grant.id))

    def revoked(self, grant: Grant) -> None:
        self.told.append(("learned", grant.id))

    def revoked_by(self, grant: Grant, target: Target, *, actor: str, request_id: str) -> None:
        self.told.append(("revoked", grant.id))

    def revoked_unseen(self, target: Target, *, actor: str, request_id: str) -> None:
        self.told.append(("unseen", f"{target.by} {target.value}"))

    def refused(self, error: Exception, *, caller: str, token_id: str, request_id: str) -> None:
        self.reasons.append((caller, getattr(error, "reason", "") or type(error).__name__))

    def of(self, kind: str) -> list[str]:
        """Ids that one kind of thing happened to."""
        return [token_id for told, token_id in self.told if told == kind]


def pod(clock: Clock, *, most: int = 100, **options: Any) -> tuple[PodTokens, RecordsSimulator]:
    """A store in memory."""
    records = RecordsSimulator()
    chance = Random(7).randbytes
    return PodTokens(clock=clock, watch=records, most=most, random_bytes=chance), records


class Replica:
    """One broker of an installation: a shared store whose tasks run."""

    def __init__(
        self,
        vault: VaultSimulator,
        session: SessionByHand,
        clock: Clock,
        *,
        seed: int = 1,
        grace: float = 10.0,
        most: int = 100,
    ) -> None:
        self.records = RecordsSimulator()
        chance = Random(seed).randbytes
        self.documents = TokenDocuments(
            clock=clock,
            vault=vault,
            session=session,
            mount="secret",
            path="tokens",
            random_bytes=chance,
        )
        self.store = SharedTokens(
            clock=clock,
            documents=self.documents,
            watch=self.records,
            most=most,
            grace=grace,
            random_bytes=chance,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Run its tasks."""
        self._tasks = [asyncio.create_task(work, name=name) for name, work in self.store.tasks()]

    async def stop(self) -> None:
        """End them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            assert task.cancelled(), task.exception()

    async def use(self, token: bytes, caller: Caller = CALLER) -> str:
        """What becomes of a request with a token: ``good``, or why not."""
        await self.store.freshen()
        return verdict(self.store, token, caller)


@asynccontextmanager
async def replicas(
    clock: Clock, number: int = 2, *, first: int = 1, **options: Any
) -> AsyncIterator[tuple[VaultSimulator, list[Replica]]]:
    """Brokers of one installation over one simulated Vault."""
    vault = VaultSimulator(clock)
    vault.server.kv.put("started", {"at": "set-up"})
    session = SessionByHand(vault)
    session.log_in()
    seeds = range(first, first + number)
    made = [Replica(vault, session, clock, seed=seed, **options) for seed in seeds]
    for one in made:
        one.start()
    yield vault, made
    for one in made:
        await one.stop()


def verdict(store: TokenStore, token: bytes, caller: Caller = CALLER) -> str:
    """``good``, or the reason for the audit."""
    try:
        store.verify(token, caller)
    except SubjectTokenRefused as error:
        return error.reason
    return "good"


async def mint(
    store: TokenStore,
    wish: Wish = WISH,
    *,
    parent: bytes | None = None,
    caller: Caller = CALLER,
    life: float = LIFE,
) -> tuple[bytes, Grant]:
    """A token's text, and what it says."""
    minted: Minted = await store.mint(wish, parent=parent, caller=caller.name, life=life)
    return minted.token.reveal().encode(), minted.known.claims.grant


def reachable(root: object) -> Iterator[object]:
    """Every object that can be reached from one, as a dump of its memory would show it."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type) or hasattr(one, "__globals__"):
            continue
        seen.add(id(one))
        yield one
        waiting.extend(gc.get_referents(one))
