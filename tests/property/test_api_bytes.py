"""Any bytes, in any pieces: the protocol answers in order, or refuses once and ends."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.api.door import Door, FastPath, Send, hosts
from broker.api.listeners import Listener
from broker.api.problems import Problems, RequestIds
from broker.api.sockets import TcpAddress
from broker.clock import SystemClock
from tests.support.patience import PATIENCE
from tests.support.wire import Reply, Wire


class Fast(FastPath):
    """Answers ``/fast…`` with its own target."""

    def read(self, target: bytes, fields: object) -> bytes | None:
        del fields
        return target if target.startswith(b"/fast") else None

    def __init__(self) -> None:
        self.waiting: list[tuple[Send, bytes]] = []

    def answer(self, asked: Any, peer: object, tail: bytes, send: Send) -> bool:
        """At the end of the turn, as the broker does."""
        del peer
        said = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(asked), tail, asked)
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self.commit)
        self.waiting.append((send, said))
        return True

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for send, said in waiting:
            send(said)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with path and body, after a moment; ``/fast…`` as the hot path does."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await asyncio.sleep(0)
    path = scope["path"].encode()
    said = path if path.startswith(b"/fast") else path + b"|" + body
    headers = [(b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[asyncio.Runner, Listener]]:
    """A listener, and the loop it runs in."""
    clock = SystemClock()
    door = Door(
        name="test",
        refusals=Problems(clock, RequestIds(random.Random(3))),
        hosts=hosts(),
        fast=Fast(),
    )
    with asyncio.Runner() as runner:
        listener = Listener(TcpAddress("127.0.0.1", 0), door, echo, clock)
        runner.run(listener.start())
        yield runner, listener
        runner.run(listener.stop(0))


@st.composite
def request(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A well-formed request and the body of its answer."""
    number = draw(st.integers(0, 99))
    match draw(st.sampled_from(["fast", "slow", "length", "chunked"])):
        case "fast":
            return b"GET /fast%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number, b"/fast%d" % number
        case "slow":
            return b"GET /s%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number, b"/s%d|" % number
        case "length":
            body = draw(st.binary(max_size=200))
            head = b"POST /p%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            return head % (number, len(body)) + body, b"/p%d|%b" % (number, body)
        case _:
            chunks = draw(st.lists(st.binary(min_size=1, max_size=50), max_size=4))
            head = b"POST /c%d HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            framed = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)
            return head % number + framed + b"0\r\n\r\n", b"/c%d|%b" % (number, b"".join(chunks))


@given(several=st.lists(request(), min_size=1, max_size=8), data=st.data())
@settings(max_examples=100)
def test_pieces_do_not_matter(
    served: tuple[asyncio.Runner, Listener],
    several: list[tuple[bytes, bytes]],
    data: st.DataObject,
) -> None:
    """However a stream of requests is cut, each is answered, whole and in order."""
    runner, listener = served
    stream = b"".join(raw for raw, _ in several)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    yields = data.draw(st.lists(st.integers(0, 3), min_size=9, max_size=9))

    async def story() -> list[bytes]:
        wire = await Wire.tcp(listener.port)
        try:
            return await told(wire)
        finally:
            await wire.close()

    async def told(wire: Wire) -> list[bytes]:
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(stream)], strict=True)):
            await wire.send(stream[start:end])
            for _ in range(yields[number]):
                await asyncio.sleep(0.0005)
        return [(await wire.reply()).body for _ in several]

    assert [body for _, body in several] == runner.run(story())


_WORDS = st.sampled_from(
    [
        *(b"GET ", b"POST ", b"HEAD ", b"OPTIONS * ", b"/fast", b"/x", b" HTTP/1.1"),
        *(b"\r\n", b"\n", b"\r", b":", b" ", b"\x00", b"\xff", b"0"),
        *(b"Host: localhost", b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        *(b"Connection: close", b"Expect: 100-continue", b"Upgrade: x"),
        b"GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
)


@given(st.lists(_WORDS | st.binary(max_size=20), max_size=30).map(b"".join))
@settings(max_examples=200)
def test_garbage_is_answered_or_refused_once(
    served: tuple[asyncio.Runner, Listener], garbage: bytes
) -> None:
    """Whatever comes, answers are well-formed, one refusal at most and last, and no fault."""
    runner, listener = served
    faults = Faults()
    logging.getLogger().addHandler(faults)

    async def story() -> list[Reply]:
        wire = await Wire.tcp(listener.port)
        await wire.send(garbage)
        wire.writer.write_eof()
        raw = await asyncio.wait_for(wire.reader.read(), PATIENCE)
        await wire.close()
        return await replies(raw)

    try:
        said = runner.run(story())
    finally:
        logging.getLogger().removeHandler(faults)
    refused = [one for one in said if one.status >= 400]
    assert refused in ([], said[-1:])
    assert all(one.json()["status"] == one.status for one in refused if one.body)
    assert faults.records == []


class Faults(logging.Handler):
    """Keeps errors that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


async def replies(raw: bytes) -> list[Reply]:
    """Read all answers out of a stream that has ended."""
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    wire = Wire(reader, None)  # type: ignore[arg-type]
    said: list[Reply] = []
    while not reader.at_eof():
        # A HEAD's answer announces a body that is not there; then the rest cannot be read.
        try:
            reply = await wire.reply()
        except asyncio.IncompleteReadError:
            break
        if reply.status != 100:
            said.append(reply)
    return said
