"""From the shape of roles and policies to the program's values [pure].

Duty: as for ``convert``.
"""

from __future__ import annotations

from broker.settings import domain_access as domain
from broker.settings import schema_access as schema
from broker.settings.units import minutes, network


def role(name: str, one: schema.Role) -> domain.RoleSettings:
    """One role."""
    return domain.RoleSettings(
        name=name,
        callers=tuple(one.callers),
        subjects=tuple(one.subjects),
        tools=tuple(one.tools),
        credentials=tuple(one.credentials),
        paths=tuple(one.paths),
        times=tuple(
            domain.WindowSettings(
                zone=window.zone,
                days=tuple(window.days),
                start=minutes(window.start),
                end=minutes(window.end),
            )
            for window in one.times
        ),
        addresses=tuple(map(network, one.addresses)),
        actions=tuple(one.actions),
    )


def policies(one: schema.Policies) -> domain.PolicySettings:
    """Policy files, not yet read."""
    return domain.PolicySettings(
        files=tuple(one.files),
        zone=one.zone,
        zones=tuple(dict.fromkeys(one.zones)),
        arguments=dict(one.arguments),
        tools=tuple(one.tools),
    )
