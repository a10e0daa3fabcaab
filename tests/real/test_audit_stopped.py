"""A real broker whose audit cannot be written: nothing leaves, nothing is lost, and it heals."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.cli.exit_codes import ExitCode
from broker.cli.main import main
from broker.demo.openbao import OpenBao
from tests.conftest import KubernetesAuth
from tests.support.broker_process import BrokerProcess
from tests.support.patience import until

pytestmark = pytest.mark.real

MANY = 8000
"""Hand-outs that more than fill the buffer of a pipe (1 MiB), at some 300 bytes each."""
Make = Callable[..., BrokerProcess]


@pytest.fixture
def make(openbao: OpenBao, kubernetes_auth: KubernetesAuth) -> Iterator[Make]:
    """Makes a started broker with one key and a chain."""
    made: list[BrokerProcess] = []
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        directory = Path(name)
        jwt, key = directory / "jwt", directory / "chain.key"
        kubernetes_auth.project(jwt)
        key.write_bytes(b"k" * 32)
        openbao.admin.kv_write("secret", "app/stopped", {"api_key": "canary-key-1"})

        def start(audit: dict[str, Any], **options: Any) -> BrokerProcess:
            config = {
                "vault": {
                    "address": openbao.address,
                    "auth": {"role": "broker", "token_file": str(jwt)},
                },
                "clients": {"search-mcp": {"credentials": ["stopped"]}},
                "credentials": {
                    "stopped": {"source": {"kind": "kv", "mount": "secret", "path": "app/stopped"}}
                },
                "audit": {"key_file": str(key), **audit},
                "log": {"level": "info"},
            }
            process = BrokerProcess(directory, config, **options)
            made.append(process)
            process.start()
            return process

        try:
            yield start
        finally:
            for process in made:
                process.close()


class Asking:
    """Hand-outs until they are refused; what left, by request id."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker
        self._headers = {"Authorization": f"Bearer {broker.token('search-mcp')}"}
        self.left: set[str] = set()

    def once(self) -> int:
        answer = self._broker.http.get("/v1/credentials/stopped", headers=self._headers)
        if answer.status_code == 200:
            self.left.add(answer.headers["broker-request-id"])
        else:
            assert answer.status_code == 503
            assert answer.json()["code"] == "audit_unavailable"
            assert int(answer.headers["retry-after"]) > 0
            assert "canary" not in answer.text
        return int(answer.status_code)

    def until_refused(self) -> None:
        for _ in range(MANY):
            if self.once() == 503:
                return
        raise AssertionError("it was never refused")


def stays_refused(broker: BrokerProcess, asking: Asking) -> None:
    """As long as it lasts; the process lives and tells by metric and log."""
    for _ in range(20):
        assert asking.once() == 503
        assert broker.operations.get("/livez").status_code == 200
    refused = broker.metric('broker_audit_records_total{result="refused"}')
    assert refused is not None
    assert refused >= 21
    assert broker.metric('broker_audit_records_total{result="lost"}') in {None, 0.0}
    assert "audit records cannot be written: " in broker.logs()


def verified(file: Path, broker: BrokerProcess, asking: Asking) -> None:
    """The chain is whole, and each answer that left has its record in it."""
    key = str(broker.directory / "chain.key")
    assert main(["audit", "verify", str(file), "--key-file", key]) == ExitCode.OK
    records = [json.loads(line) for line in file.read_bytes().splitlines() if line[-1:] == b"}"]
    told = {one["request_id"] for one in records if one["kind"] == "handout"}
    assert asking.left == told


def test_a_full_disk_refuses_and_heals(make: Make, tmp_path: Path) -> None:
    """The file may grow no more, in the middle of a line; then it may again."""
    file = tmp_path / "audit.jsonl"
    broker = make({"file": str(file)})
    assert broker.process is not None
    asking = Asking(broker)
    while file.stat().st_size < 2 * broker.log_file.stat().st_size:
        assert asking.once() == 200
    # Of any file of this process; the log's is the smaller one.
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = file.stat().st_size
    resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (size + 1000, most))
    asking.until_refused()
    stays_refused(broker, asking)
    assert file.stat().st_size == size + 1000

    resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (most, most))
    assert asking.once() == 200
    assert "audit records are written again" in broker.logs()
    assert broker.stop() == 0
    verified(file, broker, asking)


def test_an_unread_output_refuses_and_heals(make: Make, tmp_path: Path) -> None:
    """Nobody reads the pipe until the buffer is full; then somebody does."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    broker = make({}, stdout=writing)
    os.close(writing)
    asking = Asking(broker)
    asking.until_refused()
    stays_refused(broker, asking)

    taken = tmp_path / "output"
    os.set_blocking(reading, False)
    with taken.open("wb") as file:

        def read() -> bool:
            """Take what there is; whether the broker hands out again."""
            try:
                file.write(os.read(reading, 1 << 20))
            except BlockingIOError:
                return asking.once() == 200
            return False

        until(read)
        assert asking.once() == 200
        assert "audit records are written again" in broker.logs()
        assert broker.process is not None
        broker.process.terminate()

        def ended() -> bool:
            try:
                piece = os.read(reading, 1 << 20)
            except BlockingIOError:
                return False
            file.write(piece)
            return not piece

        until(ended)
    os.close(reading)
    assert broker.stop() == 0
    assert taken.stat().st_size > 1 << 20  # the whole buffer was used before it refused
    verified(taken, broker, asking)
