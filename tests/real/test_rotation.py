"""Rotation by whole processes: three that share a Lease, and one of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from broker.app.vault_policy import hcl, rules
from broker.demo.openbao import OpenBao
from broker.demo.search_api import SearchApi
from broker.settings.load import load
from broker.settings.processes import Process
from tests.simulators.kubernetes import ApiServer
from tests.support.broker_process import BrokerProcess
from tests.support.rotating import first_key, sections, vault_section

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]


@pytest.fixture
def search() -> Iterator[SearchApi]:
    """The upstream."""
    api = SearchApi()
    api.start()
    yield api
    api.stop()


@pytest.fixture
def cluster() -> Iterator[ApiServer]:
    """The Kubernetes API."""
    server = ApiServer()
    server.start()
    yield server
    server.stop()


@dataclass
class Load:
    """One MCP server beside one broker: a tool call every few milliseconds."""

    broker: BrokerProcess
    search: SearchApi
    failed: list[str] = field(default_factory=list)
    calls: int = 0
    keys: list[str] = field(default_factory=list)
    """Versions in the order in which they were used."""
    doomed: bool = False
    """Its pod is about to be killed, and this MCP server goes with it."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        token = self.broker.token("search-mcp")
        base = f"http://127.0.0.1:{self.broker.port}"
        with httpx2.Client(trust_env=False, timeout=5.0) as http:
            while not self._stop.wait(0.03):
                self.calls += 1
                try:
                    got = http.get(
                        base + "/v1/credentials/search-api",
                        headers={"Authorization": f"Bearer {token}"},
                    )
                except httpx2.TransportError:
                    if not self.doomed:
                        self.failed.append("hand-out: no answer")
                    return
                if got.status_code != 200:
                    self.failed.append(f"hand-out: {got.status_code}")
                    continue
                document = got.json()
                if self.keys[-1:] != [document["source_version"]]:
                    self.keys.append(document["source_version"])
                found = http.get(
                    self.search.address + "/search?q=lease",
                    headers={"x-api-key": document["data"]["api_key"]},
                )
                if found.status_code != 200:
                    self.failed.append(f"search: {found.status_code}")


@pytest.fixture
def brokers(
    openbao: OpenBao, search: SearchApi, cluster: ApiServer
) -> Iterator[list[BrokerProcess]]:
    """Three replicas with the least policy that the configuration asks for."""
    path = "three"
    first_key(openbao, search, path)
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        made: list[BrokerProcess] = []
        for number in range(3):
            directory = Path(name) / str(number)
            directory.mkdir()
            account = directory / "account"
            account.mkdir()
            (account / "token").write_text(cluster.token)
            config = sections(search, path) | {
                "kubernetes": {
                    "address": cluster.address,
                    "token_file": str(account / "token"),
                    "namespace": "shop",
                    "pod": f"broker-{number}",
                },
                "vault": vault_section(openbao, "to come", directory),
            }
            made.append(BrokerProcess(directory, config))
        policy = hcl(rules(load(str(made[0].config_file), {}).settings, "broker"))
        openbao.admin.policy("three", policy)
        for one in made:
            token = openbao.admin.create_token(["three"]).reveal()
            (one.directory / "vault-token").write_text(token)
        try:
            for one in made:
                one.spawn()
            for one in made:
                one.wait_for("/readyz", 200)
            yield made
        finally:
            for one in made:
                one.close()


def cli(broker: BrokerProcess, *argv: str) -> subprocess.CompletedProcess[str]:
    """A ``broker`` command in the container of ``broker``."""
    socket = str(broker.directory / "admin" / "admin.sock")
    return subprocess.run(
        [sys.executable, "-m", "broker", *argv, "--socket", socket],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        cwd=Path(__file__).parents[2],
    )


def until(done: Callable[[], object], what: str, within: float) -> None:
    """Wait until ``done()``; a few milliseconds fine."""
    end = time.monotonic() + within
    while not done():
        assert time.monotonic() < end, f"{what} did not come within {within:g} s"
        time.sleep(0.002)


def leader(brokers: list[BrokerProcess], cluster: ApiServer) -> BrokerProcess | None:
    """Who leads by the Lease."""
    holder = cluster.holder("shop", "broker-rotation").partition("_")[0]
    return next((one for n, one in enumerate(brokers) if holder == f"broker-{n}"), None)


def past(broker: BrokerProcess) -> list[dict[str, str]]:
    """Rotations that ended, as any replica tells them."""
    told = cli(broker, "rotation", "history", "search-api", "--json")
    assert told.returncode == 0, told.stderr
    found: list[dict[str, str]] = json.loads(told.stdout)["past"]
    return found


