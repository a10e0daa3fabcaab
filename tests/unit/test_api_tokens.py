"""``api.tokens``: scoped tokens over HTTP, for callers and for operators."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from broker.access.authorizer import Action, Decision
from broker.access.principal import Principal
from broker.access.tokens.minting import PAGE
from broker.api.admin import create_admin_plane
from broker.api.data import create_data_plane
from broker.api.door import Door
from broker.api.listeners import Listener
from broker.api.sockets import UnixAddress
from broker.app.floods import tell_floods
from broker.credentials.model import CredentialKey
from broker.errors import CallerForbidden, CredentialUnknown, VaultFailed
from broker.handout.decisions import DecisionService
from broker.protocol.models import parse_time
from broker.protocol.token_format import PATTERN, opaque
from tests.simulators.clock import LeapingClock, ManualClock
from tests.simulators.sink import SinkSimulator
from tests.support.broker import OTHER_TOKEN, SECRET, TOKEN, Assembly, Serving, serving
from tests.support.patience import PATIENCE, turns
from tests.support.wire import Reply, Wire

AUTH = f"Authorization: Bearer {TOKEN}"
OTHER = f"Authorization: Bearer {OTHER_TOKEN}"
WISH = {"subject": "alice", "tools": ["search", "fetch_*"], "credentials": ["search-api"]}
INACTIVE = b'{"active":false}'
SEARCH = "/v1/credentials/search-api"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """A broker whose clock stands until it is moved."""
    broker = Assembly(tmp_path, clock=LeapingClock(), max_tokens=2 * PAGE)
    broker.publish("search-api")
    broker.publish("orders-db", "db-1")
    async with serving(broker) as made:
        yield made


def moved(served: Serving, seconds: float) -> None:
    clock = served.broker.clock
    assert isinstance(clock, LeapingClock)
    clock.advance(seconds)


def audited(served: Serving, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, served.broker.audit_file.read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


async def post(
    wire: Wire, path: str, said: Mapping[str, Any], *lines: str, auth: str = AUTH
) -> Reply:
    return await wire.get(
        path,
        auth,
        "Content-Type: application/json",
        *lines,
        method="POST",
        body=json.dumps(said).encode(),
    )


async def minted(wire: Wire, *lines: str, auth: str = AUTH, **wish: Any) -> dict[str, Any]:
    reply = await post(wire, "/v1/tokens", {**WISH, **wish}, *lines, auth=auth)
    assert reply.status == 201, reply.body
    told: dict[str, Any] = reply.json()
    return told


async def introspected(wire: Wire, token: str, *, auth: str = AUTH) -> Reply:
    body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
    kind = "Content-Type: application/x-www-form-urlencoded"
    return await wire.get("/v1/tokens/introspect", auth, kind, method="POST", body=body)


def steady(told: Mapping[str, Any]) -> dict[str, Any]:
    """Without what counts down."""
    return {name: value for name, value in told.items() if name != "expires_in"}


def shown(token: str) -> str:
    return f"Broker-Subject-Token: {token}"


async def admin(served: Serving) -> Wire:
    broker = served.broker
    path = broker.directory / "admin" / "admin.sock"
    address = UnixAddress(path, mode=0o600, directory_mode=0o700)
    listener = Listener(address, Door("admin", broker.problems), broker.admin, broker.clock)
    return await served.connect(await served.start(listener))


# --- minting -----------------------------------------------------------------------------


async def test_a_token_is_minted_and_shown_once(served: Serving) -> None:
    """The answer says all of it, is not stored on the way, and is the only place of the text."""
    wire = await served.data()
    reply = await post(wire, "/v1/tokens", WISH)
    told = reply.json()
    assert reply.status == 201
    assert reply.header("cache-control") == "no-store"
    assert re.fullmatch(PATTERN, told.pop("token"))
    assert told == {
        "id": told["id"],
        "subject": "alice",
        "caller": "search-mcp",
        "audience": None,
        "tools": ["search", "fetch_*"],
        "credentials": ["search-api"],
        "scope": "tool:search tool:fetch_* credential:search-api",
        "issued_at": told["issued_at"],
        "expires_at": told["expires_at"],
        "expires_in": told["expires_in"],
        "parent": None,
    }
    wall = served.broker.clock.wall()
    assert parse_time(told["issued_at"]) == pytest.approx(wall, abs=PATIENCE)
    assert parse_time(told["expires_at"]) - parse_time(told["issued_at"]) == pytest.approx(900)
    assert told["expires_in"] == pytest.approx(900, abs=PATIENCE)
    one = await wire.get(f"/v1/tokens/{told['id']}", AUTH)
    listed = await wire.get("/v1/tokens", AUTH)
    assert (one.status, steady(one.json())) == (200, steady(told))
    assert (listed.status, listed.json()["next"]) == (200, None)
    assert [steady(line) for line in listed.json()["tokens"]] == [steady(told)]
    (record,) = audited(served, "token_minted")
    del record["time"], record["request_id"]
    assert record == {
        "kind": "token_minted",
        "token_id": told["id"],
        "subject": "alice",
        "client": "search-mcp",
        "actor": "search-mcp",
        "expires_at": told["expires_at"],
    }


async def test_a_life_is_capped(served: Serving) -> None:
    """Whatever is asked for, an hour here."""
    wire = await served.data()
    for asked, life in ((300, 300), (10**9, 3600)):
        told = await minted(wire, expires_in=asked)
        given = parse_time(told["expires_at"]) - parse_time(told["issued_at"])
        assert given == pytest.approx(life)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"credentials": ["hidden"]}, 404, "credential_unknown"),
        ({"credentials": ["nothing"]}, 404, "credential_unknown"),
        ({"caller": "other-mcp"}, 403, "caller_forbidden"),
        ({"tools": []}, 400, "request_malformed"),
        ({"subject": ""}, 400, "request_malformed"),
        ({"expires": 5}, 400, "request_malformed"),
    ],
    ids=str,
)
async def test_what_is_not_held_is_not_minted(
    served: Serving, change: dict[str, Any], status: int, code: str
) -> None:
    """Another's credential, another's name, a slip: refused, recorded, and no token made."""
    wire = await served.data()
    reply = await post(wire, "/v1/tokens", {**WISH, **change})
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert served.broker.tokens.live() == {}
    (record,) = audited(served, "refusal")
    assert (record["client"], record["result"]) == ("search-mcp", code)


@pytest.mark.parametrize(
    ("kind", "body"),
    [("text/plain", b"{}"), ("application/json", b"["), ("application/json", b"[]")],
)
async def test_a_body_that_is_none(served: Serving, kind: str, body: bytes) -> None:
    """Another media type, no JSON, no object."""
    wire = await served.data()
    for path in ("/v1/tokens", "/v1/tokens/introspect"):
        reply = await wire.get(path, AUTH, f"Content-Type: {kind}", method="POST", body=body)
        assert (reply.status, reply.json()["code"]) == (400, "request_malformed")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/tokens"),
        ("GET", "/v1/tokens"),
        ("GET", "/v1/tokens/x"),
        ("DELETE", "/v1/tokens/x"),
        ("POST", "/v1/tokens/introspect"),
    ],
)
async def test_nobody_gets_nothing(served: Serving, method: str, path: str) -> None:
    """Every route begins with the caller."""
    wire = await served.data()
    assert (await wire.get(path, method=method, body=b"{}" * (method == "POST"))).status == 401


async def test_no_caller_revokes_by_more_than_an_id(served: Serving) -> None:
    """The route for operators is not on the data plane."""
    wire = await served.data()
    reply = await post(wire, "/v1/tokens/revoke", {"all": True})
    assert (reply.status, reply.json()["code"]) == (405, "method_not_allowed")


async def test_a_full_caller_is_told_when_there_is_a_place(tmp_path: Path) -> None:
    """503 and Retry-After; others still mint."""
    broker = Assembly(tmp_path, clock=LeapingClock(), max_tokens=1)
    async with serving(broker) as served:
        wire = await served.data()
        await minted(wire, expires_in=120)
        reply = await post(wire, "/v1/tokens", WISH)
        assert (reply.status, reply.json()["code"]) == (503, "tokens_exhausted")
        assert 120 - PATIENCE <= int(reply.header("retry-after") or 0) <= 120
        await minted(wire, auth=OTHER, credentials=["orders-db"])


async def test_without_its_record_no_token_leaves(served: Serving) -> None:
    """When the audit cannot be written, none was minted."""
    full = OSError(errno.ENOSPC, "No space left on device")
    served.broker.audit._sink = SinkSimulator(*[full] * 9)
    wire = await served.data()
    reply = await post(wire, "/v1/tokens", WISH)
    assert (reply.status, reply.json()["code"]) == (503, "audit_unavailable")
    assert served.broker.tokens.live() == {}


class Picky:
    """Implements ``Authorizer``: who may mint what, and for which tool, as a test says."""

    generation = 1

    def __init__(self, *, tools: tuple[str, ...] | None, pairs: set[tuple[str, str]]) -> None:
        self._tools, self._pairs = tools, pairs
        self.asked: list[tuple[str, str]] = []

    def authorize(
        self,
        principal: Principal,
        name: str,
        *,
        tool: str,
        action: Action = "handout",
        address: str = "",
    ) -> Decision:
        self.asked.append((action, name))
        if (name, tool) not in self._pairs:
            raise CredentialUnknown(reason="policy")
        return Decision(CredentialKey("search-api"))

    def authorize_tool(
        self, principal: Principal, tool: str, *, action: Action = "call_tool", **_: Any
    ) -> tuple[str, ...]:
        self.asked.append((action, tool))
        if tool == "forbidden":
            raise CallerForbidden(reason="policy")
        return ("p",)

    async def credentials(self, principal: Principal) -> tuple[Any, ...]:
        return (CredentialKey("search-api"), CredentialKey("orders-db"))

    def tools(self, principal: Principal) -> tuple[str, ...] | None:
        return self._tools

    def samples(self, principal: Principal, glob: str, *, action: str) -> tuple[str, ...]:
        return ()


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({"tools": ["search"], "credentials": ["search-api"]}, 201),
        ({"tools": ["search", "fetch_*"], "credentials": ["search-api"]}, 404),
        ({"tools": ["fetch_*"], "credentials": ["orders-db"]}, 201),
        ({"tools": ["fetch_page"], "credentials": []}, 201),
        ({"tools": ["search"], "credentials": ["orders-db"]}, 404),
        ({"tools": ["forbidden"], "credentials": []}, 403),
        ({"tools": ["*"], "credentials": []}, 403),
        ({"tools": ["write"], "credentials": []}, 403),
    ],
    ids=str,
)
async def test_policy_decides_what_is_passed_on(
    served: Serving, wish: dict[str, Any], status: int
) -> None:
    """The tools it may name, and each credential for each tool: handed out, and passed on."""
    picky = Picky(
        tools=("search", "fetch_*", "forbidden"),
        pairs={("search-api", "search"), ("orders-db", "fetch_*")},
    )
    served.broker.desk._authorizer = picky
    wire = await served.data()
    reply = await post(wire, "/v1/tokens", {"subject": "alice", **wish})
    assert reply.status == status
    if wish["tools"] in (["*"], ["write"]):
        assert reply.json()["scope"] == f"tool:{wish['tools'][0]}"
    expected = {"mint_token", "handout" if wish["credentials"] else "call_tool"}
    assert {action for action, _ in picky.asked} <= expected


# --- what a token is good for --------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "routes"])
async def test_a_tool_that_the_token_does_not_name(served: Serving, fast: bool) -> None:
    """Tool B with a token for A: 403 that names the scope, in the challenge and in the body."""
    wire = await served.data(fast=fast)
    token = shown((await minted(wire, tools=["a"]))["token"])
    assert (await wire.get(SEARCH, AUTH, token, "Broker-Tool: a")).status == 200
    reply = await wire.get(SEARCH, AUTH, token, "Broker-Tool: b")
    assert (reply.status, reply.json()["code"]) == (403, "insufficient_scope")
    assert reply.json()["scope"] == "tool:b"
    assert reply.header("www-authenticate") == (
        'Bearer realm="mcp-secrets-broker", error="insufficient_scope", scope="tool:b"'
    )
    reply = await wire.get("/v1/credentials/orders-db", AUTH, token, "Broker-Tool: a")
    assert (reply.status, reply.json()["code"]) == (404, "credential_unknown")


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "routes"])
async def test_bad_tokens_are_refused_alike(served: Serving, fast: bool) -> None:
    """Unknown, expired, revoked, another caller's: the same bytes but for the request id."""
    wire = await served.data(fast=fast)
    expired = await minted(wire, expires_in=1)
    moved(served, 1)
    revoked = await minted(wire)
    foreign = await minted(wire, auth=OTHER, credentials=["orders-db"])
    assert (await wire.get(f"/v1/tokens/{revoked['id']}", AUTH, method="DELETE")).status == 204
    unknown = "mbt_" + "0" * 49
    answers = set()
    for token in (expired["token"], revoked["token"], foreign["token"], unknown, "", "nonsense"):
        reply = await wire.get(SEARCH, AUTH, shown(token), "Broker-Tool: search")
        request_id = reply.json()["request_id"]
        assert reply.header("broker-request-id") == request_id
        text = repr((reply.status, reply.headers, reply.body)).replace(request_id, "ID")
        answers.add(re.sub(r"\('(date|content-length)', '[^']*'\)", "", text))
    assert len(answers) == 1
    assert "subject_token_refused" in answers.pop()
    reasons = [record["reason"] for record in audited(served, "refusal")]
    assert set(reasons) == {
        "token_expired",
        "token_revoked",
        "token_of_another_caller",
        "token_malformed",
    }


