"""Answers that say no, as errors of the tree [pure].

Duty: status and body of a refusal → one ``VaultError`` with a message and a remedy.
Not its duty: answers that could not be had (``transport``).
Rules:

* only Vault's own shape (``{"errors": [...]}``) counts as Vault's word: a 403 page of
  some proxy is ``VaultMalformed`` and retried, never a refusal;
* Vault's texts are compared with known ones, and never quoted: an engine's error may
  hold a connection string.

Source: https://developer.hashicorp.com/vault/api-docs#http-status-codes ; the texts
were seen at OpenBao 2.7.2 or stand in its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Final

from broker.errors import (
    VaultConflict,
    VaultDenied,
    VaultError,
    VaultFailed,
    VaultInvalid,
    VaultLeaseExpired,
    VaultMalformed,
    VaultNotFound,
    VaultSealed,
    VaultStandby,
    VaultThrottled,
    VaultTlsFailed,
    VaultUnavailable,
)
from broker.vault.responses import Answer, deletion, document

_LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds; more than an hour is no request to slow down."""

_LEASE_GONE: Final = ("lease not found", "lease expired")
_STANDBY: Final = ("node not active", "active cluster node not found", "is in standby mode")
_CONFLICT: Final = "check-and-set parameter did not match"
_AT_MAXIMUM: Final = "past the max ttl"
_STARTING: Final = "upgrading from non-versioned"
_PLAIN_HTTP: Final = b"HTTP request to an HTTPS server"

# What Vault says, in lower case; ``VaultError.reason``; what a person can do about it.
_HINTS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "invalid role name",
        "role",
        "The role does not exist at this auth mount: check vault.auth.role.",
    ),
    (
        "service account name not auth",
        "service_account",
        "Check the role's bound_service_account_names.",
    ),
    (
        "namespace not auth",
        "service_account_namespace",
        "Check the role's bound_service_account_namespaces.",
    ),
    (
        "audience",
        "audience",
        "The service-account token's audience is not the one the role asks for.",
    ),
    (
        "token is expired",
        "expired",
        "The service-account token expired: check its projected volume, and both clocks.",
    ),
    (
        "tokenreview",
        "token_review",
        "Vault could not have the service-account token reviewed: see auth/<mount>/config.",
    ),
    (
        "backend configuration",
        "not_configured",
        "The kubernetes auth mount is not configured: see auth/<mount>/config.",
    ),
    (
        "no handler for route",
        "no_mount",
        "Nothing is mounted there: check the mount, and vault.namespace.",
    ),
    (
        "namespace not found",
        "no_namespace",
        "This namespace does not exist: check vault.namespace.",
    ),
    (
        "unknown role",
        "engine_role",
        "The engine has no such role: check the last part of the path.",
    ),
    (
        "versioned k/v",
        "kv_version",
        "This mount is KV version 2: set version: 2 in source and leave 'data/' out of its path.",
    ),
    (
        "unsupported operation",
        "method",
        "The path does not take this method: check method, read or write.",
    ),
    ("unsupported path", "path", "The engine does not know this path."),
    (_AT_MAXIMUM, "max_ttl", "Nothing: the broker logs in anew, or takes out a new lease."),
    ("lease is not renewable", "not_renewable", "Nothing: the broker takes out a new lease."),
)


@dataclass(frozen=True, slots=True)
class _Hint:
    """What is known about a text of Vault's beyond its status."""

    reason: str = ""
    remedy: str | None = None


