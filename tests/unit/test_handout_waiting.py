"""Waiting for a change, a first value, a revalidation: on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broker.access.caller import ClientSpec
from broker.credentials.model import State
from broker.errors import CredentialUnavailable, CredentialUnknown
from broker.handout.answer import Answer
from tests.simulators.clock import VirtualClock
from tests.simulators.desk import Desk, document, headers

pytestmark = pytest.mark.looptime


def later(delay: float, act: Callable[[], Any]) -> None:
    """Do ``act`` after ``delay`` seconds."""
    asyncio.get_running_loop().call_later(delay, act)


async def waiting(desk: Desk, name: str = "web", **options: Any) -> Answer:
    return await desk.service.handout_waiting(desk.caller(), name, desk.request(), **options)


def elapsed() -> float:
    return asyncio.get_running_loop().time()


async def test_a_known_version_is_answered_when_it_changes() -> None:
    """With If-None-Match the answer comes with the next version, at that moment."""
    desk = Desk(VirtualClock())
    desk.kv("v1")
    later(10.0, lambda: desk.kv("v2"))
    answer = await waiting(desk, if_none_match='"v1"', wait=30.0)
    assert (elapsed(), answer.status, document(answer)["version"]) == (10.0, 200, "v2")
    assert headers(answer)["preference-applied"] == "wait=30"
    assert b"preference-applied: wait=30\r\n" in answer.head


async def test_another_version_is_answered_at_once() -> None:
    """Who does not have the current one does not wait."""
    desk = Desk(VirtualClock())
    desk.kv("v2")
    answer = await waiting(desk, if_none_match='"v1"', wait=30.0)
    assert (elapsed(), answer.status) == (0.0, 200)


async def test_a_wait_without_a_version_ends_with_the_first_value() -> None:
    """At the start a caller may wait for the broker instead of asking again and again."""
    desk = Desk(VirtualClock())
    desk.without_value("web", State.PENDING)
    later(2.0, lambda: desk.without_value("web", State.REFUSED, reason="vault_denied"))
    later(5.0, lambda: desk.kv("v1"))
    answer = await waiting(desk, wait=30.0)
    assert (elapsed(), answer.status) == (5.0, 200)


async def test_a_wait_without_a_version_does_not_delay_a_value() -> None:
    """While a valid value exists it is answered at once."""
    desk = Desk(VirtualClock())
    desk.kv("v1")
    assert (await waiting(desk, wait=30.0)).status == 200
    assert elapsed() == 0.0


async def test_a_wait_that_brought_nothing_ends_with_304_or_503() -> None:
    """A value that did not change is a 304, no value a 503; both recorded at the end."""
    desk = Desk(VirtualClock())
    desk.kv("v1")
    desk.without_value("db", State.PENDING)
    unchanged = await waiting(desk, if_none_match='"v1"', wait=10.0)
    assert (elapsed(), unchanged.status) == (10.0, 304)
    with pytest.raises(CredentialUnavailable):
        await waiting(desk, "db", wait=10.0)
    assert elapsed() == 20.0
    assert [r["result"] for r in desk.audit.records] == ["not_modified", "credential_unavailable"]


async def test_a_wait_is_bounded() -> None:
    """Longer wishes are cut to max_wait, and the answer says what was applied."""
    desk = Desk(VirtualClock())
    desk.kv("v1")
    answer = await waiting(desk, if_none_match='"v1"', wait=86400.0)
    assert (elapsed(), headers(answer)["preference-applied"]) == (60.0, "wait=60")


async def test_a_confirmation_is_no_change() -> None:
    """A poll that finds the same version wakes the waiters, who go on waiting."""
    desk = Desk(VirtualClock())
    desk.kv("v1", staleness=3600.0)
    later(5.0, lambda: desk.kv("v1", staleness=3600.0))
    answer = await waiting(desk, if_none_match='"v1"', wait=10.0)
    assert (elapsed(), answer.status) == (10.0, 304)


async def test_who_has_a_withdrawn_version_learns_it_at_once() -> None:
    """A value deleted on purpose is a change; an expired one may yet be replaced."""
    desk = Desk(VirtualClock())
    desk.kv("v1")
    desk.lease("v1", life=8.0)
    later(5.0, lambda: desk.without_value("web", State.WITHDRAWN, reason="vault_value_deleted"))
    later(9.0, lambda: desk.without_value("db", State.EXPIRED))
    later(12.0, lambda: desk.lease("v2", life=60.0))
    with pytest.raises(CredentialUnavailable, match="withdrawn"):
        await waiting(desk, if_none_match='"v1"', wait=30.0)
    assert elapsed() == 5.0
    answer = await waiting(desk, "db", if_none_match='"v1"', wait=30.0)
    assert (elapsed(), document(answer)["version"]) == (12.0, "v2")


async def test_a_value_in_doubt_is_waited_for_a_moment() -> None:
    """After a jump of the wall clock a hand-out waits until Vault has confirmed the value."""
    clock = VirtualClock()
    desk = Desk(clock)
    desk.kv("v1")
    clock.jump_wall(10.0)
    assert desk.service.handout(desk.caller(), "web", desk.request()) is None
    later(0.5, lambda: desk.kv("v1"))
    answer = await waiting(desk)
    assert (elapsed(), answer.status) == (0.5, 200)
    assert "preference-applied" not in headers(answer)


async def test_a_value_that_nobody_confirms_is_refused_after_two_seconds() -> None:
    """The wait for a revalidation is short; then it is a 503 with its reason."""
    clock = VirtualClock()
    desk = Desk(clock)
    desk.kv("v1")
    clock.jump_wall(10.0)
    with pytest.raises(CredentialUnavailable, match="clock jumped") as refusal:
        await waiting(desk)
    assert (elapsed(), refusal.value.reason) == (2.0, "clock_jumped")


async def test_nobody_waits_unasked_for_a_value_that_is_not_there() -> None:
    """Without Prefer a missing value is refused at once, an unknown name as well."""
    desk = Desk(VirtualClock())
    desk.without_value("web", State.PENDING)
    for name in ("web", "db"):
        with pytest.raises(CredentialUnavailable):
            await waiting(desk, name)
    with pytest.raises(CredentialUnknown):
        await waiting(desk, "nothing", wait=30.0)
    assert elapsed() == 0.0


async def test_a_sleeping_machine_does_not_stretch_a_wait() -> None:
    """Timers stand still while the machine sleeps; the wait is over soon after it wakes."""
    clock = VirtualClock()
    desk = Desk(clock)
    desk.kv("v1")
    later(1.0, lambda: clock.suspend(3600.0))
    assert (await waiting(desk, if_none_match='"v1"', wait=60.0)).status == 304
    assert elapsed() <= 15.0


async def test_permission_is_asked_again_after_the_wait() -> None:
    """Who lost a credential while he waited does not get it."""
    desk = Desk(VirtualClock())
    desk.kv("v1")

    def revoke_and_publish() -> None:
        desk.lists.configure([ClientSpec("search")], desk.specs)
        desk.kv("v2")

    later(5.0, revoke_and_publish)
    with pytest.raises(CredentialUnknown):
        await waiting(desk, if_none_match='"v1"', wait=30.0)
    assert [r["reason"] for r in desk.audit.records] == ["not_allowed"]


async def test_the_stop_ends_every_wait_with_an_answer() -> None:
    """At the stop waiters get a 304 or 503 now; nobody begins to wait afterwards."""
    desk = Desk(VirtualClock())
    desk.kv("v1")
    waits = [asyncio.create_task(waiting(desk, if_none_match='"v1"', wait=60.0)) for _ in range(10)]
    await asyncio.sleep(3.0)
    desk.service.end_waits()
    assert [answer.status for answer in await asyncio.gather(*waits)] == [304] * 10
    assert (await waiting(desk, if_none_match='"v1"', wait=60.0)).status == 304
    assert elapsed() == 3.0


async def test_a_caller_who_leaves_takes_his_wait_along() -> None:
    """A cancelled wait leaves nothing behind, and no record of a hand-out."""
    desk = Desk(VirtualClock())
    desk.kv("v1")
    task = asyncio.create_task(waiting(desk, if_none_match='"v1"', wait=60.0))
    await asyncio.sleep(1.0)
    assert len(desk.service._waits) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(desk.service._waits) == 0
    assert desk.audit.records == []


async def test_a_thousand_waiters_wake_once_for_a_change() -> None:
    """All get the same prepared answer, each with his own record."""
    desk = Desk(VirtualClock())
    desk.kv("v1")
    waits = [
        asyncio.create_task(waiting(desk, if_none_match='"v1"', wait=60.0)) for _ in range(1000)
    ]
    later(20.0, lambda: desk.kv("v2"))
    answers = await asyncio.gather(*waits)
    assert elapsed() == 20.0
    assert {answer.version for answer in answers} == {"v2"}
    assert len({id(answer.body) for answer in answers}) == 1
    assert len({record["request_id"] for record in desk.audit.records}) == 1000
