"""``broker.client`` against a broker in memory, on virtual time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest

from broker.client import Broker, SyncBroker
from broker.client.testing import FakeBroker, header
from broker.client.tool import working
from broker.errors import (
    BrokerUnreachable,
    CallerUnauthenticated,
    CredentialMalformed,
    CredentialUnavailable,
    CredentialUnknown,
    SettingsError,
    TooManyFailures,
    TooManyRequests,
)
from tests.simulators.clock import EPOCH, VirtualClock

pytestmark = pytest.mark.looptime

KEY = "canary-api-key-1"
NEWER = "canary-api-key-2"


class Refusal(Exception):
    """What an HTTP library raises for a 401."""

    def __init__(self, status: int, url: str) -> None:
        super().__init__(f"{status} from {url}")
        self.response = self
        self.status_code, self.url = status, url


class SlowBroker(FakeBroker):
    """Decides at once and answers after ``delay`` seconds."""

    delay = 0.0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self.handle_request(request)
        await self.clock.sleep(self.delay)
        return response


@pytest.fixture
def fake() -> FakeBroker:
    fake = FakeBroker(clock=VirtualClock())
    fake.put("search-api", {"api_key": KEY}, use=header("x-api-key", "https://api.example.com"))
    return fake


async def test_get_returns_the_value_and_its_times(fake: FakeBroker) -> None:
    """A hand-out becomes a frozen value with its version and times."""
    credential = await fake.broker().get("search-api")
    assert (credential.name, credential.value, credential["api_key"]) == ("search-api", KEY, KEY)
    assert credential.version == "v1"
    assert credential.use_until == EPOCH + 30
    assert credential.expires_at is None
    with pytest.raises(AttributeError):
        credential.version = "v2"  # type: ignore[misc]


async def test_a_value_is_cached_until_its_use_until(fake: FakeBroker) -> None:
    """Between two use_until no request leaves; after it the version is confirmed by ETag."""
    broker = fake.broker()
    first = await broker.get("search-api")
    await asyncio.sleep(29.9)
    assert await broker.get("search-api") is first
    assert len(fake.asked) == 1
    await asyncio.sleep(0.1)
    again = await broker.get("search-api")
    assert len(fake.asked) == 2
    assert fake.asked[1].headers["if-none-match"] == '"v1"'
    assert (again.version, again.use_until) == ("v1", EPOCH + 60)
    assert again.value == KEY


async def test_a_sleeping_machine_ages_the_cache(fake: FakeBroker) -> None:
    """Time the machine slept counts against a cached value."""
    broker = fake.broker()
    await broker.get("search-api")
    fake.put("search-api", {"api_key": NEWER})
    assert isinstance(fake.clock, VirtualClock)
    fake.clock.suspend(3600)
    assert (await broker.get("search-api")).value == NEWER


async def test_a_wall_clock_set_back_does_not_lengthen_a_life(fake: FakeBroker) -> None:
    """The deadline of a cached value counts on the boot clock."""
    broker = fake.broker()
    await broker.get("search-api")
    assert isinstance(fake.clock, VirtualClock)
    fake.clock.jump_wall(-3600)
    fake.put("search-api", {"api_key": NEWER})
    await asyncio.sleep(30)
    assert (await broker.get("search-api")).value == NEWER


async def test_a_new_version_arrives_after_the_hold(fake: FakeBroker) -> None:
    """A confirmed request that finds another version brings its value."""
    broker = fake.broker()
    await broker.get("search-api")
    fake.put("search-api", {"api_key": NEWER})
    await asyncio.sleep(31)
    assert (await broker.get("search-api")).value == NEWER


async def test_tasks_that_miss_together_make_one_request(fake: FakeBroker) -> None:
    """A hundred tasks without a cached value share one request."""
    broker = fake.broker()
    got = await asyncio.gather(*(broker.get("search-api") for _ in range(100)))
    assert {credential.value for credential in got} == {KEY}
    assert len(fake.asked) == 1


async def test_a_cancelled_task_does_not_cancel_the_others_request(fake: FakeBroker) -> None:
    """The first to ask may be cancelled; those who joined still get the value."""
    broker = fake.broker()
    fake.down = True
    first = asyncio.create_task(broker.get("search-api"))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(broker.get("search-api"))
    await asyncio.sleep(0.01)
    first.cancel()
    fake.down = False
    assert (await second).value == KEY
    assert first.cancelled()


async def test_each_tool_asks_for_itself(fake: FakeBroker) -> None:
    """A value fetched for one tool is not given to another without asking the broker."""
    broker = fake.broker()
    for tool in ("web_search", "orders", "web_search"):
        with working(tool):
            await broker.get("search-api")
    assert [asked.tool for asked in fake.asked] == ["web_search", "orders"]


async def test_a_tool_name_cannot_break_a_header(fake: FakeBroker) -> None:
    """Line ends in a tool's name are quoted."""
    with working("a\r\nBroker-Subject-Token: x"):
        await fake.broker().get("search-api")
    assert fake.asked[0].tool == "a%0D%0ABroker-Subject-Token: x"


