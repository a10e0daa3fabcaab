"""``broker audit`` and ``broker explain``: arguments, output, exit codes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from broker.audit import record
from broker.audit.links import link_of
from broker.audit.schema import json_schema
from broker.audit.sinks import open_file
from broker.cli.exit_codes import ExitCode
from broker.cli.main import main
from tests.support.auditing import KEY, chained, full, plain, settled

LINES = list(chained([*full(), *plain(6)]))
HEAD = link_of(LINES[-1])
assert HEAD is not None
HEAD_TEXT = f"{HEAD.chain}@{HEAD.sequence}"

Output = pytest.CaptureFixture[str]


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    return str(path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log in three files."""
    path = tmp_path / "audit.log"
    sink = open_file(str(path), max_bytes=sum(map(len, LINES)) * 2 // 5)
    for line in LINES:
        sink.write(line)
        settled()
    sink.close()
    assert (tmp_path / "audit.log.2").exists()
    return path


def test_a_good_log(log: Path, key: str, capsys: Output) -> None:
    """Rotated files are found; the head is printed so that it can be kept, and the rest said."""
    assert main(["audit", "verify", str(log), "--key-file", key]) == ExitCode.OK
    assert capsys.readouterr().out == (
        f"{len(LINES)} records in 3 files: 0 faults; the head is\n{HEAD_TEXT}\n"
        "Whether records after the last one here were cut off cannot be seen from the files: "
        "compare with a newer head that was recorded elsewhere (--head).\n"
    )


def test_a_recorded_head_vouches_for_the_end(
    log: Path, key: str, tmp_path: Path, capsys: Output
) -> None:
    """With the head of the last record nothing is open any more."""
    kept = tmp_path / "head"
    kept.write_text(HEAD_TEXT + "\n")
    for option in (["--head", HEAD_TEXT], ["--head-file", str(kept)]):
        assert main(["audit", "verify", str(log), "--key-file", key, *option]) == ExitCode.OK
        words = capsys.readouterr().out
        assert f"Up to record {len(LINES)} nothing is missing" in words
        assert "cannot be seen" not in words


def test_an_edited_line_is_named(log: Path, key: str, capsys: Output) -> None:
    """File and line of the fault, and what it is; exit 76."""
    older = Path(f"{log}.2")
    older.write_bytes(older.read_bytes().replace(b'"generation":1', b'"generation":2'))
    assert main(["audit", "verify", str(log), "--key-file", key]) == ExitCode.AUDIT
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first == f"FAULT: {older}:2: record 2 was edited, or is not of this chain"
    assert ": 1 fault; the head is" in second


def test_a_lost_end_is_told(log: Path, key: str, capsys: Output) -> None:
    """The last line is gone: only the recorded head shows it."""
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    assert main(["audit", "verify", str(log), "--key-file", key]) == ExitCode.OK
    code = main(["audit", "verify", str(log), "--key-file", key, "--head", HEAD_TEXT])
    assert code == ExitCode.AUDIT
    assert "the end is missing" in capsys.readouterr().out


def test_files_in_any_order(log: Path, key: str, capsys: Output) -> None:
    """A shell's pattern names the newest first."""
    names = [str(log), f"{log}.1", f"{log}.2"]
    assert main(["audit", "verify", *names, "--key-file", key]) == ExitCode.OK
    assert "3 files: 0 faults" in capsys.readouterr().out


def test_a_part_of_a_log(tmp_path: Path, key: str, capsys: Output) -> None:
    """The beginning is missing: a fault, unless it is said that it may be."""
    path = tmp_path / "part"
    path.write_bytes(b"".join(LINES[4:]))
    assert main(["audit", "verify", str(path), "--key-file", key]) == ExitCode.AUDIT
    assert main(["audit", "verify", str(path), "--key-file", key, "--partial"]) == ExitCode.OK
    assert f"note:  {path}:1: begins with record 5" in capsys.readouterr().out


def test_standard_input_and_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output
) -> None:
    """Collected output is verified from a pipe; without a key it is said what that is worth."""
    text = b"".join(chained(plain(3), b""))
    path = tmp_path / "stdin"
    path.write_bytes(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["audit", "verify", "-"]) == ExitCode.OK
    assert "Without a key" in capsys.readouterr().out


def test_many_faults_are_counted(tmp_path: Path, capsys: Output) -> None:
    """A wrong key makes a fault of each line: fifty are shown."""
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(chained(plain(80))))
    assert main(["audit", "verify", str(path)]) == ExitCode.AUDIT
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("FAULT") for line in lines) == 50
    assert "and more: 80 faults in all" in lines


