"""``api.data`` and ``api.fast``: the data plane on real sockets, with the real service."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.access.authorizer import Decision, ListAuthorizer
from broker.access.caller import ClientSpec
from broker.access.failed_authentications import Rate
from broker.access.limits import LimitRule
from broker.access.principal import Principal
from broker.api.sockets import TcpAddress, UnixAddress
from broker.app.floods import tell_floods
from broker.credentials.model import State
from tests.simulators.clock import ManualClock
from tests.simulators.sink import SinkSimulator
from tests.support.broker import OTHER_TOKEN, SECRET, TOKEN, Assembly, Serving, serving
from tests.support.patience import PATIENCE, turns
from tests.support.wire import Reply, Wire

AUTH = f"Authorization: Bearer {TOKEN}"
SEARCH = "/v1/credentials/search-api"
BOTH = pytest.mark.parametrize("fast", [True, False], ids=["fast", "routes"])


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """A broker with a fresh ``search-api`` and ``orders-db``."""
    broker = Assembly(tmp_path)
    broker.publish("search-api")
    broker.publish("orders-db", "db-1")
    broker.publish("hidden", "h-1")
    async with serving(broker) as made:
        yield made


def assert_problem(reply: Reply, status: int, code: str) -> None:
    document = reply.json()
    assert (reply.status, document["status"], document["code"]) == (status, status, code)
    assert reply.header("content-type") == "application/problem+json"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("broker-request-id") == document["request_id"]
    assert document["type"].endswith(code)
    assert document["remedy"]
    assert reply.header("access-control-allow-origin") is None
    assert "Traceback" not in reply.body.decode()


def audited(broker: Assembly) -> list[dict[str, object]]:
    return [json.loads(line) for line in broker.audit_file.read_text().splitlines()]


# --- hand-outs -------------------------------------------------------------------------


@BOTH
async def test_handout(served: Serving, fast: bool) -> None:
    """A caller with its token gets the value, with version, times and use; and a record."""
    wire = await served.data(fast=fast)
    reply = await wire.get(SEARCH, AUTH, "Broker-Tool: web_search")
    assert reply.status == 200
    told = reply.json()
    assert told["data"] == {"api_key": SECRET}
    assert (told["name"], told["version"], told["state"]) == ("search-api", "v1", "fresh")
    assert told["use"]["origins"] == ["https://api.example.com"]
    assert told["issued_at"] < told["use_until"] < told["expires_at"]
    assert reply.header("etag") == '"v1"'
    assert reply.header("cache-control") == "no-store"
    assert reply.header("content-type") == "application/json"
    (record,) = audited(served.broker)
    assert record["request_id"] == reply.header("broker-request-id")
    assert (record["kind"], record["client"], record["tool"]) == (
        "handout",
        "search-mcp",
        "web_search",
    )
    assert SECRET not in served.broker.audit_file.read_text()


@BOTH
async def test_not_modified(served: Serving, fast: bool) -> None:
    """Who has the version gets a 304 with the new times and no body, and a record too."""
    wire = await served.data(fast=fast)
    reply = await wire.get(SEARCH, AUTH, 'If-None-Match: "v1"')
    assert (reply.status, reply.body, reply.header("content-length")) == (304, b"", None)
    assert reply.header("broker-use-until")
    assert reply.header("broker-expires-at")
    assert audited(served.broker)[0]["result"] == "not_modified"
    assert (await wire.get(SEARCH, AUTH, 'If-None-Match: "v0", "v2"')).status == 200
    assert (await wire.get(SEARCH, AUTH, 'If-None-Match: "v0"', 'If-None-Match: "v1"')).status == (
        304
    )


@BOTH
async def test_percent_encoded_name(served: Serving, fast: bool) -> None:
    """A percent-encoded path names the same credential (RFC 3986 section 6.2.2)."""
    wire = await served.data(fast=fast)
    assert (await wire.get("/v1/credentials/search%2Dapi", AUTH)).json()["name"] == "search-api"


@BOTH
async def test_unknown_and_not_allowed_look_the_same(served: Serving, fast: bool) -> None:
    """A credential that does not exist and one of others get the same 404."""
    wire = await served.data(fast=fast)
    replies = [
        await wire.get(f"/v1/credentials/{name}", AUTH)
        for name in ("hidden", "no-such-thing", "%00", "..", "a" * 300, "caf%C3%A9", "%ff")
    ]
    told = []
    for reply in replies:
        assert_problem(reply, 404, "credential_unknown")
        told.append({k: v for k, v in reply.json().items() if k != "request_id"})
    assert all(one == told[0] for one in told)
    reasons = [record["reason"] for record in audited(served.broker)]
    assert reasons[:2] == ["not_allowed", "unknown"]


@BOTH
@pytest.mark.parametrize(
    ("line", "challenge"),
    [
        ("X-Nothing: 1", 'Bearer realm="mcp-secrets-broker"'),
        ("Authorization: Basic dXNlcjpwYXNz", 'Bearer realm="mcp-secrets-broker"'),
        ("Authorization: Bearer wrong", 'Bearer realm="mcp-secrets-broker", error="invalid_token"'),
        ("Authorization: Bearer ", None),
        ("Authorization: Bearer \xff\xfe", None),
        (f"Authorization: {TOKEN}", None),
    ],
)
async def test_no_proof_is_401(
    served: Serving, fast: bool, line: str, challenge: str | None
) -> None:
    """No token or a wrong one is a 401 with a bearer challenge, and no hint why."""
    wire = await served.data(fast=fast)
    reply = await wire.get(SEARCH, line)
    assert_problem(reply, 401, "caller_unauthenticated")
    assert (reply.header("www-authenticate") or "").startswith("Bearer ")
    if challenge is not None:
        assert reply.header("www-authenticate") == challenge
    assert SECRET not in reply.body.decode()
    assert audited(served.broker)[0]["kind"] == "refusal"


@BOTH
async def test_authorization_sent_twice(served: Serving, fast: bool) -> None:
    """Two proofs are no proof: the request is refused, not guessed at."""
    wire = await served.data(fast=fast)
    reply = await wire.get(SEARCH, AUTH, f"Authorization: Bearer {OTHER_TOKEN}")
    assert_problem(reply, 400, "request_malformed")


@BOTH
async def test_subject_token_is_not_ignored(served: Serving, fast: bool) -> None:
    """A scoped token that is not good refuses the hand-out: it was meant to narrow it."""
    wire = await served.data(fast=fast)
    reply = await wire.get(SEARCH, AUTH, "Broker-Subject-Token: abc")
    assert_problem(reply, 403, "subject_token_refused")


@BOTH
async def test_unprintable_tool(served: Serving, fast: bool) -> None:
    """A tool's name that is too long to be one is refused."""
    wire = await served.data(fast=fast)
    assert_problem(
        await wire.get(SEARCH, AUTH, "Broker-Tool: " + "x" * 129), 400, "request_malformed"
    )


