"""``vault.limiter``: the pure budget, and the queue on virtual time."""

from __future__ import annotations

import asyncio
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import VaultThrottled
from broker.vault.interface import Priority
from broker.vault.limiter import Budget, Limiter
from tests.simulators.clock import VirtualClock

LOGIN, RENEW, READ = Priority


class TestBudget:
    """The decision."""

    def test_a_burst_then_the_rate(self) -> None:
        """After a burst requests go one every 1/rate seconds."""
        budget = Budget(rate=2, burst=3, concurrency=100)
        for _ in range(3):
            assert budget.delay(READ, 0.0) == 0
            budget.start(READ, 0.0)
        assert budget.delay(READ, 0.0) == 0.5
        assert budget.delay(READ, 0.25) == 0.25
        assert budget.delay(READ, 0.5) == 0

    def test_a_quiet_time_saves_no_more_than_the_burst(self) -> None:
        """An hour of silence allows a burst, not an hour's worth."""
        budget = Budget(rate=2, burst=3, concurrency=100)
        gone = 0
        while budget.delay(READ, 3600.0) == 0:
            budget.start(READ, 3600.0)
            gone += 1
        assert gone == 3

    def test_time_that_goes_back_gives_nothing(self) -> None:
        """A reading before the newest one fills no bucket."""
        budget = Budget(rate=1, burst=1, concurrency=10)
        budget.start(READ, 100.0)
        assert budget.delay(READ, 50.0) == 1

    @pytest.mark.parametrize(
        ("running", "free"),
        [
            ([], {LOGIN, RENEW, READ}),
            ([READ] * 2, {LOGIN, RENEW}),
            ([RENEW] * 3, {LOGIN}),
            ([READ] * 2 + [RENEW], {LOGIN}),
            ([LOGIN] * 2, {LOGIN, RENEW, READ}),
            ([LOGIN] * 2 + [READ] * 2, set()),
            ([LOGIN] * 3 + [READ], set()),
            ([LOGIN] * 4, set()),
        ],
    )
    def test_slots_stand_free_for_the_more_urgent(
        self, running: list[Priority], free: set[Priority]
    ) -> None:
        """Of four slots reads take two, with renewals three, with logins all."""
        budget = Budget(rate=1000, burst=1000, concurrency=4)
        for priority in running:
            budget.start(priority, 0.0)
        assert {p for p in Priority if budget.delay(p, 0.0) == 0} == free
        assert all(budget.delay(p, 0.0) == inf for p in set(Priority) - free)

    @pytest.mark.parametrize(
        ("rate", "burst", "concurrency"),
        [(0, 1, 8), (-1, 1, 8), (inf, 1, 8), (nan, 1, 8), (1, 0, 8), (1, 1, 2)],
    )
    def test_limits_that_let_nothing_through(
        self, rate: float, burst: int, concurrency: int
    ) -> None:
        """Limits under which some request would never go are refused."""
        with pytest.raises(ValueError, match="must be"):
            Budget(rate=rate, burst=burst, concurrency=concurrency)

    @given(
        asked=st.lists(
            st.tuples(st.sampled_from(Priority), st.floats(0, 3), st.booleans(), st.integers(0, 9)),
            max_size=60,
        ),
        rate=st.floats(0.5, 50),
        burst=st.integers(1, 10),
        concurrency=st.integers(3, 9),
    )
    def test_whatever_is_asked_the_limits_hold(
        self,
        asked: list[tuple[Priority, float, bool, int]],
        rate: float,
        burst: int,
        concurrency: int,
    ) -> None:
        """Never more than the rate, nor more at once; reads never take the reserved slots."""
        budget = Budget(rate=rate, burst=burst, concurrency=concurrency)
        now = 0.0
        started: list[float] = []
        running: list[Priority] = []
        for priority, passed, ends, which in asked:
            now += passed
            if ends and running:
                budget.finish(running.pop(which % len(running)))
            if budget.delay(priority, now) == 0:
                budget.start(priority, now)
                started.append(now)
                running.append(priority)
            assert budget.running == len(running) <= concurrency
            assert running.count(READ) <= concurrency - 2
            assert running.count(READ) + running.count(RENEW) <= concurrency - 1
        for i, first in enumerate(started):
            for j in range(i, len(started)):
                assert j - i + 1 <= burst + (started[j] - first) * rate + 1e-6


