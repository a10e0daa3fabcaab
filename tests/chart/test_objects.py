"""What the chart makes, over the table of cases and versions of Kubernetes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from broker import __version__
from broker.settings.diff import diff
from broker.settings.domain import Settings
from broker.settings.load import parse_settings
from tests.chart.rendering import (
    CASES,
    CHART,
    CUSTOM,
    VERSIONS,
    Release,
    chart,
    merged,
    render,
)

SNAPSHOT = Path(__file__).parent / "snapshots" / "minimal.yaml"
MATRIX = [(case, version) for case in CASES for version in VERSIONS]


@pytest.mark.parametrize(("case", "version"), MATRIX)
def test_every_object_fits_the_schema_of_its_version(case: str, version: str) -> None:
    """Kubernetes' own schemas, closed against unknown keys, take each object.

    The package's oldest schemas are those of 1.25, which stand for what is older; the one
    difference that matters here is the budget's API.
    """
    oldest = kubernetes_validate.utils.all_versions()[0]
    schemas = version if minor(version) >= minor(oldest) else oldest
    for one in render(CASES[case], version=version).objects:
        if one["kind"] in CUSTOM:
            continue
        if one["apiVersion"] == "policy/v1beta1":
            assert version == "1.20.0"
            one = one | {"apiVersion": "policy/v1"}
        kubernetes_validate.validate(one, schemas, strict=True)


def minor(version: str) -> int:
    return int(version.split(".")[1])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_the_broker_takes_the_configuration(case: str, version: str) -> None:
    """The broker's own loader accepts broker.yaml, run as the uid the chart gives it."""
    release = render(CASES[case], version=version)
    settings = load(release)
    assert set(settings.clients) == set(servers(release))
    assert settings.stop.timeout + 5 <= release.pod["terminationGracePeriodSeconds"]
    for name, client in settings.clients.items():
        running = release.container(name)["securityContext"].get("runAsUser")
        assert client.uid in {None, running}
        assert client.group == release.pod["securityContext"].get("fsGroup")


def load(release: Release) -> Settings:
    uid = release.container("broker")["securityContext"].get("runAsUser")
    return parse_settings(release.config, file="broker.yaml", environ={}, uid=uid).settings


def servers(release: Release) -> list[str]:
    return [one["name"] for one in release.pod["containers"] if one["name"] != "broker"]


def test_everything_in_the_values_arrives_in_the_configuration() -> None:
    """Values that mean a key of broker.yaml become it, not a default that happens to fit."""
    values: dict[str, Any] = {
        "vault": {
            "address": "https://vault.example:8201",
            "namespace": "team",
            "authMount": "cluster-7",
            "role": "reader",
            "timeout": "7s",
            "redirectAddresses": ["https://vault-0.example"],
            "tls": {
                "caSecret": "ca",
                "clientSecret": "client",
                "serverName": "vault.internal",
            },
            "limits": {"requestsPerSecond": 7.5, "burst": 9, "concurrency": 5},
        },
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"audience": "bao"},
        "listeners": {
            "tcp": ["[::1]:8333"],
            "hosts": ["b.local"],
            "maxWait": "20s",
            "operationsPort": 9999,
        },
        "audit": {"file": "/a", "onFailure": "allow"},
        "log": {"level": "error", "format": "console"},
        "sidecar": {"mode": "classic"},
        "stop": {"serverSeconds": 40, "brokerSeconds": 11},
        "servers": {"search-mcp": {"proof": "uid", "uid": 12345}},
        "security": {"fsGroup": 3333},
    }
    found = load(render(values))
    assert found.vault.address == "https://vault.example:8201"
    assert found.vault.namespace == "team"
    assert found.vault.timeout == 7.0
    assert found.vault.redirect_addresses == ("https://vault-0.example",)
    assert found.vault.auth.mount == "cluster-7"
    assert (found.vault.auth.role, found.vault.auth.audience) == ("reader", "bao")
    assert found.vault.tls.ca_file == "/etc/broker-ca/ca.crt"
    assert found.vault.tls.cert_file == "/etc/broker-tls/tls.crt"
    assert found.vault.tls.key_file == "/etc/broker-tls/tls.key"
    assert found.vault.tls.server_name == "vault.internal"
    limits = found.vault.limits
    assert (limits.requests_per_second, limits.burst, limits.concurrency) == (7.5, 9, 5)
    assert found.listeners.tcp == ("[::1]:8333",)
    assert found.listeners.hosts == ("b.local",)
    assert (found.listeners.max_wait, found.listeners.operations) == (20.0, "[::]:9999")
    assert (found.audit.file, found.audit.on_failure) == ("/a", "allow")
    assert (found.log.level, found.log.format) == ("error", "console")
    assert (found.stop.delay, found.stop.timeout) == (40.0, 51.0)
    client = found.clients["search-mcp"]
    assert (client.proof, client.uid, client.group) == ("uid", 12345, 3333)


