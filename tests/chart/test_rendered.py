"""k8s/: the rendered manifests are the chart's; what belongs to Vault agrees with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.chart.rendering import ROOT, Release, render

K8S = ROOT / "k8s"
HEADER = "# Rendered from helm/ with k8s/values.yaml by 'make rendered'; not edited by hand.\n"


def fixed() -> Release:
    """The chart with the fixed values."""
    values = yaml.safe_load((K8S / "values.yaml").read_text())
    return render(base=values, version=values["kubeVersion"], name="search-mcp")


def files(release: Release) -> dict[str, str]:
    """The content of k8s/rendered by file name; Helm's test is Helm's alone."""
    return {
        Path(path).name: HEADER + text.strip() + "\n"
        for path, text in release.files.items()
        if path.endswith(".yaml") and "/tests/" not in path and text.strip()
    }


def manifests() -> list[dict[str, Any]]:
    found = [*(K8S / "rendered").glob("*.yaml"), K8S / "vault/job.yaml"]
    return [yaml.safe_load(file.read_text()) for file in (*found, K8S / "vault/tokenreview.yaml")]


def test_the_rendered_manifests_are_the_charts() -> None:
    """File by file the same; 'make rendered' writes them anew."""
    here = {file.name: file.read_text() for file in (K8S / "rendered").iterdir()}
    assert here == files(fixed())


@pytest.mark.parametrize("one", manifests(), ids=lambda one: f"{one['kind']}")
def test_each_manifest_fits_kubernetes_schema(one: dict[str, Any]) -> None:
    """Closed against unknown keys."""
    kubernetes_validate.validate(one, "1.33.0", strict=True)


def test_the_policy_is_the_releases() -> None:
    """policy.hcl allows what NOTES.txt asks for with the same values: no more, no less."""
    notes = re.findall(r'^(path ".*)$', fixed().notes, re.MULTILINE)
    policy = (K8S / "vault" / "policy.hcl").read_text()
    assert re.findall(r"^(path .*)$", policy, re.MULTILINE) == notes


def test_the_script_binds_the_role_to_the_rendered_account() -> None:
    """Name, namespace and audience in the script's defaults are those of the manifests."""
    script = (K8S / "vault" / "setup.sh").read_text()
    default = dict(re.findall(r"^([A-Z_]+)=\$\{\1:-([^}]*)\}", script, re.MULTILINE))
    release = fixed()
    assert default["SERVICE_ACCOUNT"] == release.pod["serviceAccountName"]
    assert default["NAMESPACE"] == release.one("Deployment")["metadata"]["namespace"]
    assert f"role: {default['NAME']}" in release.config
    assert f"audience: {default['AUDIENCE']}" in release.config
    assert f"mount: {default['AUTH_MOUNT']}" in release.config


def test_the_job_runs_the_script_it_is_given() -> None:
    """The ConfigMap that kustomize makes has the files the Job's command reads."""
    made = yaml.safe_load((K8S / "vault" / "kustomization.yaml").read_text())
    (generator,) = made["configMapGenerator"]
    for name in (*made["resources"], *generator["files"]):
        assert (K8S / "vault" / name).exists()
    job = yaml.safe_load((K8S / "vault" / "job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    (volume,) = (
        one for one in pod["volumes"] if one.get("configMap", {}).get("name") == generator["name"]
    )
    assert container["command"][-1] == f"{mounted[volume['name']]}/setup.sh"
    assert job["metadata"]["namespace"] == generator["namespace"]
    variables = {one["name"] for one in container["env"]}
    script = (K8S / "vault" / "setup.sh").read_text()
    for name in variables - {"BAO_ADDR", "BAO_CACERT", "HOME"}:
        assert f"${{{name}:-" in script
