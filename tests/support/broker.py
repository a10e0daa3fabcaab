"""A broker without Vault: the real hand-out service and API around entries a test publishes."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

from broker.access.authorizer import ListAuthorizer
from broker.access.caller import Callers, ClientSpec
from broker.access.failed_authentications import FailedAuthentications
from broker.access.limits import Limits
from broker.access.principal import SubjectTokens
from broker.access.tokens.minting import TokenDesk
from broker.access.tokens.pod import PodTokens
from broker.access.tokens.records import TokenLog
from broker.api.admin import create_admin_plane
from broker.api.data import create_data_plane
from broker.api.door import Door, hosts
from broker.api.fast import FastHandout
from broker.api.health import Health
from broker.api.listeners import Listener
from broker.api.operations import create_operations_plane
from broker.api.problems import Problems, RequestIds
from broker.api.sockets import TcpAddress, UnixAddress
from broker.audit.log import AuditLog
from broker.audit.sinks import Sink, opener
from broker.clock import Clock, SystemClock
from broker.credentials.model import (
    CredentialKey,
    CredentialSpec,
    Entry,
    KvSource,
    Snapshot,
    State,
    Use,
)
from broker.credentials.store import CredentialStore
from broker.errors import CredentialUnknown
from broker.handout.decisions import DecisionService
from broker.handout.records import Records
from broker.handout.service import HandoutService
from broker.secret import SecretValue
from broker.telemetry.events import Events
from broker.telemetry.metrics import Metrics
from tests.support.wire import Wire

TOKEN = "client-token-of-search-mcp"
OTHER_TOKEN = "client-token-of-other-mcp"
SECRET = "s3cr3t-value-of-the-search-api"


@dataclass
class Keepers:
    """Stands where the keepers are: notes what is asked, publishes what a test laid ready."""

    store: CredentialStore
    ready: list[Entry] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def report(
        self, key: CredentialKey, version: str, status: int, detail: str = "", *, actor: str = ""
    ) -> Entry | None:
        """A report: the next entry laid ready is published."""
        del status, detail, actor
        return await self._next(key, version)

    async def refresh(self, key: CredentialKey) -> Entry | None:
        """An operator's wish."""
        if self.store.get(key) is None:
            raise CredentialUnknown
        return await self._next(key, "")

    async def _next(self, key: CredentialKey, version: str) -> Entry | None:
        self.asked.append((key.name, version))
        return self.store.publish(self.ready.pop(0)) if self.ready else self.store.get(key)