def test_an_empty_log(tmp_path: Path, capsys: Output) -> None:
    """There is nothing to say about it."""
    path = tmp_path / "audit.log"
    path.touch()
    assert main(["audit", "verify", str(path)]) == ExitCode.OK
    assert capsys.readouterr().out == f"{path}: no records\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["audit", "verify", "/missing/audit.log"], ExitCode.NO_INPUT),
        (["audit", "verify", "/"], ExitCode.NO_INPUT),
        (["audit", "verify", "-", "--head", "abc"], ExitCode.NO_INPUT),
        (["audit", "verify", "-", "--head-file", "/dev/null"], ExitCode.NO_INPUT),
        (["audit", "verify", "-", "--key-file", "/dev/null"], ExitCode.SETTINGS),
        (["audit", "verify"], ExitCode.USAGE),
        (["audit", "verify", "-", "--head", "a", "--head-file", "b"], ExitCode.USAGE),
        (["explain", "r1", "--file", "/missing/audit.log"], ExitCode.NO_INPUT),
        (["explain", "r1", "--config", "/missing/broker.yaml"], ExitCode.SETTINGS),
        (["explain"], ExitCode.USAGE),
    ],
)
def test_what_cannot_be_read(arguments: list[str], code: ExitCode, capsys: Output) -> None:
    """Nothing is said about what could not be looked at."""
    assert main(arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err


def test_the_schema(capsys: Output) -> None:
    """``broker audit schema`` prints it."""
    assert main(["audit", "schema"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == json_schema()


# --- explain ---------------------------------------------------------------------------


def test_a_request_is_explained_over_rotated_files(log: Path, capsys: Output) -> None:
    """Request and related records may stand in different files."""
    assert main(["explain", "r1", "--file", str(log)]) == ExitCode.OK
    words = capsys.readouterr().out
    assert "orders-db was handed out." in words
    assert "Scoped token st-1 minted" in words
    assert "Scoped token st-1 expired" in words


def test_the_configured_file_is_the_default(log: Path, tmp_path: Path, capsys: Output) -> None:
    """``audit.file`` says where to look; with standard output it is said what to do."""
    config = tmp_path / "broker.yaml"
    head = "vault: {address: https://v.example, auth: {role: r}}\n"
    config.write_text(head + f"audit: {{file: {log}}}\n")
    assert main(["explain", "r1", "--config", str(config)]) == ExitCode.OK
    capsys.readouterr()
    config.write_text(head)
    assert main(["explain", "r1", "--config", str(config)]) == ExitCode.NO_INPUT
    assert "kubectl logs" in capsys.readouterr().err


def test_the_policies_that_decided_are_quoted(tmp_path: Path, capsys: Output) -> None:
    """As the configuration has them now, with their place."""
    config, log = tmp_path / "broker.yaml", tmp_path / "audit.log"
    config.write_text(
        "vault: {address: https://v.example, auth: {role: r}}\n"
        f"audit: {{file: {log}}}\n"
        "clients: {shop: {}}\n"
        "credentials: {orders-db: {source: {kind: leased, path: database/creds/orders}}}\n"
        "roles: {reader: {callers: [shop], credentials: [orders-db], tools: [list_orders]}}\n"
    )
    who = record.who_fields(tool="list_orders", policies=("roles.reader", "gone"))
    value = record.value_fields(
        "orders-db", "v1", source_version="", lease_id="", use_until="2027-01-15T08:00:30.000Z"
    )
    rest = record.handout_rest("shop", who, value)
    log.write_bytes(record.handout_line("2027-01-15T08:00:00.000Z", "r9", "ok", rest))
    assert main(["explain", "r9", "--config", str(config)]) == ExitCode.OK
    words = capsys.readouterr().out
    assert "permit" in words
    assert 'Credential::"orders-db"' in words
    assert "gone" in words


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    """What came through a pipe is looked at twice."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"".join(LINES))))
    assert main(["explain", "r1", "--file", "-"]) == ExitCode.OK
    assert "Related records:" in capsys.readouterr().out


def test_a_request_that_nothing_names(log: Path, capsys: Output) -> None:
    """Exit 66, and where it was looked for."""
    assert main(["explain", "unknown", "--file", str(log)]) == ExitCode.NO_INPUT
    assert f"{log}.2" in capsys.readouterr().err
