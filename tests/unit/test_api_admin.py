"""``api.admin``: what an operator may ask, and who is one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.api.admin import create_admin_plane
from broker.api.door import Door
from broker.api.listeners import Listener
from broker.api.sockets import TcpAddress, UnixAddress
from tests.support.broker import SECRET, Assembly, Serving, serving
from tests.support.wire import Wire


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """A broker."""
    broker = Assembly(tmp_path)
    broker.publish()
    async with serving(broker) as made:
        yield made


async def admin(served: Serving, app: object = None) -> Wire:
    broker = served.broker
    path = broker.directory / "admin" / "admin.sock"
    address = UnixAddress(path, mode=0o600, directory_mode=0o700)
    door = Door(name="admin", refusals=broker.problems)
    listener = Listener(address, door, app or broker.admin, broker.clock)  # type: ignore[arg-type]
    await served.start(listener)
    return await served.connect(listener)


async def test_status(served: Serving) -> None:
    """The status tells how everything stands, without a value."""
    wire = await admin(served)
    reply = await wire.get("/v1/status")
    told = reply.json()
    assert reply.status == 200
    assert told["vault"] == {"generation": 1}
    assert told["credentials"]["search-api"]["state"] == "fresh"
    assert (told["ready"], told["started"], told["stopping"]) == (False, False, False)
    assert told["uptime"] >= 0
    assert SECRET not in reply.body.decode()


async def test_refresh(served: Serving) -> None:
    """An operator's wish reaches the keeper; the answer says how the credential stands after."""
    served.broker.keepers.ready.append(served.broker.entry(version="v2"))
    wire = await admin(served)
    reply = await wire.get("/v1/credentials/search-api/refresh", method="POST")
    assert (reply.status, reply.json()["name"], reply.json()["usable"]) == (200, "search-api", True)
    assert served.broker.keepers.asked == [("search-api", "")]
    reply = await wire.get("/v1/credentials/nothing/refresh", method="POST")
    assert (reply.status, reply.json()["code"]) == (404, "credential_unknown")


async def test_a_new_client_token(served: Serving) -> None:
    """A client gets a new token on demand; one without a token is unknown."""
    wire = await admin(served)
    reply = await wire.get("/v1/clients/search-mcp/client-token", method="POST")
    assert (reply.status, reply.json()) == (200, {"client": "search-mcp", "replaced": True})
    reply = await wire.get("/v1/clients/nobody/client-token", method="POST")
    assert (reply.status, reply.json()["code"]) == (404, "route_unknown")
    assert served.broker.replaced == ["search-mcp", "nobody"]


async def test_quit(served: Serving) -> None:
    """Quit begins the stop, once it is asked for by POST."""
    wire = await admin(served)
    assert (await wire.get("/v1/quit")).status == 405
    assert served.broker.quits == 0
    reply = await wire.get("/v1/quit", method="POST")
    assert (reply.status, served.broker.quits) == (202, 1)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/status"),
        ("POST", "/v1/credentials/search-api/refresh"),
        ("POST", "/v1/clients/search-mcp/client-token"),
        ("POST", "/v1/quit"),
        ("POST", "/v1/credentials/search-api/rotate"),
        ("GET", "/v1/rotation"),
        ("GET", "/v1/rotation/search-api/history"),
        ("POST", "/v1/rotation/search-api/freeze"),
        ("POST", "/v1/rotation/search-api/unfreeze"),
        ("POST", "/v1/rotation/search-api/pin"),
    ],
)
async def test_another_uid_is_no_operator(served: Serving, method: str, path: str) -> None:
    """Should the socket be reachable for others, the kernel's word on their uid refuses them."""
    broker = served.broker
    app = create_admin_plane(
        health=broker.health,
        keepers=broker.keepers,
        vault=dict,
        replace_token=broker._replace_token,
        quit_broker=broker._quit,
        problems=broker.problems,
        own_uid=os.geteuid() + 1,
        operators=frozenset(),
    )
    wire = await admin(served, app)
    reply = await wire.get(path, method=method)
    assert (reply.status, reply.json()["code"]) == (403, "caller_forbidden")
    assert (broker.quits, broker.keepers.asked, broker.replaced) == (0, [], [])


async def test_nobody_on_tcp_is_an_operator(served: Serving) -> None:
    """Without the kernel's word there is no operator."""
    broker = served.broker
    door = Door(name="admin", refusals=broker.problems)
    listener = Listener(TcpAddress("127.0.0.1", 0), door, broker.admin, broker.clock)
    await served.start(listener)
    wire = await served.connect(listener)
    assert (await wire.get("/v1/status")).status == 403


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b'{"compromised": "yes"}'),
        ("application/json", b'{"compromized": true}'),
        ("text/plain", b'{"compromised": true}'),
    ],
)
async def test_a_wish_that_is_not_understood_rotates_nothing(
    served: Serving, kind: str, body: bytes
) -> None:
    """A slip in 'compromised' must not become an ordinary rotation, nor the other way round."""
    wire = await admin(served)
    reply = await wire.get(
        "/v1/credentials/search-api/rotate", f"Content-Type: {kind}", method="POST", body=body
    )
    assert (reply.status, reply.json()["code"]) == (400, "request_malformed")
