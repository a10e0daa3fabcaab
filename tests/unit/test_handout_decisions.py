"""``handout.decisions`` and ``POST /v1/decisions``: may a subject call these tools?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.access.authorizer import Action, ListAuthorizer
from broker.access.principal import Caller, Grant, Principal, SubjectTokens
from broker.errors import CallerForbidden, SubjectTokenRefused
from tests.support.broker import SECRET, TOKEN, Assembly, Serving, serving
from tests.support.wire import Reply, Wire

PATH = "/v1/decisions"
AUTH = f"Authorization: Bearer {TOKEN}"
GRANT = Grant("jti-1", "ada", "search-mcp", "", ("web_*",), (), 0.0, 9e9)


class Policies(ListAuthorizer):
    """Allows what it is told to; notes what it was asked."""

    allowed: tuple[str, ...] = ("web_search", "orders")
    broken = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[tuple[str, str, str, Mapping[str, Any] | None]] = []

    def authorize_tool(
        self,
        principal: Principal,
        tool: str,
        *,
        action: Action = "call_tool",
        address: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> tuple[str, ...]:
        assert action == "call_tool"
        self.asked.append((principal.subject, tool, address, arguments))
        if self.broken:
            raise RuntimeError(f"broken with {SECRET}")
        if tool not in self.allowed:
            raise CallerForbidden(reason="no_policy")
        return ("p1",)


class Tokens(SubjectTokens):
    """Knows one token."""

    generation = 0

    def verify(self, token: bytes, caller: Caller) -> Grant:
        if token != b"good" or caller.name != "search-mcp":
            raise SubjectTokenRefused(reason="unknown")
        return GRANT

    def recheck(self, grant: Grant) -> None:
        return


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """A broker with policies and one scoped token."""
    broker = Assembly(tmp_path, authorizer=Policies, tokens=Tokens())
    async with serving(broker) as made:
        yield made


async def ask(served: Serving, said: object, *lines: str) -> Reply:
    wire: Wire = await served.data()
    body = json.dumps(said).encode()
    lines = ("Content-Type: application/json", *lines)
    return await wire.get(PATH, AUTH, *lines, method="POST", body=body)


def question(*tools: str, **members: Any) -> dict[str, Any]:
    return {"action": "call_tool", "tools": list(tools), **members}


def policies(served: Serving) -> Policies:
    found = served.broker.authorizer
    assert isinstance(found, Policies)
    return found


def refusals(served: Serving) -> list[dict[str, Any]]:
    served.broker.audit.flush()
    lines = map(json.loads, served.broker.audit_file.read_text().splitlines())
    return [line for line in lines if line["kind"] == "refusal"]


async def test_tools_are_decided_about_in_their_order(served: Serving) -> None:
    """Allowed, narrowed by the token, refused by a policy: told apart by the scope."""
    reply = await ask(
        served, question("web_search", "orders", "web_secret"), "Broker-Subject-Token: good"
    )
    assert reply.status == 200
    assert reply.json() == {
        "decisions": [
            {"tool": "web_search", "allowed": True, "scope": "", "policies": ["p1"]},
            {"tool": "orders", "allowed": False, "scope": "tool:orders", "policies": []},
            {"tool": "web_secret", "allowed": False, "scope": "", "policies": []},
        ]
    }
    assert [(one["tool"], one["result"], one["reason"]) for one in refusals(served)] == [
        ("orders", "insufficient_scope", "tool_not_in_token"),
        ("web_secret", "caller_forbidden", "no_policy"),
    ]
    assert {(one["subject"], one["token_id"], one["client"]) for one in refusals(served)} == {
        ("ada", "jti-1", "search-mcp")
    }


async def test_a_subject_can_be_asserted(served: Serving) -> None:
    """By the caller, who verified another issuer's token; the audit has it by issuer."""
    subject = {"iss": "https://as.example", "sub": "edsger"}
    said = question("orders", "other", subject=subject, address="192.0.2.7", arguments={"a": 1})
    reply = await ask(served, said, "Broker-Mcp-Request-Id: 7")
    assert [one["allowed"] for one in reply.json()["decisions"]] == [True, False]
    assert policies(served).asked == [
        ("https://as.example|edsger", "orders", "192.0.2.7", {"a": 1}),
        ("https://as.example|edsger", "other", "192.0.2.7", {"a": 1}),
    ]
    (refused,) = refusals(served)
    assert refused["subject"] == "https://as.example|edsger"
    assert (refused["address"], refused["mcp_request_id"]) == ("192.0.2.7", "7")
    assert "token_id" not in refused


