"""``api.events``: server-sent events on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.access.tokens.model import Wish
from broker.access.tokens.showing import Asker
from broker.api.events import HEARTBEAT, LONGEST, STREAMS, EventStream, EventStreams, encode
from broker.api.sockets import TcpAddress
from broker.telemetry.events import Event
from tests.simulators.clock import VirtualClock
from tests.support.broker import OTHER_TOKEN, TOKEN, Assembly, Serving, serving
from tests.support.patience import PATIENCE, eventually
from tests.support.wire import Wire

AUTH = f"Authorization: Bearer {TOKEN}"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """A broker."""
    async with serving(Assembly(tmp_path)) as made:
        yield made


async def follow(wire: Wire, *lines: str) -> None:
    """Open a stream and read its head and opening comment."""
    head = "\r\n".join(("GET /v1/events HTTP/1.1", "Host: localhost", *lines))
    await wire.send(head.encode() + b"\r\n\r\n")
    answer = (await wire.reader.readuntil(b"\r\n\r\n")).decode()
    assert answer.startswith("HTTP/1.1 200")
    assert "content-type: text/event-stream\r\n" in answer
    assert "cache-control: no-store\r\n" in answer
    assert await chunk(wire) == b"retry: 1000\n: open\n\n"


async def chunk(wire: Wire) -> bytes:
    async with asyncio.timeout(PATIENCE):
        size = int(await wire.reader.readline(), 16)
        data = await wire.reader.readexactly(size)
        await wire.reader.readexactly(2)
        return data


async def test_the_head_of_the_audit_is_for_every_caller(served: Serving) -> None:
    """Whoever keeps it is a witness; no other event without a credential is told."""
    wire = await served.data()
    await follow(wire, AUTH)
    events = served.broker.events
    events.publish("refused", reason="x")
    events.publish("audit_head", sequence="7", chain="ab" * 16)
    expected = 'id: 2\nevent: audit_head\ndata: {"sequence":"7","chain":"' + "ab" * 16 + '"}\n\n'
    assert expected.encode() == await chunk(wire)


async def test_events_of_visible_credentials_only(served: Serving) -> None:
    """A caller is told of its own credentials: names and versions, in the stream's format."""
    wire = await served.data()
    await follow(wire, AUTH)
    events = served.broker.events
    events.publish("published", credential="hidden", version="h-2")
    events.publish("published", credential="search-api", version="v2", source_version="4")
    expected = (
        b"id: 2\nevent: published\n"
        b'data: {"credential":"search-api","version":"v2","source_version":"4"}\n\n'
    )
    assert expected == await chunk(wire)


async def test_nobody_follows_without_proof(served: Serving) -> None:
    """Without proof there is no stream."""
    wire = await served.data()
    assert (await wire.get("/v1/events")).status == 401


async def test_open_stream_does_not_delay_the_stop(served: Serving) -> None:
    """When the bus closes, streams end as complete answers and the listener stops at once."""
    listener = await served.start(served.broker.listener(TcpAddress("127.0.0.1", 0)))
    wires = [await served.connect(listener) for _ in range(3)]
    for wire in wires:
        await follow(wire, AUTH)
    served.broker.events.close()
    async with asyncio.timeout(PATIENCE):
        await listener.stop(served.broker.clock.now() + 600)
    for wire in wires:
        assert await chunk(wire) == b""
        assert await wire.ended()


async def test_no_stream_begins_while_stopping(served: Serving) -> None:
    """A stream asked for during the stop is a 503 that says to come back."""
    wire = await served.data()
    served.broker.events.close()
    reply = await wire.get("/v1/events", AUTH)
    assert (reply.status, reply.json()["code"]) == (503, "broker_stopping")
    assert reply.header("retry-after")


async def test_streams_of_a_client_are_bounded(served: Serving) -> None:
    """A client has a bounded number of streams, others have theirs; one that ends makes room."""
    wires = [await served.data() for _ in range(STREAMS)]
    for wire in wires:
        await follow(wire, AUTH)
    extra = await served.data()
    reply = await extra.get("/v1/events", AUTH)
    assert (reply.status, reply.json()["code"]) == (503, "broker_busy")
    await follow(await served.data(), f"Authorization: Bearer {OTHER_TOKEN}")
    await wires[0].close()
    await eventually(lambda: len(served.broker.events._subscriptions) == STREAMS)
    await follow(extra, AUTH)


