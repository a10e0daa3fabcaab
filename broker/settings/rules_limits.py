"""What of the section ``limits`` cannot work or is probably a slip [pure].

Duty: as ``rules``, for this section.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from broker.settings.domain import Settings
from broker.settings.domain_limits import LimitRuleSettings
from broker.settings.findings import Finding
from broker.settings.places import Path


def limit_rules(settings: Settings, names: Collection[str]) -> Iterator[Finding]:
    """Yield what is wrong with the limits.

    Args:
        settings: that fit the schema.
        names: of all configured credentials.
    """
    for name, rule in settings.limits.rules.items():
        at = ("limits", "rules", name)
        unknown = list(_unknown(at, rule, settings, names))
        yield from unknown
        if not unknown and not _reaches(rule, settings):
            yield Finding(
                at,
                "limits nothing: none of its clients may have any of its credentials",
                "Correct its clients or credentials, or remove it.",
                fatal=False,
            )


def _unknown(
    at: Path, rule: LimitRuleSettings, settings: Settings, names: Collection[str]
) -> Iterator[Finding]:
    for key, listed, known in (
        ("clients", rule.clients, settings.clients.keys()),
        ("credentials", rule.credentials, names),
    ):
        for number, one in enumerate(listed):
            if one not in known:
                yield Finding(
                    (*at, key, str(number)),
                    f"names {one}, which is not configured",
                    f"Add {key}.{one}, or correct the name.",
                )


def _reaches(rule: LimitRuleSettings, settings: Settings) -> bool:
    """Whether any hand-out that is allowed is limited by the rule."""
    return any(
        not rule.credentials or set(rule.credentials) & set(client.credentials)
        for name, client in settings.clients.items()
        if not rule.clients or name in rule.clients
    )
