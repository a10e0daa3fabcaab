"""The README's way to Kubernetes: values that render, commands that fit them.

Blocks marked ``cluster`` need one; what they name is compared here, and ``helm`` renders the values
that it would install. What the script does is tried in tests/real/test_setup.py.
"""

from __future__ import annotations

import re
import shlex

import yaml

from tests.chart.rendering import CHART, ROOT, render
from tests.chart.test_rendered import K8S, fixed

README = (ROOT / "README.md").read_text()
(VALUES,) = re.findall(r"^```yaml values.yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```sh cluster\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def test_the_values_make_the_manifests_of_k8s() -> None:
    """Rendered, they are k8s/rendered's configuration and pod; only the CA is more."""
    values = yaml.safe_load(VALUES)
    ours = render(base=values, name="search-mcp")
    theirs = fixed()
    assert values["vault"].pop("tls") == {"caConfigMap": "vault-ca"}
    assert "ca_file: /etc/broker-ca/ca.crt" in ours.config
    without = render(base=values, name="search-mcp", version="1.33.0")
    assert without.config == theirs.config
    assert without.pod == theirs.pod


def test_the_configuration_is_the_one_above() -> None:
    """The chart's broker.yaml has the credentials and clients of the README's own file."""
    (file,) = re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    by_hand = yaml.safe_load(file)
    rendered = yaml.safe_load(fixed().config)
    assert rendered["credentials"] == by_hand["credentials"]
    for name, client in by_hand["clients"].items():
        assert rendered["clients"][name]["credentials"] == client["credentials"]
    assert by_hand["vault"]["auth"].items() <= rendered["vault"]["auth"].items()


def test_the_commands_name_what_there_is() -> None:
    """Chart, script, image, release, namespace, Deployment and container exist by these names."""
    release = fixed()
    deployment = release.one("Deployment")["metadata"]
    seen = set()
    for command in COMMANDS:
        words = [word for word in command if "=" not in word or word.startswith("IMAGE")]
        seen.add(words[0])
        if words[0] == "helm":
            assert words[words.index("--namespace") + 1] == deployment["namespace"]
            assert "search-mcp" in words
        if "./helm" in words:
            assert CHART == (ROOT / "helm")
            assert words[words.index("--values") + 1] == "values.yaml"
        if words[0] == "kubectl":
            assert words[words.index("--namespace") + 1] == deployment["namespace"]
        if "logs" in words:
            assert f"deployment/{deployment['name']}" in words
            release.container(words[words.index("--container") + 1])
        if words[0] == "make":
            image = words[-1].removeprefix("IMAGE=")
            assert image == release.container("broker")["image"]
            assert re.search(r"^image:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        if words[0].endswith("setup.sh"):
            assert (ROOT / words[0]) == K8S / "vault" / "setup.sh"
    assert seen == {"make", "docker", "k8s/vault/setup.sh", "helm", "kubectl"}
