"""``client.mcp.stray`` and what becomes of such tokens in this process's logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from broker.client import redaction
from broker.client.mcp.stray import in_message, in_query, is_scoped
from broker.protocol import token_format
from broker.secret import SecretValue
from tests.simulators.subject_tokens import TokenBroker
from tests.support.guarded import call_body, call_headers, guarded

SCOPED = token_format.opaque(b"x" * 32).decode()
SIGNED = token_format.signed(b"y" * 120).decode()
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize("token", [SCOPED, SIGNED])
def test_scoped_tokens_are_known_by_their_form(token: str) -> None:
    """Whole, and inside any text."""
    assert is_scoped(token)
    assert not is_scoped(f"{token} ")
    assert not is_scoped(token[:-1] + ("0" if token[-1] != "0" else "1"))
    assert in_query(f"q=a+{token}".encode(), "") == (token,)
    assert in_message({"params": {"arguments": {"q": f"see {token}!"}}}, "") == (token,)
    assert in_message({"params": {"arguments": {token: 1}}}, "") == (token,)


@pytest.mark.parametrize("text", ["", "mbt_", "mbt_short", "embt_ and mbs_", "a" * 9000])
def test_other_texts_are_no_scoped_tokens(text: str) -> None:
    """A prefix alone is none."""
    assert not is_scoped(text)
    assert in_message({"q": text}, "") == ()


def test_what_is_found_in_a_query_is_decoded() -> None:
    """So that logs are masked however the address is written."""
    assert in_query(b"access_token=a%2Bb", "") == ("a+b",)
    assert SCOPED in in_query(SCOPED.replace("_", "%5f").encode(), "")


def test_presigned_addresses_survive() -> None:
    """Signatures of others are data, in the query and in arguments."""
    presigned = (
        "https://bucket.s3.example/key?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Security-Token={JWT}&X-Amz-Signature=0f0f"
    )
    assert in_message({"params": {"arguments": {"url": presigned, "token": JWT}}}, "") == ()
    assert in_query(f"X-Amz-Security-Token={JWT}&sig={JWT}".encode(), "") == ()


def test_the_own_bearer_is_known_in_any_form() -> None:
    """A JWT too, though JWTs in arguments are nobody's business."""
    document = {"params": {"arguments": {"q": [{"deep": f"x{JWT}x"}]}}}
    assert in_message(document, JWT) == (JWT,)
    assert in_message(document, "") == ()
    assert in_message({"q": "short"}, "short") == ()


def test_a_deep_message_is_walked_without_recursion() -> None:
    """As deep as a parser goes, and deeper."""
    document: dict[str, object] = {"token": SCOPED}
    for _ in range(20_000):
        document = {"a": document}
    assert in_message(document, "") == (SCOPED,)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Logs of a process that masks."""
    factory = logging.getLogRecordFactory()
    redaction.install()
    caplog.set_level(logging.DEBUG)
    yield caplog
    logging.setLogRecordFactory(factory)


async def test_tokens_where_none_belong_are_scrubbed_from_logs(
    logged: pytest.LogCaptureFixture,
) -> None:
    """The access log of the server writes the address after the answer: the token is masked."""
    fake = TokenBroker()
    good, elsewhere = fake.mint("ada", "ping"), SCOPED
    async with guarded(fake.broker()) as world, world.raw(good) as http:
        headers = call_headers("ping")
        for query in (f"access_token={JWT}", f"q={elsewhere}", f"q={good}"):
            address = f"{world.url}?{query}"
            assert (await http.post(address, json=call_body("ping"), headers=headers)).is_error
            logging.getLogger("uvicorn.access").info('"POST %s" %d', f"/mcp?{query}", 400)
        logging.getLogger("app").warning("headers were %r", {"authorization": f"Bearer {good}"})
    ours = [one.getMessage() for one in logged.records if not one.name.startswith("http")]
    assert any("access_token=***" in one for one in ours)
    for token in (JWT, elsewhere, good):
        assert not [one for one in ours if token in one]


def test_of_a_long_token_the_beginning_is_masked() -> None:
    """What is left cannot be used, and a stranger's long text costs little to learn."""
    token = JWT.replace("c2ln", "c" * 4000)
    redaction.learn_token(SecretValue(token))
    assert redaction.mask(f"GET /?access_token={token}").startswith("GET /?access_token=***cc")