async def test_a_revocation_ends_a_verdict_that_was_kept(served: Serving) -> None:
    """The same request on the same connection: taken, taken, revoked, refused."""
    wire = await served.data()
    told = await minted(wire)
    ask = (SEARCH, AUTH, shown(told["token"]), "Broker-Tool: search")
    assert [(await wire.get(*ask)).status for _ in range(3)] == [200, 200, 200]
    other = await served.data()
    await other.get(f"/v1/tokens/{told['id']}", AUTH, method="DELETE")
    assert (await wire.get(*ask)).status == 403


async def test_a_wait_does_not_outlive_its_token(served: Serving) -> None:
    """Revoked while its bearer waits for a new version: the new version is not for it."""
    wire, other = await served.data(), await served.data()
    told = await minted(other)
    etag = (await other.get(SEARCH, AUTH)).header("etag")
    head = (
        f"GET {SEARCH} HTTP/1.1\r\nHost: localhost\r\n{AUTH}\r\n{shown(told['token'])}\r\n"
        f"Broker-Tool: search\r\nIf-None-Match: {etag}\r\nPrefer: wait=50\r\n\r\n"
    )
    await wire.send(head.encode())
    await turns()
    await other.get(f"/v1/tokens/{told['id']}", AUTH, method="DELETE")
    served.broker.publish("search-api", "v2")
    reply = await wire.reply()
    assert (reply.status, reply.json()["code"]) == (403, "subject_token_refused")


