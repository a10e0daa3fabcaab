"""A hand-out service over a real store, with an audit, metrics and reports to look at.

``Desk`` plays the keepers' part: it publishes entries as they would.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from math import inf
from typing import Any

from broker.access.authorizer import Authorizer, ListAuthorizer
from broker.access.caller import Callers, ClientSpec
from broker.access.principal import Caller, Principal, SubjectTokens
from broker.clock import Clock
from broker.credentials.model import (
    CredentialKey,
    CredentialSpec,
    Entry,
    KvSource,
    Lease,
    LeasedSource,
    Snapshot,
    State,
)
from broker.credentials.store import CredentialStore
from broker.errors import AuditUnavailable
from broker.handout.answer import Answer
from broker.handout.ports import Settle
from broker.handout.request import Request
from broker.handout.service import HandoutService
from broker.secret import SecretValue
from broker.vault.generation import Generation

CANARY = "canary-3f9d0c"
"""Every value at this desk starts with it."""


class AuditSimulator:
    """Implements ``handout.ports.Audit``; ``records`` are the lines that were taken."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.broken = False

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def append(self, line: bytes) -> None:
        """See ``AuditLog.append``."""
        if self.broken:
            raise AuditUnavailable
        self.lines.append(line)

    def note(self, line: bytes) -> bool:
        """See ``AuditLog.note``."""
        if not self.broken:
            self.lines.append(line)
        return not self.broken

    def stage(self, line: bytes, settle: Settle) -> None:
        """See ``AuditLog.stage``; a turn of this log ends at once."""
        try:
            self.append(line)
        except AuditUnavailable as refusal:
            settle(refusal)
        else:
            settle(None)

    def commit(self) -> None:
        """See ``AuditLog.commit``."""

    durable = False

    async def synced(self) -> None:
        """See ``AuditLog.synced``."""


class RecorderSimulator:
    """Implements ``handout.ports.Recorder``."""

    def __init__(self) -> None:
        self.handouts: list[tuple[str, str, str]] = []
        self.reports: list[tuple[str, str]] = []
        self.seconds: list[float] = []
        self.over: list[tuple[str, str]] = []
        self.failures_over = 0

    def handout(self, name: str, client: str, result: str) -> None:
        """See ``Metrics.handout``."""
        self.handouts.append((name, client, result))

    def handout_seconds(self, seconds: float) -> None:
        """See ``Metrics.handout_seconds``."""
        self.seconds.append(seconds)

    def report(self, name: str, result: str) -> None:
        """See ``Metrics.report``."""
        self.reports.append((name, result))

    def limited(self, client: str, credential: str) -> None:
        """See ``Metrics.limited``."""
        self.over.append((client, credential))

    def failure_limited(self) -> None:
        """See ``Metrics.failure_limited``."""
        self.failures_over += 1


class ReportsSimulator:
    """Implements ``handout.ports.Reports``; ``then`` is what a report leads to."""

    def __init__(self, store: CredentialStore) -> None:
        self._store = store
        self.taken: list[tuple[str, str, int, str]] = []
        self.actors: list[str] = []
        self.then: Callable[[], Awaitable[None]] | None = None

    async def report(
        self, key: CredentialKey, version: str, status: int, detail: str = "", *, actor: str = ""
    ) -> Entry | None:
        """See ``Keepers.report``."""
        self.taken.append((key.name, version, status, detail))
        self.actors.append(actor)
        if self.then is not None:
            await self.then()
        return self._store.get(key)


