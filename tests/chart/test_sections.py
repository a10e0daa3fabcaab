"""Policies, the audit log's key and volume, and sections that the chart only passes on."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from broker.access.policies import Policies
from broker.app.policies import compiled
from broker.errors import SettingsErrors
from broker.settings.load import load, parse_settings
from tests.chart.cases_rotation import values
from tests.chart.rendering import CASES, CHART, Release, containers, merged, refusal, render

README = (CHART / "README.md").read_text()
POLICIES = {
    "search.cedar": "permit (principal, action, resource);",
    "night.cedar": "forbid (principal, action, resource) when { false };",
}
KEY = {"audit": {"keySecret": "audit-key", "keyName": "chain"}}


def pods(release: Release) -> list[dict[str, Any]]:
    """Of the Deployments, then of the checks."""
    deployed = [one["spec"]["template"]["spec"] for one in release.all("Deployment")]
    return [*deployed, *(one["spec"] for one in release.all("Pod"))]


def ours(pod: dict[str, Any]) -> dict[str, Any]:
    """The container of the product in a pod."""
    (found,) = (one for one in containers(pod) if one["name"] in {"broker", "rotator", "check"})
    return found


def configurations(release: Release) -> list[dict[str, Any]]:
    """broker.yaml, and rotator.yaml if there is one."""
    data = [one["data"] for one in release.all("ConfigMap")]
    names = ("broker.yaml", "rotator.yaml")
    return [yaml.safe_load(one[name]) for name in names for one in data if name in one]


def judge(release: Release) -> None:
    for one in release.objects:
        kubernetes_validate.validate(one, "1.33.0", strict=True)


@pytest.mark.parametrize("mode", ["off", "rotator"])
def test_policies_stand_where_the_configuration_names_them(mode: str) -> None:
    """One volume has broker.yaml and policies/; no server mounts it, a rotator needs none."""
    base = values("rotator") if mode == "rotator" else {}
    release = render(merged(base, {"policies": POLICIES}))
    judge(release)
    (held,) = (one for one in release.all("ConfigMap") if "search.cedar" in one["data"])
    assert held["data"] == POLICIES
    paths = [f"policies/{name}" for name in sorted(POLICIES)]  # from broker.yaml's directory
    config, *rotators = configurations(release)
    assert config["policies"] == {"files": paths}
    assert len(rotators) == (mode == "rotator")
    for pod in pods(release):
        (volume,) = (one for one in pod["volumes"] if one["name"] == "broker-config")
        holders = [
            one["name"]
            for one in containers(pod)
            if "broker-config" in {each["name"] for each in one["volumeMounts"]}
        ]
        assert holders == [ours(pod)["name"]]
        if "configMap" in volume:
            assert volume["configMap"]["name"].endswith("rotator-config")
            continue
        settings, policies = volume["projected"]["sources"]
        assert settings["configMap"]["name"].endswith("broker-config")
        assert policies["configMap"]["name"] == held["metadata"]["name"]
        mount = {one["name"]: one for one in ours(pod)["volumeMounts"]}["broker-config"]
        assert mount == {"name": "broker-config", "mountPath": "/etc/broker", "readOnly": True}
        items = policies["configMap"]["items"]
        assert [one["path"] for one in items] == paths
        assert {one["key"] for one in items} == set(POLICIES)


def test_what_is_about_callers_is_not_the_rotators() -> None:
    """Its file names no client, so limits and policies that do would be faults in it."""
    limits = {"rules": {"search": {"rate": "5/second", "clients": ["search-mcp"]}}}
    change = merged(values("rotator"), {"settings": {"limits": limits}, "policies": POLICIES})
    release = render(change)
    broker, rotator = configurations(release)
    assert broker["limits"] == limits
    assert not {"limits", "policies"} & set(rotator)
    text = yaml.safe_dump(rotator)
    assert parse_settings(text, file="rotator.yaml", environ={}, uid=65532).settings.clients == {}


def test_the_broker_reads_and_compiles_the_policies(tmp_path: Path) -> None:
    """Laid out as the volume has them, by the broker's own loader; a slip in one is a fault."""

    def settle(text: str) -> Policies | None:
        release = render({"policies": {"search.cedar": text}})
        (tmp_path / "policies").mkdir(exist_ok=True)
        (tmp_path / "broker.yaml").write_text(release.config)
        (held,) = (one for one in release.all("ConfigMap") if "search.cedar" in one["data"])
        (tmp_path / "policies" / "search.cedar").write_text(held["data"]["search.cedar"])
        return compiled(load(tmp_path / "broker.yaml", {}, uid=65532).settings)

    example = README.partition("  search.cedar: |\n")[2].partition("```")[0]
    assert settle(textwrap.dedent(example)) is not None
    with pytest.raises(SettingsErrors, match="search-mpc"):
        settle(example.replace("search-mcp", "search-mpc"))


