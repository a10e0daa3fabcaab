"""The parts that rotate keys, where the configuration asks for them.

Duty: who rotates here; make rotator, election, Kubernetes' parts; name their tasks; end them.
Not its duty: drivers (``rotation_drivers``), what is told of each step (``rotation_seen``).
Rules:

* a process whose mode is another rotates nothing and needs no right to write;
* ``kubernetes`` is loaded inside a cluster alone, and by a process that rotates alone;
* outside a cluster there is no election: correct, since safety never depends on it, and one
  process is the usual case there;
* what was minted is masked in the log from the moment it is known, not only once readers
  have it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from broker.app import translate_rotation
from broker.app.masking import Masking
from broker.app.rotation_drivers import DriverParts, drivers
from broker.app.rotation_masked import MaskedDriver
from broker.app.rotation_seen import RotationSeen
from broker.audit.log import AuditLog
from broker.clock import Clock
from broker.credentials.keepers import Keepers
from broker.credentials.model import CredentialKey, Entry
from broker.credentials.store import CredentialStore
from broker.errors import BrokerError, SettingsError
from broker.handout.ports import Reports
from broker.kube.client import (
    Cluster,
    EventClient,
    KubernetesClient,
    LeaseClient,
    address_of,
    installed,
)
from broker.kube.election import LeaseElection
from broker.kube.events import PodEvents
from broker.kube.plan import Times
from broker.rotation.election import Always, Election
from broker.rotation.footing import Deps
from broker.rotation.ports import Rotations
from broker.rotation.rotator import Rotator
from broker.rotation.state import Documents
from broker.settings.domain import Settings
from broker.settings.domain_rotation import KubernetesSettings
from broker.settings.processes import Process, rotating
from broker.telemetry.events import Events
from broker.telemetry.metrics import Metrics
from broker.vault.client import VaultClient
from broker.vault.session import Session

if TYPE_CHECKING:
    from broker.rotation.drivers.proof import HttpProof

log = logging.getLogger("broker.rotation")

LEASE: Final = "broker-rotation"
"""Name of the Lease when the configuration gives none."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What rotation is made of."""

    clock: Clock
    rng: Random
    """Of cryptographic quality."""
    vault: VaultClient
    session: Session
    store: CredentialStore
    keepers: Keepers
    audit: AuditLog
    metrics: Metrics
    events: Events
    masking: Masking
    proofs: Mapping[str, HttpProof]
    """Of the credentials that have one of their own."""