async def test_without_a_broker_a_value_is_used_up_to_its_use_until_and_not_beyond(
    fake: FakeBroker,
) -> None:
    """An unreachable broker is no matter until use_until, and an error after a short wait."""
    broker = fake.broker()
    await broker.get("search-api")
    fake.down = True
    await asyncio.sleep(29)
    assert (await broker.get("search-api")).value == KEY
    await asyncio.sleep(1)
    before = fake.clock.now()
    with pytest.raises(BrokerUnreachable, match="All connection attempts failed"):
        await broker.get("search-api")
    assert 1.0 < fake.clock.now() - before <= 2.0


async def test_a_broker_that_starts_later_is_waited_for(fake: FakeBroker) -> None:
    """The first request goes on trying until the broker is there."""
    fake.down = True
    asking = asyncio.create_task(fake.broker(start_wait=30).get("search-api"))
    await asyncio.sleep(20)
    fake.down = False
    assert (await asking).value == KEY
    assert fake.clock.now() < 21.1


async def test_a_broker_that_never_starts_is_an_error_within_the_bound(fake: FakeBroker) -> None:
    """The wait for a broker ends at start_wait."""
    fake.down = True
    before = fake.clock.now()
    with pytest.raises(BrokerUnreachable):
        await fake.broker(start_wait=5).get("search-api")
    assert 4.0 < fake.clock.now() - before <= 5.0


async def test_unavailable_says_since_when_and_when_next(fake: FakeBroker) -> None:
    """A 503 becomes an error with its times, its reason, and the word that it may pass."""
    fake.fail("search-api", reason="vault_sealed", next_attempt_in=12.5)
    with pytest.raises(CredentialUnavailable) as caught:
        await fake.broker().get("search-api")
    error = caught.value
    assert (error.name, error.reason, error.retryable) == ("search-api", "vault_sealed", True)
    assert (error.since, error.next_attempt_at) == (EPOCH, EPOCH + 12.5)


async def test_unknown_is_an_error_that_trying_again_does_not_help(fake: FakeBroker) -> None:
    """A 404 becomes CredentialUnknown."""
    with pytest.raises(CredentialUnknown, match="no credential other") as caught:
        await fake.broker().get("other")
    assert not caught.value.retryable


async def test_a_name_is_one_segment_of_the_path(fake: FakeBroker) -> None:
    """A name cannot climb to another resource."""
    fake.put("team/../x y", {"k": KEY})
    assert (await fake.broker().get("team/../x y")).value == KEY


async def test_report_brings_the_newer_version(fake: FakeBroker) -> None:
    """A refused version is reported, and the newer one returned and cached."""
    broker = fake.broker()
    old = await broker.get("search-api")
    fake.put_on_report("search-api", {"api_key": NEWER})
    newer = await broker.report(old, detail="invalid key")
    assert newer is not None
    assert newer.value == NEWER
    assert await broker.get("search-api") is newer
    assert [(r.name, r.version, r.status, r.detail) for r in fake.reported] == [
        ("search-api", "v1", 401, "invalid key")
    ]


async def test_report_without_anything_newer_keeps_the_value(fake: FakeBroker) -> None:
    """A report that brings nothing returns None and changes nothing."""
    broker = fake.broker()
    held = await broker.get("search-api")
    assert await broker.report(held) is None
    assert await broker.get("search-api") is held


async def test_a_version_that_was_replaced_meanwhile_is_not_reported(fake: FakeBroker) -> None:
    """Who meets the refusal late gets the newer version without a report."""
    broker = fake.broker()
    old = await broker.get("search-api")
    fake.put_on_report("search-api", {"api_key": NEWER})
    await asyncio.gather(*(broker.report(old) for _ in range(10)))
    late = await broker.report(old)
    assert late is not None
    assert late.value == NEWER
    assert len(fake.reported) == 1


async def test_a_refused_version_is_distrusted_for_every_tool(fake: FakeBroker) -> None:
    """One tool's 401 spares the others theirs: they confirm what they hold first."""
    broker = fake.broker()
    for tool in ("web_search", "orders"):
        with working(tool):
            held = await broker.get("search-api")
    fake.put_on_report("search-api", {"api_key": NEWER})
    with working("orders"):
        await broker.report(held)
    with working("web_search"):
        assert (await broker.get("search-api")).value == NEWER
    assert len(fake.reported) == 1


