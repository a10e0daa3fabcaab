"""The one use case, without waiting: who gets what, and what is written down."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from typing import Any

import pytest

from broker.access.authorizer import Decision, ListAuthorizer
from broker.access.caller import ClientSpec
from broker.access.principal import Principal
from broker.audit.log import AuditLog
from broker.audit.record import lease_digest
from broker.credentials.model import CredentialKey, State
from broker.errors import (
    AuditUnavailable,
    CallerUnauthenticated,
    CredentialUnavailable,
    CredentialUnknown,
    RequestMalformed,
)
from broker.handout.service import HandoutService
from broker.protocol.models import format_time, parse_time
from broker.vault.generation import Generation
from tests.simulators.clock import ManualClock
from tests.simulators.desk import CANARY, AuditSimulator, Desk, document
from tests.simulators.sink import SinkSimulator


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def desk(clock: ManualClock) -> Iterator[Desk]:
    """The desk; whatever a test did, no value is in the audit."""
    desk = Desk(clock)
    yield desk
    assert not any(CANARY.encode() in line for line in desk.audit.lines)


# --- hand-outs -----------------------------------------------------------------------------


def test_a_handout_is_recorded_counted_and_promised(desk: Desk, clock: ManualClock) -> None:
    """The audit, the metrics and the store know what the caller was told."""
    desk.lease("v1", life=3600.0)
    request = desk.request(peer_uid=1001, tool="list_orders", mcp_request_id="42")
    answer = desk.service.handout(desk.caller(), "db", request)
    assert answer is not None
    assert answer.status == 200
    told = document(answer)
    assert desk.audit.records == [
        {
            "time": format_time(clock.wall()),
            "kind": "handout",
            "result": "ok",
            "request_id": request.id,
            "client": "search",
            "uid": 1001,
            "tool": "list_orders",
            "mcp_request_id": "42",
            "policies": ["clients.search"],
            "credential": "db",
            "version": "v1",
            "lease": lease_digest(f"database/creds/db/{CANARY}-lease-v1"),
            "use_until": told["use_until"],
        }
    ]
    assert desk.metrics.handouts == [("db", "search", "ok")]
    assert desk.metrics.seconds == [0.0]
    promised = desk.store.promised_until(CredentialKey("db"), "v1")
    assert promised >= clock.now() + parse_time(told["use_until"]) - clock.wall()


def test_a_known_version_is_recorded_as_such(desk: Desk) -> None:
    """A 304 goes through policy and audit like any hand-out."""
    desk.kv("v1")
    assert desk.get(if_none_match='"v0", "v1"').status == 304
    assert desk.get(if_none_match='"v0"').status == 200
    assert [r["result"] for r in desk.audit.records] == ["not_modified", "ok"]
    assert [result for _, _, result in desk.metrics.handouts] == ["not_modified", "ok"]


def test_answers_are_prepared_once_a_tick(desk: Desk, clock: ManualClock) -> None:
    """Within a second the same bytes are given again; after it, newer times."""
    desk.kv("v1")
    first = desk.get()
    clock.advance(0.9)
    assert desk.get() is first
    clock.advance(0.1)
    assert document(desk.get())["issued_at"] == format_time(clock.wall())


def test_a_newer_value_is_handed_out_at_once(desk: Desk) -> None:
    """Prepared bytes are dropped with their entry, in memory too."""
    desk.kv("v1")
    desk.get()
    desk.kv("v2")
    assert desk.service._answers._prepared == {}
    assert document(desk.get())["version"] == "v2"


@pytest.mark.parametrize("state", [State.STALE, State.SUSPECT, State.RENEWING, State.REPLACING])
def test_a_value_that_lives_is_handed_out_whatever_happens(desk: Desk, state: State) -> None:
    """A failed refresh or a report does not take a valid value away; the state says so."""
    desk.kv("v1", state=state)
    assert document(desk.get())["state"] == state.value


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "name", "reason"),
    [
        ("search", "nothing", "unknown"),
        ("idle", "web", "not_allowed"),
        ("stranger", "web", "not_allowed"),
    ],
)
def test_what_is_not_allowed_is_unknown_outside(
    desk: Desk, client: str, name: str, reason: str
) -> None:
    """The caller sees one refusal; the audit has the true reason."""
    desk.kv("v1")
    with pytest.raises(CredentialUnknown):
        desk.service.handout(desk.caller(client), name, desk.request())
    assert desk.audit.records == [
        {
            "time": format_time(desk.clock.wall()),
            "kind": "refusal",
            "result": "credential_unknown",
            "reason": reason,
            "request_id": "r1",
            "client": client,
            "credential": name,
        }
    ]
    assert desk.metrics.handouts == [(name, client, "credential_unknown")]


def test_a_credential_that_was_never_fetched_is_unavailable(desk: Desk) -> None:
    """Without an entry the keeper has not begun."""
    with pytest.raises(CredentialUnavailable) as refusal:
        desk.get()
    assert (refusal.value.name, refusal.value.reason) == ("web", "pending")


@pytest.mark.parametrize("state", [State.PENDING, State.REFUSED, State.EXPIRED, State.WITHDRAWN])
def test_without_a_value_the_refusal_says_since_when_and_until_when(
    desk: Desk, state: State
) -> None:
    """since, next_attempt_at and the reason come from the entry."""
    desk.without_value("web", state, since_wall=10.0, next_attempt_wall=20.0, reason="vault_sealed")
    with pytest.raises(CredentialUnavailable, match=state.value) as refusal:
        desk.get()
    error = refusal.value
    assert (error.since, error.next_attempt_at, error.reason) == (10.0, 20.0, "vault_sealed")
    assert desk.audit.records[0]["reason"] == "vault_sealed"


def test_a_value_is_not_handed_out_at_its_expiry(desk: Desk, clock: ManualClock) -> None:
    """To the last instant before, and not at it; the refusal says since when."""
    desk.lease("v1", life=60.0)
    ends_wall = clock.wall() + 60.0
    clock.advance(59.99)
    assert desk.get("db").status == 200
    clock.advance(0.01)
    with pytest.raises(CredentialUnavailable, match="expired") as refusal:
        desk.get("db")
    assert refusal.value.since == pytest.approx(ends_wall)
    assert desk.service._answers._prepared == {}


def test_a_lease_is_not_handed_out_once_its_token_ended(desk: Desk) -> None:
    """Even before the keeper has said so, and even from prepared bytes."""
    dying = Generation(2, desk.generation.token, desk.generation.expires_at, renewable=True)
    desk.lease("v1", life=3600.0, generation=dying)
    assert desk.get("db").status == 200
    dying.ended = True
    with pytest.raises(CredentialUnavailable, match="expired") as refusal:
        desk.get("db")
    assert refusal.value.since == desk.clock.wall()


def test_a_jump_of_the_wall_clock_asks_for_a_moment(desk: Desk, clock: ManualClock) -> None:
    """After a jump forward nothing is handed out before Vault has confirmed it."""
    desk.kv("v1")
    desk.get()
    clock.jump_wall(6.0)
    assert desk.service.handout(desk.caller(), "web", desk.request()) is None
    assert len(desk.audit.records) == 1
    desk.kv("v1")
    assert desk.get().status == 200


def test_a_credential_removed_from_the_configuration_is_unknown(desk: Desk) -> None:
    """An entry that is still in the store does not count."""
    desk.kv("v1")
    desk.get()
    desk.service.reconfigure({})
    with pytest.raises(CredentialUnknown):
        desk.get()
    assert desk.audit.records[-1]["reason"] == "not_configured"


@pytest.mark.parametrize(
    "claims", [{"tool": "x" * 129}, {"tool": "a\nb"}, {"mcp_request_id": "\0"}]
)
def test_claims_are_short_and_printable(desk: Desk, claims: dict[str, str]) -> None:
    """A tool's name that cannot be one is a malformed request, recorded in one line."""
    desk.kv("v1")
    with pytest.raises(RequestMalformed):
        desk.service.handout(desk.caller(), "web", desk.request(**claims))
    assert desk.audit.records[0]["result"] == "request_malformed"


