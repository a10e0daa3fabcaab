"""``api.protocol``: what a connection takes, refuses, bounds and answers, on real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.api.connection import LINGER, PIECE
from broker.api.door import PEER, Door, FastPath, Limits, Peer, Send, hosts
from broker.api.listeners import Listener
from broker.api.problems import Problems, RequestIds
from broker.api.sockets import TcpAddress, UnixAddress
from broker.clock import SystemClock
from tests.support.patience import PATIENCE, eventually, turns
from tests.support.wire import Reply, Wire

GET = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"


class Echo:
    """An application that says what it was asked, and can be made to wait."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.gone = 0
        self.gate = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body = b""
        if scope["path"] != "/blind":
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.gone += 1
                    return
                body += message["body"]
                if not message["more_body"]:
                    break
        self.bodies.append(body)
        if scope["path"] == "/wait":
            await self.gate.wait()
        said = json.dumps({"path": scope["path"], "body": len(body)}).encode()
        if scope["path"] == "/large":
            said = b"x" * 8_000_000
        length = (b"content-length", str(len(said)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": said})


class Prepared(FastPath):
    """A hot path that answers ``/fast`` with bytes, leaves the rest, and counts."""

    def __init__(self) -> None:
        self.read_: list[tuple[bytes, Mapping[bytes, bytes]]] = []
        self.asked: list[tuple[Any, Peer]] = []
        self.leave = False
        self.waiting: list[tuple[Send, bytes]] = []

    def read(self, target: bytes, fields: Mapping[bytes, bytes]) -> bytes | None:
        self.read_.append((target, fields))
        return (target[5:] or b"fast") if target.startswith(b"/fast") else None

    def answer(self, asked: Any, peer: Peer, tail: bytes, send: Send) -> bool:
        self.asked.append((asked, peer))
        if self.leave:
            return False
        said = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(asked), tail, asked)
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self.commit)
        self.waiting.append((send, said))
        return True

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for send, said in waiting:
            send(said)


class Rig:
    """One listener with an application, a hot path and as many raw clients as wanted."""

    def __init__(self, address: UnixAddress | TcpAddress, stack: AsyncExitStack) -> None:
        self.clock = SystemClock()
        self.app = Echo()
        self.fast = Prepared()
        self.door = Door(
            name="test",
            refusals=Problems(self.clock, RequestIds(random.Random(1))),
            client="search-mcp" if isinstance(address, UnixAddress) else None,
            hosts=hosts() if isinstance(address, TcpAddress) else None,
            fast=self.fast,
        )
        self.listener = Listener(address, self.door, self.app, self.clock)
        self._stack = stack

    async def connect(self) -> Wire:
        address = self.listener.address
        wire = await (
            Wire.unix(address.path)
            if isinstance(address, UnixAddress)
            else Wire.tcp(self.listener.port)
        )
        self._stack.push_async_callback(wire.close)
        return wire

    async def after(self, seconds: float) -> None:
        """Tend the connections as if that much time had passed since they last did anything."""
        await turns()  # what is on its way arrives
        now = self.clock.now()
        self.listener.tend(now)
        self.listener.tend(now + seconds)


