"""Failed authentications: answered and recorded one by one up to a limit, then together."""

from __future__ import annotations

from math import nextafter

import pytest

from broker.access.failed_authentications import (
    OTHERS,
    PEERS,
    FailedAuthentications,
    Rate,
    peer,
)
from broker.errors import TooManyFailures
from broker.protocol.problems import problem_for
from tests.simulators.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=1000.0)


@pytest.fixture
def failures(clock: ManualClock) -> FailedAuthentications:
    return FailedAuthentications(clock, Rate(3, 60))


def test_failures_over_the_limit_wait_until_the_oldest_is_a_window_old(
    failures: FailedAuthentications, clock: ManualClock
) -> None:
    """Exact at the boundary, as every limit."""
    assert [failures.failed("p") for _ in range(4)] == [0.0, 0.0, 0.0, 60.0]
    clock.time = nextafter(1060.0, 0.0)
    assert failures.failed("p") > 0.0
    clock.time = 1060.0
    assert failures.failed("p") == 0.0


def test_peers_do_not_count_for_each_other(failures: FailedAuthentications) -> None:
    """A flood of one changes nothing for the next."""
    for _ in range(100):
        failures.failed("hostile")
    assert failures.failed("neighbour") == 0.0


def test_a_flood_is_one_record_a_window(
    failures: FailedAuthentications, clock: ManualClock
) -> None:
    """The first over the limit is recorded at once, the rest with the next window's first."""
    start, records = clock.time, []
    answers_401 = 0
    for tick in range(1800):  # ten failures a second for three minutes
        clock.time = start + tick / 10
        if failures.failed("p") == 0.0:
            answers_401 += 1
        elif count := failures.to_record("p"):
            records.append((round(clock.time - start, 1), count))
    assert answers_401 == 9
    # 1,797 - 6 …: all that were not answered one by one are in some record.
    clock.time = start + 600
    rest = dict(failures.ended())
    assert [at for at, _ in records] == [0.3, 60.3, 120.3]
    assert sum(count for _, count in records) + rest["p"] == 1800 - answers_401
    assert records[0][1] == 1
    assert failures.ended() == []


def test_the_end_of_a_window_is_recorded_without_another_failure(
    failures: FailedAuthentications, clock: ManualClock
) -> None:
    """What was counted after the record comes out when the window is over, not before."""
    for _ in range(10):
        failures.failed("p")
    assert failures.to_record("p") == 7
    failures.failed("p")
    assert failures.to_record("p") == 0
    assert failures.ended() == []
    clock.advance(60)
    assert failures.ended() == [("p", 1)]
    assert failures.ended() == []


def test_the_stop_records_what_is_open(failures: FailedAuthentications) -> None:
    """Nothing counted is lost in an orderly stop."""
    for _ in range(5):
        failures.failed("p")
        failures.to_record("p")
    assert failures.ended(everything=True) == [("p", 1)]


def test_under_the_limit_nothing_is_recorded_together(failures: FailedAuthentications) -> None:
    """Those have their own records."""
    failures.failed("p")
    assert failures.to_record("p") == 0
    assert failures.ended(everything=True) == []


def test_memory_stays_bounded_and_no_failure_goes_unrecorded(
    clock: ManualClock,
) -> None:
    """Of a hundred thousand peers some are forgotten; their failures are recorded together."""
    failures = FailedAuthentications(clock, Rate(1, 60))
    for number in range(100_000):
        for _ in range(2):
            failures.failed(f"peer-{number}")
        clock.advance(0.0001)
    ended = dict(failures.ended(everything=True))
    assert len(ended) == PEERS + 1
    assert sum(ended.values()) == 100_000
    assert ended[OTHERS] == 100_000 - PEERS


def test_no_rate_is_no_limit(clock: ManualClock) -> None:
    """Every failure is an ordinary one."""
    failures = FailedAuthentications(clock, None)
    assert [failures.failed("p") for _ in range(1000)] == [0.0] * 1000
    assert failures.to_record("p") == 0


def test_another_rate_begins_anew(failures: FailedAuthentications) -> None:
    """A reload takes effect at once; the same rate again changes nothing."""
    assert [failures.failed("p") for _ in range(4)][-1] == 60.0
    failures.configure(Rate(3, 60))
    assert failures.failed("p") == 60.0
    failures.configure(Rate(1, 10))
    assert [failures.failed("p") for _ in range(2)] == [0.0, 10.0]


@pytest.mark.parametrize(
    ("client", "uid", "address", "name"),
    [
        ("agent", 1001, "", "agent uid 1001"),
        ("agent", None, "", "agent uid unknown"),
        (None, None, "127.0.0.1", "loopback"),
        (None, None, "127.200.3.4", "loopback"),
        (None, None, "::1", "loopback"),
        (None, None, "::ffff:127.0.0.9", "loopback"),
        (None, None, "10.1.2.3", "10.1.2.3"),
        (None, None, "fe80::1%eth0", "fe80::1"),
        (None, None, "", "unknown"),
    ],
)
def test_a_peer_is_what_cannot_be_chosen(
    client: str | None, uid: int | None, address: str, name: str
) -> None:
    """All of loopback is one peer: who connects chooses which of its addresses to come from."""
    assert peer(client, uid, address) == name


def test_the_answer_is_a_429_that_says_to_read_the_token_again() -> None:
    """It has a code of its own, so that a client with an old token knows what to do."""
    problem = problem_for(TooManyFailures(retry_after=12.3), request_id="r", wall=0.0)
    assert (problem.status, problem.kind.code) == (429, "too_many_failures")
    assert dict(problem.headers) == {"Retry-After": "13"}
    assert "token file" in problem.remedy
