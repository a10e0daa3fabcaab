"""From settings to the plain values of rotation.

Duty: as for ``translate``.
"""

from __future__ import annotations

from broker.credentials.model import CredentialKey
from broker.rotation.model import KvPath, Policy, RotationSpec
from broker.settings.domain import CredentialSettings, Settings
from broker.settings.domain_rotation import CredentialRotationSettings


def specs(settings: Settings) -> dict[str, RotationSpec]:
    """What rotates, by name; nothing when the mode is off."""
    if settings.rotation.mode == "off":
        return {}
    state = settings.rotation.state
    return {
        name: RotationSpec(
            key=CredentialKey(name),
            state=KvPath(state.mount, f"{state.prefix}/rotation/{name}"),
            readers=_readers(one),
            policy=policy(one.rotation),
        )
        for name, one in settings.credentials.items()
        if one.rotation is not None
    }


def _readers(one: CredentialSettings) -> KvPath | None:
    if one.source.kind != "kv":
        return None  # replaced in place, where readers read already
    return KvPath(one.source.mount, one.source.path)


def rotate_path(static: str) -> str:
    """``database/static-creds/orders`` → ``database/rotate-role/orders``."""
    mount, _, role = static.rpartition("/static-creds/")
    return f"{mount}/rotate-role/{role}"


def policy(settings: CredentialRotationSettings) -> Policy:
    """When one credential is rotated."""
    return Policy(
        max_age=settings.max_age,
        before_expiry=settings.before_expiry,
        settle=settings.settle,
        overlap=settings.overlap,
    )
