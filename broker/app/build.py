"""The composition root: each object once, wired by hand.

Duty: make every part from the settings and connect them.
Not its duty: starting and stopping (``run``), changing while running (``reload``).
Rules:

* nothing here waits, listens or calls Vault; a broker that is built has done nothing yet;
* rotation and scoped tokens are loaded where the configuration has them: memory is per pod.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from broker.access.caller import Callers
from broker.access.current import CurrentAuthorizer
from broker.access.failed_authentications import FailedAuthentications
from broker.access.limits import Limits as CallerLimits
from broker.access.token_files import TokenFiles
from broker.api.admin import create_admin_plane
from broker.api.data import create_data_plane
from broker.api.door import Door, Limits, hosts
from broker.api.fast import FastHandout
from broker.api.health import Health
from broker.api.listeners import Listener
from broker.api.operations import create_operations_plane
from broker.api.problems import Problems, RequestIds
from broker.api.sockets import TcpAddress, UnixAddress
from broker.app import policies, translate
from broker.app.audit_head import AuditHead
from broker.app.audit_log import audit_log, digest_key
from broker.app.masking import Masking
from broker.app.process import connections
from broker.app.proofs import proofs
from broker.app.trail import Trail
from broker.app.vault import vault_client, vault_login
from broker.audit.log import AuditLog
from broker.clock import Clock
from broker.credentials.keeper import Deps
from broker.credentials.keepers import Keepers
from broker.credentials.retire import Retirer
from broker.credentials.store import CredentialStore
from broker.handout.decisions import DecisionService
from broker.handout.records import Records
from broker.handout.service import HandoutService
from broker.protocol.redaction import Redactor
from broker.settings.domain import Settings
from broker.settings.processes import Process, rotating
from broker.telemetry.events import Events
from broker.telemetry.metrics import Metrics
from broker.vault.client import VaultClient
from broker.vault.session import Session

if TYPE_CHECKING:
    from broker.app.rotation import Rotation
    from broker.app.tokens import Tokens

LINGER: Final = 20.0
"""Seconds an old Vault token outlasts the longest request that may still use it."""
TOKEN_OVERLAP: Final = 60.0
"""Seconds a replaced client token is still taken: the client reads the file after a 401."""


@dataclass(slots=True)
class Broker:
    """All parts of one broker."""

    settings: Settings
    clock: Clock
    redactor: Redactor
    metrics: Metrics
    events: Events
    vault: VaultClient
    session: Session
    store: CredentialStore
    retirer: Retirer
    keepers: Keepers
    callers: Callers
    token_files: TokenFiles
    limits: CallerLimits
    failures: FailedAuthentications
    authorizer: CurrentAuthorizer
    service_account: str
    """Of this pod, for policies; empty: not known."""
    audit: AuditLog
    audit_head: AuditHead
    trail: Trail
    service: HandoutService
    health: Health
    masking: Masking
    rotation: Rotation | None
    tokens: Tokens | None
    fast: FastHandout
    data: list[Listener]
    admin: list[Listener]
    operations: list[Listener]

    @property
    def listeners(self) -> list[Listener]:
        """All listeners, in the order in which they stop."""
        return [*self.data, *self.admin, *self.operations]


def build(
    settings: Settings,
    *,
    clock: Clock,
    rng: Random,
    own_uid: int,
    redactor: Redactor,
    metrics: Metrics,
    quit_broker: Callable[[], None],
    process: Process = "broker",
    environ: Mapping[str, str] | None = None,
) -> Broker:
    """Make and connect all parts; within a running event loop.

    Args:
        settings: narrowed to the process (``narrowing.narrowed``).
        clock: the only source of time.
        rng: of cryptographic quality.
        own_uid: the process's effective uid.
        redactor: of the log.
        metrics: all numbers.
        quit_broker: begins the stop.
        process: what this one is.
        environ: where the kubelet names the API server.

    Raises:
        SettingsError or AuditUnavailable or ListenerUnusable: something in the
            configuration cannot work here.
    """
    specs = translate.credentials(settings)
    clients = translate.clients(settings)
    events = Events(metrics)
    vault = vault_client(settings.vault, clock=clock, metrics=metrics)
    audit = audit_log(settings.audit, clock=clock, metrics=metrics)
    head = AuditHead(audit, events, clock)
    metrics.audit_sequence = head.sequence
    trail = Trail(audit, clock)
    session = Session(
        vault,
        vault_login(settings.vault.auth, vault),
        clock=clock,
        rng=rng,
        metrics=metrics,
        linger=settings.vault.timeout + LINGER,
        observer=trail,
    )
    store = CredentialStore(clock)
    masking = Masking(clock, redactor)
    store.subscribe(masking.published)
    session.on_change(lambda: masking.token(session.generation))
    retirer = Retirer(clock=clock, vault=vault, session=session, rng=rng)
    proved = proofs(settings, clock, masking.met)
    keepers = Keepers(
        specs.values(),
        Deps(
            clock=clock,
            vault=vault,
            session=session,
            store=store,
            retirer=retirer,
            rng=rng,
            recorder=metrics,
            events=events,
            new_version=lambda: secrets.token_hex(8),  # never reused, on any replica
            observer=trail,
        ),
        proofs=proved,
    )
    rotates: Rotation | None = None
    if rotating(settings, process):
        from broker.app import rotation

        parts = rotation.Parts(
            clock, rng, vault, session, store, keepers, audit, metrics, events, masking, proved
        )
        rotates = rotation.build_rotation(settings, process, parts, environ=environ or {})
    callers = Callers(clock, clients, own_uid=own_uid)
    account = policies.service_account(settings)
    authorizer = CurrentAuthorizer(
        policies.authorizer(settings, policies.compiled(settings, service_account=account), clock)
    )
    limits = CallerLimits(
        clock, translate.limit_rules(settings.limits), translate.default_limit(settings.limits)
    )
    metrics.limits.watch(lambda: (len(limits.windows), limits.windows.dropped))
    failures = FailedAuthentications(clock, translate.failed_authentications(settings.limits))
    tokens: Tokens | None = None
    if settings.tokens.store != "off":
        from broker.app.tokens import Parts, build_tokens

        tokens = build_tokens(
            settings,
            Parts(clock, vault, session, authorizer, audit, metrics, events, redactor.mask),
        )
    service = HandoutService(
        clock=clock,
        store=store,
        callers=callers,
        authorizer=authorizer,
        audit=audit,
        metrics=metrics,
        reports=keepers if rotates is None else rotates.reports(keepers),
        specs=specs,
        mask=redactor.mask,
        tokens=None if tokens is None else tokens.store,
        limits=limits,
        failures=failures,
        max_wait=settings.listeners.max_wait,
    )
    problems = Problems(clock, RequestIds(rng))
    health = Health(clock, store, {name: spec.required for name, spec in specs.items()})
    if rotates is not None:
        health.overdue = rotates.overdue
    broker = Broker(
        settings=settings,
        clock=clock,
        redactor=redactor,
        metrics=metrics,
        events=events,
        vault=vault,
        session=session,
        store=store,
        retirer=retirer,
        keepers=keepers,
        callers=callers,
        token_files=TokenFiles(Path(settings.listeners.socket_directory), callers, own_uid=own_uid),
        authorizer=authorizer,
        limits=limits,
        failures=failures,
        service_account=account,
        audit=audit,
        audit_head=head,
        trail=trail,
        service=service,
        health=health,
        masking=masking,
        rotation=rotates,
        tokens=tokens,
        fast=FastHandout(
            service,
            problems,
            specs,
            clock=clock,
            fresh=lambda: tokens is None or tokens.store.fresh,
        ),
        data=[],
        admin=[],
        operations=[],
    )
    _listeners(broker, problems, own_uid=own_uid, quit_broker=quit_broker)
    most = connections(len(broker.listeners), Limits().connections)
    for listener in broker.listeners:
        listener.door.limits = Limits(connections=most)
    return broker


def _listeners(
    broker: Broker,
    problems: Problems,
    *,
    own_uid: int,
    quit_broker: Callable[[], None],
) -> None:
    configured, clock = broker.settings.listeners, broker.clock
    records = Records(
        clock,
        broker.audit,
        broker.metrics,
        broker.redactor.mask,
        digest_key=digest_key(broker.settings.audit),
    )
    broker.store.subscribe(lambda *_: records.values_changed())
    data_plane = create_data_plane(
        service=broker.service,
        decisions=DecisionService(broker.authorizer, records),
        events=broker.events,
        problems=problems,
        clock=clock,
        tokens=None if broker.tokens is None else broker.tokens.desk,
    )
    if configured.unix:
        for client in broker.settings.clients.values():
            path = Path(configured.socket_directory) / client.name / "broker.sock"
            door = Door(f"data unix {client.name}", problems, client=client.name, fast=broker.fast)
            address = UnixAddress(path, group=client.group)
            broker.data.append(Listener(address, door, data_plane, clock))
    for text in configured.tcp:
        door = Door("data tcp", problems, hosts=hosts(configured.hosts), fast=broker.fast)
        broker.data.append(Listener(TcpAddress.parse(text), door, data_plane, clock))
    if configured.admin_socket:
        admin_plane = create_admin_plane(
            health=broker.health,
            keepers=broker.keepers,
            vault=lambda: _session_status(broker),
            audit=broker.audit_head.status,
            tokens=None if broker.tokens is None else broker.tokens.desk,
            replace_token=lambda name: _replace_token(broker, name),
            quit_broker=quit_broker,
            problems=problems,
            own_uid=own_uid,
            rotations=None if broker.rotation is None else broker.rotation.rotator,
        )
        address = UnixAddress(Path(configured.admin_socket), mode=0o600, directory_mode=0o700)
        broker.admin.append(Listener(address, Door("admin", problems), admin_plane, clock))
    if configured.operations:
        operations_plane = create_operations_plane(
            health=broker.health, metrics=broker.metrics, problems=problems
        )
        broker.operations.append(
            Listener(
                TcpAddress.parse(configured.operations, loopback_only=False),
                Door("operations", problems),
                operations_plane,
                clock,
            )
        )


def _replace_token(broker: Broker, name: str) -> bool:
    client = broker.settings.clients.get(name)
    if client is None or client.proof == "uid":
        return False
    broker.token_files.replace(translate.client(client), overlap=TOKEN_OVERLAP)
    return True


def _session_status(broker: Broker) -> dict[str, Any]:
    """How the session stands, for an operator; times in seconds from now."""
    generation = broker.session.generation
    if generation is None:
        return {"generation": None}
    left = generation.expires_at - broker.clock.now()
    return {
        "generation": generation.number,
        "usable": not generation.ended and left > 0,
        "expires_in": None if left == float("inf") else round(max(0.0, left), 3),
        "leases_held": generation.held(),
        "leases_to_revoke": broker.retirer.pending(),
    }