@BOTH
async def test_unavailable(served: Serving, fast: bool) -> None:
    """Without a usable value: 503 with since when, when the next attempt is, and Retry-After."""
    served.broker.unavailable()
    wire = await served.data(fast=fast)
    reply = await wire.get(SEARCH, AUTH)
    assert_problem(reply, 503, "credential_unavailable")
    told = reply.json()
    assert told["since"] < told["next_attempt_at"]
    assert told["reason"] == "vault_unreachable"
    assert 1 <= int(reply.header("retry-after") or 0) <= 7


@BOTH
async def test_expired_is_never_handed_out(tmp_path: Path, fast: bool) -> None:
    """A value past its life is not handed out, even if its keeper has not said so yet."""
    clock = ManualClock()
    broker = Assembly(tmp_path, clock=clock)
    broker.publish(expires_at=clock.now() + 5)
    async with serving(broker) as served:
        wire = await served.data(fast=fast)
        clock.advance(4.9)
        assert (await wire.get(SEARCH, AUTH)).status == 200
        clock.advance(0.1)
        assert_problem(await wire.get(SEARCH, AUTH), 503, "credential_unavailable")


@BOTH
async def test_revalidating_value_is_waited_for(served: Serving, fast: bool) -> None:
    """A value in doubt is not handed out; once it is confirmed the waiting answer leaves."""
    broker = served.broker
    doubted = replace(broker.entry(version="v2"), expires_at=float("-inf"), revalidating=True)
    broker.store.publish(doubted)
    wire = await served.data(fast=fast)
    asking = asyncio.create_task(wire.get(SEARCH, AUTH))
    await turns(30)
    assert not asking.done()
    broker.publish(version="v2")
    assert (await asking).json()["version"] == "v2"