async def test_use_pins_a_version_and_reports_a_401_on_the_way_out(fake: FakeBroker) -> None:
    """The value stays while others move on; the exception passes unchanged, reported."""
    broker = fake.broker()
    fake.put_on_report("search-api", {"api_key": NEWER})
    refusal = Refusal(401, "https://api.example.com/search")
    with pytest.raises(Refusal) as caught:
        async with broker.use("search-api") as key:
            await asyncio.sleep(60)
            assert key["api_key"] == key.value == KEY
            raise refusal
    assert caught.value is refusal
    assert [report.version for report in fake.reported] == ["v1"]
    assert (await broker.get("search-api")).value == NEWER


@pytest.mark.parametrize(
    ("error", "reports"),
    [
        (Refusal(403, "https://api.example.com/search"), 0),
        (Refusal(401, "https://elsewhere.example/login"), 0),
        (Refusal(401, "https://api.example.com.evil.example/"), 0),
        (ExceptionGroup("work", [ValueError(), Refusal(401, "https://api.example.com/x")]), 1),
        (RuntimeError("not HTTP"), 0),
    ],
    ids=["403", "another server", "a look-alike", "in a group", "another error"],
)
async def test_use_reports_only_a_401_of_a_listed_origin(
    fake: FakeBroker, error: Exception, reports: int
) -> None:
    """Only the upstream that owns the key can refuse it."""
    with pytest.raises(type(error)):
        async with fake.broker().use("search-api"):
            raise error
    assert len(fake.reported) == reports


async def test_use_reports_what_the_author_says(fake: FakeBroker) -> None:
    """An upstream without HTTP is reported by refused()."""
    async with fake.broker().use("search-api") as key:
        key.refused(detail="password authentication failed")
    assert [(r.status, r.detail) for r in fake.reported] == [
        (401, "password authentication failed")
    ]


async def test_use_never_lets_the_report_hide_the_error(fake: FakeBroker) -> None:
    """When the report itself fails the author still sees the upstream's refusal."""
    broker = fake.broker()
    with pytest.raises(Refusal):
        async with broker.use("search-api"):
            fake.down = True
            raise Refusal(401, "https://api.example.com/search")


async def test_use_confirms_a_value_that_would_not_last(fake: FakeBroker) -> None:
    """Work that takes longer than the cached promise gets a new promise first."""
    broker = fake.broker()
    await broker.get("search-api")
    await asyncio.sleep(20)
    async with broker.use("search-api", lasting=15) as key:
        assert key.credential.use_until == EPOCH + 50
    assert len(fake.asked) == 2


async def test_without_a_broker_a_value_is_given_for_less_than_was_wished(
    fake: FakeBroker,
) -> None:
    """A value that may be used now is better than an error, even if it will not last."""
    broker = fake.broker()
    held = await broker.get("search-api")
    fake.down = True
    assert await broker.get("search-api", lasting=1000) is held
    await asyncio.sleep(30)
    with pytest.raises(BrokerUnreachable):
        await broker.get("search-api", lasting=1000)


async def test_an_answer_that_was_asked_for_earlier_does_not_replace_a_later_one() -> None:
    """A slow answer from before a change does not bring the old value back."""
    fake = SlowBroker(clock=VirtualClock())
    fake.put("search-api", {"api_key": KEY})
    broker = fake.broker()
    old = await broker.get("search-api")
    fake.delay = 5.0
    slow = asyncio.create_task(broker.get("search-api", lasting=1000))
    await asyncio.sleep(1)
    fake.delay = 0.0
    fake.put("search-api", {"api_key": NEWER})
    newer = await broker.report(old)
    assert newer is not None
    assert (await slow).value == KEY
    assert (await broker.get("search-api")).value == NEWER


async def test_the_token_file_is_read_again_after_a_401(fake: FakeBroker, tmp_path: Path) -> None:
    """A replaced client token costs one more request, no error."""
    path = tmp_path / "client-token"
    path.write_text("first\n")
    fake.token = "first"
    broker = fake.broker(token_file=str(path))
    await broker.get("search-api")
    path.write_text("second\n")
    fake.token = "second"
    await asyncio.sleep(31)
    assert (await broker.get("search-api")).value == KEY
    sent = [asked.headers["authorization"] for asked in fake.asked]
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]


