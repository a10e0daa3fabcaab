"""``api.operations`` and ``api.health``: probes and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.api.door import Door
from broker.api.listeners import Listener
from broker.api.sockets import TcpAddress
from broker.credentials.model import State
from tests.support.broker import SECRET, Assembly, Serving, serving
from tests.support.wire import Wire


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """A broker that has started, with all values fresh."""
    broker = Assembly(tmp_path)
    for name in broker.names:
        broker.publish(name)
    broker.health.started = True
    async with serving(broker) as made:
        yield made


async def operations(served: Serving) -> Wire:
    broker = served.broker
    door = Door(name="operations", refusals=broker.problems)
    address = TcpAddress("::", 0, loopback_only=False)
    listener = Listener(address, door, broker.operations, broker.clock)
    await served.start(listener)
    return await served.connect(listener)


async def test_livez_never_asks_for_anything(served: Serving) -> None:
    """The process is alive whatever became of credentials, start or stop."""
    broker = served.broker
    broker.health.started, broker.health.stopping = False, True
    for name in broker.names:
        broker.unavailable(name)
    assert (await (await operations(served)).get("/livez")).status == 200


async def test_startupz(served: Serving) -> None:
    """The start is over when the app says so, and stays over."""
    wire = await operations(served)
    served.broker.health.started = False
    assert (await wire.get("/startupz")).status == 503
    served.broker.health.started = True
    served.broker.unavailable()
    assert (await wire.get("/startupz")).status == 200


async def test_readyz(served: Serving) -> None:
    """Ready means started, not stopping, and a usable value for each required credential."""
    wire = await operations(served)
    broker = served.broker
    reply = await wire.get("/readyz")
    assert (reply.status, reply.json()["ready"]) == (200, True)
    broker.unavailable("orders-db", state=State.REFUSED, reason="vault_denied")
    reply = await wire.get("/readyz")
    told = reply.json()
    assert (reply.status, told["ready"]) == (503, False)
    assert told["credentials"]["orders-db"]["state"] == "refused"
    assert told["credentials"]["orders-db"]["reason"] == "vault_denied"
    assert told["credentials"]["orders-db"]["since"]
    assert told["credentials"]["search-api"]["usable"]
    broker.health.configure({"search-api": True, "orders-db": False, "unheard-of": False})
    reply = await wire.get("/readyz")
    assert reply.status == 200
    assert reply.json()["credentials"]["unheard-of"]["state"] == "pending"
    broker.health.stopping = True
    reply = await wire.get("/readyz")
    assert (reply.status, reply.json()["stopping"]) == (503, True)


async def test_an_overdue_rotation_is_a_note(served: Serving) -> None:
    """It stands in the body; callers are sent here all the same, for their keys work."""
    wire = await operations(served)
    assert (await wire.get("/readyz")).json()["rotations_overdue"] == []
    served.broker.health.overdue = lambda: ["search-api"]
    reply = await wire.get("/readyz")
    assert (reply.status, reply.json()["rotations_overdue"]) == (200, ["search-api"])


async def test_readyz_before_the_start(served: Serving) -> None:
    """Values alone do not make it ready: the data listeners must be open."""
    served.broker.health.started = False
    assert (await (await operations(served)).get("/readyz")).status == 503


async def test_suspect_is_ready(served: Serving) -> None:
    """A value that is still handed out is a value."""
    served.broker.publish(state=State.SUSPECT)
    assert (await (await operations(served)).get("/readyz")).status == 200


async def test_metrics(served: Serving) -> None:
    """A scrape parses as Prometheus' text format and holds no secret."""
    wire = await operations(served)
    reply = await wire.get("/metrics")
    assert reply.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(reply.body.decode()))
    assert any(family.name.startswith("broker_") for family in families)
    assert SECRET not in reply.body.decode()
    assert (await wire.get("/livez")).status == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/metrics"])
async def test_everything_is_uncached_and_read_only(served: Serving, path: str) -> None:
    """Probes are not cached, and know GET only."""
    wire = await operations(served)
    assert (await wire.get(path)).header("cache-control") == "no-store"
    reply = await wire.get(path, method="POST")
    assert (reply.status, reply.header("allow")) == (405, "GET")


async def test_no_data_on_the_operations_plane(served: Serving) -> None:
    """Nothing of the data plane can be had where the whole cluster may ask."""
    wire = await operations(served)
    for path in ("/v1/credentials", "/v1/credentials/search-api", "/v1/events", "/v1/status"):
        assert (await wire.get(path)).status == 404


async def test_any_host(served: Serving) -> None:
    """The kubelet calls the pod by its address."""
    wire = await operations(served)
    await wire.send(b"GET /livez HTTP/1.1\r\nHost: 10.1.2.3:8211\r\n\r\n")
    assert (await wire.reply()).status == 200


async def test_many_credentials_are_told_in_slices(tmp_path: Path) -> None:
    """A thousand credentials are listed, with loop turns in between."""
    broker = Assembly(tmp_path, names=[f"c-{n}" for n in range(1000)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert len(await broker.health.credentials()) == 1000
    counting.cancel()
    assert turns >= 9