@dataclass(slots=True)
class Rotation:
    """What rotates in this process."""

    rotator: Rotator
    names: frozenset[str]
    """What rotates."""
    lease: LeaseElection | None = None
    pod_events: PodEvents | None = None
    kubernetes: KubernetesClient | None = None

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What runs for ever, by name."""
        if self.lease is not None:
            yield "election", self.lease.run()
        if self.pod_events is not None:
            yield "pod events", self.pod_events.run()
        yield "rotation", self.rotator.run()

    def reports(self, keepers: Keepers) -> SuspectingReports:
        """The way of reports, by the keepers to the rotation."""
        return SuspectingReports(keepers, self.rotator, self.names)

    def overdue(self) -> list[str]:
        """Credentials whose rotation is overdue."""
        return [one.name for one in self.rotator.status() if one.overdue]

    async def close(self) -> None:
        """Let another lead at once; call it when the tasks have ended."""
        if self.lease is not None:
            await self.lease.release()
        if self.kubernetes is not None:
            self.kubernetes.close()


def build_rotation(
    settings: Settings, process: Process, parts: Parts, *, environ: Mapping[str, str]
) -> Rotation | None:
    """Make what rotates; None when this process does not.

    Who may rotate nothing need not load this module (``settings.processes.rotating``).

    Raises:
        SettingsError: the pod's namespace is not known.
        KubernetesRefused: ``kubernetes.address`` is set, but the extra is not installed.
    """
    if not rotating(settings, process):
        return None
    specs = translate_rotation.specs(settings)
    cluster = _cluster(settings.kubernetes, environ)
    lease, pod_events, client = None, None, None
    owner = f"{settings.kubernetes.pod or socket.gethostname()}_{token_hex(4)}"
    if cluster is not None:
        client = KubernetesClient(
            cluster, clock=parts.clock, timeout=settings.rotation.election.renew_deadline / 2
        )
        lease = _lease(settings, client, owner, parts)
        if cluster.pod:
            pod_events = PodEvents(EventClient(client), clock=parts.clock)
    else:
        log.info("no election: this process rotates")
    made = drivers(
        settings,
        DriverParts(parts.clock, parts.rng, parts.store, parts.vault, parts.session, parts.proofs),
    )
    parts.metrics.rotation.configure(tuple(specs))
    rotator = Rotator(
        [(spec, MaskedDriver(made[name], parts.masking)) for name, spec in specs.items()],
        Deps(
            clock=parts.clock,
            documents=Documents(clock=parts.clock, vault=parts.vault, session=parts.session),
            readership=parts.keepers,
            observer=RotationSeen(
                parts.audit,
                parts.metrics,
                parts.events,
                () if pod_events is None else (pod_events,),
            ),
            rng=parts.rng,
            installation=settings.rotation.installation,
            owner=owner,
            new_id=lambda: token_hex(8),
        ),
        election=lease,
    )
    _show(lease or Always(), parts.metrics)
    return Rotation(rotator, frozenset(specs), lease, pod_events, client)


def _lease(
    settings: Settings, client: KubernetesClient, identity: str, parts: Parts
) -> LeaseElection:
    election = settings.rotation.election
    return LeaseElection(
        LeaseClient(
            client,
            namespace=election.namespace or client.cluster.namespace,
            name=election.lease or LEASE,
        ),
        identity=identity,
        times=Times(election.lease_duration, election.renew_deadline, election.retry_period),
        clock=parts.clock,
        rng=parts.rng,
    )


def _show(election: Election, metrics: Metrics) -> None:
    """Keep the gauge of who leads true."""

    def changed() -> None:
        metrics.rotation.leading(election.leading)

    election.on_change(changed)
    changed()


def _cluster(settings: KubernetesSettings, environ: Mapping[str, str]) -> Cluster | None:
    """The cluster that this pod is in, if it is in one.

    Raises:
        SettingsError: the pod's namespace is not known.
    """
    address = settings.address or address_of(environ)
    if not address:
        return None
    if not settings.address and not installed():
        log.warning(
            "no election and no Events: the extra 'kubernetes' is not installed. Every process "
            "that may rotate does; correct, but each asks the provider"
        )
        return None
    namespace = settings.namespace
    if not namespace:
        file = Path(settings.token_file).with_name("namespace")
        try:
            namespace = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"is missing, and {file} cannot be read",
                key="kubernetes.namespace",
                remedy="Set it by the downward API: BROKER__KUBERNETES__NAMESPACE.",
            ) from error
    return Cluster(
        address,
        namespace,
        token_file=settings.token_file,
        ca_file=settings.ca_file,
        pod=settings.pod,
        pod_uid=settings.pod_uid,
    )


class SuspectingReports:
    """Reports of 401 reach the rotation too: within the overlap the proof decides.

    Implements ``handout.ports.Reports`` around the keepers.

    Args:
        keepers: re-read first; a newer version is the better answer.
        rotations: of this process.
        names: what rotates here.
    """

    def __init__(self, keepers: Reports, rotations: Rotations, names: Iterable[str]) -> None:
        self._keepers, self._rotations, self._names = keepers, rotations, frozenset(names)

    async def report(
        self, key: CredentialKey, version: str, status: int, detail: str = "", *, actor: str = ""
    ) -> Entry | None:
        """See ``Keepers.report``."""
        entry = await self._keepers.report(key, version, status, detail, actor=actor)
        if (
            key.name in self._names
            and entry is not None
            and entry.snapshot is not None
            and entry.snapshot.version == version
        ):
            try:
                await self._rotations.suspect(key.name, actor=actor)
            except BrokerError as error:
                log.warning("a report about %s did not reach its rotation: %s", key.name, error)
        return entry