@BOTH
async def test_audit_that_cannot_be_written(served: Serving, fast: bool) -> None:
    """Without its record there is no hand-out, and the answer says to try again."""
    full = SinkSimulator(*[OSError(errno.ENOSPC, "No space left on device")] * 9)
    served.broker.audit._sink = full
    wire = await served.data(fast=fast)
    reply = await wire.get(SEARCH, AUTH)
    assert_problem(reply, 503, "audit_unavailable")
    assert int(reply.header("retry-after") or 0) > 0
    assert SECRET not in reply.body.decode()


@BOTH
async def test_over_its_limit_a_caller_is_told_when(fast: bool, tmp_path: Path) -> None:
    """429 and Retry-After until the very moment at which the next one is allowed."""
    clock = ManualClock()
    async with serving(Assembly(tmp_path, clock=clock)) as served:
        broker = served.broker
        broker.publish()
        broker.limits.configure([LimitRule("limits.rules.few", "2/minute")])
        wire = await served.data(fast=fast)
        assert (await wire.get(SEARCH, AUTH)).status == 200
        clock.advance(20.0)
        assert (await wire.get(SEARCH, AUTH)).status == 200
        clock.advance(0.5)
        reply = await wire.get(SEARCH, AUTH)
        assert_problem(reply, 429, "too_many_requests")
        assert reply.header("retry-after") == "40"  # 39.5, rounded up
        clock.advance(39.25)
        assert (await wire.get(SEARCH, AUTH)).status == 429
        clock.advance(0.25)
        assert (await wire.get(SEARCH, AUTH)).status == 200
        # Another credential has a counter of its own; new limits count at once.
        broker.limits.configure([])
        assert [(await wire.get(SEARCH, AUTH)).status for _ in range(3)] == [200] * 3


@BOTH
async def test_refusals_by_a_limit_are_told_together(fast: bool, tmp_path: Path) -> None:
    """The first at once, then one record a minute; by count all of them, also at the stop."""
    clock = ManualClock()
    async with serving(Assembly(tmp_path, clock=clock)) as served:
        broker = served.broker
        broker.publish()
        broker.publish("orders-db")
        broker.limits.configure([LimitRule("limits.rules.few", "1/hour")])
        wire = await served.data(fast=fast)

        def told() -> list[tuple[str, str, int]]:
            return [
                (str(one["credential"]), str(one["reason"]), int(str(one.get("count", 1))))
                for one in audited(broker)
                if one["result"] == "too_many_requests"
            ]

        for credential in ("search-api", "orders-db"):
            path = f"/v1/credentials/{credential}"
            statuses = [(await wire.get(path, AUTH)).status for _ in range(6)]
            assert statuses == [200] + [429] * 5
        few = "limits.rules.few"
        assert told() == [("search-api", few, 1), ("orders-db", few, 1)]
        clock.advance(60)
        assert (await wire.get(SEARCH, AUTH)).status == 429
        assert told()[2:] == [("search-api", few, 5)]
        assert (await wire.get(SEARCH, AUTH)).status == 429
        tell_floods(broker.failures, broker.service, broker.service)
        assert sorted(told()[3:]) == [("orders-db", few, 4), ("search-api", few, 1)]
        total = 'result="too_many_requests"'
        lines = b"".join(broker.metrics.render()).decode().splitlines()
        counted = [line for line in lines if total in line]
        assert sum(float(line.split()[-1]) for line in counted) == 12
        assert sum(count for _, _, count in told()) == 12


