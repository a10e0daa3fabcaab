"""``app.rotation``: who rotates, what a rotator needs, and the way of reports."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import SystemRandom

import pytest

from broker.app.build import Broker, build
from broker.app.masking import Masking
from broker.app.narrowing import narrowed
from broker.app.rotation import SuspectingReports
from broker.app.rotation_masked import MaskedDriver
from broker.credentials.model import CredentialKey, Entry, Snapshot, State
from broker.errors import KubernetesRefused, SettingsError, VaultSealed
from broker.protocol.redaction import Redactor
from broker.rotation.drivers.port import Capabilities, MintedKey
from broker.rotation.model import Label, UpstreamKey
from broker.secret import MASK, SecretValue
from broker.settings.domain import Settings
from broker.settings.processes import Process
from broker.telemetry.metrics import Metrics
from tests.simulators.clock import ManualClock
from tests.simulators.rotations import Rotations
from tests.unit.test_settings_load import read
from tests.unit.test_settings_rotation import FILE

KEY = CredentialKey("search-api")
CLOCK = ManualClock()


def settings(directory: Path, **rotation: str) -> Settings:
    """Two credentials that rotate, one that may manage keys, one plain."""
    text = FILE.replace(
        "clients:\n  c: {credentials: [a, b]}", "clients:\n  c: {credentials: [a, b, d]}"
    )
    loaded = read(text + "  d:\n    source: {kind: kv, mount: secret, path: d}\n").settings
    audit = replace(loaded.audit, file=str(directory / "audit.jsonl"))
    return replace(loaded, audit=audit, rotation=replace(loaded.rotation, **rotation))  # type: ignore[arg-type]


async def built(
    one: Settings, process: Process = "broker", environ: dict[str, str] | None = None
) -> Broker:
    """A broker that is built and has done nothing."""
    redactor = Redactor()
    return build(
        one,
        clock=CLOCK,
        rng=SystemRandom(),
        own_uid=0,
        redactor=redactor,
        metrics=Metrics(one.credentials, one.clients, clock=CLOCK),
        quit_broker=lambda: None,
        process=process,
        environ=environ,
    )


@pytest.mark.parametrize(
    ("mode", "process", "rotates"),
    [
        ("off", "broker", False),
        ("sidecar", "broker", True),
        ("rotator", "broker", False),
        ("rotator", "rotator", True),
    ],
)
async def test_who_rotates(tmp_path: Path, mode: str, process: Process, rotates: bool) -> None:
    """The mode says which process does; outside a cluster it leads without an election."""
    broker = await built(narrowed(settings(tmp_path, mode=mode), process), process)
    assert (broker.rotation is not None) == rotates
    if broker.rotation is not None:
        assert [name for name, work in broker.rotation.tasks() if work.close() is None] == [
            "rotation"
        ]
        assert sorted(one.name for one in broker.rotation.rotator.status()) == ["a", "b"]
        assert broker.rotation.overdue() == []
    await broker.vault.aclose()


async def test_a_rotator_has_no_callers(tmp_path: Path) -> None:
    """It keeps what rotates and what may manage keys, and opens no data listener."""
    one = narrowed(settings(tmp_path, mode="rotator"), "rotator")
    assert sorted(one.credentials) == ["a", "admin", "b"]
    broker = await built(one, "rotator")
    assert (broker.data, len(broker.admin), len(broker.operations)) == ([], 1, 1)
    await broker.vault.aclose()


def test_a_sidecar_that_does_not_rotate_needs_no_right_to(tmp_path: Path) -> None:
    """What may manage keys is the rotator's alone; what rotates here is kept with it."""
    assert "admin" not in narrowed(settings(tmp_path, mode="rotator"), "broker").credentials
    assert "admin" in narrowed(settings(tmp_path, mode="sidecar"), "broker").credentials


@pytest.mark.parametrize("mode", ["off", "sidecar"])
def test_a_rotator_with_nothing_to_do_says_so(tmp_path: Path, mode: str) -> None:
    """Two kinds of process that each rotate would be a slip of the configuration."""
    with pytest.raises(SettingsError, match="nothing to do"):
        narrowed(settings(tmp_path, mode=mode), "rotator")


async def test_in_a_cluster_it_leads_by_a_lease(tmp_path: Path) -> None:
    """The kubelet's variables are enough; the namespace stands beside the token."""
    one = settings(tmp_path)
    account = replace(one.kubernetes, token_file=str(tmp_path / "token"), pod="broker-0")
    one = replace(one, kubernetes=account)
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "9"}
    with pytest.raises(SettingsError, match="namespace"):
        await built(one, environ=environ)
    (tmp_path / "namespace").write_text("shop\n")
    broker = await built(one, environ=environ)
    assert broker.rotation is not None
    names = [name for name, work in broker.rotation.tasks() if work.close() is None]
    assert names == ["election", "pod events", "rotation"]
    assert broker.rotation.kubernetes is not None
    assert broker.rotation.kubernetes.cluster.namespace == "shop"
    assert b"broker_rotation_leading 0" in b"".join(broker.metrics.render())
    await broker.rotation.close()
    await broker.vault.aclose()