@pytest.mark.looptime
class TestLimiter:
    """The queue."""

    async def test_the_urgent_go_first_and_the_oldest_among_equals(self) -> None:
        """A login overtakes waiting renewals, they overtake reads; else first come, first go."""
        limiter = Limiter(Budget(rate=1, burst=1, concurrency=8), clock=VirtualClock())
        order: list[str] = []

        async def ask(name: str, priority: Priority) -> None:
            await limiter.acquire(priority)
            order.append(name)
            limiter.release(priority)

        await limiter.acquire(READ)
        async with asyncio.TaskGroup() as group:
            for name, priority in [
                ("read 1", READ),
                ("read 2", READ),
                ("renew 1", RENEW),
                ("renew 2", RENEW),
                ("login", LOGIN),
            ]:
                group.create_task(ask(name, priority))
        assert order == ["login", "renew 1", "renew 2", "read 1", "read 2"]

    async def test_requests_go_at_the_rate(self) -> None:
        """Five requests at two a second, one at once: at 0, 0.5, 1, 1.5 and 2 seconds."""
        clock = VirtualClock()
        limiter = Limiter(Budget(rate=2, burst=1, concurrency=8), clock=clock)
        at: list[float] = []

        async def ask() -> None:
            await limiter.acquire(READ)
            at.append(round(clock.now(), 6))
            limiter.release(READ)

        await asyncio.gather(*(ask() for _ in range(5)))
        assert at == [0.0, 0.5, 1.0, 1.5, 2.0]

    async def test_a_thousand_at_once(self) -> None:
        """A thousand requests together: never above the rate, and done when arithmetic says."""
        clock = VirtualClock()
        limiter = Limiter(Budget(rate=50, burst=50, concurrency=8), clock=clock)
        at: list[float] = []

        async def ask() -> None:
            await limiter.acquire(READ)
            at.append(clock.now())
            await clock.sleep(0.01)
            limiter.release(READ)

        await asyncio.gather(*(ask() for _ in range(1000)))
        assert at[-1] == pytest.approx((1000 - 50) / 50, abs=0.1)
        peak = max(sum(1 for other in at if start <= other < start + 1) for start in at)
        assert peak <= 100  # the burst, and a second of the rate
        assert limiter.waiting == 0

    async def test_reads_that_hang_stop_no_login(self) -> None:
        """With every slot for reads taken and more waiting, renewals and logins go at once."""
        clock = VirtualClock()
        limiter = Limiter(Budget(rate=100, burst=100, concurrency=8), clock=clock)
        for _ in range(6):
            await limiter.acquire(READ)
        waiting = [asyncio.create_task(limiter.acquire(READ)) for _ in range(6)]
        await clock.sleep(1)
        assert not any(task.done() for task in waiting)
        await limiter.acquire(RENEW)
        await limiter.acquire(LOGIN)
        assert clock.now() == 1
        limiter.release(READ)
        await clock.sleep(0)
        assert [task.done() for task in waiting] == [True] + [False] * 5
        limiter.release(LOGIN)
        limiter.release(RENEW)
        await clock.sleep(1)
        assert [task.done() for task in waiting] == [True] + [False] * 5  # six reads already
        for task in waiting:
            task.cancel()

    async def test_patience_ends(self) -> None:
        """Who waits in vain is told after ``patience``, and leaves the queue."""
        clock = VirtualClock()
        limiter = Limiter(Budget(rate=100, burst=100, concurrency=3), clock=clock, patience=5)
        await limiter.acquire(READ)
        with pytest.raises(VaultThrottled, match=r"vault\.limits"):
            await limiter.acquire(READ)
        assert (clock.now(), limiter.waiting) == (5, 0)

    async def test_patience_of_the_first_wakes_the_second(self) -> None:
        """When the first in the queue gives up, the next one gets its turn in time."""
        clock = VirtualClock()
        limiter = Limiter(Budget(rate=0.1, burst=1, concurrency=8), clock=clock, patience=12)
        await limiter.acquire(READ)
        first = asyncio.create_task(limiter.acquire(READ))
        await clock.sleep(2)
        second = asyncio.create_task(limiter.acquire(READ))
        await clock.sleep(1)
        first.cancel()
        await second
        assert clock.now() == pytest.approx(10)

    async def test_a_cancelled_wait_leaves_no_trace(self) -> None:
        """Cancelling any waiter, or one just granted, loses no slot."""
        clock = VirtualClock()
        limiter = Limiter(Budget(rate=1000, burst=1000, concurrency=3), clock=clock)
        await limiter.acquire(READ)
        tasks = [asyncio.create_task(limiter.acquire(READ)) for _ in range(4)]
        await clock.sleep(0)
        tasks[2].cancel()
        limiter.release(READ)  # grants the first
        tasks[0].cancel()  # in the same turn of the loop: granted and cancelled
        await clock.sleep(0.1)
        assert [task.done() for task in tasks] == [True, True, True, False]
        assert tasks[0].cancelled()
        assert tasks[2].cancelled()
        limiter.release(READ)
        await tasks[3]
        limiter.release(READ)
        assert limiter.waiting == 0
        await limiter.acquire(READ)
