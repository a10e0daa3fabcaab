"""``make demo`` tells the whole story, and its report says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

REPORT_KEYS = {"calls", "failed_calls", "dead_keys", "expired_handouts"}
EVENTS = {
    "lease_renewed",
    "lease_replaced",
    "token_replaced",
    "out_of_band_change",
    "vault_restarted",
    "caller_refused",
    "token_narrowed",
    "token_revoked",
    "leak_masked",
    "rotated",
    "rolled_back",
}


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment in which the demo's temporary directories can be counted."""
    # PostgreSQL's account must be able to enter, and Unix sockets have short paths.
    directory = Path("/tmp") / f"demo-{os.getpid()}"
    directory.mkdir(mode=0o755)
    yield os.environ | {"TMPDIR": str(directory), "COLUMNS": "200"}
    assert list(directory.iterdir()) == [], "the demo left directories behind"
    directory.rmdir()


def test_the_story_is_told(tmp_path: Path, temporary: dict[str, str]) -> None:
    """Exit code 0; the broker's server without a fault, the other one suffering; all events."""
    file = tmp_path / "report.json"
    told = subprocess.run(
        [sys.executable, "-m", "broker.demo", "--report", str(file)],
        capture_output=True,
        text=True,
        env=temporary,
        timeout=280,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-3000:]
    report = json.loads(file.read_text())

    assert set(report) == {"broker", "environment", "events", "live_keys_upstream"}
    broker, environment = report["broker"], report["environment"]
    assert set(broker) == set(environment) == REPORT_KEYS
    assert broker["calls"] > 20
    assert broker | {"calls": 0} == dict.fromkeys(REPORT_KEYS, 0)

    assert environment["calls"] > 20
    assert environment["failed_calls"] > environment["calls"] / 4
    assert environment["dead_keys"] > 0
    assert environment["expired_handouts"] > 0

    assert set(report["events"]) == EVENTS
    assert all(count >= 1 for count in report["events"].values()), report["events"]
    assert report["events"]["rotated"] >= 2
    assert report["events"]["rolled_back"] == 1
    assert report["live_keys_upstream"] == 1
    assert "sk-demo-" not in told.stdout + told.stderr
    assert "mbt_" not in told.stdout + told.stderr
    assert "broker audit verify: " in told.stdout


def test_an_interrupted_demo_leaves_nothing_behind(temporary: dict[str, str]) -> None:
    """SIGTERM in the middle: every part ends and every directory is removed.

    Shells start what runs in the background with SIGINT ignored.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "broker.demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=temporary,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_IGN),
    ) as demo:
        assert demo.stdout is not None
        output = ""
        for line in demo.stdout:
            output += line
            if "the MCP server runs twice" in line:
                demo.send_signal(signal.SIGTERM)
        assert demo.wait(PATIENCE) == 130, output
    assert "Traceback" not in output
