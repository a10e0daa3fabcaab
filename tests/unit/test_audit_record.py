"""What stands in an audit line."""

from __future__ import annotations

import json
import re
import select
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from broker.audit import record
from broker.protocol.models import format_time

WALL = 1_800_000_000.25


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


STEP = record.rotation_line(
    "T",
    "a",
    "rotated",
    "schedule",
    rotation="r-1",
    key_id="k",
    reason="max_age",
    detail="code",
    source_version="7",
)


def test_a_step_of_a_rotation() -> None:
    """What was done to which key, by whom and why; what is not known is left out."""
    assert json.loads(STEP) == {
        "time": "T",
        "kind": "rotation",
        "step": "rotated",
        "credential": "a",
        "actor": "schedule",
        "rotation": "r-1",
        "key_id": "k",
        "reason": "max_age",
        "detail": "code",
        "source_version": "7",
    }
    bare = record.rotation_line(
        "T",
        "a" * 200,
        "frozen",
        "x",
        rotation="",
        key_id="",
        reason="",
        detail="",
        source_version="",
    )
    assert json.loads(bare).keys() == {"time", "kind", "step", "credential", "actor"}
    assert json.loads(bare)["credential"] == record.cut("a" * 200)


def test_a_gap_says_how_many_are_missing() -> None:
    """The record of lost records."""
    assert json.loads(record.gap_line("T", 3)) == {"time": "T", "kind": "gap", "lost": 3}


@given(st.text(max_size=4000), st.text(max_size=4000), st.text(max_size=4000))
def test_no_text_from_outside_breaks_a_line(name: str, tool: str, mcp: str) -> None:
    """Whatever callers send, a line is one JSON object, whole in one pipe write."""
    claims = record.who_fields(uid=2**32 - 2, tool=tool, mcp_request_id=mcp)
    lines = (
        record.refusal_line("T" * 24, "r" * 64, "c" * 128, claims, name, "code", "reason"),
        record.report_line("T" * 24, "r" * 64, "c" * 128, claims, name, tool, 401, "newer"),
    )
    for line in lines:
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert len(line) <= select.PIPE_BUF
        assert json.loads(line).get("credential", "") == record.cut(name)


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=20))
def test_the_stamp_writes_the_time_of_each_record(times: list[float]) -> None:
    """The kept second never leaks into another; the text is never later than the time."""
    stamp = record.Stamp()
    for wall in times:
        assert stamp(wall)[:20] == format_time(wall)[:20]
        assert 0 <= int(format_time(wall)[20:23]) - int(stamp(wall)[20:23]) <= 1


def test_the_document_names_every_member_of_every_record() -> None:
    """docs/audit.md and the lines agree, kind by kind."""
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", text, re.MULTILINE)
    documented = {kind: set(re.findall(r"`(\w+)`", members)) for kind, members in rows[1:]}
    claims = record.who_fields(uid=1, tool="tool", mcp_request_id="mcp")
    value = record.value_fields("a", "v", source_version="1", lease_id="l", use_until="T")
    lines = (
        record.handout_line("T", "r", "ok", record.handout_rest("c", claims, value)),
        record.refusal_line("T", "r", "c", claims, "a", "code", "reason"),
        record.report_line("T", "r", "c", claims, "a", "v", 401, "newer"),
        STEP,
        record.gap_line("T", 1),
    )
    written = {line["kind"]: line.keys() - {"kind"} for line in map(json.loads, lines)}
    assert documented == written
    first_cells = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    explained = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
    assert set().union(*written.values()) <= explained