class Desk:
    """One service with ``search`` (``web``, ``db``) and ``idle`` (nothing) as clients."""

    def __init__(
        self,
        clock: Clock,
        *,
        hold: float = 30.0,
        margin: float = 5.0,
        authorizer: Authorizer | None = None,
        tokens: SubjectTokens | None = None,
    ) -> None:
        self.clock = clock
        self.store = CredentialStore(clock)
        self.audit = AuditSimulator()
        self.metrics = RecorderSimulator()
        self.reports = ReportsSimulator(self.store)
        self.generation = Generation(1, SecretValue(CANARY + "-vault-token"), inf, renewable=True)
        self.specs = {
            "web": CredentialSpec(
                CredentialKey("web"), KvSource("secret", "web"), hold=hold, margin=margin
            ),
            "db": CredentialSpec(
                CredentialKey("db"), LeasedSource("database/creds/db"), hold=hold, margin=margin
            ),
        }
        clients = (ClientSpec("search", credentials=("web", "db")), ClientSpec("idle"))
        self.callers = Callers(clock, clients, own_uid=0)
        self.lists = ListAuthorizer(clients, self.specs)
        self.service = HandoutService(
            clock=clock,
            store=self.store,
            callers=self.callers,
            authorizer=authorizer or self.lists,
            audit=self.audit,
            metrics=self.metrics,
            reports=self.reports,
            specs=self.specs,
            mask=lambda text: text.replace(CANARY, "***"),
            tokens=tokens,
            max_wait=60.0,
        )
        self._requests = 0

    def caller(self, name: str = "search") -> Principal:
        """An authenticated client without a scoped token."""
        return Principal(Caller(name, "token"))

    def trust(self, client: str, token: str) -> None:
        """From now on ``token`` proves ``client``."""
        self.callers.accept(client, sha256(token.encode()).digest())

    def request(self, **claims: Any) -> Request:
        """A request with an id of its own."""
        self._requests += 1
        return Request(f"r{self._requests}", **claims)

    # --- what keepers do ------------------------------------------------------------

    def kv(
        self,
        version: str,
        *,
        staleness: float = inf,
        own_expiry_in: float | None = None,
        **changes: Any,
    ) -> Entry:
        """Vault confirmed this version of ``web`` just now."""
        now, wall = self.clock.now(), self.clock.wall()
        snapshot = Snapshot(
            CredentialKey("web"),
            version,
            {"api_key": SecretValue(f"{CANARY}-{version}")},
            obtained_at=now,
            validated_at=now,
            source_version=version.removeprefix("v"),
            own_expiry_wall=None if own_expiry_in is None else wall + own_expiry_in,
        )
        expires_at = snapshot.expires_at(now=now, wall=wall, max_staleness=staleness)
        return self._publish(snapshot, expires_at, changes)

    def lease(
        self, version: str, *, life: float, generation: Generation | None = None, **changes: Any
    ) -> Entry:
        """A lease on ``db`` was taken out just now."""
        now = self.clock.now()
        lease = Lease(
            f"database/creds/db/{CANARY}-lease-{version}",
            generation or self.generation,
            issued_at=now,
            refreshed_at=now,
            duration=life,
            first_duration=life,
            renewable=True,
        )
        snapshot = Snapshot(
            CredentialKey("db"),
            version,
            {"username": SecretValue(f"{CANARY}-u"), "password": SecretValue(f"{CANARY}-p")},
            obtained_at=now,
            validated_at=now,
            lease=lease,
        )
        return self._publish(snapshot, snapshot.expires_at(now=now, wall=0.0), changes)

    def _publish(self, snapshot: Snapshot, expires_at: float, changes: dict[str, Any]) -> Entry:
        left = expires_at - self.clock.now()
        entry = Entry(
            snapshot.key,
            State.FRESH,
            snapshot,
            expires_at,
            None if left == inf else self.clock.wall() + left,
        )
        return self.store.publish(replace(entry, **changes))

    def without_value(self, name: str, state: State, **fields: Any) -> Entry:
        """There is no usable value."""
        return self.store.publish(Entry(CredentialKey(name), state, **fields))

    # --- what callers see -------------------------------------------------------------

    def get(self, name: str = "web", **options: Any) -> Answer:
        """A hand-out that does not wait."""
        answer = self.service.handout(self.caller(), name, self.request(), **options)
        assert answer is not None
        return answer


def document(answer: Answer) -> dict[str, Any]:
    """The body of an answer."""
    read: dict[str, Any] = json.loads(answer.body)
    return read


def headers(answer: Answer) -> dict[str, str]:
    """The headers of an answer."""
    return {name.decode(): value.decode() for name, value in answer.headers}
