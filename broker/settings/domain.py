"""The configuration as the program uses it: the third step of three.

Duty: frozen values, durations in seconds, sizes in bytes, defaults filled in.
Not its duty: files and environments (``load``), shapes and messages (``schema``).
Rules: only ``cli`` and ``app`` see these; all else receives plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from broker.settings.domain_access import PolicySettings, RoleSettings
from broker.settings.domain_limits import CallerLimitSettings
from broker.settings.domain_rotation import (
    CredentialRotationSettings,
    KubernetesSettings,
    ProveSettings,
    RotationSettings,
)
from broker.settings.domain_tokens import TokenSettings


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS towards Vault. Always verified unless ``unsafe_skip_verify``."""

    ca_file: str = ""
    ca_path: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    unsafe_skip_verify: bool = False
    unsafe_plain_http: bool = False
    """Allows an ``http://`` address that is not loopback."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How the broker logs in to Vault."""

    method: Literal["kubernetes", "token_file"] = "kubernetes"
    mount: str = "kubernetes"
    role: str = ""
    token_file: str = "/var/run/secrets/broker/token"
    """``kubernetes``: the projected service-account token. ``token_file``: a Vault token."""
    audience: str = ""
    """What the service-account token must be meant for; ``broker check`` compares."""


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """The outbound limiter: what this broker may cost Vault."""

    requests_per_second: float = 50.0
    burst: int = 50
    concurrency: int = 8


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Where Vault is and how to speak to it."""

    address: str = ""
    namespace: str = ""
    timeout: float = 10.0
    """Deadline of one request in seconds, connection included."""
    redirect_addresses: tuple[str, ...] = ()
    """Further origins a 307 of Vault may lead to (a standby names its leader)."""
    tls: TlsSettings = field(default_factory=TlsSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """The local API (DESIGN section 6)."""

    socket_directory: str = "/run/broker"
    """Each client's directory is below it: ``<client>/broker.sock``, ``client-token``."""
    unix: bool = True
    tcp: tuple[str, ...] = ("127.0.0.1:8210",)
    """Loopback addresses; empty for none."""
    hosts: tuple[str, ...] = ()
    """Further names allowed in the Host header on TCP."""
    admin_socket: str = "/run/broker-admin/admin.sock"
    """Empty for none."""
    operations: str = "[::]:8211"
    """Probes and metrics; empty for none."""
    max_wait: float = 60.0
    """Longest ``Prefer: wait`` in seconds."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """One caller: an MCP server's container."""

    name: str
    credentials: tuple[str, ...] = ()
    proof: Literal["token", "uid", "token_and_uid"] = "token"
    """``token``: the client token, on the socket or TCP. ``uid``: the peer's uid on this
    client's own socket. ``token_and_uid``: both, so the socket only."""
    uid: int | None = None
    group: int | None = None
    """Group that owns the socket and token file (Kubernetes ``fsGroup``); None: the process's."""


@dataclass(frozen=True, slots=True)
class ExpirySettings:
    """Where a KV value's own expiry stands."""

    where: Literal["none", "field", "custom_metadata"] = "none"
    name: str = ""
    skew: float = 30.0


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Where a credential comes from; ``kind`` decides which keys apply."""

    kind: Literal["kv", "leased", "static_role"]
    path: str
    mount: str = ""
    kv_version: Literal[1, 2] = 2
    poll: float = 60.0
    max_staleness: float = 3600.0
    expiry: ExpirySettings = field(default_factory=ExpirySettings)
    method: Literal["read", "write"] = "read"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    increment: float | None = None


@dataclass(frozen=True, slots=True)
class UseSettings:
    """Where the value goes in an upstream request (OpenAPI's words)."""

    place: Literal["header", "cookie", "unsafe_query"] = "header"
    name: str = "Authorization"
    field: str = ""
    prefix: str = ""
    scheme: Literal["", "bearer", "basic"] = ""
    username_field: str = ""
    password_field: str = ""
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CredentialSettings:
    """One credential by name."""

    name: str
    source: SourceSettings
    fields: Mapping[str, str] = field(default_factory=dict)
    use: UseSettings | None = None
    hold: float = 30.0
    margin: float = 5.0
    refused_interval: float = 60.0
    required: bool = True
    prove: ProveSettings | None = None
    report_statuses: tuple[int, ...] = (401,)
    rotation: CredentialRotationSettings | None = None
    """Its ``prove`` is the credential's own when it has none itself."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Where hand-out records go. ``file`` empty: standard output."""

    file: str = ""
    on_failure: Literal["refuse", "allow"] = "refuse"
    key_file: str = ""
    """With the key of the chain; empty: a chain without one."""
    max_bytes: int = 0
    """0: the file is never rotated."""
    keep: int | None = None
    """Rotated files that stay; None: nobody said how many."""
    sync: bool = False
    """An answer waits for the disk."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The broker's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


@dataclass(frozen=True, slots=True)
class StopSettings:
    """How the broker ends."""

    delay: float = 0.0
    """Linger after 'not ready', for clusters that signal both containers together."""
    timeout: float = 20.0
    """Bound of the whole stop in seconds, ``delay`` included."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration."""

    vault: VaultSettings = field(default_factory=VaultSettings)
    listeners: ListenerSettings = field(default_factory=ListenerSettings)
    clients: Mapping[str, ClientSettings] = field(default_factory=dict)
    credentials: Mapping[str, CredentialSettings] = field(default_factory=dict)
    limits: CallerLimitSettings = field(default_factory=CallerLimitSettings)
    roles: Mapping[str, RoleSettings] = field(default_factory=dict)
    policies: PolicySettings = field(default_factory=PolicySettings)
    rotation: RotationSettings = field(default_factory=RotationSettings)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    log: LogSettings = field(default_factory=LogSettings)
    stop: StopSettings = field(default_factory=StopSettings)
