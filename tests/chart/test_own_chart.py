"""The example of a chart that includes the named templates makes the same pod as the chart."""

from __future__ import annotations

import shutil
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.chart.rendering import CHART, ROOT, Release, render

EXAMPLE = ROOT / "docs" / "examples" / "own-chart"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example with its dependency in place, as 'helm dependency update' puts it."""
    place = tmp_path / "own-chart"
    shutil.copytree(EXAMPLE, place)
    shutil.copytree(CHART, place / "charts" / "mcp-secrets-broker")
    return place


@pytest.mark.parametrize("version", ["1.27.0", "1.33.0"])
def test_the_example_makes_the_charts_pod(example: Path, version: str) -> None:
    """Broker, mounts, volumes, security, labels and all other objects are the chart's own."""
    change = {"mcp-secrets-broker": {"kubeVersion": version}}
    theirs = render(change, base={}, path=example)
    values = yaml.safe_load((EXAMPLE / "values.yaml").read_text())["mcp-secrets-broker"]
    image = "registry.example/search-mcp:1.0.0"
    ours = render(
        {
            "deployment": {"create": True},
            "servers": {"search-mcp": {"image": image}},
        },
        base=values,
        version=version,
    )
    assert theirs.container("broker") == ours.container("broker")
    server, model = theirs.container("search-mcp"), ours.container("search-mcp")
    for key in ("image", "env", "securityContext"):
        assert server[key] == model[key]
    assert server["volumeMounts"][0] == model["volumeMounts"][0]
    for key in (
        "serviceAccountName",
        "automountServiceAccountToken",
        "enableServiceLinks",
        "terminationGracePeriodSeconds",
        "securityContext",
    ):
        assert theirs.pod[key] == ours.pod[key]
    assert metadata(theirs) == metadata(ours)
    kubernetes_validate.validate(theirs.one("Deployment"), version, strict=True)
    assert {one["kind"] for one in theirs.objects} == {one["kind"] for one in ours.objects}
    assert theirs.config == ours.config


def metadata(release: Release) -> object:
    return release.one("Deployment")["spec"]["template"]["metadata"]