async def test_a_follower_who_leaves_is_forgotten(served: Serving) -> None:
    """The subscription ends with the connection."""
    wire = await served.data()
    await follow(wire, AUTH)
    assert len(served.broker.events._subscriptions) == 1
    await wire.close()
    await eventually(lambda: len(served.broker.events._subscriptions) == 0)


@pytest.mark.looptime
async def test_heartbeat_and_end(tmp_path: Path) -> None:
    """A quiet stream has a comment every 15 s and ends after an hour, as a complete answer."""
    clock = VirtualClock()
    broker = Assembly(tmp_path, clock=clock)
    caller = broker.service.authenticate(TOKEN, None, None, None)  # type: ignore[arg-type]
    stream = EventStreams(broker.events, broker.service, clock).open(caller)
    assert isinstance(stream, EventStream)
    sent: list[tuple[float, bytes]] = []
    never = asyncio.Event()

    async def receive() -> dict[str, object]:
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            assert isinstance(message["body"], bytes)
            sent.append((clock.now(), message["body"]))

    before = clock.now()
    await stream({}, receive, send)
    assert sent[0][1].startswith(b"retry:")
    times = [at - before for at, body in sent if body == b": \n\n"]
    assert [HEARTBEAT * n for n in range(1, int(LONGEST / HEARTBEAT) + 1)] == times
    assert sent[-1] == (before + LONGEST, b"")


def test_encode_escapes_line_ends() -> None:
    """A version with a line end in it cannot forge an event."""
    event = Event(3, "published", {"credential": "a", "version": "1\n\ndata: forged"})
    assert encode(event).count(b"\n") == 4


# --- scoped tokens ----------------------------------------------------------------------


async def minted(served: Serving, client: str = "search-mcp", life: float = 900) -> tuple[str, str]:
    """A token's id and text."""
    wish = Wish("alice", ("*",), ())
    one = await served.broker.tokens.mint(wish, parent=None, caller=client, life=life)
    return one.known.claims.grant.id, one.token.reveal()


async def revoke(served: Serving, token_id: str) -> None:
    """As an operator."""
    await served.broker.desk.revoke(Asker("operator", "r"), {"id": token_id})


async def test_a_revoked_token_is_told_to_its_caller_alone(served: Serving) -> None:
    """By its id, and nothing else of it; another client hears nothing."""
    mine, other = await served.data(), await served.data()
    await follow(mine, AUTH)
    await follow(other, f"Authorization: Bearer {OTHER_TOKEN}")
    token_id, _ = await minted(served)
    foreign_id, _ = await minted(served, "other-mcp")
    await revoke(served, token_id)
    await revoke(served, foreign_id)
    assert (await chunk(mine)).endswith(
        b'event: revoked\ndata: {"token":"%b"}\n\n' % token_id.encode()
    )
    assert (await chunk(other)).endswith(b'{"token":"%b"}\n\n' % foreign_id.encode())


async def test_a_stream_ends_with_the_token_it_was_opened_with(served: Serving) -> None:
    """It hears of its own token's end, not of others', and is over then."""
    wire = await served.data()
    token_id, text = await minted(served)
    other_id, _ = await minted(served)
    await follow(wire, AUTH, f"Broker-Subject-Token: {text}")
    await revoke(served, other_id)
    await revoke(served, token_id)
    assert b'{"token":"%b"}' % token_id.encode() in await chunk(wire)
    assert await chunk(wire) == b""
    assert len(served.broker.events._subscriptions) == 0


@pytest.mark.looptime
async def test_a_stream_ends_when_its_token_does(tmp_path: Path) -> None:
    """No event goes out after the end, and no comment either."""
    clock = VirtualClock()
    broker = Assembly(tmp_path, clock=clock)
    caller = broker.service.authenticate(TOKEN, None, None, None)  # type: ignore[arg-type]
    wish = Wish("alice", ("*",), ("search-api",))
    one = await broker.tokens.mint(wish, parent=None, caller="search-mcp", life=40)
    shown = replace(caller, grant=one.known.claims.grant)
    stream = EventStreams(broker.events, broker.service, clock).open(shown)
    sent: list[bytes] = []
    never = asyncio.Event()

    async def receive() -> dict[str, object]:
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            assert isinstance(message["body"], bytes)
            sent.append(message["body"])

    before = clock.now()
    running = asyncio.ensure_future(stream({}, receive, send))
    await clock.sleep(1)
    broker.events.publish("published", credential="search-api", version="v1")
    await running
    assert clock.now() - before == pytest.approx(40, abs=0.01)
    assert sum(b"published" in body for body in sent) == 1
    assert sent[-1] == b""