def refusal(answer: Answer, request: str, *, wall: float) -> VaultError:
    """The error for an answer that is not ``ok``.

    Args:
        answer: with a status other than 2xx.
        request: what was asked, for the message: such as ``read of secret/app``.
        wall: Unix time, against which a Retry-After date is read.
    """
    said = f"{request}: HTTP {answer.status}"
    try:
        body = document(answer)
    except VaultMalformed:
        return _not_vault(answer, said, wall)
    errors = body.get("errors")
    if answer.status == 404 and not isinstance(errors, list):
        return _absent(body, said)
    if not isinstance(errors, list):
        return _not_vault(answer, said, wall)
    text = " ".join(error for error in errors if isinstance(error, str)).lower()
    hint = _hint(text)
    # Of a token's renewal Vault says so with 500, of a lease's with 400. Either way it is final.
    if _AT_MAXIMUM in text:
        return _refused(400, said, text, hint)
    # A KV mount answers 400 for a moment while it becomes version 2.
    if answer.status >= 500 or answer.status in (412, 429, 472, 473) or _STARTING in text:
        return _unavailable(answer, said, text, hint, wall)
    return _refused(answer.status, said, text, hint)


def _hint(text: str) -> _Hint:
    return next(
        (_Hint(reason, remedy) for known, reason, remedy in _HINTS if known in text), _Hint()
    )


def retry_after(answer: Answer, *, wall: float) -> float | None:
    """Seconds of the Retry-After header (RFC 9110, 10.2.3); None when absent or absurd."""
    value = answer.headers.get("retry-after", "").strip()
    try:
        seconds = float(value) if value[:1].isdigit() else _until(value, wall)
    except (ValueError, OverflowError):
        return None
    return seconds if isfinite(seconds) and 0 <= seconds <= _LONGEST_RETRY_AFTER else None


def _until(date: str, wall: float) -> float:
    moment = parsedate_to_datetime(date)
    if moment.tzinfo is None:  # "-0000": UTC by RFC 5322
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - wall)


def _unavailable(
    answer: Answer, said: str, text: str, hint: _Hint, wall: float
) -> VaultUnavailable:
    kind: type[VaultUnavailable] = VaultFailed
    if answer.status == 429:
        kind = VaultThrottled
    elif "is sealed" in text:
        kind = VaultSealed
    elif answer.status in (472, 473) or any(known in text for known in _STANDBY):
        kind = VaultStandby
    # 412 of Vault Enterprise: this node has not seen the newest write yet; ask again.
    return kind(
        said,
        remedy=hint.remedy,
        reason=hint.reason,
        retry_after=retry_after(answer, wall=wall),
    )


def _refused(status: int, said: str, text: str, hint: _Hint) -> VaultError:
    if any(known in text for known in _LEASE_GONE):
        return VaultLeaseExpired(said)
    if _CONFLICT in text:
        return VaultConflict(said)
    if status in (401, 403):
        return VaultDenied(said, remedy=hint.remedy, reason=hint.reason)
    if status == 404:
        return VaultNotFound(said, remedy=hint.remedy, reason=hint.reason)
    if status < 400:
        return VaultMalformed(f"{said}, a status Vault does not use here.")
    return VaultInvalid(said, remedy=hint.remedy, reason=hint.reason)


def _absent(body: object, said: str) -> VaultError:
    """A 404 in the shape of a good answer: KV version 2, newest version gone, or asked as 1."""
    data = body.get("data") if isinstance(body, dict) else None
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if isinstance(metadata, dict) and (withdrawn := deletion(metadata)):
        return withdrawn
    warnings = body.get("warnings") if isinstance(body, dict) else None
    text = " ".join(map(str, warnings)).lower() if isinstance(warnings, list) else ""
    hint = _hint(text)
    return VaultNotFound(said, remedy=hint.remedy, reason=hint.reason)


def _not_vault(answer: Answer, said: str, wall: float) -> VaultError:
    after = retry_after(answer, wall=wall)
    if _PLAIN_HTTP in answer.body[:200]:
        return VaultTlsFailed(
            f"{said}: Vault speaks TLS there.", remedy="Write https:// in vault.address."
        )
    if answer.status == 429:
        return VaultThrottled(said, retry_after=after)
    if answer.status >= 500:
        return VaultFailed(f"{said}, and not by Vault itself.", retry_after=after)
    return VaultMalformed(f"{said}, and not in Vault's form.", retry_after=after)