async def test_a_cluster_without_the_library_is_rotated_without_an_election(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Said loudly; it is correct. Who names the API server wants the election, and is refused."""
    monkeypatch.setitem(sys.modules, "kubernetes", None)  # as if it were not installed
    one = settings(tmp_path)
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "9"}
    broker = await built(one, environ=environ)
    assert broker.rotation is not None
    assert [name for name, work in broker.rotation.tasks() if work.close() is None] == ["rotation"]
    assert "not installed" in caplog.text
    await broker.vault.aclose()
    account = replace(one.kubernetes, address="http://127.0.0.1:9", namespace="shop")
    with pytest.raises(KubernetesRefused, match="not installed"):
        await built(replace(one, kubernetes=account))


@dataclass
class Keepers:
    """Answers reports."""

    version: str
    asked: list[str] = field(default_factory=list)

    async def report(
        self, key: CredentialKey, version: str, status: int, detail: str = "", *, actor: str = ""
    ) -> Entry | None:
        self.asked.append(version)
        snapshot = Snapshot(key, self.version, {}, obtained_at=0.0, validated_at=0.0)
        return Entry(key, State.FRESH, snapshot)


@pytest.mark.parametrize(
    ("name", "newest", "suspected"),
    [("search-api", "v1", True), ("search-api", "v2", False), ("orders-db", "v1", False)],
)
async def test_a_report_reaches_the_rotation(name: str, newest: str, suspected: bool) -> None:
    """If the re-read brought nothing newer, and the credential rotates here, the proof decides."""
    keepers, rotations = Keepers(newest), Rotations()
    reports = SuspectingReports(keepers, rotations, ["search-api"])
    entry = await reports.report(CredentialKey(name), "v1", 401, actor="search-mcp")
    assert entry is not None
    assert keepers.asked == ["v1"]
    assert rotations.asked == ([("suspect", name, "search-mcp")] if suspected else [])


async def test_a_report_outlives_a_rotation_that_cannot_be_told() -> None:
    """Vault is sealed: the caller gets the keeper's answer all the same."""
    rotations = Rotations(problem=VaultSealed())
    reports = SuspectingReports(Keepers("v1"), rotations, ["search-api"])
    assert await reports.report(KEY, "v1", 401, actor="search-mcp") is not None
    assert rotations.asked == [("suspect", "search-api", "search-mcp")]


class Provider:
    """A driver that makes one key."""

    capabilities = Capabilities(
        overlap=True, prove_first=True, rollback=True, list=True, fields=frozenset({"api_key"})
    )
    proved: tuple[str, ...] = ()

    def __init__(self, key: MintedKey) -> None:
        self.key = key

    async def create(self, label: Label) -> MintedKey:
        return self.key

    async def prove(self, key: MintedKey) -> None:
        await asyncio.sleep(0)

    async def list(self) -> Sequence[UpstreamKey]:
        return [UpstreamKey(self.key.key_id, "anybody's")]

    async def retire(self, key_id: str) -> None:
        self.proved += (key_id,)


@pytest.mark.parametrize("how", ["create", "prove"])
async def test_a_key_is_masked_before_anybody_has_it(how: str) -> None:
    """From its creation on, or from its first proof where another replica made it; for an hour."""
    clock, redactor = ManualClock(), Redactor()
    masking = Masking(clock, redactor)
    text = "sk-a-key-that-nobody-has-yet"
    key = MintedKey("id-1", {"api_key": SecretValue(text)})
    driver = MaskedDriver(Provider(key), masking)
    assert redactor.mask(text) == text
    if how == "create":
        assert await driver.create(Label("here", "a", "r-1")) is key
    else:
        await driver.prove(key)
    assert redactor.mask(f"x {text}") == f"x {MASK}"
    clock.advance(3601)
    masking.met([])
    assert redactor.mask(text) == text


async def test_the_rest_of_a_driver_is_passed_on() -> None:
    """Listing, retiring and what it can do are the driver's own."""
    inner = Provider(MintedKey("id-1", {}))
    driver = MaskedDriver(inner, Masking(ManualClock(), Redactor()))
    assert driver.capabilities is inner.capabilities
    assert [one.key_id for one in await driver.list()] == ["id-1"]
    await driver.retire("id-1")
    assert inner.proved == ("id-1",)