@BOTH
async def test_a_flood_of_wrong_proofs_is_told_together(served: Serving, fast: bool) -> None:
    """429 over the limit, one record for all of it; a right token is taken all the while."""
    served.broker.failures.configure(Rate(3, 60))
    wire = await served.data(fast=fast)
    statuses = [(await wire.get(SEARCH, "Authorization: Bearer wrong")).status for _ in range(9)]
    assert statuses == [401] * 3 + [429] * 6
    assert (await wire.get(SEARCH, AUTH)).status == 200
    records = [one for one in audited(served.broker) if one["kind"] == "refusal"]
    assert [one["result"] for one in records] == [
        *["caller_unauthenticated"] * 3,
        "too_many_failures",
    ]
    tell_floods(served.broker.failures, served.broker.service)
    told = [one for one in audited(served.broker) if one["kind"] == "refusal"][-1]
    assert (told["result"], told["address"], told["count"]) == ("too_many_failures", "loopback", 5)


@BOTH
async def test_fault_is_500_without_traceback(
    served: Serving, fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the broker is a 500 with a request id; only the log has the traceback."""

    class Broken(ListAuthorizer):
        def authorize(self, principal: Principal, name: str, **asked: Any) -> Decision:
            raise ZeroDivisionError("inner detail")

    served.broker.service._authorizer = Broken([], [])
    wire = await served.data(fast=fast)
    with caplog.at_level(logging.ERROR):
        reply = await wire.get(SEARCH, AUTH)
    assert_problem(reply, 500, "internal")
    assert "inner detail" not in reply.body.decode()
    assert "inner detail" in caplog.text
    assert str(reply.header("broker-request-id")) in caplog.text
    assert (await wire.get("/v1/whoami", AUTH)).status == 200


async def test_refused_token_on_a_kept_connection(served: Serving) -> None:
    """A token that was replaced is refused on connections it was accepted on before."""
    wire = await served.data()
    for _ in range(3):
        assert (await wire.get(SEARCH, AUTH)).status == 200
    served.broker.callers.accept("search-mcp", b"x" * 32)
    assert_problem(await wire.get(SEARCH, AUTH), 401, "caller_unauthenticated")


async def test_narrowed_list_on_a_kept_connection(served: Serving) -> None:
    """A credential taken from a client's list is refused on connections that had it before."""
    wire = await served.data()
    for _ in range(2):
        assert (await wire.get(SEARCH, AUTH)).status == 200
    served.broker.authorizer.configure([ClientSpec("search-mcp")], served.broker.names)
    assert_problem(await wire.get(SEARCH, AUTH), 404, "credential_unknown")


# --- sockets of clients ------------------------------------------------------------------


@BOTH
async def test_uid_as_proof(tmp_path: Path, fast: bool) -> None:
    """On its own socket a client is known by its uid, without a token."""
    broker = Assembly(tmp_path)
    broker.publish()
    path = tmp_path / "uid-mcp" / "broker.sock"
    async with serving(broker) as served:
        listener = broker.listener(UnixAddress(path), client="uid-mcp", fast=fast)
        wire = await served.connect(await served.start(listener))
        assert (await wire.get(SEARCH)).status == 200
        whoami = (await wire.get("/v1/whoami")).json()
        assert (whoami["client"], whoami["proof"]) == ("uid-mcp", "uid")
        assert audited(broker)[0]["uid"] == os.geteuid()
        # Another client's token on this socket is a refusal, though the uid is right.
        assert_problem(await wire.get(SEARCH, AUTH), 401, "caller_unauthenticated")


@BOTH
async def test_foreign_uid(tmp_path: Path, fast: bool) -> None:
    """A process with another uid on the socket is refused."""
    broker = Assembly(tmp_path)
    broker.publish()
    uid = os.geteuid() + 7
    broker.callers.configure([ClientSpec("uid-mcp", proof="uid", uid=uid)])
    path = tmp_path / "uid-mcp" / "broker.sock"
    async with serving(broker) as served:
        listener = broker.listener(UnixAddress(path), client="uid-mcp", fast=fast)
        wire = await served.connect(await served.start(listener))
        assert_problem(await wire.get(SEARCH), 401, "caller_unauthenticated")
        assert audited(broker)[0]["reason"] == "uid_wrong"


async def test_uid_is_no_proof_on_tcp(served: Serving) -> None:
    """Loopback is shared by every container of a pod: a uid proves nothing there."""
    wire = await served.data()
    assert_problem(await wire.get(SEARCH), 401, "caller_unauthenticated")


# --- routes and methods ------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/credentials/",
        "/v1/credentials/search-api/",
        "//v1/credentials/search-api",
        "/v1/credentials/search-api/reports/x",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/metrics",
        "/v1/status",
        "/v1/quit",
        "/v2/credentials/search-api",
        "/V1/CREDENTIALS",
    ],
)
async def test_unknown_route_is_404(served: Serving, path: str) -> None:
    """What no route declares is a 404 problem; nothing is redirected or documented."""
    wire = await served.data()
    assert_problem(await wire.get(path, AUTH), 404, "route_unknown")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", SEARCH, "GET"),
        ("PUT", SEARCH, "GET"),
        ("DELETE", SEARCH, "GET"),
        ("PATCH", SEARCH, "GET"),
        ("OPTIONS", SEARCH, "GET"),
        ("TRACE", SEARCH, "GET"),
        ("GET", SEARCH + "/reports", "POST"),
        ("POST", "/v1/whoami", "GET"),
        ("POST", "/v1/events", "GET"),
    ],
)
async def test_wrong_method_is_405(served: Serving, method: str, path: str, allow: str) -> None:
    """A method that a resource does not know is a 405 that names those it knows."""
    wire = await served.data()
    reply = await wire.get(path, AUTH, method=method)
    assert_problem(reply, 405, "method_not_allowed")
    assert reply.header("allow") == allow
    assert audited(served.broker) == []


