"""Which process holds which credentials [pure].

Duty: say it once, for the composition root and for the Vault policy.
Rules: a process holds what it hands out or rotates, and nothing more: what only drivers use
(``rotation.driver.auth``) is no business of a sidecar that does not rotate.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from broker.settings.domain import Settings
from broker.settings.rules_access import granted
from broker.settings.rules_rotation import lends

Process: TypeAlias = Literal["broker", "rotator"]
"""``broker run``, or ``broker rotator``."""


def rotates(settings: Settings, process: Process) -> bool:
    """Whether this process may rotate keys."""
    return settings.rotation.mode == ("sidecar" if process == "broker" else "rotator")


def rotating(settings: Settings, process: Process) -> bool:
    """Whether it may, and has something to rotate."""
    return rotates(settings, process) and any(one.rotation for one in settings.credentials.values())


def held(settings: Settings, process: Process) -> tuple[str, ...]:
    """Names of the credentials that a process keeps, in the order of the file."""
    if process == "rotator":
        wanted = {name for name, one in settings.credentials.items() if one.rotation}
        wanted |= lends(settings)
        return tuple(name for name in settings.credentials if name in wanted)
    if rotates(settings, process):
        return tuple(settings.credentials)
    lent = lends(settings) - granted(settings)
    return tuple(name for name in settings.credentials if name not in lent)
