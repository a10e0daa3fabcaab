"""``client.mcp``: bodies that arrive slowly, on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, MutableMapping
from typing import Any

import pytest

from broker.client.mcp.guard import BODY_TIMEOUT, Guard
from broker.errors import SettingsError
from tests.simulators.clock import VirtualClock
from tests.simulators.subject_tokens import TokenBroker
from tests.support.guarded import call_body, call_headers

pytestmark = pytest.mark.looptime

RESOURCE = "https://mcp.example/mcp"
BODY = json.dumps(call_body("ping")).encode()


class Peer:
    """Sends a body in pieces, each after a pause; for ever quiet after the last."""

    def __init__(self, bearer: str, pieces: Iterable[tuple[float, bytes]], *, ends: bool) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.answers: list[MutableMapping[str, Any]] = []
        self.left = False
        fields = call_headers("ping") | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/mcp",
            "query_string": b"",
            "headers": [(name.lower().encode(), said.encode()) for name, said in fields.items()],
            "client": ("127.0.0.1", 1),
        }

    async def receive(self) -> MutableMapping[str, Any]:
        if not self.pieces:
            try:
                await asyncio.Event().wait()
            finally:
                self.left = True
        pause, piece = self.pieces.pop(0)
        await asyncio.sleep(pause)
        more = bool(self.pieces) or not self.ends
        return {"type": "http.request", "body": piece, "more_body": more}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.answers.append(message)

    @property
    def status(self) -> int:
        return int(self.answers[0]["status"])

    @property
    def fields(self) -> dict[bytes, bytes]:
        return dict(self.answers[0]["headers"])


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was sent."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


@pytest.fixture
async def fake() -> TokenBroker:
    """A broker on virtual time."""
    return TokenBroker(clock=VirtualClock())


def guard(fake: TokenBroker, **options: Any) -> Guard:
    return Guard(app, resource=RESOURCE, broker=fake.broker(), **options)


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [(1.0, b"{")] * 10_000,
        [(BODY_TIMEOUT - 1, BODY[:10])],
    ],
    ids=["nothing", "a byte a second", "a pause"],
)
async def test_a_slow_body_is_408_in_time(
    fake: TokenBroker, good: bool, pieces: list[tuple[float, bytes]]
) -> None:
    """From its first byte to its last a body has so long, however it trickles; whoever sends it."""
    peer = Peer(fake.mint("ada", "ping") if good else "", pieces, ends=False)
    loop, before = asyncio.get_running_loop(), asyncio.all_tasks()
    started = loop.time()
    await guard(fake)(peer.scope, peer.receive, peer.send)
    assert loop.time() - started == pytest.approx(BODY_TIMEOUT, abs=0.1)
    assert peer.status == 408
    assert peer.fields[b"connection"] == b"close"
    said = json.loads(peer.answers[1]["body"])
    assert said["error"] == {"code": -32600, "message": "The request did not arrive in time."}
    assert not fake.questions
    # Nothing is left behind: no wait for the rest, no timer, no question.
    assert peer.left == (len(pieces) < 2)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_in_http2_no_connection_field_is_sent(fake: TokenBroker) -> None:
    """It is forbidden there; the server ends the stream."""
    peer = Peer("", [], ends=False)
    await guard(fake)({**peer.scope, "http_version": "2"}, peer.receive, peer.send)
    assert peer.status == 408
    assert b"connection" not in peer.fields


async def test_the_time_counts_while_the_machine_sleeps(fake: TokenBroker) -> None:
    """It is measured with the guard's clock: a peer that is back after a suspend is late."""
    clock = fake.clock
    assert isinstance(clock, VirtualClock)
    peer = Peer(fake.mint("ada", "ping"), [(5.0, BODY[:1]), (20.0, BODY[1:])], ends=True)
    asyncio.get_running_loop().call_later(1.0, clock.suspend, 3600.0)
    await guard(fake)(peer.scope, peer.receive, peer.send)
    assert peer.status == 408


async def test_a_body_in_time_passes_whole(fake: TokenBroker) -> None:
    """In as many pieces as it likes; no timer goes on beside the call."""
    pieces = [(0.1, BODY[place : place + 1]) for place in range(len(BODY))]
    peer = Peer(fake.mint("ada", "ping"), pieces, ends=True)
    before = asyncio.all_tasks()
    await guard(fake)(peer.scope, peer.receive, peer.send)
    assert peer.status == 200
    assert peer.answers[1]["body"] == BODY
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_an_author_sets_the_time(fake: TokenBroker) -> None:
    """For uploads that take longer, or to be stricter."""
    loop = asyncio.get_running_loop()
    for seconds in (2.0, 300.0):
        peer, started = Peer(fake.mint("ada", "ping"), [(1.0, b"{")], ends=False), loop.time()
        await guard(fake, body_timeout=seconds)(peer.scope, peer.receive, peer.send)
        assert peer.status == 408
        assert loop.time() - started == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan")])
async def test_a_time_that_is_none_is_refused(fake: TokenBroker, seconds: float) -> None:
    """There is always a limit."""
    with pytest.raises(SettingsError, match="time"):
        guard(fake, body_timeout=seconds)
