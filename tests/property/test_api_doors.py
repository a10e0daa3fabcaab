"""Both doors answer alike: the hot path and the declared route, for any request."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.access.failed_authentications import Rate
from broker.access.limits import LimitRule
from broker.access.principal import Caller, Grant
from broker.api.sockets import TcpAddress
from broker.audit.sinks import Sink
from broker.clock import Clock
from broker.credentials.model import CredentialKey, State
from broker.errors import SubjectTokenRefused, TokensUnavailable
from tests.support.broker import OTHER_TOKEN, TOKEN, Assembly
from tests.support.wire import Reply, Wire

NAMES = ("search-api", "orders-db", "hidden")
TARGET = "/v1/credentials/search-api"
STATES = ("fresh", "unavailable", "withdrawn", "short", "absent")
WALL = 1_800_000_000.0
GRANTS = {
    b"good": Grant("t1", "alice", "search-mcp", "", ("web_*",), ("search-api",), WALL, WALL + 60),
    b"all": Grant("t2", "bob", "search-mcp", "", ("*",), NAMES, WALL, WALL + 60),
    b"ended": Grant("t3", "bob", "search-mcp", "", ("*",), NAMES, WALL - 60, WALL),
    b"other": Grant("t4", "bob", "other-mcp", "", ("*",), ("orders-db",), WALL, WALL + 60),
}
LIMITS = {
    "none": ((), None),
    "default": ((), LimitRule("limits.default", "2/minute")),
    "rules": (
        (
            LimitRule("limits.rules.web", "1/minute", tools=("web_*",)),
            LimitRule("limits.rules.all", "2/hour", per=("client", "credential")),
        ),
        None,
    ),
}

TOOLS = ["web_search"] * 4 + ["web_fetch", "Web_Search", "web_search ", "other", "", "x" * 129]
SUBJECT_TOKENS = ["good"] * 4 + ["all", "ended", "other", "away", "t", ""]

_TEXT = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40
)


@dataclass(frozen=True)
class Asked:
    """A generated request: target and header lines."""

    target: str
    lines: tuple[tuple[str, str], ...]
    again: int
    """How often it is sent on one connection: the hot path remembers."""

    def raw(self) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.lines)
        return f"GET {self.target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode("latin-1")


@st.composite
def targets(draw: st.DrawFn) -> str:
    """Paths around the hand-out's: names known and not, encoded in various ways."""
    name = draw(
        st.sampled_from([*NAMES, "no-such", "SEARCH-API", "search-api/", "", ".", ".."])
        | st.text("abc%2dDfF./-~!$&'()*+,;=:@_", max_size=12)
    )
    encoded = "".join(
        f"%{ord(char):02{draw(st.sampled_from('xX'))}}"
        if draw(st.integers(0, 9)) == 0 and char.isascii()
        else char
        for char in name
    )
    query = draw(st.sampled_from(["", "", "", "?", "?a=b", "?name=search-api"]))
    return f"/v1/credentials/{encoded}{query}"


