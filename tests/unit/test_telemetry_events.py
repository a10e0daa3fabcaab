"""The event bus: everybody who wants an event gets it, nobody slows down the publisher."""

from __future__ import annotations

import asyncio

import pytest

from broker.telemetry.events import GAP, QUEUE, Event, Events
from broker.telemetry.metrics import Metrics
from tests.simulators.clock import VirtualClock


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def events(metrics: Metrics) -> Events:
    return Events(metrics)


def gaps(metrics: Metrics) -> int:
    text = b"".join(metrics.render()).decode()
    (line,) = [line for line in text.splitlines() if line.startswith("broker_event_gaps_total ")]
    return int(line.split()[1])


async def test_each_subscriber_gets_each_event_in_order(events: Events) -> None:
    """Two subscribers see the same story; what came before a subscription is not in it."""
    events.publish("published", credential="early", version="v0")
    one, two = events.subscribe(), events.subscribe()
    events.publish("published", credential="search-api", version="v1")
    events.publish("suspect", credential="search-api", version="v1")
    expected = [
        Event(2, "published", {"credential": "search-api", "version": "v1"}),
        Event(3, "suspect", {"credential": "search-api", "version": "v1"}),
    ]
    assert expected == one.take() == two.take()
    assert one.take() == []


@pytest.mark.looptime
async def test_a_waiting_subscriber_is_woken(events: Events) -> None:
    """The flag is set by an event and cleared by taking it."""
    clock = VirtualClock()
    with events.subscribe() as subscription:
        asyncio.get_running_loop().call_later(
            5, lambda: events.publish("refused", credential="crm", reason="vault_denied")
        )
        assert await clock.wait(subscription.ready, clock.now() + 60)
        assert clock.now() == 5
        assert [event.kind for event in subscription.take()] == ["refused"]
        assert not await clock.wait(subscription.ready, clock.now() + 1)


async def test_only_wanted_events_are_queued(events: Events) -> None:
    """A subscriber that may know of one credential hears of no other, not even as a gap."""
    mine = events.subscribe(lambda event: event.fields["credential"] == "mine", size=2)
    for _ in range(50):
        events.publish("expiring", credential="theirs")
    assert not mine.ready.is_set()
    events.publish("expiring", credential="mine")
    assert [event.id for event in mine.take()] == [51]


async def test_a_slow_subscriber_gets_a_gap_instead_of_a_growing_queue(
    events: Events, metrics: Metrics
) -> None:
    """Past its bound the queue is emptied; a gap tells how many were lost; others lose none."""
    slow, quick = events.subscribe(size=3), events.subscribe(size=3)
    seen = []
    for number in range(8):
        events.publish("published", credential="search-api", version=f"v{number}")
        seen += quick.take()
    assert [event.id for event in seen] == list(range(1, 9))
    taken = slow.take()
    assert Event(6, GAP, {"missed": "6"}) == taken[0]
    assert [event.id for event in taken[1:]] == [7, 8]
    assert gaps(metrics) == 1
    events.publish("published", credential="search-api", version="v9")
    assert [event.id for event in slow.take()] == [9]


async def test_the_default_bound_holds(events: Events) -> None:
    """However much is published, a subscriber that never reads holds a bounded queue."""
    subscription = events.subscribe()
    for _ in range(10 * QUEUE + 1):
        events.publish("expiring", credential="search-api")
    assert len(subscription.take()) <= QUEUE + 1


async def test_closing_ends_waiting_and_listening(events: Events) -> None:
    """A subscriber that left gets nothing more; the stop of the broker wakes all others."""
    left, waiting = events.subscribe(), events.subscribe()
    left.close()
    left.close()
    events.publish("rotated", credential="search-api", version="v2")
    assert left.take() == []
    assert left.ready.is_set()
    events.close()
    assert waiting.closed
    assert waiting.ready.is_set()
    assert waiting.take() == []
    late = events.subscribe()
    assert late.closed
    assert late.ready.is_set()
    events.publish("rotated", credential="search-api", version="v3")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("leaked", {}), ("gap", {}), ("published", {"value": "x"}), ("", {"credential": "x"})],
)
async def test_kinds_and_fields_are_closed_sets(
    events: Events, kind: str, fields: dict[str, str]
) -> None:
    """What is no known kind or field is a fault and is told to nobody."""
    subscription = events.subscribe()
    with pytest.raises(ValueError, match="no event"):
        events.publish(kind, **fields)
    assert subscription.take() == []
