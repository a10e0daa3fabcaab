"""What a broker with plain lists does not load: memory is paid for in every pod.

Figures: ``docs/benchmarks.md``; how it is kept so: ``docs/decisions/0015``.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PLAIN = """\
vault: {address: "http://127.0.0.1:8200", auth: {role: search}}
credentials:
  search-api: {source: {kind: kv, mount: secret, path: search}}
clients:
  search-mcp: {credentials: [search-api]}
"""

PROGRAM = """\
import os, random, sys
from broker.settings.load import load
settings = load(sys.argv[1], {}).settings
from broker.app import run  # what the command loads
from broker.app.build import build
from broker.clock import SystemClock
from broker.protocol.redaction import Redactor
from broker.telemetry.metrics import Metrics
clock = SystemClock()
build(
    settings,
    clock=clock,
    rng=random.Random(1),
    own_uid=os.geteuid(),
    redactor=Redactor(),
    metrics=Metrics(settings.credentials, settings.clients, clock=clock),
    quit_broker=lambda: None,
)
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """Names of all modules of a broker that has been built."""
    directory = tmp_path_factory.mktemp("plain")
    file = directory / "broker.yaml"
    paths = f"{{socket_directory: {directory}/run, admin_socket: {directory}/admin/admin.sock}}"
    file.write_text(f"{PLAIN}listeners: {paths}\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return frozenset(done.stdout.split())


@pytest.mark.parametrize(
    "name",
    [
        "charset_normalizer",  # requests asks for it, and hvac for requests
        "pydantic.v1",  # FastAPI asks for it as soon as a route has parameters of its own
        "cedarpy",
        "broker.access.roles_analysis",
        "broker.access.tokens.shared",
        "broker.app.rotation",
        "broker.rotation.rotator",
        "broker.kube.client",
        "kubernetes",
        "limits",
        "httpx2",
        "mcp",
    ],
)
def test_what_nobody_asked_for_is_not_loaded(name: str, loaded: frozenset[str]) -> None:
    """Nor anything below it."""
    assert "broker.app.run" in loaded
    assert [one for one in loaded if one == name or one.startswith(f"{name}.")] == []