async def test_a_child_by_http(served: Serving) -> None:
    """With a token shown, a narrower one is minted from it, and falls with it."""
    wire = await served.data()
    parent = await minted(wire, expires_in=600)
    child = await minted(wire, shown(parent["token"]), tools=["search"], expires_in=3600)
    assert (child["parent"], child["expires_at"]) == (parent["id"], parent["expires_at"])
    reply = await post(wire, "/v1/tokens", {**WISH, "tools": ["*"]}, shown(child["token"]))
    assert (reply.status, reply.json()["scope"]) == (403, "tool:*")
    reply = await post(wire, "/v1/tokens", {**WISH, "subject": "bob"}, shown(child["token"]))
    assert reply.status == 400
    assert (await wire.get(f"/v1/tokens/{parent['id']}", AUTH, method="DELETE")).status == 204
    assert (await introspected(wire, child["token"])).body == INACTIVE
    reply = await post(wire, "/v1/tokens", WISH, shown(child["token"]))
    assert (reply.status, reply.json()["code"]) == (403, "subject_token_refused")
    first, second = audited(served, "token_revoked")
    assert [first["token_id"], second["token_id"]] == [parent["id"], child["id"]]
    assert [first["reason"], second["reason"]] == ["by id", "with its ancestor"]
    assert second["parent"] == parent["id"]