@asynccontextmanager
async def rig_at(address: UnixAddress | TcpAddress) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        rig = Rig(address, stack)
        await rig.listener.start()
        yield rig
        rig.app.gate.set()
        await rig.listener.stop(rig.clock.now() + PATIENCE)
        assert rig.listener.connections == 0


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A listener on loopback."""
    async with rig_at(TcpAddress("127.0.0.1", 0)) as made:
        yield made


def assert_problem(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.json()["code"], reply.json()["status"]) == (status, code, status)
    assert reply.header("content-type") == "application/problem+json"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("broker-request-id") == reply.json()["request_id"]
    assert reply.header("connection") == "close"
    assert reply.header("date")


# --- plain requests -----------------------------------------------------------------


async def test_application_answers(rig: Rig) -> None:
    """A request that the hot path leaves reaches the application, on a kept connection."""
    wire = await rig.connect()
    for _ in range(3):
        reply = await wire.get("/echo")
        assert (reply.status, reply.json()) == (200, {"path": "/echo", "body": 0})
        assert reply.header("date")
        assert reply.header("server") is None


async def test_hot_path_answers(rig: Rig) -> None:
    """A request that the hot path knows never reaches the application."""
    wire = await rig.connect()
    for _ in range(3):
        reply = await wire.get("/fast", "X-Other: 1")
        assert (reply.status, reply.body) == (200, b"fast")
        assert reply.header("date")
    assert rig.app.scopes == []
    assert rig.fast.read_[0][1][b"x-other"] == b"1"


async def test_body_arrives_whole(rig: Rig) -> None:
    """A body up to the cap reaches the application, in however many pieces it came."""
    wire = await rig.connect()
    body = os.urandom(rig.door.limits.body_bytes)
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    for piece in (head, body[:5000], body[5000:5001], body[5001:]):
        await wire.send(piece)
        await turns()
    assert (await wire.reply()).json()["body"] == len(body)
    assert rig.app.bodies == [body]


async def test_chunked_body_and_trailers(rig: Rig) -> None:
    """A chunked body is put together; its trailers are no headers of the request."""
    wire = await rig.connect()
    await wire.send(
        CHUNKED + b"\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nAuthorization: Bearer stolen\r\n\r\n"
    )
    assert (await wire.reply()).json()["body"] == 5
    assert b"authorization" not in dict(rig.app.scopes[0]["headers"])
    assert (await wire.get("/echo")).status == 200


async def test_expect_continue(rig: Rig) -> None:
    """A client that waits for ``100 Continue`` gets it before it sends the body."""
    wire = await rig.connect()
    await wire.send(
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Length: 2\r\n\r\n"
    )
    assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await wire.send(b"ok")
    assert (await wire.reply()).json()["body"] == 2


@pytest.mark.parametrize("path", ["/fast", "/echo"])
async def test_connection_close_is_honoured(rig: Rig, path: str) -> None:
    """``Connection: close`` is answered in kind and the connection ends, at both doors."""
    wire = await rig.connect()
    reply = await wire.get(path, "Connection: close")
    assert (reply.status, reply.header("connection")) == (200, "close")
    assert await wire.ended()


@pytest.mark.parametrize("path", [b"/fast", b"/echo"])
async def test_http_1_0_closes(rig: Rig, path: bytes) -> None:
    """An HTTP/1.0 request is answered by the application, and the connection ends."""
    wire = await rig.connect()
    await wire.send(b"GET %b HTTP/1.0\r\nHost: localhost\r\n\r\n" % path)
    assert (await wire.reply()).header("connection") == "close"
    assert await wire.ended()
    assert len(rig.app.scopes) == 1


async def test_head_has_no_body(rig: Rig) -> None:
    """HEAD goes to the application and its answer has headers only."""
    wire = await rig.connect()
    reply = await wire.get("/fast", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert (await wire.get("/fast")).body == b"fast"


async def test_upgrade_is_ignored(rig: Rig) -> None:
    """A wish for another protocol is answered as plain HTTP/1.1, once."""
    wire = await rig.connect()
    reply = await wire.get("/echo", "Connection: Upgrade", "Upgrade: websocket")
    assert (reply.status, reply.header("connection")) == (200, "close")
    assert await wire.ended()


@pytest.mark.parametrize(
    "line",
    ["Prefer: wait=1", "Content-Length: 0", "Expect: 100-continue", "Cookie: a\r\nCookie: b"],
)
async def test_hot_path_leaves_the_unusual(rig: Rig, line: str) -> None:
    """Waits, bodies, expectations and repeated fields are the application's."""
    wire = await rig.connect()
    await wire.send(f"GET /fast HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n".encode())
    if line.startswith("Expect"):
        await wire.reader.readuntil(b"\r\n\r\n")
    assert (await wire.reply()).status == 200
    assert rig.fast.read_ == []
    assert len(rig.app.scopes) == 1


# --- the same bytes again ---------------------------------------------------------------


async def test_same_bytes_are_not_parsed_again(rig: Rig) -> None:
    """A request in the very same bytes is answered anew, but read only once."""
    wire = await rig.connect()
    for _ in range(3):
        assert (await wire.get("/fast/a")).body == b"/a"
    assert (len(rig.fast.read_), len(rig.fast.asked)) == (1, 3)
    assert (await wire.get("/fast/b")).body == b"/b"
    assert (await wire.get("/fast/a")).body == b"/a"
    assert len(rig.fast.read_) == 3


