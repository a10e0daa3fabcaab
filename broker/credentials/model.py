"""What a credential is [pure].

Duty: the values that sources, plan, keeper, store and hand-out share.
Not its duty: deciding (``plan``), doing (``keeper``).
Rules:

* a ``Snapshot`` is immutable: lease id and value are replaced together or not at all;
* times named ``*_at`` are readings of ``Clock.now()`` in seconds unless they end in
  ``_wall`` (Unix time); durations are seconds;
* a ``version`` is opaque, never reused, compared for equality only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Literal, TypeAlias

from broker.secret import SecretValue
from broker.vault.generation import Generation
from broker.vault.interface import JsonValue


@dataclass(frozen=True, slots=True)
class CredentialKey:
    """Names one credential; ``subject`` is for per-subject credentials to come."""

    name: str
    subject: str = ""


class State(StrEnum):
    """Where a credential stands (DESIGN section 5)."""

    PENDING = "pending"
    """No value yet."""
    FRESH = "fresh"
    """A value, and the last refresh went well."""
    RENEWING = "renewing"
    """Its lease is being renewed."""
    REPLACING = "replacing"
    """A new lease or version is being fetched."""
    STALE = "stale"
    """A value still within its life, but the last refresh failed."""
    SUSPECT = "suspect"
    """The upstream refused it, a caller says; still handed out."""
    REFUSED = "refused"
    """Vault refuses (400, 403, 404); asked again every ``refused_interval``."""
    EXPIRED = "expired"
    """It had a value whose life ran out."""
    WITHDRAWN = "withdrawn"
    """Taken back on purpose: the KV version was deleted or destroyed."""


@dataclass(frozen=True, slots=True)
class KvExpiry:
    """Where a KV value's own expiry stands: a field, ``custom_metadata``, or nowhere.

    The text is RFC 3339 or Unix seconds.
    """

    where: Literal["none", "field", "custom_metadata"] = "none"
    name: str = ""
    skew: float = 30.0
    """Allowance in seconds for a provider's clock that differs from ours."""


@dataclass(frozen=True, slots=True)
class KvSource:
    """A versioned value in a KV engine, polled."""

    mount: str
    path: str
    kv_version: Literal[1, 2] = 2
    poll: float = 60.0
    expiry: KvExpiry = field(default_factory=KvExpiry)
    max_staleness: float = 3600.0
    """How long a value may be served after Vault last confirmed it."""


@dataclass(frozen=True, slots=True)
class LeasedSource:
    """Any Vault path that answers with a lease."""

    path: str
    method: Literal["read", "write"] = "read"
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    increment: float | None = None
    """Seconds asked for at each renewal; None lets Vault choose."""


@dataclass(frozen=True, slots=True)
class StaticRoleSource:
    """A user whose password Vault replaces in place; its answer tells in how many seconds."""

    path: str
    poll: float = 60.0
    """How often Vault is asked besides: somebody may have it replaced earlier."""
    max_staleness: float = 3600.0
    """How long a value may be served after Vault last confirmed it."""


Source: TypeAlias = KvSource | LeasedSource | StaticRoleSource


@dataclass(frozen=True, slots=True)
class Use:
    """Where the value goes in a request, in OpenAPI's words for security schemes.

    ``apiKey``: ``place`` + ``name`` + ``field``. ``http``: ``scheme`` with ``field``
    (bearer) or ``username_field`` and ``password_field`` (basic).
    """

    place: Literal["header", "cookie", "unsafe_query"] = "header"
    name: str = "Authorization"
    field: str = ""
    prefix: str = ""
    scheme: Literal["", "bearer", "basic"] = ""
    username_field: str = ""
    password_field: str = ""
    origins: tuple[str, ...] = ()
    """Such as ``https://api.example.com``; the client adds the key only for these."""


@dataclass(frozen=True, slots=True)
class CredentialSpec:
    """One configured credential."""

    key: CredentialKey
    source: Source
    fields: Mapping[str, str] = field(default_factory=dict)
    """Field name to template, such as ``postgresql://{username}:{password}@h/db``;
    values are percent-encoded in templates that are URLs. Empty: the keys as in Vault."""
    use: Use | None = None
    hold: float = 30.0
    """Longest time a caller may keep one answer (bounds ``use_until``)."""
    margin: float = 5.0
    """Seconds before the effective expiry at which callers must have stopped."""
    refused_interval: float = 60.0
    required: bool = True
    """Readiness waits for it."""
    report_statuses: tuple[int, ...] = (401,)
    """Statuses of the upstream for which a report has the credential looked at again."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A Vault lease, and the generation it dies with."""

    lease_id: str
    generation: Generation
    issued_at: float
    """When it was first taken out."""
    refreshed_at: float
    """``sent_at`` of the request that last granted ``duration``."""
    duration: float
    first_duration: float
    """What Vault granted at first: a renewal below it was truncated by a maximum."""
    renewable: bool

    @property
    def expires_at(self) -> float:
        """End of the lease by itself, were its token to live for ever."""
        return self.refreshed_at + self.duration


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a credential: value and lease, replaced together."""

    key: CredentialKey
    version: str
    data: Mapping[str, SecretValue]
    """As handed out, after ``fields``."""
    obtained_at: float
    """``sent_at`` of the request that brought the value."""
    validated_at: float
    """``sent_at`` of the request that last confirmed it."""
    source_version: str = ""
    lease: Lease | None = None
    own_expiry_wall: float | None = None
    """The credential's own expiry as Unix time, less the skew allowance."""
    ends_at: float = inf
    """When Vault replaces it in place, on ``Clock.now()``."""
    parts: Mapping[str, SecretValue] = field(default_factory=dict)
    """What ``fields`` assembled ``data`` from, as in Vault: never handed out, but masked in
    the log like ``data``. Empty when ``data`` is as in Vault."""

    def expires_at(self, *, now: float, wall: float, max_staleness: float = inf) -> float:
        """Effective expiry on ``Clock.now()`` (DESIGN promise 1); ``inf`` when none.

        The least of: its lease, the token that took the lease, its own expiry, its end in
        place, and for polled values the last confirmation plus ``max_staleness``.
        """
        ends = [inf]
        if self.lease is not None:
            ends += [self.lease.expires_at, self.lease.generation.expires_at]
            if self.lease.generation.ended:
                ends.append(now)
        else:
            ends += [self.validated_at + max_staleness, self.ends_at]
        if self.own_expiry_wall is not None:
            ends.append(now + (self.own_expiry_wall - wall))
        return min(ends)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the store knows of one credential: the published truth for hand-outs."""

    key: CredentialKey
    state: State
    snapshot: Snapshot | None = None
    expires_at: float = -inf
    """Effective expiry of ``snapshot`` on ``Clock.now()``, as last computed by its keeper."""
    expires_wall: float | None = None
    """The same as Unix time when it was computed; None when it never expires."""
    since_wall: float | None = None
    """Unix time since when there is no usable value; None while there is one."""
    next_attempt_wall: float | None = None
    reason: str = ""
    """Code of the newest error, empty when all is well."""
    detail: str = ""
    revalidating: bool = False
    """Not usable for a moment: a hand-out may wait (2 s at most) for the next revision."""
    validated_wall: float | None = None
    """Unix time of the last answer of Vault that brought or confirmed the value."""
    revision: int = 0
    """Grows with each change; the store counts."""

    def usable(self, now: float) -> bool:
        """Whether the value may be handed out at ``now``."""
        return self.snapshot is not None and now < self.expires_at
