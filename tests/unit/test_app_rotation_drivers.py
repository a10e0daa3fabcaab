"""Drivers from the configuration's own words, against a provider."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from random import SystemRandom

import pytest

from broker.app.rotation_drivers import DriverParts, drivers
from broker.clock import SystemClock
from broker.credentials.model import CredentialKey, Entry, Snapshot, State
from broker.credentials.store import CredentialStore
from broker.demo.search_api import SearchApi
from broker.errors import ProofFailed, UpstreamUnavailable
from broker.rotation.drivers.generated import GeneratedDriver
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


def parts(store: CredentialStore) -> DriverParts:
    vault = VaultSimulator(CLOCK)
    return DriverParts(CLOCK, SystemRandom(), store, vault, SessionByHand(vault))


def publish(store: CredentialStore, name: str, field: str, value: SecretValue) -> None:
    snapshot = Snapshot(CredentialKey(name), "v", {field: value}, CLOCK.now(), CLOCK.now())
    store.publish(Entry(CredentialKey(name), State.FRESH, snapshot, expires_at=inf))


async def test_a_configured_driver_does_what_it_says(api: SearchApi) -> None:
    """File to key: made, proved, listed and retired, with the managing key from the store."""
    text = FILE.replace("https://api.example/keys", f"{api.address}/admin/keys")
    text = text.replace("?prefix=", "?label_prefix=").replace("label: /name", "label: /label")
    text = text.replace('{name: "{label}", tags: [{of: "{credential}"}]}', '{label: "{label}"}')
    text = text.replace("https://api.example/whoami", f"{api.address}/key")
    text = text.replace("https://api.example", api.address)
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
