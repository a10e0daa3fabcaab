"""Policies as a caller meets them: on real sockets, at both doors, on one connection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from broker.access.caller import ClientSpec
from broker.access.policies import Policies
from broker.access.policy import PolicyAuthorizer
from broker.access.policy_sources import PolicyFile, Sources, Target
from broker.access.roles import Role, Window
from broker.access.vocabulary import Vocabulary
from tests.simulators.clock import ManualClock
from tests.support.broker import TOKEN, Assembly, Serving, serving

AUTH = f"Authorization: Bearer {TOKEN}"
BOTH = pytest.mark.parametrize("fast", [True, False], ids=["fast", "routes"])
HOURS = Role(
    "hours",
    ("search-mcp",),
    tools=("search.*",),
    credentials=("search-api",),
    times=(Window("UTC", start=8 * 60, end=18 * 60),),
)


def compiled(text: str, *roles: Role) -> Policies:
    names = ("search-api", "orders-db", "hidden")
    return Policies(
        Sources(
            clients={"search-mcp": ("orders-db",), "other-mcp": (), "uid-mcp": ()},
            credentials={name: Target("kv", "secret", name) for name in names},
            roles=roles,
            files=(PolicyFile("team.cedar", text),),
            vocabulary=Vocabulary(zones=("UTC",)),
        )
    )


@pytest.fixture
def clock() -> ManualClock:
    """Nine in the morning."""
    return ManualClock(now=0.0, epoch=1_772_442_000.0)


@pytest.fixture
async def served(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Serving]:
    """A broker that decides by one role and one list."""

    def authorizer(clients: list[ClientSpec], names: tuple[str, ...]) -> PolicyAuthorizer:
        del clients, names
        return PolicyAuthorizer(clock, compiled("", HOURS))

    broker = Assembly(tmp_path, authorizer=cast("Any", authorizer))
    for name in ("search-api", "orders-db", "hidden"):
        broker.publish(name)
    async with serving(broker) as made:
        yield made


def audited(served: Serving) -> list[dict[str, Any]]:
    return [json.loads(line) for line in served.broker.audit_file.read_text().splitlines()]


@BOTH
async def test_for_its_tool_it_is_handed_out_and_else_not(served: Serving, fast: bool) -> None:
    """403 for another tool or none, 404 for what nothing opens; the audit knows by what and why."""
    wire = await served.data(fast=fast)
    one = "/v1/credentials/search-api"
    assert (await wire.get(one, AUTH, "Broker-Tool: search.web")).status == 200
    assert (await wire.get(one, AUTH, "Broker-Tool: mail.send")).json()[
        "code"
    ] == "caller_forbidden"
    assert (await wire.get(one, AUTH)).status == 403
    assert (await wire.get("/v1/credentials/hidden", AUTH)).json()["code"] == "credential_unknown"
    records = audited(served)
    assert records[0]["policies"] == ["roles.hours"]
    assert [record["reason"] for record in records[1:]] == ["no_policy"] * 3
    listed = (await wire.get("/v1/credentials", AUTH)).json()["credentials"]
    assert [line["name"] for line in listed] == ["orders-db", "search-api"]


@BOTH
async def test_time_ends_a_permission_on_an_open_connection(
    served: Serving, clock: ManualClock, fast: bool
) -> None:
    """What was decided a minute ago is not good for the next one."""
    wire = await served.data(fast=fast)
    asked = ("/v1/credentials/search-api", AUTH, "Broker-Tool: search.web")
    for _ in range(3):
        assert (await wire.get(*asked)).status == 200
    clock.time += 9 * 3600 - 1
    assert (await wire.get(*asked)).status == 200
    clock.time += 1
    assert (await wire.get(*asked)).status == 403


@BOTH
async def test_a_new_set_counts_from_the_next_request(served: Serving, fast: bool) -> None:
    """Also where the decision was a lasting one; the refusal names the policy."""
    wire = await served.data(fast=fast)
    asked = ("/v1/credentials/orders-db", AUTH)
    for _ in range(3):
        assert (await wire.get(*asked)).status == 200
    authorizer = cast("PolicyAuthorizer", cast("object", served.broker.authorizer))
    authorizer.configure(compiled('@id("shut") forbid (principal, action, resource);'))
    reply = await wire.get(*asked)
    assert (reply.status, reply.json()["code"]) == (404, "credential_unknown")
    assert audited(served)[-1]["reason"] == "policy_forbids shut"
    assert "shut" not in reply.body.decode()


@BOTH
async def test_what_does_not_exist_and_what_is_not_allowed_look_alike(
    served: Serving, fast: bool
) -> None:
    """Status, fields and body, but for the request id: whatever is asked, and however."""
    wire = await served.data(fast=fast)
    told = set()
    for name in ("hidden", "no-such-name"):
        for more in (
            (),
            ("Broker-Tool: search.web",),
            ("Prefer: wait=9",),
            ('If-None-Match: "1"',),
        ):
            for method in ("GET", "POST"):
                report = method == "POST"
                reply = await wire.get(
                    f"/v1/credentials/{name}" + "/reports" * report,
                    AUTH,
                    *more,
                    *(["Content-Type: application/json"] * report),
                    method=method,
                    body=b'{"version": "1", "status": 401}' * report,
                )
                own = reply.header("broker-request-id")
                assert own is not None
                # Its length differs where the number of the request gets a digit more.
                told.add(
                    (
                        reply.status,
                        frozenset(
                            (n, v) for n, v in reply.headers if v != own and "length" not in n
                        ),
                        reply.body.replace(own.encode(), b"id"),
                    )
                )
    ((status, _, _),) = told
    assert status == 404