def test_defaults_are_a_snapshot() -> None:
    """The objects of the defaults, written out; 'make rendered' writes them anew."""
    release = render()
    assert list(release.objects) == list(yaml.safe_load_all(SNAPSHOT.read_text()))


@pytest.mark.parametrize(
    ("version", "mode", "gate"),
    [("1.28.9", "classic", "process"), ("1.29.0", "native", "keys"), ("1.33.0", "native", "keys")],
)
def test_the_broker_is_a_native_sidecar_where_there_are_such(
    version: str, mode: str, gate: str
) -> None:
    """From 1.29 on an init container that stays and gates; before, the first container."""
    release = render(version=version)
    broker = release.container("broker")
    if mode == "native":
        assert broker in release.pod["initContainers"]
        assert broker["restartPolicy"] == "Always"
    else:
        assert broker == release.pod["containers"][0]
        assert "initContainers" not in release.pod
        assert "restartPolicy" not in broker
    assert f"{mode} sidecar (start: {gate})" in release.notes
    probe = broker["startupProbe"]["httpGet"]["path"]
    assert probe == {"keys": "/readyz", "process": "/livez"}[gate]


def test_the_mode_can_be_chosen() -> None:
    """A cluster that has native sidecars may still be given the classic form."""
    release = render({"sidecar": {"mode": "classic"}})
    assert release.container("broker") == release.pod["containers"][0]


