"""``app.trail``, ``app.audit_log`` and ``app.audit_head``: the broker's own life in the audit."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from broker.app.audit_head import PERIOD, AuditHead
from broker.app.audit_log import audit_log
from broker.app.ending import Ending
from broker.app.trail import Trail
from broker.audit.log import AuditLog
from broker.audit.record import lease_digest
from broker.audit.schema import json_schema
from broker.audit.sinks import opener
from broker.audit.verify import Verdict, Verifier
from broker.credentials.model import CredentialKey, Lease, Snapshot
from broker.errors import AuditUnavailable, SettingsError
from broker.secret import SecretValue
from broker.settings.domain import AuditSettings
from broker.telemetry.events import Events
from broker.telemetry.metrics import Metrics
from broker.vault.generation import Generation
from tests.simulators.clock import ManualClock, VirtualClock
from tests.support.auditing import KEY
from tests.unit.test_telemetry_metrics import scrape

JUDGE = jsonschema.Draft202012Validator(json_schema())
TIME = "2027-01-15T08:00:00.000Z"


class World:
    """A trail into a file."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.clock = ManualClock(now=0.0)
        self.metrics = Metrics(clock=self.clock)
        self.file = directory / "audit.log"
        self.settings = replace(AuditSettings(file=str(self.file)), **changes)
        self.start()

    def start(self) -> None:
        self.audit = audit_log(self.settings, clock=self.clock, metrics=self.metrics)
        self.trail = Trail(self.audit, self.clock)

    def records(self) -> list[dict[str, Any]]:
        """Every line, valid, without what all have."""
        told = []
        for line in self.file.read_text().splitlines():
            record = json.loads(line)
            JUDGE.validate(record)
            told.append({k: v for k, v in record.items() if k not in {"time", "seq", "chain"}})
        return told

    def verdict(self, key: bytes = b"") -> Verdict:
        verifier = Verifier(key)
        for number, line in enumerate(self.file.read_bytes().splitlines(keepends=True), 1):
            verifier.line(str(self.file), number, line)
        return verifier.end()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def snapshot(version: str, lease_id: str = "") -> Snapshot:
    generation = Generation(1, SecretValue("canary-token"), inf, renewable=True)
    lease = Lease(lease_id, generation, 0.0, 0.0, 60.0, 60.0, renewable=True)
    return Snapshot(
        CredentialKey("a"),
        version,
        {"key": SecretValue("canary-value")},
        0.0,
        0.0,
        source_version="" if lease_id else "3",
        lease=lease if lease_id else None,
    )


def test_the_life_of_a_process(world: World) -> None:
    """Start, logins, configurations and stop are a record each, valid and in order."""
    trail = world.trail
    trail.started(process="broker", broker_version="1.2", digest="0" * 64, host="pod-1")
    trail.logged_in("login_failed", None)
    trail.logged_in("ok", 1)
    trail.configured("refused", digest="1" * 64, reason="settings_faults")
    trail.configured(
        "applied", digest="2" * 64, keys=["log.level"], restart=["vault.address", "stop.delay"]
    )
    trail.stopped(reason="SIGTERM", exit_code=0)
    assert world.records() == [
        {
            "kind": "start",
            "process": "broker",
            "broker_version": "1.2",
            "digest": "0" * 64,
            "host": "pod-1",
        },
        {"kind": "login", "result": "login_failed"},
        {"kind": "login", "result": "ok", "generation": 1},
        {
            "kind": "configuration",
            "result": "refused",
            "digest": "1" * 64,
            "reason": "settings_faults",
        },
        {
            "kind": "configuration",
            "result": "applied",
            "digest": "2" * 64,
            "keys": ["log.level"],
            "restart": ["vault.address", "stop.delay"],
        },
        {"kind": "stop", "reason": "SIGTERM", "exit_code": 0},
    ]
    assert json.loads(world.file.read_text().splitlines()[0])["time"] == TIME


def test_refreshes_that_change_something(world: World) -> None:
    """A new version names the one before it and its lease by digest; a quiet poll is no record."""
    trail = world.trail
    trail.refreshed("a", "changed", snapshot("v1"))
    trail.refreshed("a", "unchanged", snapshot("v1"))
    trail.refreshed("a", "replaced", snapshot("v2", "db/creds/x"), previous="v1")
    trail.refreshed("a", "renewed", snapshot("v2", "db/creds/x"))
    lease = lease_digest("db/creds/x")
    assert world.records() == [
        {
            "kind": "refresh",
            "credential": "a",
            "result": "changed",
            "version": "v1",
            "source_version": "3",
        },
        {
            "kind": "refresh",
            "credential": "a",
            "result": "replaced",
            "version": "v2",
            "lease": lease,
            "previous": "v1",
        },
        {
            "kind": "refresh",
            "credential": "a",
            "result": "renewed",
            "version": "v2",
            "lease": lease,
        },
    ]
    assert "canary" not in world.file.read_text()


def test_a_failure_that_repeats_is_one_record(world: World) -> None:
    """Until it is well again or fails otherwise: an outage of a night is no flood."""
    trail = world.trail
    for _ in range(3):
        trail.refresh_failed("a", "vault_unreachable", None)
    trail.refresh_failed("b", "vault_unreachable", snapshot("v9"))
    trail.refresh_failed("a", "vault_value_deleted", None, previous="v1")
    trail.refreshed("a", "unchanged", snapshot("v1"))
    trail.refresh_failed("a", "vault_value_deleted", None)
    assert [(one["credential"], one["result"]) for one in world.records()] == [
        ("a", "vault_unreachable"),
        ("b", "vault_unreachable"),
        ("a", "vault_value_deleted"),
        ("a", "vault_value_deleted"),
    ]
    assert world.records()[2]["previous"] == "v1"


