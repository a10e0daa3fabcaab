"""The client's network code against sockets that answer well, badly, late and not at all."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.client import Broker, link
from broker.client.core import Core
from broker.client.endpoint import parse_endpoint
from broker.client.link import converse, converse_sync
from broker.client.steps import Call, Lost, Reply
from broker.clock import SystemClock
from broker.errors import BrokerAnswerInvalid, BrokerUnreachable
from broker.protocol.models import format_time
from tests.support.patience import PATIENCE

KEY = "canary-of-the-link"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Raw:
    """A server of raw bytes on a Unix socket and on TCP, in a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "broker.sock")
        self.port = 0
        self.answer = b""
        self.pause = 0.0
        """Seconds between two bytes of the answer; 0 sends it at once."""
        self.heads: list[bytes] = []
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Future[None] = self._loop.create_future()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def urls(self) -> tuple[str, str]:
        return f"unix://{self.path}", f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set_result, None)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        tcp = await asyncio.start_server(self._speak, "127.0.0.1", 0)
        unix = await asyncio.start_unix_server(self._speak, self.path)
        self.port = tcp.sockets[0].getsockname()[1]
        self._ready.set()
        async with tcp, unix:
            await self._stop
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes its socket a turn later

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            step = 1 if self.pause else max(1, len(self.answer))
            for at in range(0, len(self.answer), step):
                writer.write(self.answer[at : at + step])
                await writer.drain()
                await asyncio.sleep(self.pause)
            writer.close()
            await writer.wait_closed()
        except OSError:
            pass
        finally:
            writer.transport.abort()


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[Raw]:
    server = Raw(tmp_path)
    server.start()
    yield server
    server.stop()


def response(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    return head.encode() + body


def handout() -> bytes:
    wall = SystemClock().wall()
    document = {
        "name": "search-api",
        "version": "v1",
        "source_version": "7",
        "data": {"api_key": KEY},
        "use": None,
        "state": "fresh",
        "issued_at": format_time(wall),
        "expires_at": format_time(wall + 60),
        "expires_in": 60.0,
        "use_until": format_time(wall + 30),
    }
    return json.dumps(document).encode()


@pytest.mark.parametrize("which", [0, 1], ids=["unix", "tcp"])
def test_a_key_comes_over_both_kinds_of_socket(
    raw: Raw, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Async and sync, with the token of the file as bearer; neither it nor the key is logged."""
    caplog.set_level(logging.DEBUG)
    token = Path(raw.path).with_name("client-token")
    token.write_text("client-token-1\n")
    raw.answer = response(handout())
    url, token_file = raw.urls()[which], "" if which == 0 else str(token)
    credential = asyncio.run(Broker(url, token_file=token_file).get("search-api"))
    assert (credential.value, credential.source_version) == (KEY, "7")
    assert Broker(url, token_file=token_file).sync.get("search-api").value == KEY
    for head in raw.heads:
        assert head.startswith(b"GET /v1/credentials/search-api HTTP/1.1\r\n")
        assert b"\r\nAuthorization: Bearer client-token-1\r\n" in head
    assert len(raw.heads) == 2
    assert "receive_response_headers" in caplog.text
    assert "client-token-1" not in caplog.text
    assert KEY not in caplog.text


def test_neither_proxies_nor_netrc_of_the_environment_are_believed(
    raw: Raw, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A proxy in the environment does not get the client token."""
    raw.answer = response(handout())
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert asyncio.run(Broker(raw.urls()[1]).get("search-api")).value == KEY
    assert Broker(raw.urls()[1]).sync.get("search-api").value == KEY
    assert not [head for head in raw.heads if b"uthorization" in head]


def test_a_redirect_is_not_followed(raw: Raw) -> None:
    """Whoever answers with a Location does not get the token sent there."""
    target = raw.urls()[1]
    raw.answer = (
        f"HTTP/1.1 302 Found\r\nlocation: {target}/v1/credentials/x\r\ncontent-length: 0\r\n\r\n"
    ).encode()
    with pytest.raises(BrokerAnswerInvalid, match="302"):
        asyncio.run(Broker(target).get("search-api"))
    with pytest.raises(BrokerAnswerInvalid, match="302"):
        Broker(target).sync.get("search-api")
    assert len(raw.heads) == 2


@pytest.mark.parametrize(
    "answer",
    [
        response(b"<html>hello</html>"),
        response(b'{"name": "search-api"}'),
        response(handout().replace(b'"search-api"', b'"other"')),
        response(handout().replace(f'"{KEY}"'.encode(), b"17")),
        response(
            handout().replace(b'"use": null', b'"use": {"in": "body", "name": "x", "origins": []}')
        ),
        response(b"", status="304 Not Modified"),
        response(b"oops", status="500 Internal Server Error"),
    ],
    ids=["html", "members missing", "another name", "no text", "unknown use", "304", "500"],
)
def test_what_is_no_answer_of_a_broker_is_an_error_without_its_body(
    raw: Raw, answer: bytes
) -> None:
    """Garbage is told from a hand-out, and not quoted."""
    raw.answer = answer
    with pytest.raises(BrokerAnswerInvalid) as caught:
        asyncio.run(Broker(raw.urls()[1]).get("search-api"))
    assert KEY not in str(caught.value)
    assert "hello" not in str(caught.value)


def outcomes(raw: Raw, *, within: float) -> list[Reply | Lost]:
    """One call, async and sync, as it ends."""
    core = Core(lambda: parse_endpoint(raw.urls()[0]), clock=SystemClock())

    def steps() -> Any:
        return (yield Call("GET", "/", (), within=within))

    return [asyncio.run(converse(core, steps())), converse_sync(core, steps())]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "RemoteProtocolError"),
        (b"\x16\x03\x01 this is not HTTP\r\n\r\n", "RemoteProtocolError"),
        (response(b"short", length=100), "RemoteProtocolError"),
    ],
    ids=["hangs up", "not HTTP", "cut off"],
)
def test_a_broken_answer_is_lost(raw: Raw, answer: bytes, why: str) -> None:
    """What ends before its time is no answer."""
    raw.answer = answer
    for outcome in outcomes(raw, within=PATIENCE):
        assert isinstance(outcome, Lost)
        assert outcome.why.startswith(why)


