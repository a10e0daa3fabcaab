"""Vault's answers as typed results: the only reader of response fields [pure].

Duty: turn the bytes of a good answer into the results of ``interface``.
Not its duty: answers that say no (``refusals``), HTTP (``transport``).
Rules:

* every field is checked for type and range; what is not as Vault's API promises
  is ``VaultMalformed``, and nothing is guessed;
* no error quotes an answer: it may hold a secret;
* a life Vault rounds down to 0 seconds is given as ``UNDER_A_SECOND``, for 0
  means "never expires" and only a root token's look-up says so.

Source: Vault HTTP API, https://developer.hashicorp.com/vault/api-docs ; the
shapes were compared with OpenBao 2.7.2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Final, Literal, NoReturn, TypeAlias

from broker.errors import VaultInvalid, VaultMalformed, VaultNotFound, VaultValueDeleted
from broker.secret import SecretValue
from broker.vault.interface import (
    KvValue,
    LeaseGrant,
    LeaseRenewal,
    MountInfo,
    TokenGrant,
    TokenInfo,
    VaultHealth,
)

UNDER_A_SECOND: Final = 0.001
"""Seconds; stands for a remaining life Vault gives as 0."""

_MAX_SECONDS: Final = 100 * 366 * 86_400
"""A century. Vault itself cannot count to more than three."""

_WRONG_KV_1: Final = "If this mount is KV version 1, set version: 1 in source."
_WRONG_KV_2: Final = (
    "This mount is KV version 2: set version: 2 in source and leave 'data/' out of its path."
)

Document: TypeAlias = Mapping[str, object]
"""A JSON object."""


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """One HTTP answer. Has no repr: the body may hold a secret."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, {len(self.body)} bytes)"

    @property
    def ok(self) -> bool:
        """Whether Vault did what was asked (2xx)."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Minted:
    """What an answer created in Vault: a token, a lease, or nothing."""

    token: SecretValue | None = None
    lease_id: str = ""

    def __bool__(self) -> bool:
        return self.token is not None or bool(self.lease_id)


def token_grant(answer: Answer, sent_at: float) -> TokenGrant:
    """Read ``auth`` of a login or a renew-self."""
    auth = _object(document(answer), "auth")
    return TokenGrant(
        token=SecretValue(_text(auth, "client_token")),
        accessor=_text(auth, "accessor", empty=True),
        ttl=_seconds(auth, "lease_duration") or UNDER_A_SECOND,
        renewable=_flag(auth, "renewable"),
        kind=_kind(auth, "token_type"),
        sent_at=sent_at,
        num_uses=_count(auth, "num_uses"),
        policies=_texts(auth, "policies"),
    )


def token_info(answer: Answer, sent_at: float) -> TokenInfo:
    """Read ``data`` of a lookup-self."""
    data = _object(document(answer), "data")
    ttl = _seconds(data, "ttl")
    if not ttl and data.get("expire_time") is not None:
        ttl = UNDER_A_SECOND
    return TokenInfo(
        accessor=_text(data, "accessor", empty=True),
        ttl=ttl,
        renewable=_flag(data, "renewable", default=False),
        kind=_kind(data, "type"),
        sent_at=sent_at,
        num_uses=_count(data, "num_uses"),
        period=_seconds(data, "period", default=0),
        explicit_max_ttl=_seconds(data, "explicit_max_ttl", default=0),
        policies=_texts(data, "policies"),
    )


def kv1_value(answer: Answer, sent_at: float) -> KvValue:
    """Read a KV version 1 secret.

    Raises:
        VaultInvalid: the answer is that of a KV version 2 mount.
    """
    data = _object(document(answer), "data")
    inner = data.get("metadata")
    if set(data) == {"data", "metadata"} and isinstance(inner, dict) and "created_time" in inner:
        raise VaultInvalid(
            "The answer is that of a KV version 2 mount.", remedy=_WRONG_KV_2, reason="kv_version"
        )
    return KvValue(data=_secrets(data), sent_at=sent_at)


def kv2_value(answer: Answer, sent_at: float) -> KvValue:
    """Read the newest version of a KV version 2 secret.

    Raises:
        VaultValueDeleted: that version was deleted or destroyed.
        VaultNotFound: the answer has no version, as KV version 1 answers.
    """
    data = _object(document(answer), "data")
    if "metadata" not in data:
        raise VaultNotFound(
            "The answer has no version, as KV version 2 has.",
            remedy=_WRONG_KV_1,
            reason="kv_version",
        )
    metadata = _object(data, "metadata")
    if data.get("data") is None and (withdrawn := deletion(metadata)):
        raise withdrawn
    version = _count(metadata, "version")
    if version < 1:
        _malformed("version")
    custom = metadata.get("custom_metadata") or {}
    if not isinstance(custom, dict) or not all(isinstance(v, str) for v in custom.values()):
        _malformed("custom_metadata")
    return KvValue(
        data=_secrets(_object(data, "data")),
        sent_at=sent_at,
        version=version,
        custom_metadata=custom,
        created_time=_text(metadata, "created_time", empty=True),
    )


def deletion(metadata: Document) -> VaultValueDeleted | None:
    """The error for a withdrawn version by its metadata, or None when it is not withdrawn."""
    number = metadata.get("version")
    version = number if isinstance(number, int) else None
    if metadata.get("destroyed") is True:
        return VaultValueDeleted("The version was destroyed.", version=version)
    if metadata.get("deletion_time"):
        return VaultValueDeleted("The version was deleted.", version=version)
    return None


def kv2_written(answer: Answer, _: float) -> int:
    """Read the number of the version that a write of KV version 2 made.

    Raises:
        VaultInvalid: the answer has none, as KV version 1 answers.
    """
    if answer.status == 204:
        raise VaultInvalid("The answer has no version, as KV version 2 has.", remedy=_WRONG_KV_1)
    version = _count(_object(document(answer), "data"), "version")
    return version if version >= 1 else _malformed("version")


def lease_grant(answer: Answer, sent_at: float) -> LeaseGrant:
    """Read a secret with a lease; ``lease_id`` is empty when it has none."""
    body = document(answer)
    return LeaseGrant(
        data=_secrets(_object(body, "data")),
        lease_id=_text(body, "lease_id", empty=True),
        duration=_seconds(body, "lease_duration"),
        renewable=_flag(body, "renewable"),
        sent_at=sent_at,
    )


def lease_renewal(answer: Answer, sent_at: float) -> LeaseRenewal:
    """Read the answer of ``sys/leases/renew``."""
    body = document(answer)
    return LeaseRenewal(
        lease_id=_text(body, "lease_id"),
        duration=_seconds(body, "lease_duration"),
        renewable=_flag(body, "renewable"),
        sent_at=sent_at,
    )


def mount_info(answer: Answer) -> MountInfo:
    """Read ``data`` of ``sys/internal/ui/mounts/<path>``."""
    data = _object(document(answer), "data")
    options = data.get("options")
    version = options.get("version") if isinstance(options, dict) else None
    kind = _text(data, "type")
    if kind == "kv":  # without options it is version 1
        return MountInfo(kind, 2 if version == "2" else 1)
    return MountInfo(kind)


def health(answer: Answer) -> VaultHealth:
    """Read ``sys/health``, whose status code repeats what its body says."""
    body = document(answer)
    return VaultHealth(
        initialized=_flag(body, "initialized"),
        sealed=_flag(body, "sealed"),
        standby=_flag(body, "standby"),
        version=_text(body, "version", empty=True),
    )


def minted(answer: Answer) -> Minted:
    """What an answer created, read leniently: so that it can be revoked, not used."""
    try:
        body = document(answer)
    except VaultMalformed:
        return Minted()
    auth, lease_id = body.get("auth"), body.get("lease_id")
    token = auth.get("client_token") if isinstance(auth, dict) else None
    return Minted(
        token=SecretValue(token) if token and isinstance(token, str) else None,
        lease_id=lease_id if isinstance(lease_id, str) else "",
    )


def document(answer: Answer) -> Document:
    """The body as a JSON object.

    Raises:
        VaultMalformed: it is none: HTML, cut short, not UTF-8, NaN, nested too deep.
    """
    body = None
    try:
        body = json.loads(answer.body.decode(), parse_float=_finite, parse_constant=_not_a_number)
    except (ValueError, RecursionError):
        pass  # raised below, outside: this error quotes the body and must not hang on to ours
    if not isinstance(body, dict):
        raise VaultMalformed("The answer is not a JSON object.")
    return body


def _malformed(name: str) -> NoReturn:
    raise VaultMalformed(f"The answer's {name} is missing or not as promised.")


def _not_a_number(_: str) -> NoReturn:
    raise ValueError


def _finite(text: str) -> float:
    if not isfinite(value := float(text)):
        raise ValueError
    return value


def _object(body: Document, name: str) -> Document:
    value = body.get(name)
    if not isinstance(value, dict):
        _malformed(name)
    return value


def _text(body: Document, name: str, *, empty: bool = False) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or not (value or empty):
        _malformed(name)
    return value


def _texts(body: Document, name: str) -> tuple[str, ...]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        _malformed(name)
    return tuple(value)


def _flag(body: Document, name: str, *, default: bool | None = None) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        _malformed(name)
    return value


def _count(body: Document, name: str) -> int:
    value = body.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _malformed(name)
    return value


def _seconds(body: Document, name: str, *, default: int | None = None) -> float:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_SECONDS:
        _malformed(name)
    return float(value)


def _kind(body: Document, name: str) -> Literal["service", "batch"]:
    value = body.get(name, "service")
    if value == "service":
        return "service"
    if value == "batch":
        return "batch"
    _malformed(name)


def _secrets(data: Document) -> Mapping[str, SecretValue]:
    return {key: SecretValue(_secret_text(value)) for key, value in data.items()}


def _secret_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