async def test_with_a_token_shown_only_it_and_its_children_are_seen(served: Serving) -> None:
    """An agent that holds a token cannot look at, or end, those of others."""
    wire = await served.data()
    mine, other = await minted(wire), await minted(wire, subject="bob")
    child = await minted(wire, shown(mine["token"]), tools=["search"])
    agent = shown(mine["token"])
    listed = (await wire.get("/v1/tokens", AUTH, agent)).json()["tokens"]
    assert {one["id"] for one in listed} == {mine["id"], child["id"]}
    for method in ("GET", "DELETE"):
        for token_id in (other["id"], "none"):
            reply = await wire.get(f"/v1/tokens/{token_id}", AUTH, agent, method=method)
            assert reply.status == 404
    reply = await wire.get(f"/v1/tokens/{child['id']}", AUTH, agent, method="DELETE")
    assert reply.status == 204


async def test_unknown_and_not_yours_look_alike(served: Serving) -> None:
    """A token's id tells nobody else that it exists."""
    wire = await served.data()
    foreign = await minted(wire, auth=OTHER, credentials=["orders-db"])
    for method in ("GET", "DELETE"):
        bodies = set()
        for token_id in (foreign["id"], "0" * 24):
            reply = await wire.get(f"/v1/tokens/{token_id}", AUTH, method=method)
            assert (reply.status, reply.json()["code"]) == (404, "token_unknown")
            bodies.add(reply.body.replace(reply.json()["request_id"].encode(), b"ID"))
        assert len(bodies) == 1
    assert (await introspected(wire, foreign["token"], auth=OTHER)).json()["active"]