async def test_head_hands_nothing_out(served: Serving) -> None:
    """HEAD is a 405 without a body: a hand-out that nobody receives would still be recorded."""
    wire = await served.data()
    reply = await wire.get(SEARCH, AUTH, method="HEAD")
    assert (reply.status, reply.header("allow"), reply.body) == (405, "GET", b"")
    assert audited(served.broker) == []
    assert (await wire.get(SEARCH, AUTH)).status == 200


async def test_no_cross_origin_answers(served: Serving) -> None:
    """A page's preflight gets no permission, and its request no CORS header."""
    wire = await served.data()
    origin = "Origin: https://evil.example"
    preflight = await wire.get(
        SEARCH, origin, "Access-Control-Request-Method: GET", method="OPTIONS"
    )
    assert_problem(preflight, 405, "method_not_allowed")
    reply = await wire.get(SEARCH, origin, AUTH)
    assert not [name for name, _ in reply.headers if name.startswith("access-control")]


async def test_query_is_ignored(served: Serving) -> None:
    """A query string changes nothing; it is no way to say anything."""
    wire = await served.data()
    assert (await wire.get(SEARCH + "?token=x", AUTH)).status == 200


# --- lists, whoami -------------------------------------------------------------------------


async def test_list(served: Serving) -> None:
    """The list has what the caller may have, how it stands, and no value."""
    served.broker.unavailable("orders-db")
    wire = await served.data()
    reply = await wire.get("/v1/credentials", AUTH)
    told = {one["name"]: one for one in reply.json()["credentials"]}
    assert set(told) == {"search-api", "orders-db"}
    assert told["search-api"]["available"]
    assert told["orders-db"]["reason"] == "vault_unreachable"
    assert SECRET not in reply.body.decode()
    assert_problem(await wire.get("/v1/credentials"), 401, "caller_unauthenticated")


