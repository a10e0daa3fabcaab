"""The drivers that the configuration asks for.

Duty: make each from settings and the parts it needs.
Not its duty: checking settings (``settings.rules_rotation``), rotating (``rotation.rotator``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import assert_never

from broker.app import proofs, translate
from broker.app.proofs import template
from broker.app.translate_rotation import rotate_path
from broker.clock import Clock
from broker.credentials.model import CredentialKey, CredentialSpec
from broker.credentials.store import CredentialStore
from broker.rotation.drivers.exchange import Exchange, stored_key
from broker.rotation.drivers.generated import GeneratedDriver, KeyForm
from broker.rotation.drivers.http import CreateCall, HttpCalls, HttpDriver, ListCall
from broker.rotation.drivers.port import Driver
from broker.rotation.drivers.proof import HttpProof
from broker.rotation.drivers.vault import Port
from broker.rotation.drivers.vault_role import VaultRoleDriver
from broker.rotation.model import KvPath
from broker.secret import SecretValue
from broker.settings.domain import CredentialSettings, Settings
from broker.settings.domain_rotation import (
    CredentialRotationSettings,
    GeneratedDriverSettings,
    HttpDriverSettings,
    ListSettings,
    VaultRoleDriverSettings,
)
from broker.vault.interface import SessionPort


@dataclass(frozen=True, slots=True)
class DriverParts:
    """What drivers are made with."""

    clock: Clock
    rng: Random
    """Of cryptographic quality: ``random.SystemRandom``."""
    store: CredentialStore
    """Holds the credentials that may manage keys."""
    vault: Port
    session: SessionPort
    proofs: Mapping[str, HttpProof]
    """Of the credentials that have one of their own."""


def drivers(settings: Settings, parts: DriverParts) -> dict[str, Driver]:
    """A driver for each credential that rotates; none when the mode is off."""
    if settings.rotation.mode == "off":
        return {}
    return {
        name: _driver(one, one.rotation, settings, parts)
        for name, one in settings.credentials.items()
        if one.rotation is not None
    }


def _driver(
    one: CredentialSettings,
    rotation: CredentialRotationSettings,
    settings: Settings,
    parts: DriverParts,
) -> Driver:
    spec, driver = translate.credential(one), rotation.driver
    proof = None if one.prove is None else parts.proofs[one.name]
    if one.prove is None and rotation.prove is not None:
        proof = proofs.proof(one, rotation.prove, parts.clock)
    if isinstance(driver, HttpDriverSettings):
        return _http(spec, driver, settings, parts, proof)
    if isinstance(driver, GeneratedDriverSettings):
        return GeneratedDriver(
            KeyForm(driver.field, driver.prefix, driver.length, driver.alphabet),
            KvPath(driver.mount, driver.path),
            publish=driver.publish,
            vault=parts.vault,
            session=parts.session,
            clock=parts.clock,
            rng=parts.rng,
            proof=proof,
        )
    if isinstance(driver, VaultRoleDriverSettings):
        return VaultRoleDriver(
            rotate_path(one.source.path),
            vault=parts.vault,
            session=parts.session,
            clock=parts.clock,
        )
    assert_never(driver)


def _http(
    spec: CredentialSpec,
    driver: HttpDriverSettings,
    settings: Settings,
    parts: DriverParts,
    proof: HttpProof | None,
) -> HttpDriver:
    manager = settings.credentials[driver.auth].use
    assert manager is not None  # the configuration is refused without it
    create = driver.create
    calls = HttpCalls(
        create=CreateCall(
            template(create.request), create.fields, create.id, create.expires_at, create.life
        ),
        retire=template(driver.retire),
        listing=None if driver.listing is None else _listing(driver.listing),
        times=driver.times,
    )
    return HttpDriver(
        spec.key.name,
        calls,
        installation=settings.rotation.installation,
        clock=parts.clock,
        exchange=Exchange(clock=parts.clock, timeout=driver.timeout, ca_file=driver.ca_file),
        manager=stored_key(parts.store, driver.auth, translate.use(manager), parts.clock),
        proof=proof,
        in_use=_in_use(parts.store, spec.key),
    )


def _listing(listing: ListSettings) -> ListCall:
    return ListCall(
        template(listing.request),
        items=listing.items,
        id=listing.id,
        label=listing.label,
        created_at=listing.created_at,
        next=listing.next,
        cursor=listing.cursor,
    )


def _in_use(store: CredentialStore, key: CredentialKey) -> Callable[[], Sequence[SecretValue]]:
    def read() -> Sequence[SecretValue]:
        entry = store.get(key)
        data: Mapping[str, SecretValue] = {}
        if entry is not None and entry.snapshot is not None:
            data = entry.snapshot.data
        return tuple(data.values())

    return read
