"""The part of the configuration that is about rotation, as the program uses it.

Duty: as for ``domain``: frozen values, durations in seconds, defaults filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where rotations keep their state: ``<mount>/data/<prefix>/rotation/<credential>``."""

    mount: str = "secret"
    prefix: str = "broker"


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """The Lease by which one replica leads."""

    lease: str = ""
    """Empty: the caller's default."""
    namespace: str = ""
    """Empty: the pod's own."""
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """The Kubernetes API, for election and Events."""

    address: str = ""
    """Empty: as the kubelet says; outside a cluster none."""
    token_file: str = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    ca_file: str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    namespace: str = ""
    """Empty: read from the file ``namespace`` beside the token."""
    pod: str = ""
    pod_uid: str = ""


@dataclass(frozen=True, slots=True)
class RotationSettings:
    """Who rotates, under which name, with which state."""

    mode: Literal["off", "sidecar", "rotator"] = "off"
    installation: str = ""
    """In the label of every key that is made; never empty unless ``mode`` is off."""
    state: StateSettings = field(default_factory=StateSettings)
    election: ElectionSettings = field(default_factory=ElectionSettings)


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """One request to a provider; texts are templates."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    encoding: Literal["json", "form"] = "json"


@dataclass(frozen=True, slots=True)
class CreateSettings:
    """How a key is made, and JSON pointers to it in the answer."""

    request: RequestSettings
    fields: Mapping[str, str]
    """Field of the value in Vault to pointer."""
    id: str
    expires_at: str | None = None
    life: float | None = None


@dataclass(frozen=True, slots=True)
class ListSettings:
    """How keys are listed, and JSON pointers in the answer; all but two within an item."""

    request: RequestSettings
    items: str
    id: str
    label: str
    created_at: str | None = None
    next: str | None = None
    """Pointer to the cursor of the next page, from the root of the answer."""
    cursor: str = ""
    """Name of the query parameter that carries it."""


@dataclass(frozen=True, slots=True)
class HttpDriverSettings:
    """A provider's own key-management API."""

    auth: str
    create: CreateSettings
    retire: RequestSettings
    listing: ListSettings | None = None
    times: Literal["rfc3339", "unix", "unix_ms"] = "rfc3339"
    timeout: float = 10.0
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class GeneratedDriverSettings:
    """Random keys, published in Vault for the service that accepts them."""

    mount: str
    path: str
    field: str
    publish: Literal["sha256", "plain"] = "sha256"
    prefix: str = ""
    length: int = 43
    alphabet: Literal["base62", "hex"] = "base62"


@dataclass(frozen=True, slots=True)
class VaultRoleDriverSettings:
    """A static role that Vault replaces in place."""


DriverSettings: TypeAlias = HttpDriverSettings | GeneratedDriverSettings | VaultRoleDriverSettings


@dataclass(frozen=True, slots=True)
class ProveSettings:
    """The request that shows whether a key works; the key goes where ``use`` says."""

    request: RequestSettings
    timeout: float = 10.0
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class CredentialRotationSettings:
    """How one credential's upstream key is replaced."""

    driver: DriverSettings
    max_age: float = 30 * 86400.0
    before_expiry: float = 86400.0
    overlap: float = 7200.0
    settle: float = 30.0
    prove: ProveSettings | None = None
    orphans: Literal["refused", "accepted"] = "refused"
