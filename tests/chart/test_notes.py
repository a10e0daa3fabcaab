"""NOTES.txt: its commands are run as somebody pastes them, and it warns of what is open."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.chart.cases_rotation import values
from tests.chart.rendering import CASES, Release, render

BAO = """#!/bin/sh
printf '%s\\n' "$*" >>"$SAID"
[ "$1" != policy ] || cat >>"$SAID"
"""


def pasted(release: Release, place: Path) -> list[str]:
    """What ``bao`` is given when the first step is pasted into a shell, line by line."""
    step = re.search(r"^1\. .*?\n\n(.*?)^2\. ", release.notes, re.MULTILINE | re.DOTALL)
    assert step is not None
    tool = place / "bao"
    tool.write_text(BAO)
    tool.chmod(0o755)
    said = place / "said"
    commands = step[1].partition("in Vault's namespace")[0]
    done = subprocess.run(
        ["sh", "-eu"],
        input=commands,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
        env={"PATH": f"{place}:{os.environ['PATH']}", "SAID": str(said)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return said.read_text().splitlines()


def test_the_commands_for_vault_can_be_pasted(tmp_path: Path) -> None:
    """Policy by standard input, then a role bound to this release's account and audience."""
    first, *policy, role = pasted(render(), tmp_path)
    name = "search-mcp-secrets-broker"
    assert first == f"policy write {name} -"
    assert policy
    assert all(re.fullmatch(r'path "[^"]+" \{ capabilities = \[.*\] \}', one) for one in policy)
    assert role == (
        f"write auth/kubernetes/role/{name} bound_service_account_namespaces=mcp "
        f"bound_service_account_names={name} audience=vault token_policies={name} token_ttl=1h"
    )


def test_a_rotator_has_commands_of_its_own(tmp_path: Path) -> None:
    """Two policies and two roles, each for its own account."""
    said = pasted(render(values("rotator")), tmp_path)
    roles = [line for line in said if line.startswith("write auth/")]
    assert sum(line.startswith("policy write ") for line in said) == len(roles) == 2
    accounts = [re.search(r"bound_service_account_names=(\S+)", one) for one in roles]
    assert [one and one[1] for one in accounts] == [
        "search-mcp-secrets-broker",
        "search-mcp-secrets-broker-rotator",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "no upstream is declared"),
        (CASES["no network policy"], "may call anywhere"),
        (CASES["classic"], "servers start before their keys"),
        (CASES["openshift"], "uids are OpenShift's"),
        ({"vault": {"tls": {"unsafeSkipVerify": True}}}, "trusts anybody who answers"),
        (
            {
                "vault": {
                    "address": "http://vault.vault.svc:8200",
                    "tls": {"unsafePlainHttp": True},
                }
            },
            "in clear",
        ),
        (
            CASES["Vault outside, with TLS of its own"],
            "in Vault's namespace: export BAO_NAMESPACE=team",
        ),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_is_open_or_different_is_told(change: dict[str, Any], words: str) -> None:
    """And only then."""
    assert words in render(change).notes
    assert words not in render(CASES["IPv6"]).notes


def test_what_to_check_next_names_what_there_is() -> None:
    """'helm test', pods by a label they have, the log of a Deployment and container that exist."""
    release = render()
    assert "helm test search --namespace mcp --logs" in release.notes
    key, _, value = re.findall(r"--selector (\S+?)(=)(\S+)", release.notes)[0]
    deployment = release.one("Deployment")
    assert deployment["spec"]["template"]["metadata"]["labels"][key] == value
    assert f"logs deployment/{deployment['metadata']['name']} --container broker" in release.notes
    assert release.container("broker")