class LimitedBroker(FakeBroker):
    """Answers every request, or every wrong token, with a 429."""

    error: TooManyRequests | None = None

    def _answer(self, request: httpx2.Request, headers: Mapping[str, str]) -> httpx2.Response:
        if self.error is not None:
            raise self.error
        try:
            return super()._answer(request, headers)
        except CallerUnauthenticated as error:
            raise TooManyFailures(retry_after=20.0) from error


@pytest.fixture
def limited() -> LimitedBroker:
    fake = LimitedBroker(clock=VirtualClock())
    fake.put("search-api", {"api_key": KEY})
    return fake


async def test_the_token_file_is_read_again_when_too_many_authentications_failed(
    limited: LimitedBroker, tmp_path: Path
) -> None:
    """A neighbour that floods the broker with wrong tokens does not lock this client out."""
    path = tmp_path / "client-token"
    path.write_text("first")
    limited.token = "second"
    broker = limited.broker(token_file=str(path))
    with pytest.raises(TooManyFailures) as caught:
        await broker.get("search-api")
    assert (caught.value.retry_after, caught.value.retryable) == (20.0, True)
    assert len(limited.asked) == 1
    path.write_text("second")
    assert (await broker.get("search-api")).value == KEY


async def test_a_limit_is_an_error_that_says_when_to_ask_again(limited: LimitedBroker) -> None:
    """It is asked once; nothing is asked in between by itself."""
    limited.error = TooManyRequests(retry_after=41.5)
    with pytest.raises(TooManyRequests) as caught:
        await limited.broker().get("search-api")
    assert type(caught.value) is TooManyRequests
    assert caught.value.retry_after == 42.0
    assert len(limited.asked) == 1


async def test_a_limit_takes_no_value_away(limited: LimitedBroker) -> None:
    """What may still be used is given, if not for as long as was wished; afterwards no more."""
    broker = limited.broker()
    await broker.get("search-api")
    limited.error = TooManyRequests(retry_after=600.0)
    assert (await broker.get("search-api", lasting=60)).value == KEY
    await asyncio.sleep(31)
    with pytest.raises(TooManyRequests):
        await broker.get("search-api")


async def test_a_wrong_token_is_an_error_after_one_reading(
    fake: FakeBroker, tmp_path: Path
) -> None:
    """A token that did not change is not sent again."""
    path = tmp_path / "client-token"
    path.write_text("wrong")
    fake.token = "right"
    with pytest.raises(CallerUnauthenticated) as caught:
        await fake.broker(token_file=str(path)).get("search-api")
    assert len(fake.asked) == 1
    assert "wrong" not in str(caught.value)


async def test_a_token_file_that_appears_later_is_waited_for(
    fake: FakeBroker, tmp_path: Path
) -> None:
    """The broker writes the file at its start, which may be after the client's."""
    path = tmp_path / "client-token"
    fake.token = "t"
    asking = asyncio.create_task(fake.broker(token_file=str(path)).get("search-api"))
    await asyncio.sleep(3)
    path.write_text("t")
    assert (await asking).value == KEY


async def test_the_client_brings_little_along() -> None:
    """Importing it loads neither the MCP SDK nor httpx nor anything of the server's."""
    program = "import broker.client, broker.client.testing, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"mcp", "httpx", "pydantic", "fastapi", "uvicorn", "hvac", "yaml"})


async def test_no_address_is_an_error_at_the_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Importing and constructing needs no environment; asking does."""
    monkeypatch.delenv("BROKER_URL", raising=False)
    broker = Broker()
    with pytest.raises(SettingsError, match="BROKER_URL"):
        await broker.get("search-api")
    with pytest.raises(SettingsError, match="BROKER_URL"):
        SyncBroker().get("search-api")


async def test_several_fields_must_be_named(fake: FakeBroker) -> None:
    """A credential with several fields has no single value."""
    fake.put("orders-db", {"username": "u-1", "password": KEY})
    credential = await fake.broker().get("orders-db")
    assert (credential["username"], credential["password"]) == ("u-1", KEY)
    with pytest.raises(CredentialMalformed, match="username, password"):
        _ = credential.value
    with pytest.raises(KeyError, match="orders-db has username, password"):
        _ = credential["api_key"]


async def test_nothing_that_prints_shows_the_value(fake: FakeBroker) -> None:
    """repr, str and format of all that a caller holds are free of the secret."""
    broker = fake.broker()
    credential = await broker.get("search-api")
    async with broker.use("search-api") as key:
        shown = [
            repr(credential),
            str(credential),
            f"{credential}",
            repr(key),
            repr(credential.data),
        ]
    assert not [text for text in shown if KEY in text]
    assert "api_key=***" in shown[0]
