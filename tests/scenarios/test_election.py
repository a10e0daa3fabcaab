"""Candidates for one Lease, in virtual time: who leads when, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import pytest

from broker.kube.election import LeaseElection
from broker.kube.plan import Times
from tests.simulators.clock import VirtualClock
from tests.simulators.kubernetes import LeaseLine, Objects

pytestmark = pytest.mark.looptime

TIMES = Times(lease_duration=15, renew_deadline=10, retry_period=2)


@dataclass
class Candidate:
    """One process with its own clock, line and election."""

    name: str
    objects: Objects
    clock: VirtualClock = field(default_factory=VirtualClock)
    changes: list[tuple[float, bool]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.line = LeaseLine(self.objects, self.clock)
        self.election = LeaseElection(
            self.line, identity=self.name, times=TIMES, clock=self.clock, rng=Random(self.name)
        )
        self.election.on_change(
            lambda: self.changes.append((self.clock.now(), self.election.leading))
        )

    def start(self) -> None:
        self.task = asyncio.create_task(self.election.run())

    async def kill(self) -> None:
        """It is gone; nothing is given back."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            self.task = None

    async def stop(self) -> None:
        await self.kill()
        await self.election.release()


@asynccontextmanager
async def candidates(*names: str, together: bool = True) -> AsyncIterator[list[Candidate]]:
    """Candidates for one Lease; while they run it is checked that no two lead at once."""
    objects = Objects()
    made = [Candidate(name, objects) for name in names]
    both: list[float] = []

    async def watch() -> None:
        while True:
            if sum(one.election.leading for one in made if one.task) > 1:
                both.append(made[0].clock.now())
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    for one in made if together else made[:1]:
        one.start()
    try:
        yield made
    finally:
        watching.cancel()
        for one in made:
            await one.kill()
    assert both == [], "two led at once"


def leaders(made: list[Candidate]) -> list[str]:
    return [one.name for one in made if one.election.leading]


async def test_one_leads_and_stays() -> None:
    """Of three that start together one leads, and goes on renewing every two seconds."""
    async with candidates("a", "b", "c") as made:
        await asyncio.sleep(60)
        (first,) = leaders(made)
        creates = [record.holder for how, record in made[0].objects.writes if how == "create"]
        assert creates == [first]
        assert {record.holder for _, record in made[0].objects.writes} == {first}
        assert 28 <= len(made[0].objects.writes) <= 31
        assert all(one.election.leader == first for one in made)
        assert [len(one.changes) for one in made if one.name != first] == [0, 0]


async def test_a_killed_leader_is_followed_after_its_lease() -> None:
    """Nobody takes over before the Lease ends; one does within a retry period and its jitter."""
    async with candidates("a", "b", "c") as made:
        await asyncio.sleep(30)
        (first,) = [one for one in made if one.election.leading]
        await first.kill()
        killed = asyncio.get_running_loop().time()
        others = [one for one in made if one is not first]
        while not leaders(others):
            await asyncio.sleep(0.05)
        waited = asyncio.get_running_loop().time() - killed
        assert 15 - 2 <= waited <= 15 + 2 * 2.2
        held = made[0].objects.held
        assert held is not None
        assert held.record.transitions == 1


async def test_a_leader_that_stops_is_followed_at_once() -> None:
    """A Lease that was given back is taken within one retry period and its jitter."""
    async with candidates("a", "b", together=False) as made:
        await asyncio.sleep(1)
        made[1].start()
        await asyncio.sleep(29)
        assert leaders(made) == ["a"]
        await made[0].stop()
        assert (made[0].changes[-1][1], made[0].election.leading) == (False, False)
        await asyncio.sleep(2 * 2.2 + 0.1)
        assert leaders(made) == ["b"]


async def test_a_leader_cut_from_the_api_stops_before_another_begins() -> None:
    """The deadline comes before the end of the Lease; it is told of, and healed from."""
    async with candidates("a", "b", together=False) as made:
        a, b = made
        await asyncio.sleep(1)
        b.start()
        await asyncio.sleep(29)
        a.line.away = True
        cut = a.clock.now()
        while not b.election.leading:
            await asyncio.sleep(0.05)
        assert a.changes[-1][1] is False
        assert 8 <= a.changes[-1][0] - cut <= 10
        assert b.changes[-1][0] - a.changes[-1][0] >= 4
        a.line.away = False
        await asyncio.sleep(10)
        assert leaders(made) == ["b"]
        assert a.election.leader == "b"


async def test_an_api_that_hangs_does_not_keep_a_leader() -> None:
    """A call without an end: the lead ends at its deadline all the same, and is told of then."""
    async with candidates("a") as (a,):
        await asyncio.sleep(30)
        a.line.hang = True
        cut = a.clock.now()
        await asyncio.sleep(12)
        assert a.changes[-1][1] is False
        assert 8 <= a.changes[-1][0] - cut <= 10.01


async def test_an_api_away_for_all_keeps_the_order() -> None:
    """Nobody leads while nobody can know; when the API is back one does."""
    async with candidates("a", "b", "c") as made:
        await asyncio.sleep(30)
        for one in made:
            one.line.away = True
        await asyncio.sleep(40)
        assert leaders(made) == []
        for one in made:
            one.line.away = False
        await asyncio.sleep(20)
        assert len(leaders(made)) == 1


async def test_a_paused_leader_knows_at_once_that_it_leads_no_more() -> None:
    """Its machine slept: the first question after it is answered no, before any timer ran."""
    async with candidates("a", "b", together=False) as made:
        a, b = made
        await asyncio.sleep(1)
        b.start()
        await asyncio.sleep(20)
        before = a.election.leading
        a.clock.suspend(30)
        assert (before, a.election.leading) == (True, False)
        b.clock.suspend(30)
        await asyncio.sleep(6)
        assert len(leaders(made)) == 1
        assert len(a.objects.writes) > 5