def test_a_gate_of_keys_outlasts_half_an_hour_without_vault() -> None:
    """The kubelet does not restart a broker that waits for Vault."""
    probe = render().container("broker")["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 30 * 60


@pytest.mark.parametrize("case", CASES)
def test_liveness_never_depends_on_vault(case: str) -> None:
    """The liveness probe asks the process alone."""
    assert render(CASES[case]).container("broker")["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_in_classic_mode_the_broker_outlives_the_servers_grace() -> None:
    """Both are signalled at once: the broker lingers for as long as a server may need."""
    release = render({"sidecar": {"mode": "classic"}, "stop": {"serverSeconds": 50}})
    assert load(release).stop.delay == 50.0
    assert load(render({"stop": {"serverSeconds": 50}})).stop.delay == 0.0


HOT = [
    {"credentials": {"search-api": {"source": {"poll": "5m"}}}},
    {"servers": {"search-mcp": {"credentials": ["search-api"]}}},
    {"log": {"level": "debug"}},
    {"audit": {"onFailure": "allow"}},
    {"settings": {"limits": {"default": "5/second"}}},
    {"settings": {"roles": {"search": {"callers": ["search-mcp"], "credentials": ["search-api"]}}}},
    {"policies": {"a.cedar": "permit (principal, action, resource);"}},
    {"settings": {"policies": {"zone": "Europe/Berlin"}}},
    {"settings": {"tokens": {"life": "3m"}}},
]
COLD = [
    {"vault": {"timeout": "5s"}},
    {"vault": {"role": "other"}},
    {"listeners": {"maxWait": "5s"}},
    {"servers": {"search-mcp": {"proof": "token_and_uid"}}},
    {"audit": {"file": "/tmp/audit.log"}},
    {"stop": {"brokerSeconds": 30}},
    {"audit": {"keySecret": "audit-key"}},
    {"audit": {"file": "/var/log/b/a.log"}, "settings": {"audit": {"sync": True}}},
]


@pytest.mark.parametrize("change", [*HOT, *COLD], ids=str)
def test_pods_roll_for_what_a_running_broker_cannot_take_over(change: dict[str, Any]) -> None:
    """The checksum changes exactly when the broker itself would ask for a restart."""
    before, after = render(), render(change)
    needed = bool(diff(load(before), load(after)).restart)
    assert needed == (change in COLD)
    assert (checksum(before) != checksum(after)) == needed


def checksum(release: Release) -> str:
    template = release.one("Deployment")["spec"]["template"]
    return str(template["metadata"]["annotations"]["checksum/restart"])


@pytest.mark.parametrize("length", [53, 40, 10])
def test_names_are_truncated_and_stay_apart(length: int) -> None:
    """Long release names make valid names, no two objects of a kind with the same."""
    extras = merged(CASES["all extras"], {"fullnameOverride": "", "serviceAccount": {"name": ""}})
    release = render(extras, name="x" * length)
    names = [(one["kind"], one["metadata"]["name"]) for one in release.objects]
    assert len(set(names)) == len(names)
    for _, name in names:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)
    for one in release.objects:
        for value in one["metadata"]["labels"].values():
            assert len(value) <= 63


def test_chart_and_program_have_one_version() -> None:
    """The default image is the version this chart was tested with."""
    assert chart().metadata["appVersion"] == __version__
    assert render().container("broker")["image"] == f"mcp-secrets-broker:{__version__}"
    digest = "sha256:" + "0" * 64
    image = render({"image": {"digest": digest, "tag": "ignored"}}).container("broker")["image"]
    assert image == f"mcp-secrets-broker@{digest}"


def test_one_object_stands_in_one_file() -> None:
    """Templates hold one object each, and helpers stay short."""
    for file in (CHART / "templates").rglob("*"):
        if file.suffix == ".yaml":
            assert len(re.findall(r"^kind:", file.read_text(), re.MULTILINE)) == 1, file
        elif file.suffix == ".tpl":
            assert len(file.read_text().splitlines()) <= 130, file


def test_the_check_runs_as_the_broker_would() -> None:
    """'helm test' logs in with the same account, token, image and configuration."""
    release = render()
    pod = release.one("Pod")
    (check,) = pod["spec"]["containers"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert check["args"] == [
        *("check", "--config", "/etc/broker/broker.yaml"),
        *("--process", "broker"),
    ]
    assert check["image"] == release.container("broker")["image"]
    assert pod["spec"]["serviceAccountName"] == release.pod["serviceAccountName"]
    volumes = {one["name"] for one in pod["spec"]["volumes"]}
    assert {one["name"] for one in check["volumeMounts"]} <= volumes
    policy = release.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= pod["metadata"]["labels"].items()
    served = release.one("Service")["spec"]["selector"]
    assert not served.items() <= pod["metadata"]["labels"].items()
    assert render({"helmTest": {"enabled": False}}).all("Pod") == []


@pytest.mark.parametrize("case", CASES)
def test_mounts_have_their_volumes(case: str) -> None:
    """Every mount names a volume of its pod, and no path is mounted twice."""
    release = render(CASES[case])
    for pod in (release.pod, *(one["spec"] for one in release.all("Pod"))):
        volumes = [one["name"] for one in pod["volumes"]]
        assert len(set(volumes)) == len(volumes)
        for one in [*pod.get("initContainers", []), *pod["containers"]]:
            paths = [mount["mountPath"] for mount in one["volumeMounts"]]
            assert len(set(paths)) == len(paths)
            assert {mount["name"] for mount in one["volumeMounts"]} <= set(volumes)


def test_the_policy_has_what_each_source_needs() -> None:
    """Exact paths; KV 1 without data/, a written lease with update, leases only where some are."""
    notes = render(CASES["KV 1 and a written lease"]).notes
    lines = set(
        re.findall(r'^path "([^"]+)" \{ capabilities = \["(\w+)"\] \}$', notes, re.MULTILINE)
    )
    assert lines == {
        ("secret/data/search-api", "read"),
        ("database/creds/orders", "read"),
        ("kv1/old", "read"),
        ("pki/issue/search", "update"),
        ("sys/leases/renew", "update"),
        ("sys/leases/revoke", "update"),
    }
    source = {"kind": "kv", "mount": "secret", "path": "a"}
    alone = {
        "vault": {"address": "https://vault.vault.svc:8200"},
        "credentials": {"a": {"source": source}},
        "servers": {"one": {"image": "x", "credentials": ["a"]}},
    }
    assert "sys/leases" not in render(base=alone).notes
