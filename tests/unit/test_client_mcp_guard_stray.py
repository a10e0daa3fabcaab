"""Tokens where none belong, whatever the bearer; and in paths and queries, whatever their form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.client.mcp.judging import HINT
from broker.client.mcp.stray import in_path, in_query
from broker.protocol import token_format
from tests.simulators.subject_tokens import UNKNOWN, TokenBroker
from tests.support.guarded import call_body, call_headers, guarded

OPAQUE = token_format.opaque(b"x" * 32).decode()
SIGNED = token_format.signed(b"y" * 120).decode()
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


@pytest.fixture
def fake() -> TokenBroker:
    """A broker with one key."""
    fake = TokenBroker()
    fake.put("search-api", {"api_key": "canary-key"})
    return fake


def body(arguments: dict[str, Any], **meta: Any) -> dict[str, Any]:
    """A call with these members beside those of the protocol."""
    made = call_body("web_search", arguments)
    made["params"]["_meta"] |= meta
    return made


@pytest.mark.parametrize("bearer", ["", "nobody", UNKNOWN, JWT, "x" * 9000])
@pytest.mark.parametrize(
    "document",
    [
        body({"query": OPAQUE}),
        body({"query": [{"deep": f"see {SIGNED}"}]}),
        body({OPAQUE: 1}),
        body({}, token=OPAQUE),
        body({}, authorization=f"Bearer {JWT}"),
        body({}, access_token=JWT),
    ],
    ids=["opaque", "signed", "name", "meta", "meta_bearer", "meta_jwt"],
)
async def test_a_stray_token_is_400_whatever_the_bearer(
    fake: TokenBroker, bearer: str, document: dict[str, Any]
) -> None:
    """What is wrong is where it stands, not who shows it: no 401 that has a client log in anew."""
    async with guarded(fake.broker()) as world, world.raw(bearer) as http:
        answer = await http.post(world.url, json=document, headers=call_headers("web_search"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
    assert "Authorization field" in answer.json()["error"]["message"]
    assert answer.json()["id"] == 1
    assert not fake.questions


async def test_a_bad_bearer_in_its_own_arguments_is_400(fake: TokenBroker) -> None:
    """Also one that no broker and no issuer knows."""
    bearer = "an-opaque-text-of-somebody-else"
    document = body({"query": f"my token is {bearer}"})
    async with guarded(fake.broker()) as world, world.raw(bearer) as http:
        answer = await http.post(world.url, json=document, headers=call_headers("web_search"))
    assert answer.status_code == 400


async def test_a_stray_token_is_400_while_nobody_can_judge_the_bearer(fake: TokenBroker) -> None:
    """The broker is not needed to see it; without one in the body it is a 503 as ever."""
    token = fake.mint("ada", "web_search")
    fake.down = True
    headers = call_headers("web_search")
    async with guarded(fake.broker()) as world, world.raw(token) as http:
        stray = await http.post(world.url, json=body({"query": OPAQUE}), headers=headers)
        plain = await http.post(world.url, json=body({}), headers=headers)
    assert (stray.status_code, plain.status_code) == (400, 503)
    assert plain.json()["id"] == 1


async def test_of_strangers_a_bounded_part_is_looked_at(fake: TokenBroker) -> None:
    """No more is read than the first 64 KiB; a scoped token in there is found in a longer body."""
    early = json.dumps(body({"query": OPAQUE, "more": "m" * HINT})).encode()
    late = json.dumps(body({"more": "m" * HINT, "query": OPAQUE})).encode()

    async def chunks(content: bytes) -> Any:
        for start in range(0, len(content), 10_000):
            yield content[start : start + 10_000]

    async with guarded(fake.broker()) as world, world.raw() as http:
        headers = call_headers("web_search")
        for content in (early, chunks(early)):
            assert (await http.post(world.url, content=content, headers=headers)).status_code == 400
        answer = await http.post(world.url, content=late, headers=headers)
    assert answer.status_code == 401
    async with guarded(fake.broker()) as world, world.raw(fake.mint("ada", "web_search")) as http:
        assert (await http.post(world.url, content=late, headers=headers)).status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("stray", [OPAQUE, SIGNED, JWT, f"x;token={JWT}", JWT.replace(".", "%2E")])
async def test_any_form_of_token_in_a_path_is_400(
    fake: TokenBroker, method: str, stray: str
) -> None:
    """With a good bearer and with none, though the token is another."""
    content = json.dumps(body({})) if method == "POST" else None
    async with guarded(fake.broker()) as world:
        for bearer in (fake.mint("ada", "web_search"), ""):
            async with world.raw(bearer) as http:
                answer = await http.request(method, f"{world.url}/{stray}/x", content=content)
            assert answer.status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/mcp",
        "/mcp/eyJ.a.b",
        "/static/eyJabcdefgh.min.js",
        "/static/eyJhbGciOiJSUzI1NiJ9",
        f"/files/report-{JWT}.pdf",
        f"/files/{JWT}.pdf",
    ],
)
def test_other_paths_are_none(path: str) -> None:
    """A JWT is a whole segment, and its first part says an algorithm."""
    assert in_path(path, "") == ()


@pytest.mark.parametrize(
    "query",
    [
        JWT,
        f"x=1&{JWT}",
        f"id_token={JWT}",
        f"refresh-token={JWT}",
        f"client_assertion={JWT}",
        f"auth=Bearer%20{JWT}",
        f"jwt={JWT.replace('.', '%2E')}",
    ],
)
def test_a_jwt_in_a_query_counts_by_its_name(query: str) -> None:
    """Or where it has none."""
    assert JWT in "".join(in_query(query.encode(), ""))