def test_an_error_while_deciding_is_a_refusal(clock: ManualClock) -> None:
    """An authorizer that fails hands nothing out; audit and metrics know of it."""

    class Broken(ListAuthorizer):
        def authorize(self, principal: Principal, name: str, **asked: Any) -> Decision:
            raise ZeroDivisionError(CANARY)

    desk = Desk(clock, authorizer=Broken([], []))
    desk.kv("v1")
    with pytest.raises(ZeroDivisionError):
        desk.get()
    assert desk.audit.records[0]["result"] == "internal"
    assert desk.audit.records[0]["reason"] == "ZeroDivisionError"
    assert desk.metrics.handouts == [("web", "search", "internal")]
    assert CANARY.encode() not in desk.audit.lines[0]


# --- the audit gates the hand-out ----------------------------------------------------------


def test_without_a_record_nothing_is_handed_out(desk: Desk) -> None:
    """A full disk refuses 200 and 304 alike; a refusal stays what it was."""
    desk.kv("v1")
    desk.get()
    desk.audit.broken = True
    with pytest.raises(AuditUnavailable):
        desk.get()
    with pytest.raises(AuditUnavailable):
        desk.get(if_none_match='"v1"')
    with pytest.raises(CredentialUnknown):
        desk.get("nothing")
    assert [result for _, _, result in desk.metrics.handouts] == [
        "ok",
        "audit_unavailable",
        "audit_unavailable",
        "credential_unknown",
    ]
    desk.audit.broken = False
    assert desk.get().status == 200


