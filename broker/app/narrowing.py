"""The part of a configuration that a process needs.

Duty: leave out what ``broker run`` or ``broker rotator`` has no use for.
Not its duty: which credentials that is (``settings.processes``), making anything of it.
"""

from __future__ import annotations

from dataclasses import replace

from broker.errors import SettingsError
from broker.settings.domain import Settings
from broker.settings.domain_access import PolicySettings
from broker.settings.processes import Process, held, rotates


def narrowed(settings: Settings, process: Process) -> Settings:
    """The part of a configuration that a process needs.

    ``broker rotator`` has no callers: no clients, scoped tokens or data listeners. Either
    process keeps the credentials that it hands out or rotates, and no others.

    Raises:
        SettingsError: the configuration has nothing for a rotator.
    """
    kept = held(settings, process)
    settings = replace(settings, credentials={name: settings.credentials[name] for name in kept})
    if process == "broker":
        return settings
    if not rotates(settings, process):
        raise SettingsError(
            f"is {settings.rotation.mode}: this process has nothing to do",
            key="rotation.mode",
            remedy="Set rotation.mode: rotator, for this process and for the sidecars.",
        )
    listeners = replace(settings.listeners, unix=False, tcp=())
    return replace(
        settings,
        clients={},
        roles={},
        policies=PolicySettings(),
        listeners=listeners,
        tokens=replace(settings.tokens, store="off", path=""),
    )
