"""Contradictions in what the configuration says about roles and policies [pure].

Duty: say what in ``roles`` and ``policies`` cannot work, as ``rules`` does for the rest.
Not its duty: what is only probably wrong (``access.roles_analysis``), Cedar
(``access.policy_files``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from broker.settings.domain import Settings
from broker.settings.domain_access import RoleSettings, WindowSettings
from broker.settings.findings import Finding
from broker.settings.places import Path

_COMMENT = re.compile(r"//[^\n\r]*")
_NAMED = re.compile(r'\bCredential\s*::\s*"([^"\\]*)"')


def access_rules(settings: Settings, names: Collection[str]) -> Iterator[Finding]:
    """Yield every finding.

    Args:
        settings: that fit the schema.
        names: of all credentials, those with faults of their own included.
    """
    for role in settings.roles.values():
        yield from _role(role, settings.clients, names)
    files = settings.policies.files
    for number, file in enumerate(files):
        at = ("policies", "files", str(number))
        if not file:
            yield Finding(at, "is empty", "Write the path of a policy file, or remove the item.")
        elif file in files[:number]:
            yield Finding(at, f"lists {file} twice", "Keep one.")


def has_policies(settings: Settings) -> bool:
    """Whether more than plain lists decides who may have what."""
    return bool(settings.roles or settings.policies.files)


def granted(settings: Settings) -> set[str]:
    """Credentials that lists and roles grant to somebody, and those that policy files name.

    A file may grant more by a condition; what only drivers use (``rotation.driver.auth``) must
    be named to be handed out.
    """
    names = {name for client in settings.clients.values() for name in client.credentials}
    names |= {name for role in settings.roles.values() for name in role.credentials}
    for text in settings.policies.texts:
        written = _COMMENT.sub("", text.text)
        names |= set(_NAMED.findall(written)) & set(settings.credentials)
    return names


def _role(
    role: RoleSettings, callers: Collection[str], names: Collection[str]
) -> Iterator[Finding]:
    at: Path = ("roles", role.name)
    for key, listed, known, where in (
        ("callers", role.callers, callers, "clients"),
        ("credentials", role.credentials, names, "credentials"),
    ):
        for number, name in enumerate(listed):
            if name not in known:
                yield Finding(
                    (*at, key, str(number)),
                    f"lists {name}, which is not configured",
                    f"Add {where}.{name}, or correct the name.",
                )
    for number, window in enumerate(role.times):
        yield from _window((*at, "times", str(number)), window)


def _window(at: Path, window: WindowSettings) -> Iterator[Finding]:
    if window.start == window.end:
        yield Finding(
            (*at, "to"),
            "is the same as from, so nobody could tell whether it is all day or never",
            "Leave both out for the whole day.",
        )
