"""One suite for the client against the broker in memory and against the real API.

What an author tests with ``testing.FakeBroker`` is what he gets from the broker: the same
questions, on a Unix socket, on TCP by the hot path and by the declared routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import MappingProxyType

import pytest

from broker.api.sockets import TcpAddress, UnixAddress
from broker.client import Broker
from broker.client.testing import FakeBroker, header
from broker.client.tool import working
from broker.credentials.model import CredentialKey, Snapshot, State
from broker.errors import CallerUnauthenticated, CredentialUnavailable, CredentialUnknown
from broker.secret import SecretValue
from tests.support.broker import OTHER_TOKEN, TOKEN, Assembly, serving

NAME = "search-api"
ALWAYS = 1e6
"""Longer than any promise: the cached value is confirmed first."""


class World:
    """A broker with ``search-api`` in it, and a client of it."""

    broker: Broker

    def publish(self, value: str) -> None:
        """The broker has a newer version."""
        raise NotImplementedError

    def lay_ready(self, value: str) -> None:
        """Vault has a newer version, which a report finds."""
        raise NotImplementedError

    def take_away(self) -> None:
        """There is no usable value."""
        raise NotImplementedError

    def token(self, token: str) -> None:
        """What stands in the client's token file."""
        self.file.write_text(token + "\n")

    def __init__(self, directory: Path) -> None:
        self.file = directory / "token-of-the-client"
        self.token(TOKEN)


class InMemory(World):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.fake = FakeBroker(token=TOKEN)
        self.broker = self.fake.broker(token_file=str(self.file))

    def publish(self, value: str) -> None:
        use = header("x-api-key", "https://api.example.com", field="api_key")
        self.fake.put(NAME, {"api_key": value}, use=use, expires_in=3600)

    def lay_ready(self, value: str) -> None:
        self.fake.put_on_report(NAME, {"api_key": value})

    def take_away(self) -> None:
        self.fake.fail(NAME, reason="vault_unreachable", next_attempt_in=7)


class Real(World):
    def __init__(self, directory: Path, assembly: Assembly, url: str) -> None:
        super().__init__(directory)
        self.assembly = assembly
        self.broker = Broker(url, token_file=str(self.file))
        self.versions = 0

    def _snapshot(self, value: str) -> Snapshot:
        self.versions += 1
        now = self.assembly.clock.now()
        return Snapshot(
            CredentialKey(NAME),
            f"v{self.versions}",
            MappingProxyType({"api_key": SecretValue(value)}),
            obtained_at=now,
            validated_at=now,
        )

    def publish(self, value: str) -> None:
        self.assembly.publish(NAME, snapshot=self._snapshot(value))

    def lay_ready(self, value: str) -> None:
        self.assembly.keepers.ready.append(
            self.assembly.entry(NAME, snapshot=self._snapshot(value))
        )

    def take_away(self) -> None:
        self.assembly.unavailable(NAME)


