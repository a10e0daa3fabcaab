"""A real broker process for tests: configuration, start, calls, signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.support.patience import PATIENCE


class BrokerProcess:
    """``python -m broker run`` on ephemeral ports and a directory of its own.

    Args:
        directory: for sockets, tokens, configuration, logs and audit; its path must be short.
        config: sections of the configuration; listeners are filled in.
        environment: variables on top of a bare environment.
        command: ``run`` or ``rotator``.
        stdout: descriptor for standard output; the log's file when there is none.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        *,
        command: str = "run",
        stdout: int | None = None,
    ) -> None:
        self.directory = directory
        self.port, self.operations_port = _free_port(), _free_port()
        self.config_file = directory / "broker.yaml"
        self.audit_file = directory / "audit.jsonl"
        self.log_file = directory / "broker.log"
        self._environment = dict(environment or {})
        self._command = command
        self._stdout = stdout
        self._config = {
            "listeners": {
                "socket_directory": str(directory / "run"),
                "tcp": [f"127.0.0.1:{self.port}"],
                "admin_socket": str(directory / "admin" / "admin.sock"),
                "operations": f"127.0.0.1:{self.operations_port}",
            },
            "audit": {"file": str(self.audit_file)},
            "log": {"level": "debug"},
            **config,
        }
        self.write_config(self._config)
        self.process: subprocess.Popen[bytes] | None = None
        self.http, self.operations = (
            httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE)
            for port in (self.port, self.operations_port)
        )

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the configuration file, as a whole."""
        self.config_file.write_text(yaml.safe_dump(dict(config), sort_keys=False))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration in use."""
        return dict(self._config)

    def spawn(self) -> None:
        """Start the process without waiting for anything."""
        environment = {"PATH": os.environ["PATH"], **self._environment}
        # So that what only a real process runs is measured as well.
        environment |= {k: v for k, v in os.environ.items() if k.startswith("COVERAGE_")}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "broker", self._command, "--config", str(self.config_file)],
                stderr=log,
                stdout=log if self._stdout is None else self._stdout,
                env=environment,
                cwd=Path(__file__).parents[2],
            )

    def start(self, timeout: float = PATIENCE) -> None:
        """Start the process and wait until ``/startupz`` says it is over."""
        self.spawn()
        self.wait_for("/startupz", 200, timeout)

    def wait_for(self, path: str, status: int, timeout: float = PATIENCE) -> httpx2.Response:
        """Poll the operations plane until ``path`` answers ``status``."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, self.logs()[-3000:]
            try:
                response = self.operations.get(path)
            except httpx2.TransportError:
                pass
            else:
                if response.status_code == status:
                    return response
            time.sleep(0.05)
        raise AssertionError(f"{path} did not become {status}: {self.logs()[-3000:]}")

    def token(self, client: str) -> str:
        """The client token; for the Authorization header only."""
        return (self.directory / "run" / client / "client-token").read_text().strip()

    def get(self, name: str, client: str = "search-mcp", **headers: str) -> httpx2.Response:
        """A hand-out over TCP."""
        authorization = f"Bearer {self.token(client)}"
        return self.http.get(
            f"/v1/credentials/{name}", headers={"Authorization": authorization, **headers}
        )

    def audit(self) -> list[dict[str, Any]]:
        """All audit records so far."""
        return [json.loads(line) for line in self.audit_file.read_text().splitlines()]

    def logs(self) -> str:
        """The log so far."""
        return self.log_file.read_text()

    def metric(self, series: str) -> float | None:
        """The value of one series, written as in the exposition; None when absent."""
        for line in self.operations.get("/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return None

    def stop(self, number: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Send a signal and wait; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout)

    def close(self) -> None:
        """End the process whatever it does, and the connections."""
        self.http.close()
        self.operations.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