async def test_whoami(served: Serving) -> None:
    """A caller can see who it is and what it may have."""
    wire = await served.data()
    reply = await wire.get("/v1/whoami", f"Authorization: Bearer {OTHER_TOKEN}")
    assert reply.json() == {
        "client": "other-mcp",
        "proof": "token",
        "subject": None,
        "credentials": ["orders-db"],
        "tools": None,
    }
    assert reply.header("cache-control") == "no-store"
    assert_problem(await wire.get("/v1/whoami"), 401, "caller_unauthenticated")


# --- waiting -----------------------------------------------------------------------------------


async def test_wait_for_a_change(served: Serving) -> None:
    """``Prefer: wait`` with the version in hand answers when there is another."""
    wire = await served.data()
    asking = asyncio.create_task(wire.get(SEARCH, AUTH, 'If-None-Match: "v1"', "Prefer: wait=30"))
    await turns(30)
    assert not asking.done()
    served.broker.publish(version="v2")
    reply = await asking
    assert (reply.status, reply.json()["version"]) == (200, "v2")
    assert reply.header("preference-applied") == "wait=30"


async def test_wait_for_a_first_value(served: Serving) -> None:
    """``Prefer: wait`` without a version answers when there is a value at all."""
    served.broker.unavailable(state=State.PENDING)
    wire = await served.data()
    asking = asyncio.create_task(wire.get(SEARCH, AUTH, "Prefer: respond-async, wait=30"))
    await turns(30)
    assert not asking.done()
    served.broker.publish(version="v2")
    assert (await asking).json()["version"] == "v2"


async def test_wait_that_ends_without_a_change(tmp_path: Path) -> None:
    """At the end of a wait an unchanged version is a 304; the wait is bounded by the broker."""
    broker = Assembly(tmp_path, max_wait=0.05)
    broker.publish()
    async with serving(broker) as served:
        wire = await served.data()
        reply = await wire.get(SEARCH, AUTH, 'If-None-Match: "v1"', "Prefer: wait=3600")
        assert reply.status == 304


async def test_a_waiter_who_leaves_gets_nothing(served: Serving) -> None:
    """Nothing is handed out, and nothing recorded, for a caller who has gone."""
    wire = await served.data()
    await wire.send(
        f"GET {SEARCH} HTTP/1.1\r\nHost: localhost\r\n{AUTH}\r\n"
        'If-None-Match: "v1"\r\nPrefer: wait=30\r\n\r\n'.encode()
    )
    await turns(30)
    await wire.close()
    await turns(30)
    served.broker.publish(version="v2")
    await turns(30)
    assert [record for record in audited(served.broker) if record["kind"] == "handout"] == []


async def test_two_hundred_waiting_readers(served: Serving) -> None:
    """Two hundred readers wait for one change; others are served meanwhile, and all get it."""
    count = 200
    listener = await served.start(served.broker.listener(TcpAddress("127.0.0.1", 0)))
    wires = [await served.connect(listener) for _ in range(count)]
    request = (
        f"GET {SEARCH} HTTP/1.1\r\nHost: localhost\r\n{AUTH}\r\n"
        'If-None-Match: "v1"\r\nPrefer: wait=60\r\n\r\n'
    ).encode()
    for wire in wires:
        wire.writer.write(request)
    async with asyncio.timeout(PATIENCE):
        while len(served.broker.service._waits) < count:
            await asyncio.sleep(0.01)
    other = await served.connect(listener)
    assert (await other.get(SEARCH, AUTH)).status == 200
    served.broker.publish(version="v2")
    versions = {(await wire.reply()).json()["version"] for wire in wires}
    assert versions == {"v2"}