def fields() -> st.SearchStrategy[tuple[str, str]]:
    """One header field, likely to matter."""
    authorization = st.sampled_from(
        [f"Bearer {TOKEN}"] * 6
        + [f"bearer {TOKEN}", f"Bearer  {TOKEN}", f"Bearer {OTHER_TOKEN}", "Bearer wrong"]
        + ["Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, "", f"Bearer {TOKEN} x"]
    )
    versions = ['"v1"', 'W/"v1"', '"v0"', "*", '"v0", "v1"', "v1", "", '"v1']
    return st.one_of(
        st.tuples(st.sampled_from(["Authorization", "authorization"]), authorization),
        st.tuples(st.just("If-None-Match"), st.sampled_from(versions) | _TEXT),
        st.tuples(st.just("Broker-Tool"), st.sampled_from(TOOLS) | _TEXT),
        st.tuples(st.just("Broker-Mcp-Request-Id"), st.just("7") | _TEXT),
        st.tuples(st.just("Broker-Subject-Token"), st.sampled_from(SUBJECT_TOKENS)),
        st.tuples(st.just("Prefer"), st.sampled_from(["wait=0", "respond-async", "wait=x", ""])),
        st.tuples(st.sampled_from(["Accept", "X-Other", "Cookie", "Origin"]), _TEXT),
        st.tuples(st.just("Content-Length"), st.just("0")),
    )


def lines() -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    """Header fields, the good token among them most of the time, some sent twice."""
    good = st.just((("Authorization", f"Bearer {TOKEN}"),))
    others = st.lists(fields(), max_size=5).map(tuple)
    return st.one_of(
        st.tuples(good, others).map(lambda pair: pair[0] + pair[1]),
        st.tuples(others, good).map(lambda pair: pair[0] + pair[1]),
        others,
    )


def scoped() -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    """What a caller sends who does most things right: a token for a tool, and a condition."""
    return st.tuples(
        st.just(("Authorization", f"Bearer {TOKEN}")),
        st.tuples(st.just("Broker-Subject-Token"), st.sampled_from(SUBJECT_TOKENS)),
        st.tuples(st.just("Broker-Tool"), st.sampled_from(TOOLS)),
        st.tuples(st.just("If-None-Match"), st.sampled_from(['"v1"', '"v0"'])),
    ).flatmap(
        lambda four: st.sampled_from([four, four[:3], four[:1] + four[2:], four[:2], four[:1]])
    )


requests = st.builds(Asked, st.just(TARGET) | targets(), lines() | scoped(), st.integers(1, 4))


@dataclass(frozen=True)
class World:
    """What may differ beside the request."""

    state: str = "fresh"
    limits: str = "none"
    failures: Rate | None = None
    room: int | None = None
    """Records that can be written; None: all."""


worlds = st.builds(
    World,
    st.sampled_from(STATES) | st.just("fresh"),
    st.sampled_from(sorted(LIMITS)),
    st.sampled_from([None, Rate(1, 60)]),
    st.none() | st.none() | st.integers(0, 3),
)


class Tokens:
    """Implements ``SubjectTokens``."""

    generation = 0

    def verify(self, token: bytes, caller: Caller) -> Grant:
        if token == b"away":
            raise TokensUnavailable
        grant = GRANTS.get(token)
        if grant is None or grant.caller != caller.name:
            raise SubjectTokenRefused(reason="token_unknown")
        self.recheck(grant)
        return grant

    def recheck(self, grant: Grant) -> None:
        if grant.expires_at <= WALL:
            raise SubjectTokenRefused(reason="token_expired")


class Disk:
    """Implements ``Sink`` over another one, until there is no room."""

    room: int | None = None

    def __init__(self, sink: Sink) -> None:
        self._write = sink.write
        self.fileno, self.sync, self.close = sink.fileno, sink.sync, sink.close

    def write(self, data: bytes) -> int:
        if Disk.room is not None:
            if Disk.room < data.count(b"\n"):
                raise OSError(errno.ENOSPC, "No space left on device")
            Disk.room -= data.count(b"\n")
        return self._write(data)


class StillClock(Clock):
    """Time stands still, so that both doors are asked at the same moment."""

    def now(self) -> float:
        return 1000.0

    def wall(self) -> float:
        return WALL

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Doors:
    """One broker with two listeners: one with the hot path, one without."""

    def __init__(self, directory: Path) -> None:
        self.broker = Assembly(directory, clock=StillClock(), tokens=Tokens(), disk=Disk)
        self.listeners = {
            fast: self.broker.listener(TcpAddress("127.0.0.1", 0), fast=fast)
            for fast in (True, False)
        }

    async def start(self) -> None:
        for listener in self.listeners.values():
            await listener.start()

    async def stop(self) -> None:
        for listener in self.listeners.values():
            await listener.stop(0)

    def publish(self, state: str) -> None:
        """Bring ``search-api`` into a state; the others are fresh."""
        broker = self.broker
        broker.publish("orders-db")
        broker.publish("hidden")
        match state:
            case "fresh":
                broker.publish()
            case "unavailable":
                broker.unavailable()
            case "withdrawn":
                broker.unavailable(state=State.WITHDRAWN, reason="vault_value_deleted")
            case "short":
                broker.publish(expires_at=broker.clock.now() + 4)
            case "absent":
                broker.store.forget(CredentialKey("search-api"))

    def begin(self, world: World) -> None:
        """The same circumstances for each door: nothing has been counted."""
        broker = self.broker
        broker.limits.windows.clear()
        broker.limits.configure(*LIMITS[world.limits])
        broker.failures.ended(everything=True)
        Disk.room = None
        for _ in broker.service.write_shared(everything=True):
            pass
        broker.failures.configure(None)
        broker.failures.configure(world.failures)
        Disk.room = world.room

    async def ask(self, asked: Asked, world: World, *, fast: bool) -> list[Any]:
        """What one door answers on one connection, and what it records."""
        self.begin(world)
        before, counted = self.broker.audit_file.stat().st_size, self.counted()
        wire = await Wire.tcp(self.listeners[fast].port)
        said: list[Any] = []
        for _ in range(asked.again):
            await wire.send(asked.raw())
            reply = await wire.reply()
            said.append(comparable(reply))
            if reply.header("connection") == "close":
                assert await wire.ended()
                break
        await wire.close()
        with self.broker.audit_file.open("rb") as file:
            file.seek(before)
            records = [json.loads(line) for line in file]
        counts = {key: count - counted.get(key, 0) for key, count in self.counted().items()}
        return [
            *said,
            *({k: v for k, v in one.items() if k != "request_id"} for one in records),
            {key: count for key, count in counts.items() if count},
        ]

    def counted(self) -> dict[str, float]:
        """What the metrics count."""
        text = b"".join(self.broker.metrics.render()).decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if "_total" in line)
        return {key: float(count) for key, _, count in lines if not key.startswith("#")}


