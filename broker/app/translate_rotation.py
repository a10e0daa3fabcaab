"""From settings to the plain values of rotation.

Duty: as for ``translate``.
"""

from __future__ import annotations

from broker.credentials.model import CredentialKey
from broker.rotation.model import KvPath, Policy, RotationSpec
from broker.settings.domain import Settings
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
            readers=KvPath(one.source.mount, one.source.path),
            policy=policy(one.rotation),
        )
        for name, one in settings.credentials.items()
        if one.rotation is not None
    }


def policy(settings: CredentialRotationSettings) -> Policy:
    """When one credential is rotated."""
    return Policy(
        max_age=settings.max_age,
        before_expiry=settings.before_expiry,
        settle=settings.settle,
        overlap=settings.overlap,
    )
