"""The port to Vault, and its typed results.

Duty: say what the broker asks of HashiCorp Vault or OpenBao and what comes back.
Not its duty: HTTP, retries, state.
Rules:

* every method takes its token explicitly; no ambient token exists;
* a relative life in a result counts from its ``sent_at``: the reading of
  ``Clock.now()`` *before* the request was sent;
* every method ends by its own deadline and raises only ``errors.VaultError``;
* an answer that arrives after its caller has gone is revoked by the port, so
  that nothing is minted which nobody knows.

Source: Vault HTTP API, https://developer.hashicorp.com/vault/api-docs
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, Protocol, TypeAlias

from broker.secret import SecretValue
from broker.vault.generation import Generation

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None


class Priority(IntEnum):
    """Place in the queue of the outbound limiter; lower goes first."""

    LOGIN = 0
    """Login, renewal and look-up of the broker's own token."""
    RENEW = 1
    """Renewal of leases."""
    READ = 2
    """All else."""


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """A Vault token from a login or its renewal (``auth`` in Vault's answer)."""

    token: SecretValue
    accessor: str
    ttl: float
    """Seconds from ``sent_at``; 0 means it never expires (a root token)."""
    renewable: bool
    kind: Literal["service", "batch"]
    sent_at: float
    num_uses: int = 0
    policies: tuple[str, ...] = ()
    period: float = 0.0
    """Seconds; 0 when the token is not periodic or Vault does not say."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What ``auth/token/lookup-self`` says."""

    accessor: str
    ttl: float
    """Seconds from ``sent_at``; 0 means it never expires."""
    renewable: bool
    kind: Literal["service", "batch"]
    sent_at: float
    num_uses: int = 0
    period: float = 0.0
    explicit_max_ttl: float = 0.0
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KvValue:
    """One version of a KV secret.

    ``data`` maps key to secret; a value that is no string in Vault is its JSON text.
    """

    data: Mapping[str, SecretValue]
    sent_at: float
    version: int | None = None
    """Vault's version number (KV v2); None for KV v1."""
    custom_metadata: Mapping[str, str] = field(default_factory=dict)
    created_time: str = ""


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """A value with a lease. ``lease_id`` is empty when the path answers without one."""

    data: Mapping[str, SecretValue]
    lease_id: str
    duration: float
    """Seconds from ``sent_at``."""
    renewable: bool
    sent_at: float


@dataclass(frozen=True, slots=True)
class LeaseRenewal:
    """The answer to ``sys/leases/renew``."""

    lease_id: str
    duration: float
    """Seconds from ``sent_at``; less than asked for means truncated by a maximum."""
    renewable: bool
    sent_at: float


@dataclass(frozen=True, slots=True)
class VaultHealth:
    """``sys/health``."""

    initialized: bool
    sealed: bool
    standby: bool
    version: str


@dataclass(frozen=True, slots=True)
class MountInfo:
    """What is mounted somewhere: ``sys/internal/ui/mounts`` tells any token that may go there."""

    kind: str
    """Type of the engine, such as ``kv`` or ``database``."""
    kv_version: Literal[1, 2] | None = None


class MountPort(Protocol):
    """What ``broker check`` asks besides, to tell a wrong mount from a wrong path."""

    async def mount_info(self, token: SecretValue, *, path: str) -> MountInfo:
        """What is mounted at ``path`` or above it. ``VaultDenied`` when nothing, or no right."""
        ...


class ChangePort(Protocol):
    """What a rotation asks besides: changes. Raises only ``VaultError``.

    After ``VaultUnavailable`` the change may have happened: read back before deciding.
    """

    async def kv_write(
        self,
        token: SecretValue,
        *,
        mount: str,
        path: str,
        data: Mapping[str, SecretValue],
        cas: int,
    ) -> int:
        """Write a version of a KV v2 secret if ``cas`` is the newest (0: none yet); its number.

        ``VaultConflict`` when another version is the newest; deleting one changes no number.
        """
        ...

    async def kv_read_version(
        self, token: SecretValue, *, mount: str, path: str, version: int
    ) -> KvValue:
        """One version of a KV v2 secret. Deleted or destroyed: ``VaultValueDeleted``."""
        ...

    async def kv_delete(
        self, token: SecretValue, *, mount: str, path: str, versions: Sequence[int]
    ) -> None:
        """Delete versions; they can be undeleted. One that does not exist is no error."""
        ...

    async def kv_destroy(
        self, token: SecretValue, *, mount: str, path: str, versions: Sequence[int]
    ) -> None:
        """Destroy the data of versions for good. One that does not exist is no error."""
        ...

    async def write(
        self, token: SecretValue, *, path: str, parameters: Mapping[str, JsonValue] | None = None
    ) -> None:
        """Write to a path that does something, such as ``database/rotate-role/<role>``."""
        ...


class VaultPort(Protocol):
    """What the broker asks of Vault. Every method raises only ``VaultError``."""

    async def login_kubernetes(self, *, mount: str, role: str, jwt: SecretValue) -> TokenGrant:
        """``POST auth/<mount>/login``. A 403 here raises ``VaultDenied``."""
        ...

    async def lookup_self(self, token: SecretValue) -> TokenInfo:
        """``GET auth/token/lookup-self``."""
        ...

    async def renew_self(self, token: SecretValue, *, increment: float | None = None) -> TokenGrant:
        """``POST auth/token/renew-self``; ``increment`` in seconds."""
        ...

    async def revoke_self(self, token: SecretValue) -> None:
        """``POST auth/token/revoke-self``."""
        ...

    async def kv_read(
        self, token: SecretValue, *, mount: str, path: str, kv_version: Literal[1, 2]
    ) -> KvValue:
        """The newest version. Deleted or destroyed (v2): ``VaultValueDeleted``."""
        ...

    async def lease(
        self,
        token: SecretValue,
        *,
        path: str,
        method: Literal["read", "write"] = "read",
        parameters: Mapping[str, JsonValue] | None = None,
    ) -> LeaseGrant:
        """Any path that answers with a lease. Cancelled or late: revoked by the port."""
        ...

    async def renew_lease(
        self, token: SecretValue, lease_id: str, *, increment: float | None = None
    ) -> LeaseRenewal:
        """``POST sys/leases/renew``. Unknown lease: ``VaultLeaseExpired``."""
        ...

    async def revoke_lease(self, token: SecretValue, lease_id: str) -> None:
        """``POST sys/leases/revoke``. An unknown lease is no error."""
        ...

    async def health(self) -> VaultHealth:
        """``GET sys/health`` without a token."""
        ...

    async def aclose(self) -> None:
        """Revoke what late answers brought, within the port's own bound; end threads."""
        ...


class SessionPort(Protocol):
    """What the keepers ask of ``vault.session``: the current generation, kept alive."""

    @property
    def generation(self) -> Generation | None:
        """The current one; None before the first login. May have ended: see ``ended``."""
        ...

    async def ready(self, deadline: float) -> Generation:
        """Wait for a usable generation until ``deadline`` (``Clock.now()``).

        Raises:
            LoginError or VaultError: the newest reason, when the deadline passes first.
        """
        ...

    async def denied(self, generation: Generation) -> Generation | None:
        """A 403 in use: is it the token or the path?

        Looks the token up (single flight, floored). When it is dead, logs in once and
        returns the newer generation, with which the caller may retry; returns None when
        the token is alive, so the refusal is about the path, or when nobody can tell.
        """
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop after each new generation, renewal or end of one."""
        ...