async def test_a_long_list_comes_in_pages(served: Serving) -> None:
    """Every live token once, in order."""
    wire = await served.data()
    ids = [(await minted(wire, credentials=[]))["id"] for _ in range(PAGE + 5)]
    first = (await wire.get("/v1/tokens", AUTH)).json()
    second = (await wire.get(f"/v1/tokens?after={first['next']}", AUTH)).json()
    assert [one["id"] for page in (first, second) for one in page["tokens"]] == ids
    assert second["next"] is None
    reply = await wire.get("/v1/tokens?after=x", AUTH)
    assert (reply.status, reply.json()["code"]) == (400, "request_malformed")


# --- introspection -------------------------------------------------------------------------


async def test_introspection(served: Serving) -> None:
    """RFC 7662, as a form and as JSON; only for the client whose token it is."""
    wire = await served.data()
    told = await minted(wire, audience="https://mcp.example/search")
    reply = await introspected(wire, told["token"])
    issued, expires = parse_time(told["issued_at"]), parse_time(told["expires_at"])
    assert (reply.status, reply.json()) == (
        200,
        {
            "active": True,
            "scope": told["scope"],
            "client_id": "search-mcp",
            "sub": "alice",
            "aud": "https://mcp.example/search",
            "exp": int(expires),
            "iat": int(issued),
            "jti": told["id"],
            "iss": "urn:mcp-secrets-broker",
            "token_type": "Bearer",
            "tools": ["search", "fetch_*"],
            "credentials": ["search-api"],
            "parent": None,
        },
    )
    assert reply.header("cache-control") == "no-store"
    as_json = await post(wire, "/v1/tokens/introspect", {"token": told["token"]})
    assert as_json.json() == reply.json()