def test_a_changed_policy_is_taken_over_by_running_pods() -> None:
    """The broker watches the files too, so the pods are not rolled."""

    def checksum(text: str) -> str:
        template = render({"policies": {"a.cedar": text}}).one("Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/restart"])

    assert checksum("permit (principal, action, resource);") == checksum("// nothing")


@pytest.mark.parametrize("mode", ["off", "rotator"])
def test_the_audit_key_comes_from_a_secret_of_yours(mode: str) -> None:
    """Mounted in each process of ours and in no server, for the group alone; no Secret is made."""
    base = values("rotator") if mode == "rotator" else {}
    release = render(merged(base, KEY))
    judge(release)
    assert release.all("Secret") == []
    found = configurations(release)
    assert all(one["audit"]["key_file"] == "/etc/broker-audit/audit.key" for one in found)
    for pod in pods(release):
        (volume,) = (one for one in pod["volumes"] if one["name"] == "broker-audit-key")
        assert volume["secret"] == {
            "secretName": "audit-key",
            "defaultMode": 0o440,
            "items": [{"key": "chain", "path": "audit.key"}],
        }
        holders = [
            one["name"]
            for one in containers(pod)
            if "broker-audit-key" in {each["name"] for each in one["volumeMounts"]}
        ]
        assert holders == [ours(pod)["name"]]


@pytest.mark.parametrize(
    ("case", "kind", "place"),
    [
        ("audit on a volume", {"emptyDir": {"sizeLimit": "1Gi"}}, "/var/log/broker"),
        (
            "audit on a claim",
            {"persistentVolumeClaim": {"claimName": "audit"}},
            "/var/lib/broker-audit",
        ),
    ],
)
def test_the_audit_file_has_its_volume(case: str, kind: dict[str, Any], place: str) -> None:
    """Of the file's own directory, in the broker alone; the check does not write, so has none."""
    release = render(CASES[case])
    (volume,) = (one for one in release.pod["volumes"] if one["name"] == "broker-audit")
    assert volume == {"name": "broker-audit"} | kind
    holders = {
        one["name"]: mount
        for one in containers(release.pod)
        for mount in one["volumeMounts"]
        if mount["name"] == "broker-audit"
    }
    assert holders == {"broker": {"name": "broker-audit", "mountPath": place}}
    assert place == str(Path(yaml.safe_load(release.config)["audit"]["file"]).parent)
    (check,) = release.all("Pod")
    assert "broker-audit" not in {one["name"] for one in check["spec"]["volumes"]}


def test_a_rotators_records_go_to_its_output() -> None:
    """The volume is the servers' pods'; what only a file can have is not asked of the rotator."""
    release = render(merged(values("rotator"), CASES["audit on a volume"]))
    broker, rotator = (one["audit"] for one in configurations(release))
    assert broker["file"] == "/var/log/broker/audit.log"
    assert rotator == {"on_failure": "refuse"}


@pytest.fixture
def further(tmp_path: Path) -> Path:
    """The chart with a schema that takes any section."""
    place = tmp_path / "chart"
    shutil.copytree(CHART, place)
    file = place / "values.schema.json"
    schema = json.loads(file.read_text())
    schema["properties"]["settings"] = {"type": "object"}
    file.write_text(json.dumps(schema))
    return place


def test_further_sections_arrive_as_they_are(further: Path) -> None:
    """In both processes' files, beside what other values make of the same section."""
    sections = {"further": {"per_caller": "10/s"}, "audit": {"keep": 3}, "log": {"more": False}}
    change = merged(values("rotator"), {"settings": sections, "audit": {"file": "/a/b"}})
    for found in configurations(render(change, path=further)):
        assert found["further"] == {"per_caller": "10/s"}
        assert found["audit"] == {"file": "/a/b", "on_failure": "refuse", "keep": 3}
        assert found["log"] == {"level": "info", "format": "json", "more": False}


def test_no_section_gets_past_the_values_that_make_it() -> None:
    """The schema refuses what would stand against the chart's own keys."""
    for section in ("vault", "clients", "listeners", "stop", "rotation"):
        assert section in refusal({"settings": {section: {}}})
    for section, key in (("policies", "files"), ("audit", "key_file"), ("log", "level")):
        assert section in refusal({"settings": {section: {key: []}}})


def test_a_shared_store_needs_a_path_of_its_own() -> None:
    """Said by the chart, before a pod says it."""
    refused = refusal({"settings": {"tokens": {"store": "shared"}}})
    assert "settings.tokens.path is missing" in refused
