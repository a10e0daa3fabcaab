"""``client.mcp.introspection`` and ``following``: what is known of scoped tokens, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest

from broker.client.mcp import introspection as module
from broker.client.mcp.bearers import Bearers
from broker.client.mcp.following import LONGEST_PAUSE, follow
from broker.client.mcp.introspection import KEPT, Introspection
from broker.client.mcp.jwts import Jwts
from broker.client.testing import FakeBroker
from broker.client.tool import Subject, acting_for, working
from broker.errors import BearerRefused, BrokerAnswerInvalid, BrokerUnreachable, TokensUnavailable
from broker.secret import SecretValue
from tests.simulators.clock import VirtualClock
from tests.simulators.subject_tokens import UNKNOWN, TokenBroker
from tests.support.patience import eventually

RESOURCE = "https://mcp.example/mcp"

pytestmark = pytest.mark.looptime


@pytest.fixture
async def fake() -> TokenBroker:
    """A broker on virtual time."""
    return TokenBroker(clock=VirtualClock())


def acting(token: str) -> Subject:
    return Subject(SecretValue(token), sha256(token.encode()).hexdigest())


@asynccontextmanager
async def heard(fake: TokenBroker) -> AsyncIterator[Introspection]:
    """An introspection that hears of revocations."""
    broker = fake.broker()
    introspection = Introspection(broker, RESOURCE)
    following = asyncio.create_task(follow(broker, introspection))
    await eventually(lambda: introspection._hearing)
    yield introspection
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_verdict_is_kept_for_five_seconds_at_most(fake: TokenBroker) -> None:
    """Then the broker is asked again."""
    token = fake.mint("ada", "web_search")
    async with heard(fake) as introspection:
        for _ in range(10):
            assert (await introspection.agent(acting(token))).subject == "ada"
        assert len(fake.introspected) == 1
        await asyncio.sleep(KEPT)
        await introspection.agent(acting(token))
        assert len(fake.introspected) == 2


async def test_a_verdict_ends_with_its_token(fake: TokenBroker) -> None:
    """Not a moment later, whatever is kept."""
    token = fake.mint("ada", "web_search", life=2.0)
    async with heard(fake) as introspection:
        await introspection.agent(acting(token))
        await asyncio.sleep(2.0)
        with pytest.raises(BearerRefused):
            await introspection.agent(acting(token))


async def test_nothing_is_kept_while_revocations_are_not_heard(fake: TokenBroker) -> None:
    """Without the stream each request asks."""
    token = fake.mint("ada", "web_search")
    introspection = Introspection(fake.broker(), RESOURCE)
    for _ in range(3):
        await introspection.agent(acting(token))
    assert len(fake.introspected) == 3


async def test_a_revocation_drops_its_token_at_once_and_no_other(fake: TokenBroker) -> None:
    """By the id that the event names."""
    ada, edsger = fake.mint("ada", "t"), fake.mint("edsger", "t")
    async with heard(fake) as introspection:
        for token in (ada, edsger):
            await introspection.agent(acting(token))
        fake.revoke(ada)
        await asyncio.sleep(0.01)
        with pytest.raises(BearerRefused):
            await introspection.agent(acting(ada))
        await introspection.agent(acting(edsger))
        assert fake.introspected == [ada, edsger, ada]


@pytest.mark.parametrize("event", ["gap", "end"])
async def test_what_may_have_been_missed_drops_everything(fake: TokenBroker, event: str) -> None:
    """A gap, or a stream that ended: any token may have been revoked meanwhile."""
    token = fake.mint("ada", "t")
    async with heard(fake) as introspection:
        await introspection.agent(acting(token))
        fake.revoke(token, told=False)
        if event == "gap":
            fake.tell("gap", {"missed": "3"})
        else:
            fake.cut()
        await asyncio.sleep(0.01)
        with pytest.raises(BearerRefused):
            await introspection.agent(acting(token))


async def test_a_revoked_event_that_cannot_be_read_drops_everything(fake: TokenBroker) -> None:
    """In doubt nothing is known."""
    token = fake.mint("ada", "t")
    async with heard(fake) as introspection:
        await introspection.agent(acting(token))
        for stream in fake.streams:
            stream.queue.put_nowait(b"event: revoked\ndata: {\n\n")
        await asyncio.sleep(0.01)
        assert introspection._kept == {}


async def test_a_verdict_that_a_revocation_overtook_is_not_kept(fake: TokenBroker) -> None:
    """Asked for before the revocation, answered after its news."""
    token = fake.mint("ada", "t")
    async with heard(fake) as introspection:
        fake.before_introspection = asyncio.Event()
        asking = asyncio.create_task(introspection.agent(acting(token)))
        await asyncio.sleep(0.01)
        fake.revoke(token)
        await asyncio.sleep(0.01)
        fake.before_introspection.set()
        await asking
        with pytest.raises(BearerRefused):
            await introspection.agent(acting(token))


async def test_who_asks_after_a_revocation_does_not_get_an_answer_from_before(
    fake: TokenBroker,
) -> None:
    """The flight that was under way is for those alone who were on it already."""
    token = fake.mint("ada", "t")
    async with heard(fake) as introspection:
        slow = fake.before_introspection = asyncio.Event()
        asking = asyncio.create_task(introspection.agent(acting(token)))
        await asyncio.sleep(0.01)
        fake.before_introspection = None
        fake.revoke(token)
        await asyncio.sleep(0.01)
        with pytest.raises(BearerRefused):
            await introspection.agent(acting(token))
        slow.set()
        await asyncio.gather(asking, return_exceptions=True)
        assert introspection._flights == {}


async def test_the_stream_is_found_again_after_an_outage(fake: TokenBroker) -> None:
    """With pauses that grow, for ever; one line in the log an outage."""
    async with heard(fake) as introspection:
        fake.down = True
        fake.cut()
        await asyncio.sleep(60.0)
        assert not introspection._hearing
        fake.down = False
        await asyncio.sleep(LONGEST_PAUSE)
        assert introspection._hearing


async def test_a_hundred_requests_at_once_ask_once(fake: TokenBroker) -> None:
    """Single flight for each token; who gives up does not take it from the others."""
    token = fake.mint("ada", "t")
    async with heard(fake) as introspection:
        fake.before_introspection = asyncio.Event()
        tasks = [asyncio.create_task(introspection.agent(acting(token))) for _ in range(100)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        fake.before_introspection.set()
        agents = await asyncio.gather(*tasks[1:])
    assert {one.subject for one in agents} == {"ada"}
    assert len(fake.introspected) == 1


async def test_what_is_kept_is_bounded_and_holds_no_token(
    fake: TokenBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By digest; the oldest goes."""
    monkeypatch.setattr(module, "MOST", 10)
    async with heard(fake) as introspection:
        tokens = [fake.mint(f"s{number}", "t") for number in range(30)]
        for token in tokens:
            await introspection.agent(acting(token))
        assert len(introspection._kept) == 10
        assert not any(token in repr(introspection._kept) for token in tokens)