class Assembly:
    """Everything behind the listeners; what ``app`` puts together, without Vault.

    Args:
        directory: takes sockets and the audit file.
        clock: the only source of time.
        clients: by default ``search-mcp`` with a token and ``uid-mcp`` by its uid.
        own_uid: taken for the broker's.
        authorizer: decides.
        tokens: verifies scoped tokens; None: none is good.
        disk: stands between the audit and its file.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock | None = None,
        names: Iterable[str] = ("search-api", "orders-db", "hidden"),
        own_uid: int | None = None,
        max_wait: float = 60.0,
        authorizer: type[ListAuthorizer] = ListAuthorizer,
        tokens: SubjectTokens | None = None,
        disk: Callable[[Sink], Sink] = lambda sink: sink,
        max_tokens: int = 1000,
    ) -> None:
        self.directory = directory
        self.clock = clock or SystemClock()
        self.names = tuple(names)
        visible = tuple(name for name in self.names if name != "hidden")
        clients = [
            ClientSpec("search-mcp", credentials=visible),
            ClientSpec("other-mcp", credentials=("orders-db",)),
            ClientSpec("uid-mcp", proof="uid", uid=os.geteuid(), credentials=visible),
        ]
        self.specs = {
            name: CredentialSpec(
                CredentialKey(name),
                KvSource("secret", name),
                use=Use(name="x-api-key", field="api_key", origins=("https://api.example.com",)),
            )
            for name in self.names
        }
        self.store = CredentialStore(self.clock)
        self.keepers = Keepers(self.store)
        self.metrics = Metrics(self.names, [one.name for one in clients])
        self.events = Events(self.metrics)
        self.limits = Limits(self.clock)
        self.failures = FailedAuthentications(self.clock, None)
        self.callers = Callers(
            self.clock, clients, own_uid=os.geteuid() + 1 if own_uid is None else own_uid
        )
        for client, token in (("search-mcp", TOKEN), ("other-mcp", OTHER_TOKEN)):
            self.callers.accept(client, sha256(token.encode()).digest())
        self.audit_file = directory / "audit.jsonl"
        open_file = opener(str(self.audit_file))
        self.audit = AuditLog(lambda: disk(open_file()), clock=self.clock, metrics=self.metrics)
        self.authorizer = authorizer(clients, self.names)
        self.token_log = TokenLog(
            clock=self.clock,
            audit=self.audit,
            metrics=self.metrics.tokens,
            events=self.events,
            mask=lambda text: text.replace(SECRET, "***"),
        )
        self.tokens = PodTokens(clock=self.clock, watch=self.token_log, most=max_tokens)
        self.desk = TokenDesk(
            clock=self.clock,
            store=self.tokens,
            authorizer=self.authorizer,
            records=self.token_log,
            life=900.0,
            max_life=3600.0,
            clients=[one.name for one in clients],
        )
        self.service = HandoutService(
            clock=self.clock,
            store=self.store,
            callers=self.callers,
            authorizer=self.authorizer,
            audit=self.audit,
            metrics=self.metrics,
            reports=self.keepers,
            specs=self.specs,
            mask=lambda text: text.replace(SECRET, "***"),
            limits=self.limits,
            failures=self.failures,
            tokens=tokens or self.tokens,
            max_wait=max_wait,
        )
        self.problems = Problems(self.clock, RequestIds(random.Random(7)))
        self.health = Health(self.clock, self.store, dict.fromkeys(self.names, True))
        self.quits = 0
        self.replaced: list[str] = []
        self.fast = FastHandout(self.service, self.problems, self.names, clock=self.clock)
        self.data = create_data_plane(
            service=self.service,
            decisions=DecisionService(
                self.authorizer,
                Records(
                    self.clock,
                    self.audit,
                    self.metrics,
                    lambda text: text.replace(SECRET, "***"),
                    digest_key=b"digest-key",
                ),
            ),
            events=self.events,
            problems=self.problems,
            clock=self.clock,
            tokens=self.desk,
        )
        self.admin = create_admin_plane(
            health=self.health,
            keepers=self.keepers,
            vault=lambda: {"generation": 1},
            replace_token=self._replace_token,
            quit_broker=self._quit,
            problems=self.problems,
            own_uid=os.geteuid(),
            tokens=self.desk,
        )
        self.operations = create_operations_plane(
            health=self.health, metrics=self.metrics, problems=self.problems
        )

    def _quit(self) -> None:
        self.quits += 1

    def _replace_token(self, name: str) -> bool:
        self.replaced.append(name)
        return name == "search-mcp"

    def publish(self, name: str = "search-api", version: str = "v1", **changes: Any) -> Entry:
        """Publish a fresh entry; ``changes`` as of ``Entry``."""
        return self.store.publish(self.entry(name, version, **changes))

    def entry(self, name: str = "search-api", version: str = "v1", **changes: Any) -> Entry:
        """A fresh entry with a value that lives for an hour."""
        now, wall = self.clock.now(), self.clock.wall()
        snapshot = Snapshot(
            CredentialKey(name),
            version,
            {"api_key": SecretValue(SECRET)},
            obtained_at=now,
            validated_at=now,
            source_version="3",
        )
        members: dict[str, Any] = {
            "state": State.FRESH,
            "snapshot": snapshot,
            "expires_at": now + 3600,
            "expires_wall": wall + 3600,
        }
        return Entry(CredentialKey(name), **{**members, **changes})

    def unavailable(self, name: str = "search-api", **changes: Any) -> Entry:
        """Publish an entry without a value."""
        members: dict[str, Any] = {
            "state": State.EXPIRED,
            "snapshot": None,
            "expires_at": -inf,
            "expires_wall": None,
            "since_wall": self.clock.wall() - 60,
            "next_attempt_wall": self.clock.wall() + 7,
            "reason": "vault_unreachable",
        }
        return self.publish(name, **{**members, **changes})

    def listener(
        self, address: UnixAddress | TcpAddress, *, client: str | None = None, fast: bool = True
    ) -> Listener:
        """A data listener."""
        door = Door(
            name="data",
            refusals=self.problems,
            client=client,
            hosts=hosts() if isinstance(address, TcpAddress) else None,
            fast=self.fast if fast else None,
        )
        return Listener(address, door, self.data, self.clock)


class Serving:
    """Open listeners and connections of one test."""

    def __init__(self, broker: Assembly, stack: AsyncExitStack) -> None:
        self.broker = broker
        self._stack = stack

    async def start(self, listener: Listener) -> Listener:
        """Start a listener; it is stopped at the end of the test."""
        await listener.start()
        self._stack.push_async_callback(listener.stop, self.broker.clock.now() + 2)
        return listener

    async def connect(self, listener: Listener) -> Wire:
        """Connect to a listener."""
        address = listener.address
        wire = await (
            Wire.unix(address.path) if isinstance(address, UnixAddress) else Wire.tcp(listener.port)
        )
        self._stack.push_async_callback(wire.close)
        return wire

    async def data(self, *, fast: bool = True) -> Wire:
        """Connect to a new data listener on loopback."""
        listener = self.broker.listener(TcpAddress("127.0.0.1", 0), fast=fast)
        return await self.connect(await self.start(listener))


@asynccontextmanager
async def serving(broker: Assembly) -> AsyncIterator[Serving]:
    """Listeners and connections that end with the block."""
    async with AsyncExitStack() as stack:
        yield Serving(broker, stack)
        broker.service.end_waits()
        broker.events.close()