async def test_an_overview_records_no_refusal(served: Serving) -> None:
    """A list that is made is no attempt."""
    await ask(served, question("orders", "other", overview=True))
    assert refusals(served) == []


async def test_an_error_while_deciding_is_a_refusal(served: Serving) -> None:
    """Recorded by its class, without its words."""
    policies(served).broken = True
    reply = await ask(served, question("orders"))
    assert reply.json()["decisions"][0]["allowed"] is False
    (refused,) = refusals(served)
    assert (refused["result"], refused["reason"]) == ("internal", "RuntimeError")
    assert SECRET not in json.dumps(refused)


async def test_a_key_in_the_name_of_a_tool_is_masked_in_the_record(served: Serving) -> None:
    """What a caller names may hold a key by mistake."""
    await ask(served, question(f"x{SECRET}"))
    assert [one["tool"] for one in refusals(served)] == ["x***"]


@pytest.mark.parametrize("tool", ["t" * 129, "a\nb"])
async def test_a_name_that_is_none_is_refused_not_an_error(served: Serving, tool: str) -> None:
    """Beside others that are."""
    reply = await ask(served, question("orders", tool))
    assert [one["allowed"] for one in reply.json()["decisions"]] == [True, False]


@pytest.mark.parametrize(
    "said",
    [
        [],
        {},
        {"action": "handout", "tools": ["a"]},
        question(),
        question(*["t"] * 257),
        question(""),
        question(7),  # type: ignore[arg-type]
        question("a", subject="ada"),
        question("a", subject={"iss": "https://as.example"}),
        question("a", subject={"iss": "https://as.example", "sub": "ada", "claims": {}}),
        question("a", subject={"iss": "https://as.example", "sub": ""}),
        question("a", subject={"iss": "https://a|b", "sub": "c"}),
        question("a", subject={"iss": "https://as.example", "sub": "a\nb"}),
        question("a", subject={"iss": "https://as.example", "sub": "s" * 600}),
        question("a", address="somewhere"),
        question("a", arguments=[]),
        question("a", overview="yes"),
        question("a", unknown=1),
    ],
)
async def test_what_is_no_question_is_400(served: Serving, said: object) -> None:
    """An unknown member is refused: it may have been meant to narrow."""
    reply = await ask(served, said)
    assert (reply.status, reply.json()["code"]) == (400, "request_malformed")
    assert policies(served).asked == []


async def test_a_token_and_a_word_are_not_mixed(served: Serving) -> None:
    """Who is it then?"""
    said = question("web_search", subject={"iss": "https://as.example", "sub": "root"})
    assert (await ask(served, said, "Broker-Subject-Token: good")).status == 400


async def test_a_token_that_is_not_good_is_403(served: Serving) -> None:
    """For the question as for a hand-out."""
    reply = await ask(served, question("web_search"), "Broker-Subject-Token: bad")
    assert (reply.status, reply.json()["code"]) == (403, "subject_token_refused")


async def test_nobody_is_answered_nothing(served: Serving) -> None:
    """The caller comes first."""
    wire = await served.data()
    reply = await wire.get(
        PATH, "Content-Type: application/json", method="POST", body=b'{"action":"call_tool"}'
    )
    assert reply.status == 401


async def test_arguments_that_were_part_of_it_leave_a_digest(served: Serving) -> None:
    """Keyed, with their size; the same arguments in another order are the same."""
    for arguments in ({"query": "canary", "limit": 3}, {"limit": 3, "query": "canary"}, {}):
        await ask(served, question("other", arguments=arguments))
    await ask(served, question("other"))
    told: list[Any] = [one.get("arguments") for one in refusals(served)]
    assert told[0] == told[1]
    assert told[0]["size"] == len('{"limit":3,"query":"canary"}')
    assert told[2] != told[0]
    assert told[3] is None
    assert "canary" not in served.broker.audit_file.read_text()
