"""The client on behalf of a subject: what the broker refuses it, async and in threads."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest

from broker.client.tool import Subject, acting_for, current, working
from broker.errors import (
    BrokerError,
    CredentialUnknown,
    InsufficientScope,
    SubjectTokenRefused,
    TokensUnavailable,
)
from broker.secret import SecretValue
from tests.simulators.subject_tokens import TokenBroker


@pytest.fixture
def fake() -> TokenBroker:
    """A broker with two credentials."""
    fake = TokenBroker()
    fake.put("search-api", {"api_key": "k-1"})
    fake.put("orders-db", {"dsn": "d-1"})
    return fake


def subject(token: str) -> Subject:
    return Subject(SecretValue(token), sha256(token.encode()).hexdigest())


async def refusal(fake: TokenBroker, token: str, tool: str, name: str) -> BrokerError:
    """The same from both clients."""
    broker = fake.broker()
    with acting_for(subject(token)), working(tool):
        with pytest.raises(BrokerError) as caught:
            await broker.get(name)
        with pytest.raises(type(caught.value)):
            await asyncio.to_thread(broker.sync.get, name)
    return caught.value


async def test_refusals_of_a_scoped_token_are_told_apart(fake: TokenBroker) -> None:
    """Scope, credential, ended, nobody knows: each has its class."""
    token = fake.mint("ada", "web_search")
    refused = await refusal(fake, token, "orders", "search-api")
    assert isinstance(refused, InsufficientScope)
    assert refused.scope == "tool:orders"
    assert isinstance(await refusal(fake, token, "web_search", "orders-db"), CredentialUnknown)
    fake.tokens_down = True
    assert isinstance(await refusal(fake, token, "web_search", "search-api"), TokensUnavailable)
    fake.tokens_down = False
    fake.revoke(token)
    assert isinstance(await refusal(fake, token, "web_search", "search-api"), SubjectTokenRefused)


async def test_a_report_is_made_on_behalf_of_the_subject(fake: TokenBroker) -> None:
    """Its scoped token goes along."""
    token = fake.mint("ada", "web_search")
    fake.put_on_report("search-api", {"api_key": "k-2"})
    broker = fake.broker()
    with acting_for(subject(token)), working("web_search"):
        newer = await broker.report(await broker.get("search-api"))
    assert newer is not None
    assert newer.value == "k-2"
    assert {one.headers["broker-subject-token"] for one in fake.asked} == {token}


def test_who_acts_is_nested_and_said_by_the_request_first() -> None:
    """An explicit subject wins; leaving a block brings the one before back."""
    outer, inner = subject("outer"), subject("inner")
    assert current().subject is None
    with acting_for(outer):
        assert current().subject == outer
        with working("t"):
            assert current() == ("t", "", outer)
        with working("t", subject=inner):
            assert current().whose == inner.digest
        with acting_for(None):
            assert current().subject is None
    assert current().whose == ""


def test_a_subject_does_not_print() -> None:
    """Nor does the work that carries it."""
    with acting_for(subject("canary-token")):
        assert "canary-token" not in repr(current())
