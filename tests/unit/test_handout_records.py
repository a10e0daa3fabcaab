"""What callers write by mistake: a key in a name or a claim does not reach the audit."""

from __future__ import annotations

import pytest

from broker.access.principal import Caller, Grant, Principal
from broker.errors import CredentialUnknown, TooManyRequests
from broker.handout.records import REMEMBERED, Records
from broker.protocol.redaction import Redactor
from broker.protocol.token_format import opaque
from broker.secret import SecretValue
from tests.simulators.clock import ManualClock
from tests.simulators.desk import CANARY, Desk


@pytest.fixture
def desk() -> Desk:
    return Desk(ManualClock())


def test_a_claim_that_holds_a_key_is_masked(desk: Desk) -> None:
    """Tool and MCP request id are recorded with the key hidden, hand-out or refusal."""
    desk.kv("v1")
    request = desk.request(tool=f"search {CANARY}", mcp_request_id=CANARY)
    assert desk.service.handout(desk.caller(), "web", request) is not None
    with pytest.raises(CredentialUnknown):
        desk.service.handout(desk.caller("idle"), "web", request)
    claims = [(record["tool"], record["mcp_request_id"]) for record in desk.audit.records]
    assert claims == [("search ***", "***")] * 2


def test_a_name_that_holds_a_key_is_masked(desk: Desk) -> None:
    """Whoever asks for a key by its value finds it nowhere written down."""
    with pytest.raises(CredentialUnknown):
        desk.service.handout(desk.caller(), f"x-{CANARY}", desk.request())
    assert desk.audit.records[0]["credential"] == "x-***"


def test_a_scoped_token_in_a_name_or_claim_is_masked(desk: Desk) -> None:
    """It opens something for as long as it lives, and no list of live values has it."""
    token = opaque(bytes(range(32))).decode()
    request = desk.request(tool=f"{token}", mcp_request_id=f"id:{token}")
    desk.kv("v1")
    assert desk.service.handout(desk.caller(), "web", request) is not None
    with pytest.raises(CredentialUnknown):
        desk.service.handout(desk.caller(), token, request)
    assert not any(token[4:].encode() in line for line in desk.audit.lines)
    assert desk.audit.records[-1]["credential"] == "***"


def test_a_claim_is_masked_anew_once_a_value_came(desk: Desk) -> None:
    """A tool's name that was harmless before a value came is looked at again after."""
    redactor = Redactor()
    records = Records(ManualClock(), desk.audit, desk.metrics, redactor.mask)

    def tool() -> str:
        request = desk.request(tool="key of tomorrow")
        error = CredentialUnknown()
        records.refusal(error, request, principal=desk.caller(), name="web")
        return str(desk.audit.records[-1]["tool"])

    assert tool() == "key of tomorrow"
    redactor.learn(SecretValue("tomorrow"))
    records.values_changed()
    assert tool() == "key of ***"


def test_a_reported_version_may_be_a_key(desk: Desk) -> None:
    """A caller who reports the value instead of its version leaves no trace of it."""
    redactor = Redactor()
    redactor.learn(SecretValue(CANARY))
    records = Records(ManualClock(), desk.audit, desk.metrics, redactor.mask)
    records.report(
        desk.request(),
        principal=desk.caller(),
        name="web",
        version=CANARY,
        status=401,
        result="ok",
    )
    assert desk.audit.records[-1]["version"] == "***"


def test_many_tool_names_are_not_remembered_for_ever(desk: Desk) -> None:
    """A caller who invents names fills no memory."""
    desk.kv("v1")
    for number in range(REMEMBERED + 10):
        desk.service.handout(desk.caller(), "web", desk.request(tool=f"tool-{number}"))
    assert len(desk.service._records._masked) <= REMEMBERED
    assert desk.audit.records[-1]["tool"] == f"tool-{REMEMBERED + 9}"


def test_a_refusal_by_a_limit_that_cannot_be_written_is_told_later(desk: Desk) -> None:
    """The count of a record that the log did not take is in the next one."""
    error = TooManyRequests(reason="limits.rules.few", retry_after=1.0)
    records = desk.service._records
    desk.audit.broken = True
    for _ in range(3):
        records.refusal(error, desk.request(), principal=desk.caller(), name="web")
    desk.audit.broken = False
    for _ in desk.service.write_shared(everything=True):
        pass
    assert [(one["client"], one["count"]) for one in desk.audit.records] == [("search", 3)]
    assert desk.metrics.over == [("search", "web")] * 3


def test_subjects_do_not_share_the_records_of_a_limit(desk: Desk) -> None:
    """Each is told with the token and the subject it was refused for."""
    error = TooManyRequests(reason="limits.rules.few", retry_after=1.0)
    records = desk.service._records
    for subject in ("ann", f"{CANARY}"):
        grant = Grant(f"id-{subject[:3]}", subject, "search", "", ("*",), ("web",), 0, 9e9)
        principal = Principal(Caller("search", "token"), grant)
        for _ in range(2):
            records.refusal(error, desk.request(), principal=principal, name="web")
    for _ in records.write_shared(everything=True):
        pass
    told = [(one["token_id"], one["subject"]) for one in desk.audit.records]
    assert told == [("id-ann", "ann"), ("id-can", "***")] * 2
