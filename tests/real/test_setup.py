"""k8s/vault/setup.sh and its policy on a real OpenBao: enough for the release, and least."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from broker.cli.exit_codes import ExitCode
from broker.cli.main import main
from broker.demo.openbao import OpenBao
from broker.demo.postgres import Postgres
from broker.demo.tokenreview import ServiceAccounts
from tests.conftest import KubernetesAuth
from tests.real.test_readme import set_up_database

pytestmark = pytest.mark.real

K8S = Path(__file__).parents[2] / "k8s"
CONFIG = yaml.safe_load((K8S / "rendered" / "configmap.yaml").read_text())["data"]["broker.yaml"]
VALUE = "canary-value-of-setup"


@dataclass
class Place:
    """A bare OpenBao, a cluster that it may ask, and a directory for their files."""

    directory: Path
    openbao: OpenBao
    accounts: ServiceAccounts
    cluster: str

    def run(self, *command: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as an administrator, or with another token."""
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "BAO_ADDR": self.openbao.address,
            "BAO_TOKEN": token or self.openbao.root_token.reveal(),
            "KUBERNETES_HOST": self.cluster,
            "KUBERNETES_CA_FILE": str(self.directory / "ca.pem"),
            "REVIEWER_TOKEN_FILE": str(self.directory / "reviewer"),
            **self.extra,
        }
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=environment
        )

    def __post_init__(self) -> None:
        self.extra: dict[str, str] = {}

    def set_up(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        self.extra = variables
        try:
            return self.run(str(K8S / "vault" / "setup.sh"))
        finally:
            self.extra = {}

    def project(self, namespace: str, account: str, audience: str = "vault") -> Path:
        """A service-account token in a file, as the kubelet writes it."""
        file = self.directory / f"jwt-{namespace}-{account}-{audience}"
        self.accounts.project(file, namespace, account, audiences=[audience])
        return file

    def login(self, jwt: Path) -> subprocess.CompletedProcess[str]:
        """Log in to the role; the Vault token is on standard output."""
        return self.run(
            "bao",
            "write",
            "-field=token",
            "auth/kubernetes/login",
            "role=search-mcp",
            f"jwt=@{jwt}",
        )

    def check(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """``broker check`` with the rendered configuration; only places differ."""
        config = CONFIG.replace("https://vault.vault.svc:8200", self.openbao.address)
        (self.directory / "broker.yaml").write_text(config)
        file = self.project("mcp", "search-mcp")
        monkeypatch.setenv("BROKER__VAULT__AUTH__TOKEN_FILE", str(file))
        return main(["check", "--config", str(self.directory / "broker.yaml")])


@pytest.fixture(scope="module")
def place(kubernetes_auth: KubernetesAuth, postgres: Postgres) -> Iterator[Place]:
    """OpenBao with the database engine and nothing else; the script was run once."""
    cluster = kubernetes_auth.cluster
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        directory = Path(name)
        (directory / "vault").mkdir()
        (directory / "ca.pem").write_text(cluster.ca_pem)
        (directory / "reviewer").write_text(cluster.reviewer_token().reveal())
        openbao = OpenBao(directory / "vault")
        openbao.start()
        try:
            set_up_database(openbao, postgres)
            for namespace, account in [
                ("mcp", "search-mcp"),
                ("mcp", "other"),
                ("x", "search-mcp"),
            ]:
                cluster.accounts.create(namespace, account)
            made = Place(directory, openbao, cluster.accounts, cluster.address)
            first = made.set_up()
            assert first.returncode == 0, first.stderr
            openbao.admin.kv_write("secret", "search-api", {"api_key": VALUE})
            yield made
        finally:
            openbao.stop()


def test_the_set_up_is_enough(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """'broker check' with the rendered configuration finds everything well, and shows no value."""
    code = place.check(monkeypatch)
    said = capsys.readouterr()
    assert code == ExitCode.OK, said.out + said.err
    assert VALUE not in said.out + said.err
    assert said.out.count("ok ") == 5


def test_the_set_up_can_be_run_again(place: Place) -> None:
    """A second run changes nothing: mounts, method, its configuration, policy and role."""
    looked_at = [
        "sys/mounts/secret",
        "auth/kubernetes/config",
        "auth/kubernetes/role/search-mcp",
        "sys/policies/acl/search-mcp",
        "secret/data/search-api",
    ]

    def look() -> list[object]:
        read = [place.run("bao", "read", "-format=json", one).stdout for one in looked_at]
        data = [json.loads(one)["data"] for one in read]
        data[3] = data[3]["policy"]  # beside it stands when it was written
        return data

    before = look()
    again = place.set_up(KUBERNETES_HOST="https://elsewhere.example")
    assert again.returncode == 0, again.stderr
    assert look() == before


@pytest.mark.parametrize("line", ["secret/data/search-api", "database/creds/orders"])
def test_no_line_of_the_policy_is_idle(
    place: Place,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without either path 'broker check' names that path and its policy."""
    whole = (K8S / "vault" / "policy.hcl").read_text()
    part = "".join(one for one in whole.splitlines(keepends=True) if line not in one)
    (place.directory / "part.hcl").write_text(part)
    assert place.set_up(POLICY_FILE=str(place.directory / "part.hcl")).returncode == 0
    try:
        assert place.check(monkeypatch) == ExitCode.CREDENTIAL
        assert (
            f"policy: the token's policies do not allow read on {line}" in capsys.readouterr().out
        )
    finally:
        assert place.set_up().returncode == 0


def test_the_set_up_is_least(place: Place) -> None:
    """The pod's token may do what the policy names and nothing beside it."""
    login = place.login(place.project("mcp", "search-mcp"))
    assert login.returncode == 0, login.stderr

    def may(path: str) -> str:
        return place.run("bao", "token", "capabilities", path, token=login.stdout).stdout.strip()

    assert may("secret/data/search-api") == "read"
    assert may("database/creds/orders") == "read"
    assert may("sys/leases/renew") == "update"
    assert may("sys/leases/revoke") == "update"
    for path in (
        "secret/data/other",
        "secret/metadata/search-api",
        "secret/delete/search-api",
        "secret/data/search-api/below",
        "database/creds/others",
        "database/config/shop",
        "sys/leases/lookup/database",
        "sys/leases/revoke-prefix/database",
        "sys/policies/acl/search-mcp",
        "auth/kubernetes/role/search-mcp",
        "auth/token/create",
    ):
        assert may(path) == "deny", path


@pytest.mark.parametrize(
    ("namespace", "account", "audience"),
    [("mcp", "other", "vault"), ("x", "search-mcp", "vault"), ("mcp", "search-mcp", "elsewhere")],
)
def test_nobody_else_logs_in(place: Place, namespace: str, account: str, audience: str) -> None:
    """Another account, another namespace, another audience: each is refused."""
    refused = place.login(place.project(namespace, account, audience))
    assert refused.returncode != 0
    assert refused.stdout == ""
    assert "Code: 403" in refused.stderr


def test_what_is_in_the_way_is_said(place: Place) -> None:
    """A mount of another kind, a method of another kind, a bad token: a sentence each."""
    for variables, words in (
        ({"KV_MOUNT": "database"}, "database is mounted and is no KV engine"),
        ({"AUTH_MOUNT": "token"}, "token is an auth method of another kind"),
        ({"BAO_TOKEN": "no-token"}, "cannot reach Vault, or its token is no good"),
    ):
        found = place.set_up(**variables)
        assert found.returncode != 0
        assert words in found.stderr