def test_the_leader_is_killed_in_the_middle(
    brokers: list[BrokerProcess], search: SearchApi, cluster: ApiServer
) -> None:
    """No call fails, no dead key is used, and one live key is left, the one readers have."""
    loads = {one.port: Load(one, search) for one in brokers}
    for load_ in loads.values():
        load_.start()
    try:
        # Never rotated is due: the first rotation needs nobody to ask for it.
        until(lambda: len(search.keys.live()) == 2, "a new key", 15)
        until(lambda: len(search.keys.live()) == 1, "the end of the old one", 20)
        killed = leader(brokers, cluster)
        assert killed is not None
        others = [one for one in brokers if one is not killed]
        until(lambda: past(killed), "rest", 10)
        asked = threading.Thread(target=cli, args=(killed, "rotate", "search-api"))
        proofs = len(search.admin.proofs)
        asked.start()
        until(lambda: len(search.admin.proofs) > proofs, "the proof of the next key", 15)
        loads[killed.port].doomed = True
        killed.stop(signal.SIGKILL)
        loads[killed.port].stop()
        assert len(search.keys.live()) == 2
        asked.join()
        until(lambda: leader(others, cluster), "another leader", 10)
        until(lambda: len(search.keys.live()) == 1, "the end of the rotation", 20)
        until(lambda: len(past(others[0])) == 2, "rest", 10)
    finally:
        for load_ in loads.values():
            load_.stop()
    (live,) = search.keys.live()
    assert [load_.failed for load_ in loads.values()] == [[], [], []]
    assert {call.verdict for call in search.calls} == {"ok"}
    assert search.calls[-1].key_id == live.id
    assert live.label.startswith("broker/here/search-api/")
    assert all(load_.calls > 50 for load_ in loads.values())
    newest, first = past(others[1])
    assert (first["result"], first["reason"]) == ("rotated", "never_rotated")
    assert (newest["result"], newest["reason"]) == ("rotated", "demanded")
    assert newest["key_id"] == live.id
    steps = [
        record["step"] for one in brokers for record in one.audit() if record["kind"] == "rotation"
    ]
    assert {"intended", "created", "rotated", "retired"} <= set(steps)
    told = [(event["reason"], event["involvedObject"]["name"]) for event in cluster.events]
    assert ("CredentialRotated", f"broker-{brokers.index(killed)}") in told
    assert "sk-demo-" not in "".join(one.logs() for one in brokers)


@pytest.fixture
def pair(openbao: OpenBao, search: SearchApi) -> Iterator[tuple[BrokerProcess, BrokerProcess]]:
    """A sidecar that may only read, and ``broker rotator``; each with its own least policy."""
    path = "pair"
    first_key(openbao, search, path)
    config = sections(search, path)
    config["rotation"]["mode"] = "rotator"
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        made: list[BrokerProcess] = []
        processes: tuple[tuple[str, Process], ...] = (("run", "broker"), ("rotator", "rotator"))
        for command, process in processes:
            directory = Path(name) / command
            directory.mkdir()
            part = config | {"vault": vault_section(openbao, "to come", directory)}
            one = BrokerProcess(directory, part, command=command)
            policy = hcl(rules(load(str(one.config_file), {}).settings, process))
            openbao.admin.policy(f"pair-{command}", policy)
            token = openbao.admin.create_token([f"pair-{command}"]).reveal()
            (directory / "vault-token").write_text(token)
            made.append(one)
        try:
            made[0].start()
            yield made[0], made[1]
        finally:
            for one in made:
                one.close()


def test_a_rotator_of_its_own(pair: tuple[BrokerProcess, BrokerProcess], search: SearchApi) -> None:
    """The sidecar only reads, and has each new key within one poll; operators ask the rotator."""
    sidecar, rotator = pair
    load_ = Load(sidecar, search)
    load_.start()
    try:
        rotator.start()
        refused = cli(sidecar, "rotate", "search-api")
        assert (refused.returncode, "rotates nothing" in refused.stderr) == (75, True)
        until(lambda: len(past(rotator)) == 1, "the first rotation", 20)
        search.keys.spoil_next()
        rolled_back = cli(rotator, "rotate", "search-api")
        assert (rolled_back.returncode, rolled_back.stdout) == (75, "")
        done = cli(rotator, "rotate", "search-api")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("search-api: rotated (rotation ")
        until(lambda: len(search.keys.live()) == 1, "the end of the old key", 15)
        until(lambda: len(past(rotator)) == 3, "rest", 10)
    finally:
        load_.stop()
    (live,) = search.keys.live()
    assert load_.failed == []
    assert search.calls[-1].key_id == live.id
    assert {call.verdict for call in search.calls} == {"ok"}
    assert [one["result"] for one in past(rotator)] == ["rotated", "rolled_back", "rotated"]
    assert rotator.operations.get("/readyz").json()["rotations_overdue"] == []
    series = 'broker_rotation_steps_total{credential="search-api",step="rolled_back"}'
    assert (rotator.metric(series), sidecar.metric(series)) == (1.0, None)
    assert rotator.metric("broker_rotation_leading") == 1.0
    with pytest.raises(httpx2.TransportError):
        rotator.http.get("/v1/credentials")
    assert (rotator.stop(), sidecar.stop()) == (0, 0)
    assert "sk-demo-" not in rotator.logs() + sidecar.logs()
