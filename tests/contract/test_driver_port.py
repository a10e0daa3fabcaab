"""What every driver must do, whatever stands behind it.

A world is a driver and a look behind it. A new driver joins by a world in ``WORLDS``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import SystemRandom
from typing import Literal, Protocol

import pytest

from broker.clock import SystemClock
from broker.credentials.model import CredentialKey, CredentialSpec, KvSource, Use
from broker.demo.openbao import OpenBao
from broker.demo.openbao_admin import AdminError
from broker.demo.search_api import SearchApi
from broker.errors import ProofFailed
from broker.rotation.drivers.documents import RequestTemplate
from broker.rotation.drivers.exchange import Exchange, HeldKey
from broker.rotation.drivers.generated import GeneratedDriver, KeyForm
from broker.rotation.drivers.http import CreateCall, HttpCalls, HttpDriver, ListCall
from broker.rotation.drivers.port import Driver, MintedKey
from broker.rotation.drivers.proof import HttpProof
from broker.rotation.drivers.vault import Port
from broker.rotation.model import KvPath, Label
from broker.secret import SecretValue
from broker.vault.client import VaultClient
from broker.vault.interface import SessionPort
from tests.simulators.provider import ProviderDriver, ProviderSimulator
from tests.simulators.session import FixedSession, SessionByHand
from tests.simulators.vault import VaultSimulator
from tests.support.accepting import AcceptingService, Read

CLOCK = SystemClock()


class World(Protocol):
    """A driver, and a look behind it."""

    @property
    def driver(self) -> Driver: ...

    def works(self, key: MintedKey) -> bool:
        """Whether the upstream takes the key now, found out without the driver."""
        ...


def label(rotation: str) -> Label:
    return Label("here", "search-api", rotation)


def proof(origin: str, path: str) -> HttpProof:
    spec = CredentialSpec(
        CredentialKey("search-api"),
        KvSource("secret", "search-api"),
        use=Use(name="x-api-key", field="api_key", origins=(origin,)),
    )
    exchange = Exchange(clock=CLOCK, timeout=5.0)
    return HttpProof(spec, RequestTemplate("GET", origin + path), exchange, clock=CLOCK)


class SearchWorld:
    """``http`` on the search API's key management, in pages of two."""

    def __init__(self, api: SearchApi, *, lists: bool = True) -> None:
        self._api = api
        keys = f"{api.address}/admin/keys"
        listing = ListCall(
            RequestTemplate("GET", f"{keys}?limit=2&label_prefix={{label_prefix}}"),
            items="/keys",
            id="/id",
            label="/label",
            created_at="/created_at",
            next="/next",
            cursor="after",
        )
        calls = HttpCalls(
            create=CreateCall(
                RequestTemplate("POST", keys, body={"label": "{label}", "expires_in": 600}),
                {"api_key": "/key"},
                "/id",
                "/expires_at",
            ),
            listing=listing if lists else None,
            retire=RequestTemplate("DELETE", keys + "/{id}"),
        )
        manager = HeldKey(
            "search-admin",
            {"token": api.admin.key},
            Use(scheme="bearer", field="token", origins=(api.address,)),
        )
        self.driver: Driver = HttpDriver(
            "search-api",
            calls,
            installation="here",
            clock=CLOCK,
            exchange=Exchange(clock=CLOCK, timeout=5.0),
            manager=lambda: manager,
            proof=proof(api.address, "/key"),
        )

    def works(self, key: MintedKey) -> bool:
        return self._api.keys.check(key.fields["api_key"])[1] == "ok"


class AcceptingWorld:
    """``generated`` for a service that reads its keys from Vault."""

    def __init__(
        self,
        service: AcceptingService,
        vault: Port,
        session: SessionPort,
        publish: Literal["sha256", "plain"],
    ) -> None:
        self._service = service
        self.driver: Driver = GeneratedDriver(
            KeyForm("api_key", prefix="svc-"),
            KvPath("secret", "rotated/accepted"),
            publish=publish,
            vault=vault,
            session=session,
            clock=CLOCK,
            rng=SystemRandom(),
            proof=proof(service.address, "/ping"),
        )

    def works(self, key: MintedKey) -> bool:
        return self._service.accepts(key.fields["api_key"].reveal())


@asynccontextmanager
async def search_world(*, lists: bool = True) -> AsyncIterator[World]:
    api = SearchApi()
    api.start()
    try:
        yield SearchWorld(api, lists=lists)
    finally:
        api.stop()


@asynccontextmanager
async def accepting_world(
    read: Read, vault: Port, session: SessionPort, publish: Literal["sha256", "plain"]
) -> AsyncIterator[World]:
    service = AcceptingService(read, plain=publish == "plain")
    service.start()
    try:
        yield AcceptingWorld(service, vault, session, publish)
    finally:
        service.stop()
        await vault.aclose()


class SimulatedWorld:
    """The simulator that the saga's tests rotate with: it must not promise more than others."""

    def __init__(self) -> None:
        self._account = ProviderSimulator(CLOCK)
        self.driver: Driver = ProviderDriver(self._account)

    def works(self, key: MintedKey) -> bool:
        return self._account.accepts(key.fields["api_key"].reveal())