async def test_outages_and_odd_answers_are_no_verdict(fake: TokenBroker) -> None:
    """Neither good nor bad: nobody knows."""
    token = fake.mint("ada", "t")
    introspection = Introspection(fake.broker(), RESOURCE)
    fake.tokens_down = True
    with pytest.raises(TokensUnavailable):
        await introspection.agent(acting(token))
    fake.tokens_down = False
    fake.down = True
    started = asyncio.get_running_loop().time()
    with pytest.raises(BrokerUnreachable):
        await introspection.agent(acting(token))
    assert asyncio.get_running_loop().time() - started < 1.0  # an agent waits for it
    fake.down = False
    fake.token = "another-client-token"
    with pytest.raises(BrokerUnreachable):
        await introspection.agent(acting(token))
    fake.token = ""
    fake.tokens[token].subject = 7  # type: ignore[assignment]
    with pytest.raises(BrokerAnswerInvalid):
        await introspection.agent(acting(token))


async def test_a_broker_without_scoped_tokens_has_no_good_one() -> None:
    """Where the broker answers 404 a token is refused: no outage, nothing to wait for."""
    introspection = Introspection(FakeBroker(clock=VirtualClock()).broker(), RESOURCE)
    with pytest.raises(BearerRefused):
        await introspection.agent(acting(UNKNOWN))


# --- values held for subjects ----------------------------------------------------------------


async def test_values_belong_to_subject_and_tool(fake: TokenBroker) -> None:
    """What one subject was handed no other is given, and a revocation drops them all."""
    fake.put("search-api", {"api_key": "k-1"})
    ada, edsger = (acting(fake.mint(name, "web_search")) for name in ("ada", "edsger"))
    async with heard(fake) as introspection:
        broker = introspection._broker

        async def get(subject: Subject) -> None:
            with acting_for(subject), working("web_search"):
                await broker.get("search-api")

        for subject in (ada, edsger, ada, edsger):
            await get(subject)
        assert fake.subjects == [("web_search", "ada"), ("web_search", "edsger")]
        introspection.forget("jti-1")
        await get(ada)
        assert len(fake.subjects) == 3


async def test_values_of_subjects_are_bounded(fake: TokenBroker) -> None:
    """Ten thousand agents do not fill the memory of the server."""
    fake.put("search-api", {"api_key": "k-1"})
    broker = fake.broker()
    with working("web_search"):
        await broker.get("search-api")
        for number in range(1500):
            with acting_for(acting(fake.mint(f"s{number}", "*"))):
                await broker.get("search-api")
    assert len(broker._core._held) <= 1025
    assert ("search-api", "web_search", "") in broker._core._held


async def test_a_token_with_a_wrong_checksum_costs_the_broker_nothing(fake: TokenBroker) -> None:
    """Mistyped or made up carelessly: the guard refuses it without asking."""
    broker = fake.broker()
    introspection = Introspection(broker, RESOURCE)
    bearers = Bearers(introspection, Jwts((), resource=RESOURCE, clock=broker.clock))
    token = fake.mint("ada", "web_search")
    other = "A" if token[-1] != "A" else "B"
    for bearer in (token[:-1] + other, token[:20] + other + token[21:], token + "0", "mbt_none"):
        if bearer == token:
            continue
        with pytest.raises(BearerRefused):
            await bearers.agent(bearer)
    assert fake.introspected == []
    assert (await bearers.agent(token)).subject == "ada"
    assert len(fake.introspected) == 1
