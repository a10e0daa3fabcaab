"""The Kubernetes API, by its official client.

Duty: one Lease, and Events about one pod, as ``ports``.
Not its duty: when and why (``election``, ``events``).
Rules:

* the only module that imports ``kubernetes``, and only when a client is made: a broker that
  needs no Kubernetes does not load it;
* every call ends by ``timeout`` on the broker's own clock, whatever the library does, in a
  thread of its own; an answer that comes later is dropped, and the next look at the object
  shows what it did;
* nothing from the environment but where the API server is (``address_of``); no proxy, no
  redirect, no retry of the library's: those would send the token elsewhere or twice;
* the token is read anew for each request: the kubelet replaces it well before its end;
* an error of the library is never quoted: it holds the headers of the exchange.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

from broker.clock import Clock
from broker.errors import (
    KubernetesConflict,
    KubernetesError,
    KubernetesNotFound,
    KubernetesRefused,
    KubernetesUnavailable,
)
from broker.kube.plan import Record
from broker.kube.ports import Held, Note
from broker.vault.workers import Workers

log = logging.getLogger("broker.kube")

T = TypeVar("T")

ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet puts token, CA and namespace unless the pod says otherwise."""
TOKEN_CAP: Final = 64 * 1024
"""Most characters of a token file that are read."""
THREADS: Final = 2
"""One for the Lease, one for Events: neither waits for the other."""
COMPONENT: Final = "mcp-secrets-broker"
"""Who reports, in Events."""
BELL: Final = f"{COMPONENT}/wish"
"""Annotation of the Lease while its holder shall look at the wishes."""
CONFLICT, NOT_FOUND, TOO_MANY = 409, 404, 429


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the API server is, and who asks."""

    address: str
    """Origin, such as ``https://10.0.0.1:443``."""
    namespace: str
    """The pod's own."""
    token_file: str = f"{ACCOUNT}/token"
    """A service-account token for the API server's audience: not the one Vault gets."""
    ca_file: str = f"{ACCOUNT}/ca.crt"
    pod: str = ""
    pod_uid: str = ""
    """With it ``kubectl describe pod`` shows the Events; else only their list does."""


