"""What stands in an audit line."""

from __future__ import annotations

import json
import select

from hypothesis import given
from hypothesis import strategies as st

from broker.audit import record
from broker.protocol.models import format_time
from tests.support.auditing import handout

CHAIN = len(b',"seq":999999999999999999,"chain":""') + 32
"""Bytes that the log adds to a line."""


def test_a_handout_says_who_got_what_until_when() -> None:
    """The record of a hand-out, whole."""
    value = record.value_fields(
        "orders-db",
        "v-7f",
        source_version="3",
        lease_id="database/creds/orders/abc",
        use_until="2027-01-15T08:00:30.000Z",
    )
    claims = record.who_fields(uid=10001, tool="list_orders", mcp_request_id="42")
    line = record.handout_line(
        "2027-01-15T08:00:00.250Z", "r1", "ok", record.handout_rest("orders", claims, value)
    )
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250Z",
        "kind": "handout",
        "result": "ok",
        "request_id": "r1",
        "client": "orders",
        "uid": 10001,
        "tool": "list_orders",
        "mcp_request_id": "42",
        "credential": "orders-db",
        "version": "v-7f",
        "source_version": "3",
        "lease": record.lease_digest("database/creds/orders/abc"),
        "use_until": "2027-01-15T08:00:30.000Z",
    }
    assert b"abc" not in line


def test_what_is_not_known_is_left_out() -> None:
    """A caller over TCP who names no tool, and a value without lease, give a short line."""
    value = record.value_fields("a", "v", source_version="", lease_id="", use_until="T")
    line = record.handout_line("T", "r", "ok", record.handout_rest("c", record.who_fields(), value))
    assert set(json.loads(line)) == {
        "time", "kind", "result", "request_id", "client", "credential", "version", "use_until",
    }  # fmt: skip


def test_a_refusal_tells_the_true_reason() -> None:
    """Inside the audit, unknown and not allowed differ."""
    line = record.refusal_line("T", "r", "c", "", "a", "credential_unknown", "not_allowed")
    assert json.loads(line) == {
        "time": "T",
        "kind": "refusal",
        "result": "credential_unknown",
        "reason": "not_allowed",
        "request_id": "r",
        "client": "c",
        "credential": "a",
    }
    nobody = json.loads(record.refusal_line("T", "r", "", "", "", "caller_unauthenticated", "x"))
    assert nobody.keys() == {"time", "kind", "result", "reason", "request_id"}


def test_a_gap_says_how_many_are_missing() -> None:
    """The record of lost records."""
    assert json.loads(record.gap_line("T", 3)) == {"time": "T", "kind": "gap", "lost": 3}


def test_a_confirmed_version_is_a_kind_of_its_own() -> None:
    """A 304 carries no value: it is no hand-out."""
    value = record.value_fields("a", "v", source_version="", lease_id="", use_until="T")
    line = json.loads(handout("T", "r", "c", "", value, "not_modified"))
    assert (line["kind"], line["result"], line["version"]) == ("revalidated", "not_modified", "v")


def test_who_asks_and_what_decided_stand_in_one_line() -> None:
    """MCP request, scoped token, subject, tool, policies, version and lease join in one record."""
    who = record.who_fields(
        uid=7,
        address="10.0.0.1",
        tool="search",
        mcp_request_id="42",
        token_id="st-1",
        subject="alice",
        policies=("p1", "p2"),
    )
    value = record.value_fields("a", "v", source_version="3", lease_id="l", use_until="T")
    arguments = record.argument_fields(b"k" * 32, b'{"q":1}')
    line = json.loads(handout("T", "r", "c", who, value, "ok", arguments))
    assert line.pop("arguments")["size"] == 7
    assert line == {
        "time": "T",
        "kind": "handout",
        "result": "ok",
        "request_id": "r",
        "client": "c",
        "uid": 7,
        "address": "10.0.0.1",
        "tool": "search",
        "mcp_request_id": "42",
        "token_id": "st-1",
        "subject": "alice",
        "policies": ["p1", "p2"],
        "credential": "a",
        "version": "v",
        "source_version": "3",
        "lease": record.lease_digest("l"),
        "use_until": "T",
    }


def test_arguments_are_a_keyed_digest() -> None:
    """Who knows the arguments but not the key learns nothing from the record."""
    told = {
        record.argument_fields(key, content)
        for key in (b"a" * 32, b"b" * 32)
        for content in (b"yes", b"no")
    }
    assert len(told) == 4
    assert not any("yes" in one for one in told)


@given(st.lists(st.text(max_size=300), max_size=200))
def test_a_long_list_is_cut_with_a_mark(policies: list[str]) -> None:
    """However many policies decided, the list keeps its bound and says that it was cut."""
    fields = record.who_fields(policies=policies)
    assert len(fields) <= record.POLICIES + 30
    kept = json.loads("{" + fields[1:] + "}").get("policies", [])
    whole = [record.cut(one) for one in policies]
    assert kept == whole or (kept[-1] == "…" and kept[:-1] == whole[: len(kept) - 1])


@given(st.text(max_size=4000))
def test_a_cut_text_keeps_its_beginning_and_its_bounds(text: str) -> None:
    """A text is kept whole, or as a beginning with a mark; never wider than its bound."""
    kept = record.cut(text)
    assert len(kept) <= record.LONGEST
    assert len(record.quote(kept)) <= record.WIDEST
    assert kept == text or (kept.endswith("…") and text.startswith(kept[:-1]))
    if len(record.quote(text)) <= record.WIDEST and len(text) <= record.LONGEST:
        assert kept == text


@given(st.text(max_size=4000), st.text(max_size=4000), st.text(max_size=4000))
def test_no_text_from_outside_breaks_a_line(name: str, tool: str, mcp: str) -> None:
    """Whatever callers send, a line is one JSON object, whole in one pipe write."""
    claims = record.who_fields(
        uid=2**32 - 2,
        address="a" * 64,
        tool=tool,
        mcp_request_id=mcp,
        token_id=mcp,
        subject=tool,
        policies=[name, tool, mcp] * 20,
    )
    claims += record.argument_fields(b"k", b"")
    lines = (
        record.refusal_line("T" * 24, "r" * 64, "c" * 128, claims, name, "code", mcp),
        record.report_line("T" * 24, "r" * 64, "c" * 128, claims, name, tool, 401, "newer"),
    )
    for line in lines:
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert len(line) + CHAIN <= select.PIPE_BUF
        assert json.loads(line).get("credential", "") == record.cut(name)


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=20))
def test_the_stamp_writes_the_time_of_each_record(times: list[float]) -> None:
    """The kept second never leaks into another; the text is never later than the time."""
    stamp = record.Stamp()
    for wall in times:
        assert stamp(wall)[:20] == format_time(wall)[:20]
        assert 0 <= int(format_time(wall)[20:23]) - int(stamp(wall)[20:23]) <= 1
