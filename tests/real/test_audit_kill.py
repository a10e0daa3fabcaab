"""A broker that is killed under load: whatever left it is on record."""

from __future__ import annotations

import json
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.audit.files import in_order
from broker.cli.exit_codes import ExitCode
from broker.cli.main import main
from broker.demo.openbao import OpenBao
from tests.conftest import KubernetesAuth
from tests.support.broker_process import BrokerProcess
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.real

CALLERS = 8
ENOUGH = 2000
"""Answers before the kill: many loop turns with several records each."""


@pytest.fixture(params=[0, 65536], ids=["one file", "rotating"])
def broker(
    openbao: OpenBao, kubernetes_auth: KubernetesAuth, request: pytest.FixtureRequest
) -> Iterator[BrokerProcess]:
    """A broker with one key, started; its audit file rotates every few hundred hand-outs."""
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        directory = Path(name)
        jwt = directory / "jwt"
        kubernetes_auth.project(jwt)
        openbao.admin.kv_write("secret", "app/killed", {"api_key": "canary-key-1"})
        config: dict[str, Any] = {
            "vault": {
                "address": openbao.address,
                "auth": {"role": "broker", "token_file": str(jwt)},
            },
            "clients": {"search-mcp": {"credentials": ["killed"]}},
            "credentials": {
                "killed": {"source": {"kind": "kv", "mount": "secret", "path": "app/killed"}}
            },
            "audit": {"file": str(directory / "audit.jsonl")},
        }
        if request.param:
            config["audit"] |= {"max_bytes": request.param, "keep": 100}
        process = BrokerProcess(directory, config)
        try:
            process.start()
            yield process
        finally:
            process.close()


class Load(threading.Thread):
    """One caller on one connection: asks twice at a time until the broker is gone."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(daemon=True)
        self._port = port
        fields = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._request = (f"GET /v1/credentials/killed HTTP/1.1\r\n{fields}" * 2).encode()
        self.answers: list[str] = []
        self.begun: set[str] = set()
        """Those of which only a part may have come."""

    def run(self) -> None:
        """See the class."""
        unread = b""
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as connection:
            try:
                while True:
                    connection.sendall(self._request)
                    wanted = len(self.answers) + 2
                    while len(self.answers) < wanted:
                        received = connection.recv(65536)
                        if not received:
                            return
                        unread = self._take(unread + received)
            except OSError:
                return

    def _take(self, unread: bytes) -> bytes:
        """Note each answer of which the first byte of the body came."""
        while True:
            head, found, rest = unread.partition(b"\r\n\r\n")
            if not found or not rest:
                return unread
            assert head.startswith(b"HTTP/1.1 200 "), head.splitlines()[0]
            told = re.search(rb"broker-request-id: (\S+)", head)
            size = re.search(rb"content-length: (\d+)", head)
            assert told is not None
            assert size is not None
            self.begun.add(told[1].decode())
            length = int(size[1])
            if len(rest) < length:
                return unread
            self.answers.append(told[1].decode())
            unread = rest[length:]


def test_every_hand_out_that_left_has_its_record(broker: BrokerProcess) -> None:
    """After kill -9 under load: each answer that a caller saw begin is in the audit file."""
    load = [Load(broker.port, broker.token("search-mcp")) for _ in range(CALLERS)]
    for caller in load:
        caller.start()
    end = time.monotonic() + PATIENCE
    while sum(len(caller.answers) for caller in load) < ENOUGH:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert broker.stop(signal.SIGKILL) == -signal.SIGKILL
    for caller in load:
        caller.join(PATIENCE)
    files = [Path(file) for file in in_order([str(broker.audit_file)])]
    lines = [line for file in files for line in file.read_bytes().splitlines(keepends=True)]
    assert all(line.endswith(b"}\n") for line in lines)
    recorded = {json.loads(line).get("request_id") for line in lines}
    answered = {one for caller in load for one in caller.begun}
    assert len(answered) >= ENOUGH
    assert answered - recorded == set()
    assert main(["audit", "verify", str(broker.audit_file)]) == ExitCode.OK
    assert (len(files) > 5) == ("max_bytes" in broker.config["audit"])
