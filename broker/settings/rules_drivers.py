"""Contradictions in what the configuration says about drivers, explained in words [pure].

Duty: what a driver writes, lists and is allowed, against its credential and the others.
Not its duty: single requests (``rules_requests``); what a provider really answers.
Rules: as in ``rules``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from broker.settings import literals, units
from broker.settings.domain import CredentialSettings
from broker.settings.domain_rotation import (
    CredentialRotationSettings,
    DriverSettings,
    GeneratedDriverSettings,
    HttpDriverSettings,
)
from broker.settings.findings import Finding
from broker.settings.places import Path
from broker.settings.rules_credentials import placeholders
from broker.settings.rules_requests import request_rules, words_of

CREATE_WORDS: Final = frozenset(
    {"label", "credential", "installation", "expires_at", "expires_unix"}
)
LIST_WORDS: Final = frozenset({"label_prefix"})
RETIRE_WORDS: Final = frozenset({"id"})


def fields_of(driver: DriverSettings) -> set[str]:
    """What a driver writes for the readers."""
    if isinstance(driver, HttpDriverSettings):
        return set(driver.create.fields)
    return {driver.field} if isinstance(driver, GeneratedDriverSettings) else set()


def driver_rules(
    one: CredentialSettings,
    rotation: CredentialRotationSettings,
    credentials: Mapping[str, CredentialSettings],
    known: Collection[str],
    at: Path,
) -> Iterator[Finding]:
    """Yield every finding about a credential's driver.

    Args:
        one: the credential.
        rotation: its own.
        credentials: all that fit the schema.
        known: names of all that are configured.
        at: where ``rotation`` stands.
    """
    driver, at = rotation.driver, (*at, "driver")
    if isinstance(driver, GeneratedDriverSettings):
        yield from _held(one, {driver.field}, (*at, "field"))
    if not isinstance(driver, HttpDriverSettings):
        return
    yield from _held(one, set(driver.create.fields), (*at, "create", "answer", "fields"))
    if driver.listing is None and rotation.orphans == "refused":
        yield Finding(
            (*at, "list"),
            "is missing: a key whose answer was lost could not be found again",
            "Write it, or accept such keys: rotation.orphans: accepted.",
        )
    if driver.timeout <= 0:
        yield Finding((*at, "timeout"), "leaves no time for a request", "Write 10s.")
    origins = _origins(driver.auth, credentials)
    if driver.auth not in known:
        yield Finding(
            (*at, "auth"),
            f"names {driver.auth}, which is not configured",
            f"Add credentials.{driver.auth}, or correct the name.",
        )
    elif driver.auth in credentials and credentials[driver.auth].use is None:
        yield Finding(
            (*at, "auth"),
            f"names {driver.auth}, which does not say where it goes in a request",
            f"Write credentials.{driver.auth}.use, with the provider in its origins.",
        )
    yield from request_rules(
        driver.create.request, CREATE_WORDS, origins, driver.auth, (*at, "create")
    )
    if driver.listing:
        yield from request_rules(
            driver.listing.request, LIST_WORDS, origins, driver.auth, (*at, "list")
        )
    yield from request_rules(driver.retire, RETIRE_WORDS, origins, driver.auth, (*at, "retire"))
    words = set(words_of(driver.create.request))
    if words & {"expires_at", "expires_unix"} and driver.create.life is None:
        yield Finding(
            (*at, "create", "life"),
            "is missing: the request says when the key expires",
            "Write how long a key shall live: 45d.",
        )
    if driver.create.life is not None and driver.create.life <= rotation.overlap:
        yield Finding(
            (*at, "create", "life"),
            "is not longer than overlap: a key would end while it is being given to readers",
            "Make it a few times rotation.overlap.",
        )
    if "label" not in words and driver.listing:
        yield Finding(
            (*at, "create"),
            "does not label the key, so list cannot tell it from others",
            "Put {label} where the provider keeps a key's name or description.",
        )
    if "id" not in set(words_of(driver.retire)):
        yield Finding((*at, "retire"), "does not say which key", "Put {id} into its url or body.")


def _held(one: CredentialSettings, fields: set[str], at: Path) -> Iterator[Finding]:
    """What is handed out must be made of what the driver writes."""
    used = {one.use.field, one.use.username_field, one.use.password_field} if one.use else set()
    needed = (used - {""}) if not one.fields else set()
    for template in one.fields.values():
        try:
            needed |= set(placeholders(template))
        except ValueError:
            continue  # told elsewhere
    if needed and not needed & fields:
        # A field's name is quoted, anything else that stands there by mistake is not.
        named = [
            one
            for one in sorted(needed)
            if re.fullmatch(units.FIELD, one) and literals.shape(one) is None
        ]
        yield Finding(
            at,
            "brings nothing that is handed out",
            f"Write one of: {', '.join(named)}." if named else "Write a field that is handed out.",
        )


def _origins(name: str, credentials: Mapping[str, CredentialSettings]) -> tuple[str, ...] | None:
    one = credentials.get(name)
    return one.use.origins if one and one.use else None