async def test_stop_ends_waits(served: Serving) -> None:
    """At a stop whoever waits gets an answer, and the listener closes without delay."""
    listener = await served.start(served.broker.listener(TcpAddress("127.0.0.1", 0)))
    wire = await served.connect(listener)
    asking = asyncio.create_task(wire.get(SEARCH, AUTH, 'If-None-Match: "v1"', "Prefer: wait=60"))
    await turns(30)
    served.broker.service.end_waits()
    async with asyncio.timeout(PATIENCE / 2):  # neither the wait's own end nor the stop's
        await listener.stop(served.broker.clock.now() + 600)
    assert (await asking).status == 304


# --- reports ------------------------------------------------------------------------------------


async def report(wire: Wire, body: bytes, *lines: str, name: str = "search-api") -> Reply:
    path = f"/v1/credentials/{name}/reports"
    return await wire.get(path, AUTH, *lines, method="POST", body=body)


JSON = "Content-Type: application/json"


async def test_report_brings_a_newer_version(served: Serving) -> None:
    """A report of the current version has it looked at again; the answer names the newer one."""
    served.broker.keepers.ready.append(served.broker.entry(version="v2"))
    wire = await served.data()
    reply = await report(wire, b'{"version": "v1", "status": 401}', JSON + "; charset=utf-8")
    told = reply.json()
    assert (reply.status, told["reported"], told["version"]) == (200, "v1", "v2")
    assert SECRET not in reply.body.decode()
    assert served.broker.keepers.asked == [("search-api", "v1")]


async def test_report_without_anything_newer(served: Serving) -> None:
    """When nothing newer is known the report is a 409 that says what is."""
    wire = await served.data()
    reply = await report(wire, b'{"version": "v1", "status": 401, "detail": "no"}', JSON)
    assert_problem(reply, 409, "report_conflict")
    assert reply.json()["version"] == "v1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"[" * 10_000,
        b"{}",
        b'{"version": "v1"}',
        b'{"version": 1, "status": 401}',
        b'{"version": "v1", "status": "401"}',
        b'{"version": "v1", "status": true}',
        b'{"version": "v1", "status": 401, "detail": 5}',
    ],
)
async def test_malformed_report_is_400(served: Serving, body: bytes) -> None:
    """A report that is no JSON object with the right members is a 400, and costs Vault nothing."""
    wire = await served.data()
    reply = await report(wire, body, JSON)
    assert_problem(reply, 400, "request_malformed")
    assert served.broker.keepers.asked == []


async def test_report_of_another_media_type(served: Serving) -> None:
    """What a page's form can send is not taken for JSON."""
    wire = await served.data()
    reply = await report(wire, b'{"version": "v1", "status": 401}', "Content-Type: text/plain")
    assert_problem(reply, 400, "request_malformed")


async def test_report_needs_a_caller(served: Serving) -> None:
    """Nobody reports without proof, nor about what he may not have."""
    wire = await served.data()
    path = "/v1/credentials/search-api/reports"
    assert_problem(await wire.get(path, method="POST", body=b"{}"), 401, "caller_unauthenticated")
    reply = await report(wire, b'{"version": "v1", "status": 401}', JSON, name="hidden")
    assert_problem(reply, 404, "credential_unknown")


async def test_oversized_report_is_413(served: Serving) -> None:
    """A report over the body cap is refused."""
    wire = await served.data()
    reply = await report(wire, b"{" + b" " * 20_000 + b"}", JSON)
    assert_problem(reply, 413, "request_too_large")


async def test_many_connections_share_the_routes(served: Serving) -> None:
    """Requests on many connections at once are each answered with their own id."""
    wires = [await served.data() for _ in range(5)]
    replies = await asyncio.gather(*(wire.get("/v1/whoami", AUTH) for wire in wires))
    assert len({reply.header("broker-request-id") for reply in replies}) == 5