async def test_same_bytes_within_a_body_are_a_body(rig: Rig) -> None:
    """Known bytes count as a request only where a request may begin."""
    wire = await rig.connect()
    known = GET.replace(b"/echo", b"/fast")
    for _ in range(2):
        await wire.send(known)
        assert (await wire.reply()).body == b"fast"
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    await wire.send(head % len(known))
    await turns()
    await wire.send(known)
    assert (await wire.reply()).json()["body"] == len(known)


async def test_same_bytes_behind_a_waiting_request(rig: Rig) -> None:
    """Known bytes do not overtake a request that is still being answered."""
    wire = await rig.connect()
    known = GET.replace(b"/echo", b"/fast")
    await wire.send(known)
    await wire.reply()
    await wire.send(GET.replace(b"/echo", b"/wait"))
    await turns()
    await wire.send(known)
    await turns()
    rig.app.gate.set()
    assert [(await wire.reply()).json()["path"] for _ in range(2)] == ["/wait", "/fast"]


async def test_same_bytes_that_the_hot_path_leaves(rig: Rig) -> None:
    """When the hot path cannot answer what it answered before, the application does."""
    wire = await rig.connect()
    await wire.get("/fast")
    rig.fast.leave = True
    assert (await wire.get("/fast")).json()["path"] == "/fast"
    rig.fast.leave = False
    assert (await wire.get("/fast")).body == b"fast"


async def test_two_requests_in_one_piece_are_not_known(rig: Rig) -> None:
    """Two requests that came together are two again when they come again."""
    wire = await rig.connect()
    for _ in range(3):
        await wire.send(GET.replace(b"/echo", b"/fast/1") + GET.replace(b"/echo", b"/fast/2"))
        assert [(await wire.reply()).body for _ in range(2)] == [b"/1", b"/2"]


async def test_second_half_of_a_request_is_not_known(rig: Rig) -> None:
    """The bytes that completed a request are none by themselves."""
    wire = await rig.connect()
    known = GET.replace(b"/echo", b"/fast")
    for _ in range(3):
        await wire.send(known[:20])
        await turns()
        await wire.send(known[20:])
        assert (await wire.reply()).body == b"fast"


# --- pipelining --------------------------------------------------------------------


async def test_pipelined_answers_keep_their_order(rig: Rig) -> None:
    """Answers leave in the order of the requests, whichever door gives them."""
    wire = await rig.connect()
    paths = ["/fast/1", "/wait", "/fast/2", "/echo", "/fast/3"]
    await wire.send(b"".join(GET.replace(b"/echo", path.encode()) for path in paths))
    assert (await wire.reply()).body == b"/1"
    await turns()
    rig.app.gate.set()
    answered = [(await wire.reply()).json()["path"] for _ in range(4)]
    assert answered == ["/wait", "/fast/2", "/echo", "/fast/3"]
    assert (await wire.get("/fast/4")).body == b"/4"


async def test_rest_of_a_body_behind_a_waiting_request(rig: Rig) -> None:
    """A queued request whose body has come only in part gets the rest once it is its turn."""
    wire = await rig.connect()
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n"
    await wire.send(GET.replace(b"/echo", b"/wait") + head + b"abc")
    await turns()
    await wire.send(b"def")
    await turns()
    rig.app.gate.set()
    assert (await wire.reply()).json()["path"] == "/wait"
    assert (await wire.reply()).json()["body"] == 6


async def test_garbage_after_a_good_request(rig: Rig) -> None:
    """The good request is answered first, then the refusal, then the connection ends."""
    wire = await rig.connect()
    await wire.send(GET.replace(b"/echo", b"/wait") + GET + b"garbage\r\n\r\n")
    await turns()
    rig.app.gate.set()
    assert [(await wire.reply()).json()["path"] for _ in range(2)] == ["/wait", "/echo"]
    assert_problem(await wire.reply(), 400, "request_malformed")
    assert await wire.ended()


