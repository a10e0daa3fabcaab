"""Limits by caller, tool and credential: exact at the boundary, on our clock, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from math import ceil, inf, nextafter
from typing import Any

import pytest
from limits import parse
from limits.storage.base import Storage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from broker.access.limit_storage import Prepared, WindowStorage, named
from broker.access.limit_windows import COUNTERS, MOMENTS, Windows
from broker.access.limits import PLACES, REMEMBERED, Counter, LimitRule, Limits
from broker.errors import TooManyRequests
from broker.protocol.problems import problem_for
from tests.simulators.clock import EPOCH, ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=54321.123456789)


def counter(
    limits: Limits,
    caller: str = "agent",
    tool: str = "web_search",
    credential: str = "search-api",
) -> Counter:
    found = limits.counter(caller, tool, credential)
    assert found is not None
    return found


def rule(rate: str, name: str = "r", **about: Any) -> LimitRule:
    return LimitRule(name, rate, **about)


def hits(counter: Counter, count: int) -> list[float]:
    return [counter.hit() for _ in range(count)]


# --- the boundary ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "amount", "seconds"),
    [
        ("1/second", 1, 1),
        ("60/minute", 60, 60),
        ("100 per 5 minutes", 100, 300),
        ("3/hour", 3, 3600),
        ("2 per day", 2, 86400),
    ],
)
@pytest.mark.parametrize("start", [0.0, 1000.0, 54321.123456789, 3e7 / 7])
def test_the_next_is_allowed_at_the_boundary_and_not_before(
    rate: str, amount: int, seconds: int, start: float
) -> None:
    """What hit() answers leads to the first moment at which it is allowed, to the last digit."""
    clock = ManualClock(now=start)
    one = counter(Limits(clock, [rule(rate)]))
    assert hits(one, amount) == [0.0] * amount
    wait = one.hit()
    assert wait == pytest.approx(seconds)
    boundary = start + seconds
    for early in (start, start + seconds / 2, nextafter(boundary, 0.0)):
        clock.time = early
        left = one.hit()
        assert 0 < left <= seconds
        assert early + left >= boundary
    clock.time = start + wait
    assert hits(one, amount + 1)[:-1] == [0.0] * amount


def test_the_window_moves_with_each_hit(clock: ManualClock) -> None:
    """Three a minute: each place is free a minute after it was taken, not at some full minute."""
    start = clock.time
    one = counter(Limits(clock, [rule("3/minute")]))
    for at, allowed in [
        (0, True),
        (50, True),
        (59, True),
        (59.5, False),
        (60, True),  # the first place is free again
        (60, False),
        (109.5, False),
        (110, True),
        (118.9, False),
        (119, True),
        (119.9, False),
        (120, True),
    ]:
        clock.time = start + at
        assert (one.hit() == 0.0) is allowed, at


def test_a_refused_hit_is_not_counted(clock: ManualClock) -> None:
    """Who keeps asking is allowed no later than who waits."""
    start = clock.time
    one = counter(Limits(clock, [rule("1/minute")]))
    assert one.hit() == 0.0
    for second in range(1, 60):
        clock.time = start + second
        assert one.hit() == pytest.approx(60 - second)
    clock.time = start + 60
    assert one.hit() == 0.0


def test_a_jump_of_the_wall_clock_changes_nothing(clock: ManualClock) -> None:
    """Lives count on Clock.now() alone."""
    one = counter(Limits(clock, [rule("1/minute")]))
    assert one.hit() == 0.0
    clock.jump_wall(86400)
    assert one.hit() == 60.0


@pytest.mark.parametrize(
    ("passed", "retry_after"),
    [(0.0, 60), (0.25, 60), (1.0, 59), (59.0, 1), (59.5, 1), (59.999999, 1)],
)
def test_retry_after_is_the_boundary_rounded_up(
    clock: ManualClock, passed: float, retry_after: int
) -> None:
    """Whoever waits Retry-After is allowed, and waits less than a second too long."""
    start = clock.time
    one = counter(Limits(clock, [rule("1/minute")]))
    assert one.hit() == 0.0
    clock.time = start + passed
    wait = one.hit()
    problem = problem_for(one.refusal(wait), request_id="r", wall=clock.wall())
    assert (problem.status, problem.kind.code) == (429, "too_many_requests")
    assert dict(problem.headers) == {"Retry-After": str(retry_after)}
    assert retry_after in {ceil(wait), ceil(wait - 1e-6)}
    clock.advance(retry_after)
    assert one.hit() == 0.0


def test_a_long_wait_is_told_in_full() -> None:
    """Retry-After of a limit is not cut at an hour: it is our own and exact."""
    problem = problem_for(TooManyRequests(retry_after=86399.5), request_id="r", wall=EPOCH)
    assert problem.retry_after == 86400


# --- what counts together --------------------------------------------------------------


def test_each_combination_counts_for_itself(clock: ManualClock) -> None:
    """Another caller, tool or credential has a counter of its own."""
    limits = Limits(clock, [rule("1/minute")])
    for place in [
        ("a", "t", "k"),
        ("b", "t", "k"),
        ("a", "u", "k"),
        ("a", "t", "l"),
        ("a", "", "k"),
        ("a", "t/k", "l"),
        ("a", "t/k/l", "l"),
    ]:
        assert counter(limits, *place).hit() == 0.0, place
        assert counter(limits, *place).hit() == 60.0, place


def test_per_says_what_has_a_counter_of_its_own(clock: ManualClock) -> None:
    """A caller that invents tool names does not get around a limit by client and credential."""
    limits = Limits(clock, [rule("3/minute", per=("client", "credential"))])
    waits = [counter(limits, "a", f"tool-{n}").hit() for n in range(5)]
    assert waits == [0.0, 0.0, 0.0, 60.0, 60.0]
    assert counter(limits, "b", "tool-0").hit() == 0.0
    assert counter(limits, "a", "tool-0", "other").hit() == 0.0


@pytest.mark.parametrize(
    ("about", "place", "applies"),
    [
        ({}, ("a", "", "k"), True),
        ({"clients": frozenset({"a"})}, ("a", "t", "k"), True),
        ({"clients": frozenset({"a"})}, ("b", "t", "k"), False),
        ({"credentials": frozenset({"k", "l"})}, ("a", "t", "l"), True),
        ({"credentials": frozenset({"k", "l"})}, ("a", "t", "m"), False),
        ({"tools": ("web_search",)}, ("a", "web_search", "k"), True),
        ({"tools": ("web_search",)}, ("a", "web_search2", "k"), False),
        ({"tools": ("web_search",)}, ("a", "Web_search", "k"), False),
        ({"tools": ("web_search",)}, ("a", "", "k"), False),
        ({"tools": ("web_*", "mail")}, ("a", "web_", "k"), True),
        ({"tools": ("web_*", "mail")}, ("a", "mail", "k"), True),
        ({"tools": ("web_*", "mail")}, ("a", "email", "k"), False),
        ({"tools": ("web.search",)}, ("a", "web_search", "k"), False),
        ({"tools": ("t?", "[u]")}, ("a", "t2", "k"), True),
        ({"tools": ("t?", "[u]")}, ("a", "u", "k"), False),
        ({"clients": frozenset({"a"}), "tools": ("t",)}, ("a", "u", "k"), False),
    ],
)
def test_a_rule_applies_to_what_it_selects(
    clock: ManualClock, about: dict[str, Any], place: tuple[str, str, str], applies: bool
) -> None:
    """All selections of a rule must match; None says that nothing is to be counted."""
    limits = Limits(clock, [rule("1/minute", **about)])
    assert (limits.counter(*place) is not None) is applies


def test_the_default_applies_where_no_rule_does(clock: ManualClock) -> None:
    """It is neither added to a rule nor missing elsewhere."""
    limits = Limits(
        clock,
        [rule("5/minute", clients=frozenset({"a"}))],
        LimitRule("limits.default", "1/minute"),
    )
    assert hits(counter(limits, "a"), 6) == [0.0] * 5 + [60.0]
    other = counter(limits, "b")
    assert hits(other, 2) == [0.0, 60.0]
    assert other.refused_by == "limits.default"


def test_all_rules_must_allow_and_a_refused_request_consumes_nothing(clock: ManualClock) -> None:
    """The rule that would have allowed has as much left as before; the longest wait is told."""
    start = clock.time
    limits = Limits(
        clock,
        [
            rule("2/second", "short"),
            rule("4/minute", "long"),
            rule("5/minute", "other", per=("client",)),
        ],
    )
    one = counter(limits)
    assert hits(one, 3) == [0.0, 0.0, 1.0]
    assert one.refused_by == "short"
    clock.time = start + 1
    assert hits(one, 3) == [0.0, 0.0, 59.0]
    assert one.refused_by == "long"
    assert one.refusal(59.0).reason == "long"
    # Four of five are taken of what all tools share: refused ones took none.
    assert hits(counter(limits, tool="another"), 2) == [0.0, 59.0]
    clock.time = start + 60
    assert hits(one, 3) == [0.0, 0.0, 1.0]


# --- changes ---------------------------------------------------------------------------


def test_without_rules_nothing_applies(clock: ManualClock) -> None:
    """No counter, nothing remembered."""
    limits = Limits(clock)
    assert limits.counter("a", "t", "k") is None
    assert len(limits.windows) == 0


def test_a_new_configuration_changes_the_generation_and_keeps_what_was_counted(
    clock: ManualClock,
) -> None:
    """A rule that stays goes on; a changed one begins anew; one that is gone is no more."""
    limits = Limits(clock, [rule("1/minute", "kept"), rule("9/minute", "gone")])
    before = limits.generation
    assert counter(limits).hit() == 0.0
    limits.configure([rule("1/minute", "kept")])
    assert limits.generation != before
    assert counter(limits).hit() == 60.0
    limits.configure([rule("2/minute", "kept")])
    assert hits(counter(limits), 3) == [0.0, 0.0, 60.0]
    limits.configure([])
    assert limits.counter("agent", "web_search", "search-api") is None


def test_a_counter_is_found_again(clock: ManualClock) -> None:
    """The same place gives the same counter, also when too many were asked for in between."""
    limits = Limits(clock, [rule("1/minute")])
    assert counter(limits) is counter(limits)
    assert counter(limits).hit() == 0.0
    for number in range(REMEMBERED + 1):
        counter(limits, tool=f"tool-{number}")
    assert counter(limits).hit() == 60.0


def test_the_library_is_loaded_by_the_first_rule_only() -> None:
    """A broker without limits does not pay for the library, with its default limit of failures."""
    program = (
        "import sys\n"
        "import broker.app.translate\n"
        "from broker.access.failed_authentications import FailedAuthentications, Rate\n"
        "from broker.access.limits import LimitRule, Limits\n"
        "from broker.clock import SystemClock\n"
        "from broker.settings.load import parse_settings\n"
        "text = 'vault: {address: https://v.example, auth: {role: r}}'\n"
        "settings = parse_settings(text, file='f', environ={}).settings\n"
        "clock = SystemClock()\n"
        "limits = Limits(clock)\n"
        "failures = FailedAuthentications(\n"
        "    clock, broker.app.translate.failed_authentications(settings.limits))\n"
        "failures.failed('x')\n"
        "assert 'limits' not in sys.modules\n"
        "limits.configure([LimitRule('r', '1/minute')])\n"
        "assert 'limits' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- memory ----------------------------------------------------------------------------


def test_memory_stays_bounded_after_a_hundred_thousand_keys(clock: ManualClock) -> None:
    """Of distinct tools that all still count, the newest are kept; the rest is told of."""
    limits = Limits(clock, [rule("10/hour")])
    for number in range(90_000):
        assert limits.windows.take(f"key-{number}", 10, 3600)
        clock.advance(0.001)
    for number in range(10_000):
        caller = f"agent-{number // PLACES}"
        assert counter(limits, caller=caller, tool=f"tool-{number}").hit() == 0.0
        clock.advance(0.001)
    assert len(limits.windows) == COUNTERS
    assert limits.windows.dropped == 100_000 - COUNTERS
    assert limits.windows.moments == COUNTERS


def test_invented_tools_push_no_strict_counter_out_of_memory(clock: ManualClock) -> None:
    """A caller that has used up one credential gets it no sooner by asking for another one."""
    strict = rule(
        "2/day", "strict", credentials=frozenset({"payments"}), per=("client", "credential")
    )
    limits = Limits(clock, [strict], rule("100/minute", "default"))
    assert hits(counter(limits, credential="payments"), 3)[2] > 0.0
    for number in range(COUNTERS + 100):
        clock.advance(0.001)
        counter(limits, tool=f"invented-{number}").hit()
    assert counter(limits, credential="payments").hit() > 0.0
    assert limits.windows.dropped == 0


def test_tools_beyond_those_told_apart_share_a_counter(clock: ManualClock) -> None:
    """Of one rule and client; what was told apart before goes on, as do other clients."""
    limits = Limits(clock, [rule("1/minute")])
    for number in range(PLACES):
        assert counter(limits, tool=f"t{number}").hit() == 0.0
    assert counter(limits, tool="one more").hit() == 0.0
    assert counter(limits, tool="and another").hit() > 0.0
    assert counter(limits, tool="t0").hit() > 0.0
    assert counter(limits, caller="other", tool="and another").hit() == 0.0


def test_the_one_in_use_is_not_the_one_that_is_dropped(clock: ManualClock) -> None:
    """A full counter that is asked all the time survives a flood of names, refused or not."""
    windows = Windows(clock, counters=10)
    assert windows.take("victim", 1, 3600)
    for number in range(100):
        clock.advance(1)
        assert windows.take(f"other-{number}", 1, 60)
        assert not windows.take("victim", 1, 3600)
    assert len(windows) <= 10


def test_idle_keys_make_room_without_being_missed(clock: ManualClock) -> None:
    """What no longer counts is removed as new keys come, and is not told of as dropped."""
    windows = Windows(clock, counters=1000)
    for number in range(1000):
        windows.take(f"idle-{number}", 5, 60)
    windows.take("long", 5, 3600)  # of another period, which keeps nobody from being reaped
    clock.advance(60)
    for number in range(200):
        windows.take(f"new-{number}", 5, 60)
    assert windows.dropped == 1  # "long" found a thousand that counted
    assert len(windows) == 201


def test_moments_are_bounded_together(clock: ManualClock) -> None:
    """High rates cannot fill memory: whoever was used longest ago goes."""
    windows = Windows(clock, moments=1000)
    for number in range(5):
        for _ in range(400):
            assert windows.take(f"key-{number}", 400, 3600)
        clock.advance(1)
        assert windows.moments <= 1000
    assert windows.dropped == 3
    assert not windows.take("key-4", 400, 3600)
    assert windows.take("key-0", 400, 3600)


def test_no_rate_is_larger_than_memory() -> None:
    """The largest rate of a configuration fits several times."""
    from broker.settings.rates import LARGEST

    assert 10 * LARGEST <= MOMENTS


# --- the library's side -----------------------------------------------------------------


def test_the_librarys_strategy_is_ruled_by_our_clock(clock: ManualClock) -> None:
    """hit, test and get_window_stats of the strategy see our time and no other."""
    limiter = MovingWindowRateLimiter(WindowStorage(Windows(clock)))
    item, start = parse("3/minute"), clock.time
    assert limiter.get_window_stats(item, "a") == (start + 60, 3)
    for passed in (0, 10, 20):
        clock.time = start + passed
        assert limiter.test(item, "a")
        assert limiter.hit(item, "a")
    assert not limiter.test(item, "a")
    assert not limiter.hit(item, "a")
    assert limiter.get_window_stats(item, "a") == (start + 60, 0)
    clock.time = start + 60
    assert limiter.get_window_stats(item, "a") == (start + 70, 1)
    assert not limiter.hit(item, "a", cost=2)
    assert limiter.hit(item, "a")
    clock.time = start + 200
    assert limiter.hit(item, "a", cost=3)
    assert not limiter.hit(item, "a", cost=4)
    assert not WindowStorage.acquire_entry(WindowStorage(Windows(clock)), "a", 1, 1, amount=2)
    limiter.clear(item, "a")
    assert limiter.test(item, "a", cost=3)


def test_the_storage_is_whole_and_says_what_it_is_not_for(clock: ManualClock) -> None:
    """It counts in moving windows alone, is healthy, begins anew, and has no address."""
    windows = Windows(clock)
    storage: Storage = WindowStorage(windows)
    assert storage.check()
    with pytest.raises(NotImplementedError):
        FixedWindowRateLimiter(storage).hit(parse("1/minute"), "a")
    with pytest.raises(NotImplementedError):
        storage.get("a")
    with pytest.raises(NotImplementedError):
        storage.get_expiry("a")
    assert MovingWindowRateLimiter(storage).hit(parse("1/minute"), "a")
    assert storage.reset() == 1
    assert (len(windows), windows.moments) == (0, 0)
    assert storage.base_exceptions == ()


def test_a_prepared_rate_has_the_librarys_key() -> None:
    """Made once, it is the key that the library makes each time."""
    item = Prepared(named("100 per 5 minutes", "rule"), ["a", "t", "k"])
    assert item.key_for("ignored") == "rule/a/t/k/100/5/minute"
    assert (item.amount, item.get_expiry()) == (100, 300)
    assert repr(item) == "100 per 300 s for rule/a/t/k/100/5/minute"


def test_waits_of_a_full_window_grow_apart_by_its_hits(clock: ManualClock) -> None:
    """The whole schedule of a burst: one place is free for each that was taken, when it was."""
    start, one = clock.time, counter(Limits(clock, [rule("4/minute")]))
    taken: list[float] = []
    for passed in (0, 1, 3, 7):
        clock.time = start + passed
        assert one.hit() == 0.0
        taken.append(clock.time)
    freed: list[float] = []
    while len(freed) < 4:
        wait = one.hit()
        assert wait < inf
        clock.advance(wait)
        assert one.hit() == 0.0
        freed.append(clock.time)
    assert [round(b - a, 6) for a, b in pairwise(freed)] == [1.0, 2.0, 4.0]
    assert [round(b - a, 6) for a, b in zip(taken, freed, strict=True)] == [60.0] * 4