def test_an_answer_that_trickles_is_given_up(raw: Raw) -> None:
    """The deadline is for the whole answer, not for each byte of it."""
    raw.answer, raw.pause = response(b"x" * 100_000), 0.002
    for outcome in outcomes(raw, within=0.3):
        assert isinstance(outcome, Lost)


def test_an_endless_answer_is_given_up(raw: Raw) -> None:
    """More bytes than any hand-out has are not kept in memory."""
    raw.answer = response(b"x" * (link.LARGEST_ANSWER + 1))
    assert outcomes(raw, within=PATIENCE) == [Lost("the answer is too large")] * 2


@contextmanager
def unused_port() -> Iterator[int]:
    """A port that is bound and not listened on: connections are refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_nobody_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    """A refused connection and a missing socket are BrokerUnreachable with the system's words."""
    with unused_port() as port:
        tcp = (f"http://127.0.0.1:{port}", "ConnectError")
        unix = (f"unix://{tmp_path}/none.sock", "there is no socket .*/none.sock")
        for url, why in (tcp, unix):
            with pytest.raises(BrokerUnreachable, match=why):
                asyncio.run(Broker(url, start_wait=0).get("search-api"))
            with pytest.raises(BrokerUnreachable, match=why):
                Broker(url, start_wait=0).sync.get("search-api")


def test_one_broker_serves_several_event_loops(raw: Raw) -> None:
    """A module's global works in each asyncio.run of a program."""
    broker = Broker(raw.urls()[0])
    for _ in range(3):
        raw.answer = response(handout().replace(b"v1", b"v2"))
        asyncio.run(broker.get("search-api", lasting=1000))
    assert len(raw.heads) == 3