async def test_oversized_body_in_the_queue(rig: Rig) -> None:
    """A queued request with too large a body is taken back; the one before it is answered."""
    wire = await rig.connect()
    # All in one piece of parsing: two requests, then a body over the cap.
    rig.door.limits = Limits(body_bytes=100)
    await wire.send(
        GET.replace(b"/echo", b"/wait") + CHUNKED + b"\r\nff\r\n" + b"x" * 255 + b"\r\n"
    )
    await turns()
    rig.app.gate.set()
    assert (await wire.reply()).json()["path"] == "/wait"
    assert_problem(await wire.reply(), 413, "request_too_large")
    assert await wire.ended()
    assert [scope["path"] for scope in rig.app.scopes] == ["/wait"]


async def test_a_flood_of_pipelined_requests_leaves_the_loop_free(rig: Rig) -> None:
    """Thousands of requests sent at once are parsed in pieces, with turns for others between."""
    wire = await rig.connect()
    other = await rig.connect()
    request = b"GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\n"
    count = 3000
    most = 0
    done = False

    async def watch() -> None:
        nonlocal most
        while not done:
            before = len(rig.fast.asked)
            await asyncio.sleep(0)
            most = max(most, len(rig.fast.asked) - before)

    watching = asyncio.create_task(watch())
    sending = asyncio.create_task(wire.send(request * count))
    assert (await other.get("/fast")).status == 200
    assert len(rig.fast.asked) < count
    for _ in range(count):
        assert (await wire.reply()).body == b"fast"
    await sending
    done = True
    await watching
    assert count + 1 == len(rig.fast.asked)
    # In one loop turn; at up to 80 microseconds for each refusal with its record.
    assert 0 < most <= 30