@pytest.fixture(params=["memory", "unix", "tcp", "tcp by the routes"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "memory":
        yield InMemory(tmp_path)
        return
    assembly = Assembly(tmp_path)
    async with serving(assembly) as running:
        if request.param == "unix":
            path = tmp_path / "broker.sock"
            await running.start(
                assembly.listener(UnixAddress(path, mode=0o660), client="search-mcp")
            )
            url = f"unix://{path}"
        else:
            fast = request.param == "tcp"
            listener = assembly.listener(TcpAddress("127.0.0.1", 0), fast=fast)
            url = f"http://127.0.0.1:{(await running.start(listener)).port}"
        yield Real(tmp_path, assembly, url)


async def test_a_hand_out(world: World) -> None:
    """Value, version, use and times."""
    world.publish("canary-1-of-the-wire")
    held = await world.broker.get(NAME)
    assert held["api_key"] == held.value == "canary-1-of-the-wire"
    assert (held.name, held.version, held.state) == (NAME, "v1", "fresh")
    assert held.use is not None
    assert (held.use.place, held.use.name, held.use.field) == ("header", "x-api-key", "api_key")
    assert held.use.origins == ("https://api.example.com",)
    assert held.expires_at is not None
    assert 0 < held.use_until - held.issued_at <= 30 < held.expires_at - held.issued_at <= 3600


async def test_a_confirmation_prolongs_the_same_version(world: World) -> None:
    """A 304 brings later times and no new value."""
    world.publish("canary-1-of-the-wire")
    first = await world.broker.get(NAME)
    again = await world.broker.get(NAME, lasting=ALWAYS)
    assert again is not first
    assert (again.version, again.value) == (first.version, first.value)
    assert again.use_until >= first.use_until
    # Counted from two readings of two clocks, between which a busy machine may pause.
    assert again.deadline > first.deadline - 5
    assert again.expires_at == pytest.approx(first.expires_at, abs=5)


async def test_a_newer_version_replaces_the_held_one(world: World) -> None:
    """What was confirmed before is replaced when the version is another."""
    world.publish("canary-1-of-the-wire")
    await world.broker.get(NAME)
    world.publish("canary-2-of-the-wire")
    assert (await world.broker.get(NAME, lasting=ALWAYS)).value == "canary-2-of-the-wire"


async def test_a_report_that_finds_something(world: World) -> None:
    """The newer version is returned."""
    world.publish("canary-1-of-the-wire")
    held = await world.broker.get(NAME)
    world.lay_ready("canary-2-of-the-wire")
    newer = await world.broker.report(held, detail="invalid key")
    assert newer is not None
    assert newer.value == "canary-2-of-the-wire"


async def test_a_report_that_finds_nothing(world: World) -> None:
    """None is returned, and the only value stays."""
    world.publish("canary-1-of-the-wire")
    held = await world.broker.get(NAME)
    assert await world.broker.report(held) is None
    assert (await world.broker.get(NAME)).version == held.version


async def test_an_unknown_credential(world: World) -> None:
    """The name is not there, or not for this caller: one error for both."""
    world.publish("canary-1-of-the-wire")
    for name in ("nothing", "hidden", "a/../b c"):
        with pytest.raises(CredentialUnknown):
            await world.broker.get(name)


async def test_an_unavailable_credential(world: World) -> None:
    """Since when, why, and when to come back."""
    world.publish("canary-1-of-the-wire")
    world.take_away()
    with pytest.raises(CredentialUnavailable) as caught:
        await world.broker.get(NAME)
    error = caught.value
    assert (error.name, error.reason, error.retryable) == (NAME, "vault_unreachable", True)
    assert error.since is not None
    assert error.next_attempt_at is not None
    assert error.since < error.next_attempt_at


async def test_a_token_that_is_replaced(world: World) -> None:
    """A refused token is read again; one that is still wrong is an error."""
    world.publish("canary-1-of-the-wire")
    world.token("stale")
    with pytest.raises(CallerUnauthenticated):
        await world.broker.get(NAME)
    world.token(TOKEN)
    assert (await world.broker.get(NAME)).value == "canary-1-of-the-wire"


async def test_a_tool_is_named(world: World) -> None:
    """The tool's name is taken, whatever is in it."""
    world.publish("canary-1-of-the-wire")
    with working("wéb search\r\n", "request 7\n"):
        await world.broker.get(NAME)


async def test_another_clients_token_opens_no_socket_but_its_own(tmp_path: Path) -> None:
    """On search-mcp's socket the token of other-mcp is no proof."""
    assembly = Assembly(tmp_path)
    assembly.publish(NAME)
    path = tmp_path / "broker.sock"
    (tmp_path / "client-token").write_text(OTHER_TOKEN)
    async with serving(assembly) as running:
        await running.start(assembly.listener(UnixAddress(path, mode=0o660), client="search-mcp"))
        with pytest.raises(CallerUnauthenticated):
            await Broker(f"unix://{path}").get(NAME)


async def test_a_first_value_is_waited_for(tmp_path: Path) -> None:
    """With ``wait`` a credential that has no value yet is answered when it has one."""
    assembly = Assembly(tmp_path)
    (tmp_path / "client-token").write_text(TOKEN)
    path = tmp_path / "broker.sock"
    async with serving(assembly) as running:
        await running.start(assembly.listener(UnixAddress(path, mode=0o660), client="search-mcp"))
        assembly.unavailable(NAME, state=State.PENDING)
        asking = asyncio.create_task(Broker(f"unix://{path}").get(NAME, wait=10))
        await asyncio.sleep(0.2)
        assert not asking.done()
        assembly.publish(NAME)
        assert (await asking).version == "v1"