def test_with_a_real_log_the_record_is_written_before_the_answer(clock: ManualClock) -> None:
    """What the sink took when ``handout`` returns is the record; one that fails refuses."""

    class Counts:
        def audit_record(self, result: str) -> None: ...

    desk = Desk(clock)
    sink = SinkSimulator()
    log = AuditLog(lambda: sink, clock=clock, metrics=Counts())
    service = HandoutService(
        clock=clock,
        store=desk.store,
        callers=desk.callers,
        authorizer=desk.lists,
        audit=log,
        metrics=desk.metrics,
        reports=desk.reports,
        specs=desk.specs,
        mask=str,
    )
    desk.kv("v1")
    service.handout(desk.caller(), "web", desk.request())
    assert sink.taken.count(b"\n") == 1
    sink.then(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(AuditUnavailable):
        service.handout(desk.caller(), "web", desk.request())


# --- callers, overviews -----------------------------------------------------------------------


def test_authentication_is_the_callers_and_refusals_are_recorded(desk: Desk) -> None:
    """A wrong proof leaves a line with the reason, and no name of a client."""
    desk.trust("search", "right")
    assert desk.service.authenticate("right", None, None, desk.request()).caller.name == "search"
    with pytest.raises(CallerUnauthenticated):
        desk.service.authenticate("wrong", 7, "search", desk.request(peer_uid=7))
    assert desk.audit.records == [
        {
            "time": format_time(desk.clock.wall()),
            "kind": "refusal",
            "result": "caller_unauthenticated",
            "reason": "token_unknown",
            "request_id": "r2",
            "uid": 7,
        }
    ]


async def test_a_caller_sees_how_its_credentials_stand(desk: Desk, clock: ManualClock) -> None:
    """Names, states and expiries of what it may have; never a value."""
    desk.lease("v1", life=60.0)
    desk.without_value(
        "web", State.REFUSED, since_wall=10.0, next_attempt_wall=20.0, reason="vault_denied"
    )
    listed = await desk.service.credentials(desk.caller())
    assert listed == {
        "credentials": [
            {
                "name": "db",
                "state": "fresh",
                "available": True,
                "version": "v1",
                "source_version": None,
                "expires_at": format_time(clock.wall() + 60),
                "since": None,
                "next_attempt_at": None,
                "reason": None,
            },
            {
                "name": "web",
                "state": "refused",
                "available": False,
                "version": None,
                "source_version": None,
                "expires_at": None,
                "since": format_time(10.0),
                "next_attempt_at": format_time(20.0),
                "reason": "vault_denied",
            },
        ]
    }
    assert CANARY not in repr(listed)
    assert await desk.service.credentials(desk.caller("idle")) == {"credentials": []}


async def test_a_credential_nobody_has_fetched_is_listed_as_pending(desk: Desk) -> None:
    """At the start every allowed credential is there."""
    listed = (await desk.service.credentials(desk.caller()))["credentials"]
    assert {line["state"] for line in listed} == {"pending"}


async def test_a_long_list_lets_others_work_meanwhile(clock: ManualClock) -> None:
    """A list of thousands is built in slices of one loop turn each."""
    names = [f"c{number:04}" for number in range(1000)]

    everything = ListAuthorizer([ClientSpec("search", credentials=tuple(names))], names)
    desk = Desk(clock, authorizer=everything)
    turns = 0
    listing = asyncio.ensure_future(desk.service.credentials(desk.caller()))
    while not listing.done():
        turns += 1
        await asyncio.sleep(0)
    assert [each["name"] for each in (await listing)["credentials"]] == names
    assert turns >= 10


async def test_whoami_says_who_and_what(desk: Desk) -> None:
    """The client, its proof and its list."""
    assert await desk.service.whoami(desk.caller()) == {
        "client": "search",
        "proof": "token",
        "subject": None,
        "credentials": ["db", "web"],
        "tools": None,
    }


class SlowDisk(AuditSimulator):
    """A log whose disk takes its time."""

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds

    durable = True

    async def synced(self) -> None:
        self._clock.advance(self._seconds)
        if self.fails:
            raise AuditUnavailable

    fails = False


@pytest.mark.parametrize(("seconds", "leaves"), [(0.5, True), (29.9, True), (30.0, False)])
async def test_no_answer_leaves_after_its_use_until(seconds: float, leaves: bool) -> None:
    """With ``audit.sync`` a disk may hold an answer up for longer than its value may be used."""
    clock = ManualClock()
    desk = Desk(clock, hold=30.0)
    service = HandoutService(
        clock=clock,
        store=desk.store,
        callers=desk.callers,
        authorizer=desk.lists,
        audit=SlowDisk(clock, seconds),
        metrics=desk.metrics,
        reports=desk.reports,
        specs=desk.specs,
        mask=str,
    )
    desk.kv("v1")
    request = desk.request()
    answer = service.handout(desk.caller(), "web", request)
    assert answer is not None
    if leaves:
        await service.synced(answer, desk.caller(), "web", request)
    else:
        with pytest.raises(AuditUnavailable, match="too late"):
            await service.synced(answer, desk.caller(), "web", request)


@pytest.mark.parametrize("fails", [False, True])
async def test_what_waits_for_the_disk_is_counted_once_it_is_known(fails: bool) -> None:
    """Answer, metric and the last record of the request agree; nothing counts as ok before."""
    clock = ManualClock()
    desk = Desk(clock, hold=30.0)
    audit = SlowDisk(clock, 0.1)
    audit.fails = fails
    service = HandoutService(
        clock=clock,
        store=desk.store,
        callers=desk.callers,
        authorizer=desk.lists,
        audit=audit,
        metrics=desk.metrics,
        reports=desk.reports,
        specs=desk.specs,
        mask=str,
    )
    desk.kv("v1")
    told: list[tuple[str, str, str]] = []
    for condition in (None, '"v1"'):
        request = desk.request()
        answer = service.handout(desk.caller(), "web", request, if_none_match=condition)
        assert answer is not None
        assert len(desk.metrics.handouts) == len(told)
        try:
            await service.synced(answer, desk.caller(), "web", request)
            told.append(("web", "search", "not_modified" if condition else "ok"))
        except AuditUnavailable:
            told.append(("web", "search", "audit_unavailable"))
        assert desk.metrics.handouts == told
    results = [(one["kind"], one["result"], one["request_id"]) for one in audit.records]
    if not fails:
        assert results == [("handout", "ok", "r1"), ("revalidated", "not_modified", "r2")]
        return
    assert results == [
        ("handout", "ok", "r1"),
        ("refusal", "audit_unavailable", "r1"),
        ("revalidated", "not_modified", "r2"),
        ("refusal", "audit_unavailable", "r2"),
    ]
    assert {one["reason"] for one in audit.records[1::2]} == {"record_not_confirmed"}