async def test_a_peer_that_does_not_read_is_not_parsed_further(rig: Rig) -> None:
    """While answers wait to be read nothing more is computed for that peer."""
    wire = await rig.connect()
    requests = b"GET /fast" + b"x" * 1000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sending = asyncio.create_task(wire.send(requests * 20_000))
    before = -1
    async with asyncio.timeout(PATIENCE):
        while before != len(rig.fast.asked):
            before = len(rig.fast.asked)
            await turns(100)
    assert 0 < before < 20_000
    sending.cancel()
    await rig.after(rig.door.limits.send_seconds)
    await eventually(lambda: rig.listener.connections == 0)


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS handshake
        b"hello\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        CHUNKED + b"Content-Length: 1\r\n\r\n0\r\n\r\n",
        CHUNKED + b"\r\nzz\r\n",
    ],
)
async def test_malformed_is_400(rig: Rig, garbage: bytes) -> None:
    """What is not one well-formed HTTP/1.1 request gets a problem document, and the end."""
    wire = await rig.connect()
    await wire.send(garbage)
    assert_problem(await wire.reply(), 400, "request_malformed")
    assert await wire.ended()
    assert rig.app.bodies == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8210",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[::2]",
        "",
        "localhost/x",
        "user@localhost",
    ],
)
@pytest.mark.parametrize("path", ["/fast", "/echo"])
async def test_foreign_host_is_421(rig: Rig, host: str, path: str) -> None:
    """A name a page may have been rebound under does not reach the broker on TCP."""
    wire = await rig.connect()
    await wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert_problem(await wire.reply(), 421, "request_misdirected")
    assert rig.fast.read_ == []
    assert rig.app.scopes == []


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8210", "[::1]", "[::1]:8210"]
)
async def test_own_hosts(rig: Rig, host: str) -> None:
    """The loopback's names are ours, whatever the port says (a port-forward changes it)."""
    wire = await rig.connect()
    for _ in range(2):
        await wire.send(f"GET /fast HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await wire.reply()).status == 200


async def test_host_of_an_absolute_target(rig: Rig) -> None:
    """The host of an absolute request target counts more than the Host field (RFC 9112 3.2.2)."""
    wire = await rig.connect()
    assert (await wire.get("http://localhost/echo")).json()["path"] == "/echo"
    assert_problem(await wire.get("http://evil.example/echo"), 421, "request_misdirected")


async def test_configured_hosts(rig: Rig) -> None:
    """A further name can be allowed by configuration."""
    rig.door.hosts = hosts(["Broker.Internal"])
    wire = await rig.connect()
    await wire.send(GET.replace(b"localhost", b"broker.internal:80"))
    assert (await wire.reply()).status == 200


async def test_head_at_its_caps(rig: Rig) -> None:
    """A head of exactly the allowed size and number of fields is taken."""
    wire = await rig.connect()
    limits = rig.door.limits
    assert (await wire.get("/echo", *(["X: 1"] * (limits.headers - 1)))).status == 200
    used = len("/echo") + len("hostlocalhost") + 4 + len("x-long") + 4
    value = "v" * (limits.head_bytes - used)
    assert (await wire.get("/echo", f"X-Long: {value}")).status == 200
    assert_problem(await wire.get("/echo", f"X-Long: {value}v"), 431, "headers_too_large")


@pytest.mark.parametrize("path", ["/fast", "/echo"])
async def test_too_many_fields_are_431(rig: Rig, path: str) -> None:
    """One field more than allowed is refused."""
    wire = await rig.connect()
    lines = [f"X-{number}: 1" for number in range(rig.door.limits.headers)]
    assert_problem(await wire.get(path, *lines), 431, "headers_too_large")
    assert await wire.ended()


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX"])
async def test_endless_head_is_431(rig: Rig, start: bytes) -> None:
    """Twenty megabytes of head are refused after the cap, and the refusal can be read."""
    wire = await rig.connect()
    wire.writer.write(start + b"x" * 20_000_000)
    assert_problem(await wire.reply(), 431, "headers_too_large")
    await rig.after(LINGER)
    assert await wire.ended()


async def test_announced_oversized_body_is_413(rig: Rig) -> None:
    """A body announced as too large is refused before it is sent, ``Expect`` or not."""
    wire = await rig.connect()
    length = rig.door.limits.body_bytes + 1
    await wire.send(
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % length
    )
    assert_problem(await wire.reply(), 413, "request_too_large")
    assert rig.app.scopes == []


@pytest.mark.parametrize("size", [1, 10, 5000])
async def test_endless_chunked_body_is_413(rig: Rig, size: int) -> None:
    """A body of unannounced length is refused once it is too large, in any chunks."""
    wire = await rig.connect()
    await wire.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    wire.writer.write(b"%x\r\n%b\r\n" % (size, b"x" * size) * (1_000_000 // size))
    assert_problem(await wire.reply(), 413, "request_too_large")
    await eventually(lambda: rig.app.gone == 1)
    assert rig.app.bodies == []


async def test_there_is_one_answer_to_a_request(rig: Rig) -> None:
    """A body that turns out too large after its request was answered ends the connection."""
    wire = await rig.connect()
    await wire.send(CHUNKED.replace(b"/echo", b"/blind") + b"\r\n")
    assert (await wire.reply()).status == 200
    wire.writer.write(b"ff\r\n%b\r\n" % (b"x" * 255) * 100)
    assert await wire.ended()
    rig.app.scopes.clear()
    slow = await rig.connect()
    await slow.send(CHUNKED.replace(b"/echo", b"/blind") + b"\r\n5\r\n")
    assert (await slow.reply()).status == 200
    await rig.after(rig.door.limits.receive_seconds)
    assert await slow.ended()


async def test_endless_chunk_extension_is_413(rig: Rig) -> None:
    """Framing that carries no body is bounded too."""
    wire = await rig.connect()
    await wire.send(CHUNKED + b"\r\n0\r\nX: ")
    wire.writer.write(b"x" * 1_000_000)
    assert_problem(await wire.reply(), 413, "request_too_large")


async def test_fault_in_a_callback_is_500(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of our own while reading is no fault of the client: 500, logged, no traceback."""

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("inner secret")

    rig.fast.answer = broken  # type: ignore[method-assign,assignment]
    wire = await rig.connect()
    with caplog.at_level(logging.ERROR):
        reply = await wire.get("/fast")
    assert_problem(reply, 500, "internal")
    assert b"inner" not in reply.body
    assert "fault while reading" in caplog.text
    assert "inner secret" in caplog.text
    assert str(reply.header("broker-request-id")) in caplog.text


# --- slow peers and caps ----------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"G", b"GET /echo HTTP/1.1\r\nHost: localhost\r\nX-", GET[:-2]])
async def test_slow_head_is_408(rig: Rig, begun: bytes) -> None:
    """A head that does not become complete in time is refused."""
    wire = await rig.connect()
    await wire.send(begun)
    await rig.after(rig.door.limits.receive_seconds - 0.1)
    assert rig.listener.connections == 1
    await rig.after(rig.door.limits.receive_seconds)
    assert_problem(await wire.reply(), 408, "request_too_slow")
    assert await wire.ended()


async def test_trickling_does_not_help(rig: Rig) -> None:
    """A head sent byte by byte is refused when its time is over, however lively it is."""
    wire = await rig.connect()
    now = rig.clock.now()
    for second in range(12):
        await wire.send(b"GET /echo HT"[second : second + 1])
        await turns()
        rig.listener.tend(now + second)
    assert_problem(await wire.reply(), 408, "request_too_slow")


async def test_slow_body_is_408(rig: Rig) -> None:
    """A body that stops arriving is refused; the application learns that the peer is gone."""
    wire = await rig.connect()
    await wire.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
    await rig.after(rig.door.limits.receive_seconds)
    assert_problem(await wire.reply(), 408, "request_too_slow")
    await eventually(lambda: rig.app.gone == 1)


async def test_idle_connection_is_closed(rig: Rig) -> None:
    """A connection without requests is closed, quietly, after the idle time; not before."""
    wire = await rig.connect()
    assert (await wire.get("/fast")).status == 200
    await rig.after(rig.door.limits.idle_seconds - 1)
    assert (await wire.get("/fast")).status == 200
    await rig.after(rig.door.limits.idle_seconds)
    assert await wire.ended()


async def test_a_waiting_request_is_not_idle(rig: Rig) -> None:
    """A request the application still works on is not cut, however long it takes."""
    wire = await rig.connect()
    await wire.send(GET.replace(b"/echo", b"/wait"))
    await rig.after(10 * rig.door.limits.idle_seconds)
    rig.app.gate.set()
    assert (await wire.reply()).status == 200


async def test_unread_answer_is_cut(rig: Rig) -> None:
    """A peer that leaves its answer unread loses the connection after the send time."""
    wire = await rig.connect()
    await wire.send(GET.replace(b"/echo", b"/large"))
    await rig.after(rig.door.limits.send_seconds)
    await eventually(lambda: rig.listener.connections == 0)


async def test_refused_peer_that_stays_is_cut(rig: Rig) -> None:
    """After a refusal a peer that keeps the connection open is cut."""
    wire = await rig.connect()
    await wire.send(b"garbage\r\n\r\n")
    await wire.reply()
    assert rig.listener.connections == 1
    await rig.after(LINGER)
    await eventually(lambda: rig.listener.connections == 0)


async def test_connection_cap_is_503(rig: Rig) -> None:
    """Connections over the cap are refused with ``Retry-After``; the others go on."""
    rig.door.limits = Limits(connections=3)
    wires = [await rig.connect() for _ in range(3)]
    await turns()
    extra = await rig.connect()
    reply = await extra.reply()
    assert_problem(reply, 503, "broker_busy")
    assert int(reply.header("retry-after") or 0) > 0
    assert await extra.ended()
    for wire in wires:
        assert (await wire.get("/fast")).status == 200
    await wires[0].close()
    await turns()
    assert (await (await rig.connect()).get("/fast")).status == 200


async def test_who_says_nothing_gives_way_when_a_listener_fills(rig: Rig) -> None:
    """Silent peers cannot keep others out for long, without any proof; who waits stays."""
    rig.door.limits = Limits(connections=4)
    waiting, quiet, slow, idle = [await rig.connect() for _ in range(4)]
    await waiting.send(GET.replace(b"/echo", b"/wait"))
    await slow.send(b"GET /echo")
    assert (await idle.get("/fast")).status == 200
    await rig.after(rig.door.limits.crowded_seconds)
    assert_problem(await slow.reply(), 408, "request_too_slow")
    assert await quiet.ended()
    assert await idle.ended()
    assert (await (await rig.connect()).get("/fast")).status == 200
    rig.app.gate.set()
    assert (await waiting.reply()).status == 200


async def test_a_peer_that_leaves_is_forgotten(rig: Rig) -> None:
    """Peers that go away in the middle of anything leave nothing behind."""
    for begun in (b"", b"GET", GET[:-2], GET.replace(b"/echo", b"/wait"), GET * (PIECE // 20)):
        wire = await rig.connect()
        await wire.send(begun)
        await turns()
        wire.writer.transport.abort()
    rig.app.gate.set()
    await eventually(lambda: rig.listener.connections == 0)


# --- Unix sockets -------------------------------------------------------------------------


async def test_peer_of_a_unix_socket(tmp_path: Path) -> None:
    """On a client's socket both doors know the client and the peer's uid."""
    async with rig_at(UnixAddress(tmp_path / "search-mcp" / "broker.sock")) as rig:
        wire = await rig.connect()
        assert (await wire.get("/fast")).status == 200
        assert (await wire.get("/echo")).status == 200
        expected = Peer(client="search-mcp", uid=os.geteuid())
        assert expected == rig.fast.asked[0][1]
        assert expected == rig.app.scopes[0]["extensions"][PEER]


async def test_answers_on_tcp_are_not_delayed(rig: Rig) -> None:
    """Nagle's algorithm is off: else an answer in two writes takes 40 ms on a kept connection."""
    wire = await rig.connect()
    await wire.get("/echo")
    (connection,) = rig.listener._state.connections
    sock = connection.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_peer_of_tcp_is_nobody(rig: Rig) -> None:
    """On TCP the kernel vouches for an address alone."""
    wire = await rig.connect()
    await wire.get("/fast")
    assert Peer(address="127.0.0.1") == rig.fast.asked[0][1]


async def test_unix_socket_takes_any_host_but_needs_one(tmp_path: Path) -> None:
    """No page can reach a Unix socket, so its Host is free; HTTP/1.1 still wants one."""
    async with rig_at(UnixAddress(tmp_path / "broker.sock")) as rig:
        wire = await rig.connect()
        await wire.send(b"GET /fast HTTP/1.1\r\nHost: anything\r\n\r\n")
        assert (await wire.reply()).status == 200
        await wire.send(b"GET /fast HTTP/1.1\r\n\r\n")
        assert_problem(await wire.reply(), 400, "request_malformed")


# --- stop ------------------------------------------------------------------------------------


async def test_stop_closes_idle_and_lets_answers_end(rig: Rig) -> None:
    """At a stop idle connections close at once; an answer in the making still leaves."""
    idle, busy, half = [await rig.connect() for _ in range(3)]
    assert (await idle.get("/fast")).status == 200
    await busy.send(GET.replace(b"/echo", b"/wait"))
    await half.send(GET[:-2])
    await turns()
    stopping = asyncio.create_task(rig.listener.stop(rig.clock.now() + PATIENCE))
    assert await idle.ended()
    with pytest.raises(ConnectionRefusedError):
        await Wire.tcp(int(busy.writer.get_extra_info("peername")[1]))
    await half.send(b"\r\n")
    rig.app.gate.set()
    for wire in (busy, half):
        reply = await wire.reply()
        assert (reply.status, reply.header("connection")) == (200, "close")
    await stopping
    assert rig.listener.connections == 0


async def test_stop_is_bounded(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """What is not done by the deadline is cut, without a traceback in the log."""
    wire = await rig.connect()
    await wire.send(GET.replace(b"/echo", b"/wait"))
    await turns()
    await rig.listener.stop(rig.clock.now() + 0.1)
    assert await wire.ended()
    assert rig.listener.connections == 0
    assert "Traceback" not in caplog.text


async def test_stop_removes_the_socket_file(tmp_path: Path) -> None:
    """After a stop the socket's file is gone."""
    path = tmp_path / "broker.sock"
    async with rig_at(UnixAddress(path)) as rig:
        assert path.exists()
        await rig.listener.stop(rig.clock.now())
        assert not path.exists()


async def test_stop_without_start(tmp_path: Path) -> None:
    """A listener that was only bound, or not even that, can be stopped."""
    async with AsyncExitStack() as stack:
        rig = Rig(UnixAddress(tmp_path / "broker.sock"), stack)
        await rig.listener.stop(0)
        rig.listener.bind()
        rig.listener.bind()
        await rig.listener.stop(0)
        assert list(tmp_path.iterdir()) == []