@asynccontextmanager
async def simulated_provider() -> AsyncIterator[World]:
    yield SimulatedWorld()


@asynccontextmanager
async def simulated_vault(publish: Literal["sha256", "plain"]) -> AsyncIterator[World]:
    vault = VaultSimulator(CLOCK)
    session = SessionByHand(vault)
    session.log_in()

    def read() -> Mapping[str, str]:
        secret = vault.server.kv.backup("rotated/accepted")
        newest = secret.versions[-1].data if secret else {}
        return {name: str(value) for name, value in newest.items()}

    async with accepting_world(read, vault, session, publish) as world:
        yield world


@asynccontextmanager
async def real_vault(openbao: OpenBao) -> AsyncIterator[World]:
    openbao.admin.request("DELETE", "secret/metadata/rotated/accepted")

    def read() -> Mapping[str, str]:
        try:
            found = openbao.admin.request("GET", "secret/data/rotated/accepted")
        except AdminError:
            return {}
        data: Mapping[str, str] = found["data"]["data"]
        return data

    vault = VaultClient(openbao.address, clock=CLOCK, timeout=5.0)
    session = FixedSession(openbao.root_token)
    async with accepting_world(read, vault, session, "sha256") as world:
        yield world


WORLDS = [
    "simulator",
    "http",
    "http without list",
    "generated",
    "generated, plain",
    pytest.param("generated on OpenBao", marks=pytest.mark.real),
]


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    worlds: dict[str, Callable[[], AbstractAsyncContextManager[World]]] = {
        "simulator": simulated_provider,
        "http": search_world,
        "http without list": lambda: search_world(lists=False),
        "generated": lambda: simulated_vault("sha256"),
        "generated, plain": lambda: simulated_vault("plain"),
        "generated on OpenBao": lambda: real_vault(request.getfixturevalue("openbao")),
    }
    async with worlds[request.param]() as world:
        yield world


async def test_a_new_key_works_and_is_proved(world: World) -> None:
    """What is minted is good upstream, and the proof says so."""
    key = await world.driver.create(label("r1"))

    assert world.works(key)
    await world.driver.prove(key)
    assert set(key.fields) == world.driver.capabilities.fields


async def test_a_key_nobody_minted_fails_its_proof(world: World) -> None:
    """The proof tells a bad key, without showing it."""
    made_up = SecretValue("svc-nobody-minted-this-one")

    with pytest.raises(ProofFailed) as failed:
        await world.driver.prove(MintedKey("x", {"api_key": made_up}))

    assert made_up.reveal() not in str(failed.value)


async def test_keys_live_side_by_side_until_one_is_retired(world: World) -> None:
    """With overlap a new key leaves the old one alone, and retiring takes the one that is meant."""
    assert world.driver.capabilities.overlap
    old, new = [await world.driver.create(label(rotation)) for rotation in ("r1", "r2")]
    assert old.key_id != new.key_id
    assert old.fields["api_key"] != new.fields["api_key"]
    assert (world.works(old), world.works(new)) == (True, True)

    await world.driver.retire(old.key_id)

    assert (world.works(old), world.works(new)) == (False, True)
    with pytest.raises(ProofFailed):
        await world.driver.prove(old)


async def test_retiring_again_or_what_never_was_is_no_error(world: World) -> None:
    """A retirement whose answer was lost can be repeated."""
    key, other = [await world.driver.create(label(rotation)) for rotation in ("r1", "r2")]

    await world.driver.retire(key.key_id)
    await world.driver.retire(key.key_id)
    await world.driver.retire("key-never/was ?#%")

    assert world.works(other)


async def test_keys_are_listed_with_label_and_time_until_they_are_retired(world: World) -> None:
    """A key whose answer was lost can be found by its label, on whatever page it is."""
    if not world.driver.capabilities.list:
        return
    before = CLOCK.wall()
    keys = [await world.driver.create(label(f"r{number}")) for number in range(5)]

    listed = {key.key_id: key for key in await world.driver.list()}

    assert [listed[key.key_id].label for key in keys] == [label(f"r{n}").text for n in range(5)]
    created = listed[keys[0].key_id].created_wall
    assert created is not None
    assert before - 2 < created < CLOCK.wall() + 2
    await world.driver.retire(keys[0].key_id)
    assert keys[0].key_id not in {key.key_id for key in await world.driver.list()}


async def test_nothing_is_listed_before_the_first_key(world: World) -> None:
    """An account without keys of ours is an empty list."""
    if world.driver.capabilities.list:
        assert list(await world.driver.list()) == []


async def test_a_repeated_creation_makes_another_key_under_the_same_label(world: World) -> None:
    """After a lost answer nothing is overwritten that somebody may already use."""
    first = await world.driver.create(label("r1"))
    second = await world.driver.create(label("r1"))

    assert first.key_id != second.key_id
    assert world.works(first)
    assert world.works(second)


async def test_ids_and_representations_hold_no_secret(world: World) -> None:
    """What goes to logs, state and audit does not have the key in it."""
    key = await world.driver.create(label("r1"))
    text = key.fields["api_key"].reveal()

    assert text not in key.key_id
    assert text not in repr(key)
    if world.driver.capabilities.list:
        assert text not in repr(await world.driver.list())