async def test_whatever_is_not_good_is_inactive(served: Serving) -> None:
    """Unknown, expired, revoked, another caller's, no token: one answer, byte for byte."""
    wire = await served.data()
    expired = await minted(wire, expires_in=1)
    moved(served, 1)
    revoked = await minted(wire)
    await wire.get(f"/v1/tokens/{revoked['id']}", AUTH, method="DELETE")
    foreign = await minted(wire, auth=OTHER, credentials=["orders-db"])
    tokens = [expired["token"], revoked["token"], foreign["token"]]
    answers = set()
    for token in (*tokens, "", "mbt_" + "0" * 49, "\u00e9\u20ac", "a b&c=d"):
        reply = await introspected(wire, token)
        fields = [(name, value) for name, value in reply.headers if name != "broker-request-id"]
        answers.add((reply.status, tuple(fields), reply.body))
    assert {body for _, _, body in answers} == {INACTIVE}
    assert len({(status, fields[:-1]) for status, fields, _ in answers}) == 1
    # What is alike shares a record; by count every refusal is in one.
    for _ in served.broker.token_log.write_shared(everything=True):
        pass
    assert sum(one.get("count", 1) for one in audited(served, "refusal")) == 7


@pytest.mark.parametrize("body", [b"", b"toke=x", b"token=a&token=b", b"&" * 50])
async def test_an_introspection_of_nothing(served: Serving, body: bytes) -> None:
    """No token or two is a malformed request."""
    wire = await served.data()
    kind = "Content-Type: application/x-www-form-urlencoded"
    reply = await wire.get("/v1/tokens/introspect", AUTH, kind, method="POST", body=body)
    assert (reply.status, reply.json()["code"]) == (400, "request_malformed")


# --- events --------------------------------------------------------------------------------


async def test_only_the_caller_hears_of_its_token(served: Serving) -> None:
    """A revocation is an event with the token's id, for its own caller and nobody else."""
    heard = {}
    events, desk = served.broker.events, served.broker
    for client in ("search-mcp", "other-mcp"):
        heard[client] = events.subscribe(lambda event, client=client: event.client == client)  # type: ignore[misc]
    wire = await served.data()
    told = await minted(wire)
    await wire.get(f"/v1/tokens/{told['id']}", AUTH, method="DELETE")
    (event,) = heard["search-mcp"].take()
    assert (event.kind, dict(event.fields)) == ("revoked", {"token": told["id"]})
    assert heard["other-mcp"].take() == []
    assert desk.tokens.live() == {"search-mcp": 0}


# --- operators -----------------------------------------------------------------------------


async def test_an_operator_mints_for_a_caller(served: Serving) -> None:
    """For one that exists, and no more than that one holds."""
    wire, data = await admin(served), await served.data()
    told = await minted(wire, auth="X: y", caller="other-mcp", credentials=["orders-db"])
    assert (await introspected(data, told["token"], auth=OTHER)).json()["client_id"] == "other-mcp"
    assert (await introspected(wire, told["token"], auth="X: y")).json()["active"]
    for change, status, code in (
        ({"caller": "nobody"}, 404, "route_unknown"),
        ({}, 400, "request_malformed"),
        ({"caller": "other-mcp", "credentials": ["search-api"]}, 404, "credential_unknown"),
    ):
        reply = await post(wire, "/v1/tokens", {**WISH, **change}, auth="X: y")
        assert (reply.status, reply.json()["code"]) == (status, code)
    (record,) = audited(served, "token_minted")
    assert record["actor"].startswith("operator uid ")


async def test_an_operator_sees_and_ends_all(served: Serving) -> None:
    """All callers' tokens, by any of the six ways; never a text."""
    wire, data = await admin(served), await served.data()
    one = await minted(data)
    two = await minted(data, auth=OTHER, credentials=["orders-db"], subject="bob")
    three = await minted(data, shown(one["token"]), tools=["search"])
    reply = await wire.get("/v1/tokens")
    assert [line["id"] for line in reply.json()["tokens"]] == [two["id"], one["id"], three["id"]]
    assert "mbt_" not in reply.body.decode()
    assert (await wire.get(f"/v1/tokens/{two['id']}")).json()["subject"] == "bob"
    for said, number in (
        ({"parent": one["id"]}, 1),
        ({"id": "none"}, 0),
        ({"subject": "bob"}, 1),
        ({"credential": "orders-db"}, 0),
        ({"caller": "search-mcp"}, 1),
        ({"all": True}, 0),
    ):
        reply = await post(wire, "/v1/tokens/revoke", said, auth="X: y")
        assert (reply.status, reply.json()) == (200, {"revoked": number})
    assert (await wire.get("/v1/tokens")).json() == {"tokens": [], "next": None}
    records = audited(served, "token_revoked")
    assert [record["token_id"] for record in records] == [
        *(three["id"], "none", two["id"], "*", one["id"], "*")
    ]
    assert records[3]["reason"] == "by credential orders-db"
    reply = await wire.get(f"/v1/tokens/{one['id']}", method="DELETE")
    assert (reply.status, reply.json()["code"]) == (404, "token_unknown")