def address_of(environ: Mapping[str, str]) -> str:
    """The API server that the kubelet names to every container; empty outside a cluster."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        return ""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def installed() -> bool:
    """Whether the client library is there; it is not loaded."""
    return find_spec("kubernetes") is not None


class KubernetesClient:
    """Connections to one API server.

    Args:
        cluster: where, and who asks.
        clock: the only source of time.
        timeout: seconds for one whole exchange.

    Raises:
        KubernetesRefused: the extra ``kubernetes`` is not installed.
    """

    def __init__(self, cluster: Cluster, *, clock: Clock, timeout: float = 5.0) -> None:
        try:
            from kubernetes import client as library
        except ImportError as error:
            raise KubernetesRefused(
                "The Kubernetes client library is not installed.",
                remedy="Install mcp-secrets-broker[kubernetes].",
            ) from error
        self.library: Any = library
        self.cluster = cluster
        self._clock, self._timeout = clock, timeout
        settings: Any = library.Configuration(
            host=cluster.address,
            ssl_ca_cert=cluster.ca_file if cluster.address.startswith("https:") else None,
            # False, which the signature's int allows: not even a redirect is followed.
            retries=False,
            proxy="",
            no_proxy="*",
        )
        settings.api_key_prefix["BearerToken"] = "Bearer"
        settings.api_key["BearerToken"] = ""  # its being there makes the library ask the hook
        settings.refresh_api_key_hook = self._authorize
        self.api: Any = library.ApiClient(settings)
        self._workers = Workers(THREADS, name="kubernetes")

    async def ask(self, what: str, call: Callable[..., T]) -> T:
        """Make one call of the library in a thread.

        Args:
            what: for a person, such as ``get of the Lease``.
            call: gets ``_request_timeout``.

        Raises:
            KubernetesError: and nothing else.
        """
        deadline = self._clock.now() + self._timeout
        bounded = partial(call, _request_timeout=(self._timeout, self._timeout))
        flight = self._workers.submit(partial(_mapped, what, bounded))
        done = asyncio.Event()

        def landed(future: asyncio.Future[T]) -> None:
            if not future.cancelled():
                future.exception()  # looked at here, for perhaps nobody else will
            done.set()

        flight.add_done_callback(landed)
        if not await self._clock.wait(done, deadline):
            raise KubernetesUnavailable(f"{what}: no answer within {self._timeout:g} s.")
        return flight.result()

    def close(self) -> None:
        """Let threads and connections go; waits for none."""
        self._workers.close()
        self.api.rest_client.close()

    def _authorize(self, settings: Any) -> None:
        """Called by the library before each request, in its thread."""
        try:
            with Path(self.cluster.token_file).open() as file:
                token = file.read(TOKEN_CAP).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KubernetesRefused(
                "The token for the Kubernetes API cannot be read.",
                remedy="Mount a projected service-account token, and name its file.",
            ) from error
        settings.api_key["BearerToken"] = token


class LeaseClient:
    """One Lease. Implements ``ports.LeasePort``.

    Args:
        client: the way to the API.
        namespace: of the Lease.
        name: of the Lease.
    """

    def __init__(self, client: KubernetesClient, *, namespace: str, name: str) -> None:
        self._client, self._namespace, self._name = client, namespace, name
        self._api: Any = client.library.CoordinationV1Api(client.api)

    async def get(self) -> Held | None:
        """The Lease now; None when there is none."""
        call = partial(self._api.read_namespaced_lease, self._name, self._namespace)
        try:
            return _held(await self._client.ask("get of the Lease", call))
        except KubernetesNotFound:
            return None

    async def create(self, record: Record) -> Held:
        """Make the Lease."""
        call = partial(self._api.create_namespaced_lease, self._namespace, self._lease(record))
        return _held(await self._client.ask("create of the Lease", call))

    async def update(self, record: Record, version: str, *, bell: bool = False) -> Held:
        """Write ``record`` and ``bell`` if the Lease still is at ``version``."""
        lease = self._lease(record, version, bell=bell)
        call = partial(self._api.replace_namespaced_lease, self._name, self._namespace, lease)
        try:
            return _held(await self._client.ask("update of the Lease", call))
        except KubernetesNotFound as error:
            raise KubernetesConflict("The Lease is gone.") from error

    def _lease(self, record: Record, version: str | None = None, *, bell: bool = False) -> Any:
        library = self._client.library
        return library.V1Lease(
            api_version="coordination.k8s.io/v1",
            kind="Lease",
            metadata=library.V1ObjectMeta(
                name=self._name,
                namespace=self._namespace,
                resource_version=version,
                annotations={BELL: "pending"} if bell else None,
            ),
            spec=library.V1LeaseSpec(
                holder_identity=record.holder,
                lease_duration_seconds=max(1, round(record.duration)),
                acquire_time=moment(record.acquired_wall),
                renew_time=moment(record.renewed_wall),
                lease_transitions=record.transitions,
            ),
        )


class EventClient:
    """Events about the broker's pod. Implements ``ports.EventPort``."""

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client
        self._api: Any = client.library.CoreV1Api(client.api)

    async def write(self, note: Note, *, wall: float) -> None:
        """Write one Event about the pod; ``wall`` says when it happened."""
        library, cluster, at = self._client.library, self._client.cluster, moment(wall)
        event = library.CoreV1Event(
            metadata=library.V1ObjectMeta(
                generate_name=f"{cluster.pod}.", namespace=cluster.namespace
            ),
            involved_object=library.V1ObjectReference(
                api_version="v1",
                kind="Pod",
                name=cluster.pod,
                namespace=cluster.namespace,
                uid=cluster.pod_uid or None,
            ),
            type=note.kind,
            reason=note.reason,
            action=note.action,
            message=note.message,
            event_time=at,
            reporting_component=COMPONENT,
            reporting_instance=cluster.pod,
        )
        call = partial(self._api.create_namespaced_event, cluster.namespace, event)
        await self._client.ask("create of an Event", call)


def moment(wall: float | None) -> datetime | None:
    """A point in time as the API's ``MicroTime`` wants it: with six digits of a second.

    The library writes none when all are zero, and the API server then refuses the object:
    so a whole second becomes a microsecond more.
    """
    if wall is None:
        return None
    made = datetime.fromtimestamp(wall, UTC)
    return made if made.microsecond else made.replace(microsecond=1)


def _held(lease: Any) -> Held:
    """What the API answered, as the port says it."""
    spec = lease.spec

    def seconds(at: datetime | None) -> float | None:
        return None if at is None else at.timestamp()

    return Held(
        Record(
            holder=(spec and spec.holder_identity) or "",
            duration=float((spec and spec.lease_duration_seconds) or 0),
            acquired_wall=seconds(spec and spec.acquire_time),
            renewed_wall=seconds(spec and spec.renew_time),
            transitions=int((spec and spec.lease_transitions) or 0),
        ),
        lease.metadata.resource_version or "",
        bell=BELL in (lease.metadata.annotations or {}),
    )


def _mapped(what: str, call: Callable[[], T]) -> T:
    """In the thread: whatever the library raises becomes an error of the tree."""
    try:
        return call()
    except KubernetesError:
        raise
    except Exception as error:
        # Not chained: the library's errors hold headers and bodies.
        raise _refusal(what, getattr(error, "status", None), error) from None


def _refusal(what: str, status: object, error: Exception) -> KubernetesError:
    if not isinstance(status, int) or not status:
        return KubernetesUnavailable(f"{what}: no answer ({type(error).__name__}).")
    told = f"{what}: answered {status}."
    if status == NOT_FOUND:
        return KubernetesNotFound(told)
    if status == CONFLICT:
        return KubernetesConflict(told)
    if status < 400 or status >= 500 or status == TOO_MANY:
        return KubernetesUnavailable(told)
    return KubernetesRefused(told)
