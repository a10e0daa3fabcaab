"""Which layer between the broker and a secret is broken [pure].

Duty: an error, and what else is known, to the layer's name, a sentence and a remedy.
Not its duty: making the requests that fail (``check``); the login (``diagnosis_login``).
Rules:

* the first broken layer is named, in the order of :class:`Layer`: what stands behind it
  cannot be judged;
* no value, no token and no text of Vault's appears.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

from broker.errors import (
    BrokerError,
    CredentialError,
    VaultDenied,
    VaultError,
    VaultFailed,
    VaultInvalid,
    VaultMalformed,
    VaultNameUnresolved,
    VaultNotFound,
    VaultSealed,
    VaultStandby,
    VaultThrottled,
    VaultTimeout,
    VaultTlsFailed,
    VaultUnavailable,
    VaultUnreachable,
    VaultValueDeleted,
)
from broker.settings.domain import SourceSettings


class Layer(StrEnum):
    """What lies between the broker and a secret, outermost first."""

    NAME = "name resolution"
    NETWORK = "network"
    TLS = "TLS"
    VAULT = "Vault"
    TOKEN = "token file"
    AUDIENCE = "audience"
    AUTH_MOUNT = "auth mount"
    ROLE = "role"
    TOKEN_REVIEW = "TokenReview"
    VAULT_TOKEN = "Vault token"
    POLICY = "policy"
    MOUNT = "mount"
    KV_VERSION = "KV version"
    PATH = "path"
    ENGINE = "engine"
    VALUE = "value"
    BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One broken layer."""

    layer: Layer
    sentence: str
    remedy: str


_CONNECTION: Final[Mapping[type[VaultError], Layer]] = {
    VaultNameUnresolved: Layer.NAME,
    VaultTimeout: Layer.NETWORK,
    VaultUnreachable: Layer.NETWORK,
    VaultTlsFailed: Layer.TLS,
    VaultSealed: Layer.VAULT,
    VaultStandby: Layer.VAULT,
    VaultThrottled: Layer.VAULT,
    VaultFailed: Layer.VAULT,
    VaultMalformed: Layer.VAULT,
}


def of_connection(error: VaultError) -> Diagnosis:
    """Why Vault cannot be spoken to at all."""
    layer = next((layer for kind, layer in _CONNECTION.items() if isinstance(error, kind)), None)
    return Diagnosis(layer or Layer.VAULT, str(error), error.remedy)


def of_seal(*, initialized: bool) -> Diagnosis:
    """Vault answers but holds its secrets shut."""
    if initialized:
        return Diagnosis(Layer.VAULT, "Vault is sealed", VaultSealed.remedy)
    return Diagnosis(Layer.VAULT, "Vault was never initialised", "Initialise and unseal Vault.")


def of_clean_up(error: VaultError, *, own: bool) -> Diagnosis:
    """Something this check made could not be revoked."""
    what = "the check's Vault token" if own else "a lease"
    needed = "auth/token/revoke-self" if own else "sys/leases/revoke"
    layer = Layer.POLICY if isinstance(error, VaultDenied) else of_connection(error).layer
    return Diagnosis(
        layer,
        f"{what} could not be revoked and lives to its end",
        f'Allow path "{needed}" {{ capabilities = ["update"] }} in a policy of the token.',
    )


def of_credential(
    error: BrokerError,
    source: SourceSettings,
    *,
    mount_kind: str = "",
    mount_version: Literal[1, 2] | None = None,
) -> Diagnosis:
    """Why a credential cannot be read with a good Vault token.

    Args:
        error: of the read.
        source: what was read.
        mount_kind: engine that is mounted where ``source`` points, ``kv`` or ``database``;
            empty when the token may not know.
        mount_version: KV version of that mount, when it is one and known.
    """
    if isinstance(error, CredentialError):
        return Diagnosis(Layer.VALUE, str(error), error.remedy)
    if isinstance(error, VaultValueDeleted):
        return Diagnosis(Layer.VALUE, str(error), error.remedy)
    if not isinstance(error, VaultError):
        return Diagnosis(Layer.BROKER, str(error), error.remedy)
    if isinstance(error, VaultUnavailable):
        if isinstance(error, VaultFailed) and source.kind != "kv":
            return Diagnosis(
                Layer.ENGINE,
                f"the engine behind {source.path} failed",
                "Look at Vault's log, and at what the engine talks to, such as the database.",
            )
        return of_connection(error)
    return _of_mount(error, source, mount_kind, mount_version) or _of_path(error, source)