async def test_a_key_in_a_subject_is_masked_in_the_audit(served: Serving) -> None:
    """What a caller sends by mistake does not stand in the record."""
    wire = await served.data()
    await minted(wire, subject=SECRET)
    await post(await admin(served), "/v1/tokens/revoke", {"subject": SECRET}, auth="X: y")
    assert SECRET not in served.broker.audit_file.read_text()


async def test_no_token_is_written_down(served: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """Not by the audit, not by the log, whatever is done with it."""
    caplog.set_level("DEBUG")
    wire, operator = await served.data(), await admin(served)
    told = await minted(wire)
    await minted(operator, auth="X: y", caller="search-mcp")
    await wire.get(SEARCH, AUTH, shown(told["token"]), "Broker-Tool: search")
    await wire.get(SEARCH, AUTH, shown(told["token"]), "Broker-Tool: x")
    await introspected(wire, told["token"])
    await post(operator, "/v1/tokens/revoke", {"all": True}, auth="X: y")
    await introspected(wire, told["token"])
    assert not re.search(PATTERN, served.broker.audit_file.read_text())
    assert not re.search(PATTERN, caplog.text)


async def test_a_revocation_that_is_not_confirmed(served: Serving) -> None:
    """503, and the caller knows that it must try again."""
    wire = await served.data()
    told = await minted(wire)

    async def fails(*_: Any) -> None:
        from broker.errors import RevocationFailed

        raise RevocationFailed from VaultFailed()

    served.broker.tokens.revoke = fails  # type: ignore[method-assign, assignment]
    reply = await wire.get(f"/v1/tokens/{told['id']}", AUTH, method="DELETE")
    assert (reply.status, reply.json()["code"]) == (503, "revocation_failed")
    assert audited(served, "token_revoked") == []


async def test_where_tokens_are_off_there_are_none(served: Serving) -> None:
    """The routes say so, after the caller was identified; a token shown is no good one."""
    broker = served.broker
    broker.data = create_data_plane(
        service=broker.service,
        decisions=DecisionService(broker.authorizer, broker.service._records),
        events=broker.events,
        problems=broker.problems,
        clock=broker.clock,
    )
    broker.admin = create_admin_plane(
        health=broker.health,
        keepers=broker.keepers,
        vault=dict,
        replace_token=broker._replace_token,
        quit_broker=broker._quit,
        problems=broker.problems,
        own_uid=0,
    )
    wire, operator = await served.data(), await admin(served)
    assert (await wire.get("/v1/tokens")).status == 401
    for one in (wire, operator):
        reply = await one.get("/v1/tokens", AUTH)
        assert (reply.status, reply.json()["code"]) == (404, "route_unknown")


async def test_made_up_tokens_fill_no_audit_and_lock_nobody_out(tmp_path: Path) -> None:
    """A hostile agent sends what it likes through the guard: its server goes on asking."""
    clock = ManualClock()
    async with serving(Assembly(tmp_path, clock=clock)) as served:
        wire = await served.data()
        told = await minted(wire)
        for number in range(50):
            made_up = opaque(number.to_bytes(32, "big")).decode()
            assert (await introspected(wire, made_up)).body == INACTIVE
            assert (await introspected(wire, told["token"])).json()["active"]
        records = audited(served, "refusal")
        assert [one["reason"] for one in records] == ["token_unknown"]
        clock.advance(60)
        await introspected(wire, made_up)
        await introspected(wire, made_up)
        tell_floods(served.broker.failures, served.broker.service, served.broker.token_log)
        records = audited(served, "refusal")
        assert [one.get("count", 1) for one in records] == [1, 50, 1]
        assert {one["client"] for one in records} == {"search-mcp"}
