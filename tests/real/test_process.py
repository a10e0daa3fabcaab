"""A named task that ends unasked ends a real broker process; its memory is its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE

pytestmark = pytest.mark.real

HARDENED = """
import ctypes, resource
from broker.app.process import harden
harden()
PR_GET_DUMPABLE = 3
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(PR_GET_DUMPABLE))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_hardened_process_dumps_no_core() -> None:
    """The limit is zero and the kernel calls the process undumpable."""
    result = subprocess.run(
        [sys.executable, "-c", HARDENED],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=PATIENCE,
    )
    assert result.stdout.split() == ["(0,", "0)", "0"]


FILES = """
import resource
from broker.app.process import RESERVE, connections, harden
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, min(hard, 1024)))
harden()
raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
print(raised, connections(2, 4096) * 2 + RESERVE <= raised, connections(2, 40))
"""


def test_connections_leave_files_for_everything_else() -> None:
    """The soft limit is raised to the hard one; idle neighbours cannot use it up."""
    result = subprocess.run(
        [sys.executable, "-c", FILES],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=PATIENCE,
    )
    assert result.stdout.split() == ["1024", "True", "40"]


EARLY = """
import argparse, os, signal, time
from broker.cli import run
from broker.settings import load

def told(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)

load.load = told
run.call(argparse.Namespace(config="broker.yaml"))
"""


def test_a_signal_before_anything_has_begun_ends_the_process() -> None:
    """By a handler of our own: to process 1 of a container the default is to go on."""
    result = subprocess.run(
        [sys.executable, "-c", EARLY], cwd=Path(__file__).parents[2], timeout=30, check=False
    )
    assert result.returncode == 0


ENDED = """
import asyncio, sys
from broker.api import listeners
from broker.app import run as app
from broker.settings.load import load
from tests.support.patience import PATIENCE

async def short(*_):
    await asyncio.sleep(0.2)

app.tend = short
sys.exit(app.run(load(sys.argv[1]).settings, sys.argv[1]))
"""


def test_a_dead_named_task_ends_the_process_in_order(tmp_path: Path) -> None:
    """Exit code 70 and the name of the task in the log; the rest is shut down."""
    config = tmp_path / "broker.yaml"
    config.write_text(
        f"""
vault:
  address: http://127.0.0.1:1
  auth: {{method: token_file, token_file: {tmp_path}/none}}
listeners:
  socket_directory: {tmp_path}/run
  tcp: []
  admin_socket: {tmp_path}/admin/admin.sock
  operations: "127.0.0.1:0"
audit: {{file: {tmp_path}/audit}}
clients: {{one: {{credentials: [key]}}}}
credentials: {{key: {{source: {{kind: kv, mount: secret, path: key}}}}}}
"""
    )
    result = subprocess.run(
        [sys.executable, "-c", ENDED, str(config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"]},
        timeout=PATIENCE,
    )
    assert result.returncode == 70, result.stderr[-2000:]
    assert "listeners" in result.stderr
    assert "ended unasked" in result.stderr
    assert not (tmp_path / "run" / "one" / "broker.sock").exists()
