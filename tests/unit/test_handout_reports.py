"""Reports of refused keys."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from broker.access.principal import Grant
from broker.credentials.model import State
from broker.errors import (
    CredentialUnavailable,
    CredentialUnknown,
    ReportConflict,
    RequestMalformed,
)
from broker.protocol.models import ReportDocument
from tests.simulators.clock import ManualClock
from tests.simulators.desk import CANARY, Desk


@pytest.fixture
def desk() -> Desk:
    return Desk(ManualClock())


async def report(
    desk: Desk, version: object = "v1", status: object = 401, **options: object
) -> ReportDocument:
    return await desk.service.report(
        desk.caller(), "web", desk.request(), version=version, status=status, **options
    )


async def test_a_report_that_finds_a_newer_version_says_which(desk: Desk) -> None:
    """The answer names the version; the value must be asked for."""
    desk.kv("v1")

    async def changed() -> None:
        desk.kv("v2")

    desk.reports.then = changed
    assert await report(desk, detail="key rejected") == {
        "name": "web",
        "reported": "v1",
        "version": "v2",
        "state": "fresh",
    }
    assert desk.reports.taken == [("web", "v1", 401, "key rejected")]
    assert desk.reports.actors == ["search"]
    assert desk.metrics.reports == [("web", "newer")]
    record = desk.audit.records[0]
    assert (record["kind"], record["result"], record["status"]) == ("report", "newer", 401)


async def test_who_reports_is_told_with_the_subject(desk: Desk) -> None:
    """What a report sets going has an actor: the caller, and on whose behalf."""
    desk.kv("v1")
    grant = Grant("jti-1", "ada", "search", "", ("find",), ("web",), 0.0, 9e9)
    with pytest.raises(ReportConflict):
        await desk.service.report(
            replace(desk.caller(), grant=grant),
            "web",
            desk.request(tool="find"),
            version="v1",
            status=401,
        )
    assert desk.reports.actors == ["search for ada"]


async def test_a_report_that_finds_nothing_newer_is_a_conflict(desk: Desk) -> None:
    """The caller learns version, state and the next attempt; the value is still handed out."""
    desk.kv("v1")

    async def suspected() -> None:
        desk.kv("v1", state=State.SUSPECT, next_attempt_wall=99.0)

    desk.reports.then = suspected
    with pytest.raises(ReportConflict) as conflict:
        await report(desk)
    assert (conflict.value.version, conflict.value.state) == ("v1", "suspect")
    assert conflict.value.next_attempt_at == 99.0
    assert desk.metrics.reports == [("web", "conflict")]
    assert desk.get().status == 200


@pytest.mark.parametrize("version", ["v0", "never-seen"])
async def test_a_report_about_another_version_costs_vault_nothing(desk: Desk, version: str) -> None:
    """An old or unknown version is answered with the current one, at once."""
    desk.kv("v1")
    assert (await report(desk, version))["version"] == "v1"
    assert desk.reports.taken == []


@pytest.mark.parametrize("status", [400, 403, 429, 500, 200])
async def test_only_a_401_counts(desk: Desk, status: int) -> None:
    """Any other status is answered with what is known and changes nothing."""
    desk.kv("v1")
    with pytest.raises(ReportConflict, match="401"):
        await report(desk, status=status)
    assert desk.reports.taken == []


async def test_other_statuses_count_where_the_configuration_says_so(desk: Desk) -> None:
    """A provider that refuses keys with 403 can be listened to; the hand-out says so."""
    desk.kv("v1")
    assert b"report_statuses" not in desk.get().body
    spec = replace(desk.specs["web"], report_statuses=(401, 403))
    desk.service.reconfigure({**desk.specs, "web": spec})
    with pytest.raises(ReportConflict, match="newest"):
        await report(desk, status=403)
    assert desk.reports.taken == [("web", "v1", 403, "")]
    with pytest.raises(ReportConflict, match="401 or 403"):
        await report(desk, status=429)
    assert json.loads(desk.get().body)["report_statuses"] == [401, 403]


async def test_a_report_without_any_value_is_unavailable(desk: Desk) -> None:
    """Nothing to conflict with: since when and until when."""
    desk.without_value("web", State.WITHDRAWN, since_wall=5.0, next_attempt_wall=6.0)
    with pytest.raises(CredentialUnavailable) as refusal:
        await report(desk)
    assert (refusal.value.since, refusal.value.next_attempt_at) == (5.0, 6.0)
    assert desk.metrics.reports == [("web", "credential_unavailable")]


async def test_a_report_that_brings_a_withdrawal_to_light_is_unavailable(desk: Desk) -> None:
    """The re-read found the value deleted: there is nothing to go on with."""
    desk.kv("v1")

    async def withdrawn() -> None:
        desk.without_value("web", State.WITHDRAWN, reason="vault_value_deleted")

    desk.reports.then = withdrawn
    with pytest.raises(CredentialUnavailable, match="withdrawn"):
        await report(desk)


@pytest.mark.parametrize(
    ("version", "status", "detail"),
    [
        ("", 401, ""),
        ("v" * 129, 401, ""),
        (None, 401, ""),
        (1, 401, ""),
        ("v1", "401", ""),
        ("v1", 401.0, ""),
        ("v1", True, ""),
        ("v1", 99, ""),
        ("v1", 600, ""),
        ("v1", None, ""),
        ("v1", 401, None),
        ("v1", 401, ["x"]),
    ],
)
async def test_members_of_another_kind_are_malformed(
    desk: Desk, version: object, status: object, detail: object
) -> None:
    """Checked before anything is done, recorded as a refusal."""
    desk.kv("v1")
    with pytest.raises(RequestMalformed):
        await report(desk, version, status, detail=detail)
    assert desk.reports.taken == []
    assert desk.audit.records[0]["kind"] == "refusal"


async def test_who_may_not_have_it_may_not_report_it(desk: Desk) -> None:
    """The same 404 as for a hand-out, and nothing is set going."""
    desk.kv("v1")
    with pytest.raises(CredentialUnknown):
        await desk.service.report(
            desk.caller("idle"), "web", desk.request(), version="v1", status=401
        )
    assert desk.reports.taken == []


async def test_a_detail_that_holds_the_key_goes_nowhere(desk: Desk) -> None:
    """Callers paste upstream errors, and these paste keys: masked first, then cut."""
    desk.kv("v1")
    with pytest.raises(ReportConflict):
        await report(desk, detail=f"bad key {CANARY} " + "x" * 1000)
    (_, _, _, detail) = desk.reports.taken[0]
    assert detail.startswith("bad key *** x")
    assert len(detail) == 500
    assert not any(CANARY.encode() in line for line in desk.audit.lines)


async def test_a_report_cut_short_is_recorded(desk: Desk) -> None:
    """Whatever ends it, there is a line and a count."""
    desk.kv("v1")

    async def broken() -> None:
        raise ZeroDivisionError

    desk.reports.then = broken
    with pytest.raises(ZeroDivisionError):
        await report(desk)
    assert desk.audit.records[0]["result"] == "internal"
    assert desk.metrics.reports == [("web", "internal")]