def test_what_cannot_be_recorded_is_told_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has happened already."""
    clock = ManualClock(now=0.0)
    audit = AuditLog(opener("/dev/full"), clock=clock, metrics=Metrics(clock=clock))
    Trail(audit, clock).logged_in("ok", 1)
    assert "is not in the audit" in caplog.text


# --- the chain over restarts -----------------------------------------------------------


def test_a_restart_goes_on_with_the_chain(world: World) -> None:
    """The first record of the second life follows the last one of the first."""
    for _ in range(3):
        world.trail.started(process="broker", broker_version="1", digest="", host="")
        world.trail.stopped(reason="quit", exit_code=0)
        world.start()
    verdict = world.verdict()
    assert (verdict.findings, verdict.records, verdict.chains) == ([], 6, 1)
    assert world.audit.head() == verdict.head


def test_a_crash_within_a_line_does_not_end_the_chain(world: World) -> None:
    """What the machine cut off is a piece; the next life goes on after the last whole record."""
    world.trail.stopped(reason="quit", exit_code=0)
    with world.file.open("ab") as file:
        file.write(b'{"time":"2027-01-15T08:00:00.000Z","kind":"hand')
    world.start()
    world.trail.started(process="broker", broker_version="1", digest="", host="")
    verdict = world.verdict()
    assert (verdict.faults, verdict.records, verdict.chains) == (0, 2, 1)


def test_a_file_that_ends_otherwise_gets_a_new_chain(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody wrote into it: that is told, and the verification tells it too."""
    world.trail.stopped(reason="quit", exit_code=0)
    with world.file.open("ab") as file:
        file.write(b'{"foreign":true}\n')
    world.start()
    world.trail.started(process="broker", broker_version="1", digest="", host="")
    assert "a new chain begins" in caplog.text
    verdict = world.verdict()
    assert (verdict.faults, verdict.chains) == (1, 2)


def test_the_key_of_the_file_makes_the_chain(tmp_path: Path) -> None:
    """Who has no key can neither continue nor check it."""
    (tmp_path / "key").write_bytes(KEY + b"\n")
    world = World(tmp_path, key_file=str(tmp_path / "key"))
    world.trail.stopped(reason="quit", exit_code=0)
    assert world.verdict(KEY).faults == 0
    assert world.verdict(b"").faults == 1
    with pytest.raises(SettingsError):
        World(tmp_path, key_file=str(tmp_path / "missing"))
    with pytest.raises(AuditUnavailable):
        World(tmp_path / "missing")


def test_rotated_files_of_a_real_log_verify(tmp_path: Path) -> None:
    """Log, chain and rotating files together: every record is there, and follows."""
    world = World(tmp_path, max_bytes=65_536, keep=4)
    for number in range(600):
        world.trail.stopped(reason=f"reason-{number}", exit_code=0)
        if number % 150 == 0:
            world.start()
    files = sorted(world.file.parent.glob("audit.log*"), reverse=True)
    assert len(files) > 1
    verifier = Verifier(b"", None)
    for path in files:
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
            verifier.line(path.name, number, line)
    verdict = verifier.end()
    assert (verdict.findings, verdict.records) == ([], 600)


# --- the head --------------------------------------------------------------------------


class HeadByHand:
    """A head that a test moves."""

    def __init__(self) -> None:
        self.at = (0, "")

    def head(self) -> tuple[int, str]:
        return self.at


@pytest.mark.looptime
async def test_the_head_is_told_once_a_minute_when_it_moved(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Log and event follow it; a quiet minute says nothing."""
    import asyncio

    caplog.set_level(logging.INFO, "broker.audit")
    clock = VirtualClock()
    audit, metrics = HeadByHand(), Metrics(clock=clock)
    events = Events(metrics)
    head = AuditHead(audit, events, clock)
    task = asyncio.create_task(head.run())
    with events.subscribe() as subscription:
        audit.at = (7, "ab" * 16)
        await clock.sleep(3 * PERIOD)
        audit.at = (9, "cd" * 16)
        await clock.sleep(PERIOD)
        told = [(event.kind, dict(event.fields)) for event in subscription.take()]
    task.cancel()
    assert told == [
        ("audit_head", {"sequence": "7", "chain": "ab" * 16}),
        ("audit_head", {"sequence": "9", "chain": "cd" * 16}),
    ]
    assert [one.getMessage() for one in caplog.records] == [
        f"audit head {'ab' * 16}@7",
        f"audit head {'cd' * 16}@9",
    ]


def test_the_head_is_a_gauge_and_in_the_status(tmp_path: Path) -> None:
    """The scrape has the number, the status the link as well, as ``verify`` takes it."""
    world = World(tmp_path)
    head = AuditHead(world.audit, Events(world.metrics), world.clock)
    assert "broker_audit_sequence" not in scrape(world.metrics)
    world.metrics.audit_sequence = head.sequence
    world.trail.stopped(reason="quit", exit_code=0)
    assert scrape(world.metrics)["broker_audit_sequence"] == {(): 1}
    status = head.status()
    assert status["head"] == f"{status['chain']}@1"


def test_the_first_reason_to_end_counts() -> None:
    """A second signal, or what breaks while stopping, is not why it stopped."""
    ending = Ending()
    ending.ask("SIGTERM")
    ending.note("task_ended", 70)
    assert (ending.asked.is_set(), ending.reason, ending.exit_code) == (True, "SIGTERM", 0)
