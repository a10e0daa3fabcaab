"""``SyncBroker``: the twin of ``Broker`` for threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import httpx2
import pytest

from broker.client.testing import FakeBroker, header
from broker.client.tool import working
from broker.errors import BrokerUnreachable, CredentialUnavailable
from tests.simulators.clock import SteppingClock

KEY = "canary-api-key-1"
NEWER = "canary-api-key-2"


class SlowBroker(FakeBroker):
    """Answers when ``go`` is set, so that threads can pile up."""

    def __init__(self) -> None:
        super().__init__(clock=SteppingClock())
        self.go = threading.Event()
        self.fails = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        assert self.go.wait(5)
        if self.fails:
            self.fail("search-api")
        return super().handle_request(request)


@pytest.fixture
def fake() -> FakeBroker:
    fake = FakeBroker(clock=SteppingClock())
    fake.put("search-api", {"api_key": KEY}, use=header("x-api-key", "https://api.example.com"))
    return fake


def clock(fake: FakeBroker) -> SteppingClock:
    assert isinstance(fake.clock, SteppingClock)
    return fake.clock


def test_get_caches_until_use_until(fake: FakeBroker) -> None:
    """One request a hold, then a confirmation."""
    broker = fake.sync()
    assert broker.get("search-api").value == KEY
    clock(fake).advance(29)
    broker.get("search-api")
    assert len(fake.asked) == 1
    clock(fake).advance(1)
    broker.get("search-api")
    assert "if-none-match" in fake.asked[1].headers


def test_the_twins_share_one_cache(fake: FakeBroker) -> None:
    """What the async client fetched the sync one need not, and the other way round."""
    broker = fake.broker()
    held = broker.sync.get("search-api")
    coroutine = broker.get("search-api")
    with pytest.raises(StopIteration) as ended:  # a cached value needs no event loop
        coroutine.send(None)
    assert ended.value.value is held


@pytest.mark.parametrize("fails", [False, True])
def test_threads_that_miss_together_make_one_request(fails: bool) -> None:
    """Value or error, all who joined get the same."""
    fake = SlowBroker()
    fake.put("search-api", {"api_key": KEY})
    fake.fails = fails
    broker = fake.sync()

    def ask(_: int) -> str:
        try:
            return broker.get("search-api").value
        except CredentialUnavailable as error:
            return error.reason

    with ThreadPoolExecutor(16) as pool:
        asked = pool.map(ask, range(16))
        while len(broker._flights) < 1 or pool._work_queue.qsize():
            pass
        fake.go.set()
        assert set(asked) == {"vault_sealed" if fails else KEY}
    assert len(fake.asked) == 1
    assert broker._flights == {}


def test_use_reports_a_401_and_lets_the_exception_pass(fake: FakeBroker) -> None:
    """As its twin does."""
    broker = fake.sync()
    fake.put_on_report("search-api", {"api_key": NEWER})
    request = httpx2.Request("GET", "https://api.example.com/search")
    with (
        pytest.raises(httpx2.HTTPStatusError),
        broker.use("search-api") as key,
    ):
        assert key.value == KEY
        httpx2.Response(401, request=request).raise_for_status()
    assert [report.version for report in fake.reported] == ["v1"]
    assert broker.get("search-api").value == NEWER


def test_report_returns_the_newer_version_or_none(fake: FakeBroker) -> None:
    """As its twin does."""
    broker = fake.sync()
    old = broker.get("search-api")
    assert broker.report(old) is None
    fake.put_on_report("search-api", {"api_key": NEWER})
    newer = broker.report(old)
    assert newer is not None
    assert newer.value == NEWER


def test_a_broker_that_starts_late_is_waited_for_within_the_bound(fake: FakeBroker) -> None:
    """Waiting is done on the clock, up to start_wait."""
    fake.down = True
    before = fake.clock.now()
    with pytest.raises(BrokerUnreachable):
        fake.sync().get("search-api")
    assert 29 < fake.clock.now() - before <= 30


def test_a_report_that_fails_does_not_hide_the_error(fake: FakeBroker) -> None:
    """The author sees his own exception."""
    broker = fake.sync()

    class Refusal(Exception):
        pass

    with pytest.raises(Refusal), broker.use("search-api") as key:
        fake.down = True
        key.refused()
        raise Refusal


def test_a_thread_carries_the_tools_name(fake: FakeBroker) -> None:
    """A context copied to a thread, as AnyIO does for sync tools, names the tool there."""
    broker = fake.sync()
    with working("web_search"), ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, broker.get, "search-api").result()
    assert fake.asked[0].tool == "web_search"


def test_wait_asks_the_broker_to_wait_for_a_first_value(fake: FakeBroker) -> None:
    """The wish goes out as Prefer, for a value that is not held yet."""
    fake.sync().get("search-api", wait=20)
    assert fake.asked[0].headers["prefer"] == "wait=20"
