"""Drivers from the configuration's own words, against a provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from random import SystemRandom

import pytest

from broker.app.proofs import proofs
from broker.app.rotation_drivers import DriverParts, drivers
from broker.clock import SystemClock
from broker.credentials.model import CredentialKey, Entry, Snapshot, State
from broker.credentials.store import CredentialStore
from broker.demo.search_api import SearchApi
from broker.errors import ProofFailed, UpstreamUnavailable
from broker.rotation.drivers.generated import GeneratedDriver
from broker.rotation.drivers.port import MintedKey
from broker.rotation.drivers.proof import HttpProof
from broker.rotation.drivers.vault_role import VaultRoleDriver
from broker.rotation.model import Label
from broker.secret import SecretValue
from tests.simulators.session import SessionByHand
from tests.simulators.vault import VaultSimulator
from tests.unit.test_settings_load import read
from tests.unit.test_settings_rotation import FILE, STATIC, changed

CLOCK = SystemClock()


@pytest.fixture
def api() -> Iterator[SearchApi]:
    api = SearchApi()
    api.start()
    yield api
    api.stop()


def parts(store: CredentialStore, made: Mapping[str, HttpProof] | None = None) -> DriverParts:
    vault = VaultSimulator(CLOCK)
    return DriverParts(CLOCK, SystemRandom(), store, vault, SessionByHand(vault), made or {})


def on(api: SearchApi, text: str = FILE) -> str:
    """The file, with the search API for the provider."""
    text = text.replace("https://api.example/keys", f"{api.address}/admin/keys")
    text = text.replace("?prefix=", "?label_prefix=").replace("label: /name", "label: /label")
    text = text.replace('{name: "{label}", tags: [{of: "{credential}"}]}', '{label: "{label}"}')
    text = text.replace("https://api.example/whoami", f"{api.address}/key")
    return text.replace("https://api.example", api.address)


def publish(store: CredentialStore, name: str, field: str, value: SecretValue) -> None:
    snapshot = Snapshot(CredentialKey(name), "v", {field: value}, CLOCK.now(), CLOCK.now())
    store.publish(Entry(CredentialKey(name), State.FRESH, snapshot, expires_at=inf))


async def test_a_configured_driver_does_what_it_says(api: SearchApi) -> None:
    """File to key: made, proved, listed and retired, with the managing key from the store."""
    text = on(api)
    store = CredentialStore(CLOCK)
    driver = drivers(read(text).settings, parts(store))["a"]
    with pytest.raises(UpstreamUnavailable, match="admin"):
        await driver.create(Label("here", "a", "r1"))
    publish(store, "admin", "token", api.admin.key)

    key = await driver.create(Label("here", "a", "r1"))

    await driver.prove(key)
    assert [one.label for one in await driver.list()] == ["broker/here/a/r1"]
    await driver.retire(key.key_id)
    with pytest.raises(ProofFailed):
        await driver.prove(key)


def test_each_kind_has_its_driver_and_off_has_none() -> None:
    """What the file names is made; with mode off nothing is."""
    made = drivers(read(FILE).settings, parts(CredentialStore(CLOCK)))
    assert isinstance(made["b"], GeneratedDriver)
    static = read(changed("credentials.b", STATIC)).settings
    assert isinstance(drivers(static, parts(CredentialStore(CLOCK)))["b"], VaultRoleDriver)
    assert list(made) == ["a", "b"]
    off = read(changed("rotation.mode", "off")).settings
    assert drivers(off, parts(CredentialStore(CLOCK))) == {}


def shared(text: str) -> str:
    """The proof of ``a`` written at the credential instead of at its rotation."""
    proof = next(line for line in text.splitlines() if line.strip().startswith("prove: "))
    text = text.replace(proof + "\n", "", 1)
    return text.replace("    rotation:\n", f"    {proof.strip()}\n    rotation:\n", 1)


def seen(api: SearchApi) -> int:
    return len(api.admin.proofs)


def snapshot(key: MintedKey) -> Snapshot:
    return Snapshot(CredentialKey("a"), "v", key.fields, CLOCK.now(), CLOCK.now())


async def test_a_credentials_own_proof_serves_its_rotation(api: SearchApi) -> None:
    """What the rotation proved is not asked again before readers have it; a report asks."""
    settings = read(shared(on(api))).settings
    assert settings.credentials["a"].rotation is not None
    assert settings.credentials["a"].rotation.prove == settings.credentials["a"].prove
    store, made = CredentialStore(CLOCK), proofs(settings, CLOCK)
    publish(store, "admin", "token", api.admin.key)
    driver = drivers(settings, parts(store, made))["a"]
    key = await driver.create(Label("here", "a", "r1"))
    await driver.prove(key)
    asked = seen(api)
    await made["a"].prove(snapshot(key), suspect=False)
    assert seen(api) == asked
    await made["a"].prove(snapshot(key), suspect=False)  # it served once
    assert seen(api) == asked + 1
    await driver.retire(key.key_id)
    with pytest.raises(ProofFailed):
        await made["a"].prove(snapshot(key), suspect=True)


async def test_a_verdict_of_the_rotation_does_not_answer_a_report(api: SearchApi) -> None:
    """The key may have ended since."""
    settings = read(shared(on(api))).settings
    store, made = CredentialStore(CLOCK), proofs(settings, CLOCK)
    publish(store, "admin", "token", api.admin.key)
    driver = drivers(settings, parts(store, made))["a"]
    key = await driver.create(Label("here", "a", "r1"))
    await driver.prove(key)
    await driver.retire(key.key_id)
    with pytest.raises(ProofFailed):
        await made["a"].prove(snapshot(key), suspect=True)