def comparable(reply: Reply) -> tuple[Any, ...]:
    """Status, headers and body without date and request id; that they are there counts."""
    assert reply.header("date")
    headers = sorted(
        (name, "" if name in {"date", "broker-request-id"} else value)
        for name, value in reply.headers
    )
    if not reply.body:
        return reply.status, headers, None
    document = json.loads(reply.body)
    if "request_id" in document:
        assert document.pop("request_id") == reply.header("broker-request-id")
        # Ids grow, so the length of a problem document may differ by their digits.
        headers = [(name, value) for name, value in headers if name != "content-length"]
    return reply.status, headers, document


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Doors]]:
    """Started once; its loop."""
    with asyncio.Runner() as runner:
        made = Doors(tmp_path_factory.mktemp("doors"))
        runner.run(made.start())
        yield runner, made
        runner.run(made.stop())


GOOD = ("Authorization", f"Bearer {TOKEN}")
SCOPED = (GOOD, ("Broker-Subject-Token", "good"), ("Broker-Tool", "web_search"))


@given(asked=requests, world=worlds)
@example(asked=Asked(TARGET, (), 3), world=World(failures=Rate(1, 60)))
@example(asked=Asked(TARGET, (GOOD,), 3), world=World())
@example(asked=Asked(TARGET, (GOOD, ("If-None-Match", '"v1"')), 4), world=World(limits="default"))
@example(asked=Asked(TARGET, SCOPED, 3), world=World(limits="rules"))
@example(asked=Asked(TARGET, SCOPED, 3), world=World(room=1))
@example(asked=Asked(TARGET, SCOPED, 3), world=World(limits="default", room=0))
@settings(max_examples=150)
def test_both_doors_answer_alike(
    doors: tuple[asyncio.Runner, Doors], asked: Asked, world: World
) -> None:
    """Status, headers, body and audit are the same at both doors, but for date and ids."""
    runner, made = doors
    made.publish(world.state)

    async def compare() -> None:
        at_fast = await made.ask(asked, world, fast=True)
        at_routes = await made.ask(asked, world, fast=False)
        assert at_routes == at_fast

    runner.run(compare())


@given(st.lists(requests, min_size=2, max_size=6), st.sampled_from(sorted(LIMITS)))
@settings(max_examples=60)
def test_both_doors_answer_pipelined_requests_alike(
    doors: tuple[asyncio.Runner, Doors], several: list[Asked], limits: str
) -> None:
    """Requests sent in one go get the same answers in the same order at both doors."""
    runner, made = doors
    made.publish("fresh")

    async def answers(*, fast: bool) -> list[Any]:
        made.begin(World(limits=limits))
        wire = await Wire.tcp(made.listeners[fast].port)
        await wire.send(b"".join(one.raw() for one in several))
        said: list[Any] = []
        for _ in several:
            reply = await wire.reply()
            said.append(comparable(reply))
            if reply.header("connection") == "close":
                break
        await wire.close()
        return said

    async def compare() -> None:
        assert await answers(fast=True) == await answers(fast=False)

    runner.run(compare())