def _of_mount(
    error: VaultError, source: SourceSettings, kind: str, version: Literal[1, 2] | None
) -> Diagnosis | None:
    if source.kind == "kv":
        if kind and kind not in {"kv", "generic"}:
            return Diagnosis(
                Layer.MOUNT,
                f"{source.mount} is a mount of {kind}, not of KV",
                "Correct source.mount, or use kind: leased.",
            )
        if version is not None and version != source.kv_version:
            return Diagnosis(
                Layer.KV_VERSION,
                f"{source.mount} is KV version {version}, the configuration says "
                f"{source.kv_version}",
                f"Set source.version: {version}, and allow {_api_path(source, version)}.",
            )
        if error.reason == "kv_version":
            return Diagnosis(
                Layer.KV_VERSION,
                f"{source.mount} is not KV version {source.kv_version}",
                f"Set source.version: {3 - source.kv_version}.",
            )
    if error.reason in {"no_mount", "no_namespace"}:
        where = source.mount or source.path.split("/")[0]
        return Diagnosis(
            Layer.MOUNT,
            f"nothing is mounted at {where}",
            "Correct the mount in source, or vault.namespace.",
        )
    return None


def _of_path(error: VaultError, source: SourceSettings) -> Diagnosis:
    path = _api_path(source, source.kv_version)
    if isinstance(error, VaultDenied):
        capability = "update" if source.method == "write" else "read"
        return Diagnosis(
            Layer.POLICY,
            f"the token's policies do not allow {capability} on {path}",
            f'Add to a policy of the role: path "{path}" {{ capabilities = ["{capability}"] }} '
            "(Vault answers the same where nothing is mounted).",
        )
    if isinstance(error, VaultNotFound):
        return Diagnosis(
            Layer.PATH,
            f"there is nothing at {path}",
            "Correct source.path, or write the value.",
        )
    if isinstance(error, VaultInvalid) and error.reason in {"engine_role", "path"}:
        return Diagnosis(Layer.PATH, f"the engine does not know {path}", error.remedy)
    return Diagnosis(Layer.ENGINE, f"the engine refuses the request for {path}", error.remedy)


def _api_path(source: SourceSettings, version: Literal[1, 2]) -> str:
    """The path as policies name it."""
    if source.kind != "kv":
        return source.path
    return f"{source.mount}/data/{source.path}" if version == 2 else f"{source.mount}/{source.path}"


def of_shared_tokens(error: BrokerError, read: Diagnosis | None = None) -> Diagnosis:
    """What replicas share of scoped tokens cannot be used.

    Args:
        error: of reading it.
        read: what is wrong with the path, when it is not the document itself.
    """
    if read is None:
        return Diagnosis(Layer.VALUE, str(error), error.remedy)
    if read.layer is Layer.POLICY:
        return replace(read, remedy="Take over what 'broker policy vault' prints for tokens.path.")
    if read.layer in {Layer.MOUNT, Layer.KV_VERSION}:
        return replace(read, remedy="Let tokens.mount be a mount of KV version 2.")
    return read


def of_own_expiry(ago: float) -> Diagnosis:
    """A value that says itself it ended ``ago`` seconds ago, skew taken off."""
    return Diagnosis(
        Layer.VALUE,
        f"the value itself expired {span(ago)} ago, skew included",
        "Write a new value, or correct its expiry.",
    )


def of_silence(error: VaultError) -> Diagnosis:
    """A credential that was not asked for any more."""
    return Diagnosis(of_connection(error).layer, "not asked: Vault has fallen silent", error.remedy)


def span(seconds: float) -> str:
    """Seconds as a rough duration for people, such as ``3d`` or ``45s``."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
