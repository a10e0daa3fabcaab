"""Contradictions in what the configuration says about rotation [pure].

Duty: mode, times, paths and proof against each other.
Not its duty: drivers (``rules_drivers``) and their requests (``rules_requests``).
Rules: as in ``rules``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from broker.settings.domain import CredentialSettings, Settings
from broker.settings.domain_rotation import (
    CredentialRotationSettings,
    ElectionSettings,
    GeneratedDriverSettings,
    HttpDriverSettings,
    KubernetesSettings,
    VaultRoleDriverSettings,
)
from broker.settings.findings import Finding
from broker.settings.places import Path
from broker.settings.rules_drivers import driver_rules, fields_of
from broker.settings.rules_requests import proof_rules
from broker.settings.units import Misfit, is_loopback, origin

POLL_JITTER: Final = 0.1
"""How much later than ``poll`` a reader may look, as a part of it; a test compares."""
RETRY_JITTER: Final = 1.2
"""client-go's JitterFactor: the leader's attempts lie up to this much apart."""


def rotation_rules(settings: Settings, known: Collection[str]) -> Iterator[Finding]:
    """Yield every finding about rotation; ``known`` names all configured credentials."""
    rotation = settings.rotation
    rotated = {name: one for name, one in settings.credentials.items() if one.rotation}
    if rotation.mode == "off":
        for name in rotated:
            yield Finding(
                ("credentials", name, "rotation"),
                "has no effect: rotation.mode is off",
                "Set rotation.mode to sidecar or rotator, or remove it.",
                fatal=False,
            )
    else:
        if not rotation.installation:
            yield Finding(
                ("rotation", "installation"),
                "is missing: keys are labelled with it, so that none of another is swept",
                "Write a name that no other installation on the same account has: prod-eu.",
            )
        if not rotated:
            yield Finding(
                ("rotation", "mode"),
                "has no effect: no credential has rotation",
                "Write credentials.<name>.rotation, or set mode: off.",
                fatal=False,
            )
    yield from _election(rotation.election)
    yield from _kubernetes(settings.kubernetes)
    yield from _paths(settings, rotated)
    for one in rotated.values():
        assert one.rotation is not None
        yield from _credential(one, one.rotation, settings.credentials, known)


def lends(settings: Settings) -> set[str]:
    """Names of credentials that drivers use, so that no client needs to have them."""
    drivers = [one.rotation.driver for one in settings.credentials.values() if one.rotation]
    return {driver.auth for driver in drivers if isinstance(driver, HttpDriverSettings)}


def _election(election: ElectionSettings) -> Iterator[Finding]:
    at = ("rotation", "election")
    if election.retry_period <= 0:
        yield Finding((*at, "retry_period"), "leaves no time between attempts", "Write 2s.")
    if election.renew_deadline <= RETRY_JITTER * election.retry_period:
        yield Finding(
            (*at, "renew_deadline"),
            f"is not longer than {RETRY_JITTER} times retry_period: one late attempt ends the lead",
            "Make it a few times retry_period.",
        )
    if election.lease_duration <= election.renew_deadline:
        yield Finding(
            (*at, "lease_duration"),
            "is not longer than renew_deadline: two would lead at once",
            "Make it longer than renew_deadline.",
        )


def _kubernetes(kubernetes: KubernetesSettings) -> Iterator[Finding]:
    if not kubernetes.address:
        return
    at = ("kubernetes", "address")
    try:
        parts = origin(kubernetes.address)
    except Misfit as misfit:
        yield Finding(at, misfit.message, misfit.remedy)
        return
    if parts.scheme != "https" and not is_loopback(parts):
        yield Finding(
            at,
            "would send the service-account token over the network in clear",
            "Use https://; http:// is for loopback.",
        )


def _paths(settings: Settings, rotated: Mapping[str, CredentialSettings]) -> Iterator[Finding]:
    """No two writers of one path."""
    state = settings.rotation.state
    owners: dict[tuple[str, str], str] = {
        (state.mount, f"{state.prefix}/rotation/{name}"): f"the state of {name}'s rotation"
        for name in rotated
    }
    for name, one in rotated.items():
        source = one.source
        if source.kind == "kv":
            yield from _owned(
                owners,
                (source.mount, source.path),
                f"credentials.{name}",
                ("credentials", name, "source", "path"),
            )
    for name, one in rotated.items():
        driver = one.rotation.driver if one.rotation else None
        if isinstance(driver, GeneratedDriverSettings):
            yield from _owned(
                owners,
                (driver.mount, driver.path),
                f"the keys that {name} accepts",
                ("credentials", name, "rotation", "driver", "path"),
            )


def _owned(
    owners: dict[tuple[str, str], str], where: tuple[str, str], who: str, at: Path
) -> Iterator[Finding]:
    if where in owners:
        yield Finding(
            at,
            f"is written by another rotation too: it is {owners[where]}",
            "Give each a path of its own.",
        )
    owners.setdefault(where, who)


def _credential(
    one: CredentialSettings,
    rotation: CredentialRotationSettings,
    credentials: Mapping[str, CredentialSettings],
    known: Collection[str],
) -> Iterator[Finding]:
    at = ("credentials", one.name, "rotation")
    if isinstance(rotation.driver, VaultRoleDriverSettings):
        yield from _in_place(one, rotation, at)
        return
    if one.source.kind != "kv" or one.source.kv_version != 2:
        yield Finding(
            at,
            "needs a source of kind kv, version 2: the new key is written there, "
            "with check-and-set",
            "Keep the key in a KV version 2 mount, or remove rotation.",
        )
    else:
        yield from _overlap(one, rotation, at)
        yield from _expiry(one, rotation)
    yield from driver_rules(one, rotation, credentials, known, at)
    yield from _proof(one, rotation, at)


def _in_place(
    one: CredentialSettings, rotation: CredentialRotationSettings, at: Path
) -> Iterator[Finding]:
    if one.source.kind != "static_role" or "/static-creds/" not in one.source.path:
        yield Finding(
            (*at, "driver"),
            "needs a source of kind static_role, at <mount>/static-creds/<role>",
            "Correct the source, or use another driver.",
        )
    if rotation.prove is not None:
        yield Finding(
            (*at, "prove"),
            "has no effect: Vault replaces the password where readers read it",
            "Remove it.",
        )


def least_overlap(one: CredentialSettings) -> float:
    """Seconds until the last reader of any replica has surely left the old key."""
    source = one.source
    return source.poll * (1 + POLL_JITTER) + one.hold + source.max_staleness


def _overlap(
    one: CredentialSettings, rotation: CredentialRotationSettings, at: Path
) -> Iterator[Finding]:
    least = least_overlap(one)
    if rotation.overlap < least:
        yield Finding(
            (*at, "overlap"),
            f"is shorter than {least:g}s: poll and its jitter, hold and max_staleness together, "
            "for so long a reader may use the old key",
            f"Write at least {least:g}s, or make source.max_staleness shorter.",
        )
    if rotation.max_age <= rotation.overlap:
        yield Finding(
            (*at, "max_age"),
            "is not longer than overlap: a key would be replaced before its predecessor is gone",
            "Make it longer than overlap.",
        )


def _expiry(one: CredentialSettings, rotation: CredentialRotationSettings) -> Iterator[Finding]:
    """A rotation writes the key's expiry down by itself, in a member of the broker's own."""
    expiry, driver = one.source.expiry, rotation.driver
    written = fields_of(driver)
    if expiry.where == "custom_metadata" or (
        expiry.where == "field" and expiry.name not in written
    ):
        yield Finding(
            ("credentials", one.name, "source", "expiry"),
            "names a place that a rotation does not write",
            "Remove it: a rotation tells readers the expiry that the provider told it.",
        )


def _proof(
    one: CredentialSettings, rotation: CredentialRotationSettings, at: Path
) -> Iterator[Finding]:
    prove, at = rotation.prove, (*at, "prove")
    if prove is None:
        yield Finding(
            at,
            "is missing: a new key replaces the old one without having been tried",
            f"Write credentials.{one.name}.prove: a request that a good key is answered 2xx and a "
            "bad one 401 or 403.",
            fatal=False,
        )
        return
    if one.prove is None:
        yield from proof_rules(one, prove, at)
    elif prove != one.prove:
        yield Finding(
            at,
            f"contradicts credentials.{one.name}.prove, which serves the rotation too",
            "Keep one of the two.",
        )