async def test_a_leader_paused_across_a_takeover_steps_back() -> None:
    """While it stood still another took over; it sees that and leaves the Lease alone."""
    async with candidates("a", "b", together=False) as made:
        a, b = made
        await asyncio.sleep(1)
        b.start()
        await asyncio.sleep(20)
        await a.kill()  # SIGSTOP: no instruction runs, while time goes on
        await asyncio.sleep(30)
        assert leaders([b]) == ["b"]
        assert not a.election.leading
        a.start()  # SIGCONT
        await asyncio.sleep(30)
        assert leaders(made) == ["b"]
        held = a.objects.held
        assert held is not None
        assert (held.record.holder, held.record.transitions) == ("b", 1)


async def test_a_wall_clock_that_jumps_changes_nothing() -> None:
    """Walls a day apart, jumping either way: the same leader, renewing as ever."""
    async with candidates("a", "b", "c") as made:
        await asyncio.sleep(20)
        before = leaders(made)
        for number, one in enumerate(made):
            one.clock.jump_wall((-86_400.0, 3600.0, 86_400.0)[number])
        await asyncio.sleep(120)
        assert leaders(made) == before
        assert {record.holder for _, record in made[0].objects.writes} == set(before)


async def test_a_lost_answer_is_found_out() -> None:
    """The renewal arrived, its answer did not: the next look shows the own name, and goes on."""
    async with candidates("a", "b") as made:
        await asyncio.sleep(20)
        (first,) = [one for one in made if one.election.leading]
        first.line.lose_answers = 3
        await asyncio.sleep(60)
        assert leaders(made) == [first.name]
        assert first.changes[-1][1] is True
        assert len(first.changes) == 1


async def test_slow_answers_shorten_the_lead_only() -> None:
    """Each call takes four seconds: the lead counts from before the request was sent."""
    async with candidates("a", "b") as made:
        for one in made:
            one.line.delay = 2.0
        await asyncio.sleep(120)
        assert len(leaders(made)) == 1


async def test_a_deleted_lease_is_made_anew() -> None:
    """Somebody removed the object: one candidate creates it, and one alone leads."""
    async with candidates("a", "b", "c") as made:
        await asyncio.sleep(20)
        made[0].objects.delete()
        await asyncio.sleep(20)
        assert len(leaders(made)) == 1
        assert [how for how, _ in made[0].objects.writes].count("create") == 2


async def test_another_hand_on_the_object_costs_one_attempt() -> None:
    """An annotation changed the version between look and write: a conflict, then a renewal."""
    async with candidates("a", "b") as made:
        await asyncio.sleep(20)
        (first,) = [one for one in made if one.election.leading]
        for _ in range(10):
            made[0].objects.touch()
            await asyncio.sleep(1.3)
        assert leaders(made) == [first.name]
        assert len(first.changes) == 1


async def test_a_candidate_that_may_not_waits_and_heals() -> None:
    """A missing Role is told of and tried again: no restart once it is there."""
    async with candidates("a") as (a,):
        a.line.forbidden = True
        await asyncio.sleep(30)
        assert not a.election.leading
        a.line.forbidden = False
        await asyncio.sleep(5)
        assert a.election.leading


async def test_a_bell_calls_the_leader_at_its_next_renewal() -> None:
    """Who does not lead rings once; the leader is called once, and goes on leading."""
    async with candidates("a", "b", "c", together=False) as made:
        a, b, c = made
        await asyncio.sleep(1)
        b.start()
        c.start()
        await asyncio.sleep(20)
        before = len(a.changes)
        await asyncio.gather(*(one.election.ring() for one in (b, c, b)))
        await asyncio.sleep(2 * TIMES.retry_period + 0.1)
        assert len(a.changes) == before + 1
        assert a.changes[-1][1] is True
        await asyncio.sleep(20)
        assert len(a.changes) == before + 1
        assert leaders(made) == ["a"]
        assert a.objects.held is not None
        assert not a.objects.held.bell


async def test_a_storm_of_bells_costs_no_lead() -> None:
    """Rung without pause for a minute, the Lease is renewed all the same."""
    async with candidates("a", "b", together=False) as made:
        a, b = made
        await asyncio.sleep(1)
        b.start()
        await asyncio.sleep(10)
        led = [change for change in a.changes if not change[1]]
        for _ in range(600):
            await b.election.ring()
            await asyncio.sleep(0.1)
        assert [change for change in a.changes if not change[1]] == led
        assert leaders(made) == ["a"]


async def test_a_bell_keeps_no_dead_leader_alive() -> None:
    """It changes nothing of what candidates count by."""
    async with candidates("a", "b", together=False) as made:
        a, b = made
        await asyncio.sleep(1)
        b.start()
        await asyncio.sleep(20)
        await a.kill()
        for _ in range(200):
            await b.election.ring()
            await asyncio.sleep(0.1)
            if b.election.leading:
                break
        assert b.election.leading


async def test_a_bell_that_cannot_be_rung_is_no_error() -> None:
    """The API is away, or there is nobody to call: the wish is found without it."""
    async with candidates("a") as (a,):
        await a.election.ring()
        await asyncio.sleep(5)
        await a.election.ring()  # it leads itself
        stranger = Candidate("b", a.objects)
        stranger.line.away = True
        await stranger.election.ring()
        stranger.line.away, stranger.line.forbidden = False, True
        await stranger.election.ring()
        assert a.objects.held is not None
        assert not a.objects.held.bell
