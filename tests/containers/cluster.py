"""Around the pod: a network, OpenBao in a container, the other servers on this machine."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any, Final

import docker
import httpx2
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from broker.demo.certificates import Authority
from broker.demo.openbao_admin import Admin
from broker.demo.search_api import SearchApi
from broker.demo.tokenreview import TokenReviewServer
from broker.secret import SecretValue

POLICY: Final = 'path "secret/data/search-api" { capabilities = ["read"] }'
NAMESPACE: Final = "shop"
ACCOUNT: Final = "shop-helper"
AUDIENCE: Final = "vault"

HARDENED: Final[dict[str, Any]] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
"""What every container runs with."""


class Cluster:
    """Everything that is not the pod; started once for all tests.

    Args:
        client: the engine.
        directory: an empty directory for certificates and configuration.
        openbao_image: with ``bao`` on its path.
    """

    def __init__(self, client: docker.DockerClient, directory: Path, openbao_image: str) -> None:
        self.directory = directory
        self.authority = Authority(directory, name="test CA")
        self.network = Network()
        self.network.create()
        pool = client.networks.get(self.network.name).attrs["IPAM"]["Config"][0]
        self.gateway: str = pool["Gateway"]
        """This machine, as the containers of the network see it."""
        reviews = directory / "reviews"
        reviews.mkdir()
        self.reviews = TokenReviewServer(reviews, host=self.gateway)
        self.reviews.accounts.create(NAMESPACE, ACCOUNT)
        upstream = self.authority.issue("upstream", ("upstream",))
        self.search = SearchApi(tls=upstream, host=self.gateway)
        self.origin = f"https://upstream:{self.search.address.rpartition(':')[2]}"
        self._openbao = self._container(openbao_image)
        self.admin: Admin

    def _container(self, image: str) -> DockerContainer:
        configuration = {
            "storage": {"raft": {"path": "/data", "node_id": "one"}},
            "seal": {
                "static": {"current_key_id": "one", "current_key": "file:///etc/bao/seal.key"}
            },
            "listener": [
                {
                    "tcp": {
                        "address": "0.0.0.0:8200",
                        "tls_cert_file": "/etc/bao/openbao.pem",
                        "tls_key_file": "/etc/bao/openbao.key",
                    }
                }
            ],
            "api_addr": "https://openbao:8200",
            "cluster_addr": "https://openbao:8201",
            "ui": False,
        }
        etc = self.directory / "bao"
        etc.mkdir()
        (etc / "openbao.json").write_text(json.dumps(configuration))
        (etc / "seal.key").write_bytes(secrets.token_bytes(32))
        files = self.authority.issue("openbao", ("openbao", "127.0.0.1", "localhost"))
        files.certificate.replace(etc / "openbao.pem")
        files.key.replace(etc / "openbao.key")
        for file in etc.iterdir():
            file.chmod(0o444)  # the server in its container is another user
        container = DockerContainer(image).with_network(self.network)
        container.with_network_aliases("openbao").with_exposed_ports(8200)
        container.with_volume_mapping(etc, "/etc/bao", "ro")
        container.with_command(["server", "-config=/etc/bao/openbao.json"])
        mine = "uid=10002,gid=10002,mode=0700"
        container.tmpfs.update({"/data": mine, "/tmp": mine})
        return container.with_kwargs(**HARDENED, entrypoint=["bao"], user="10002:10002")

    def start(self) -> None:
        """Start all, and set OpenBao up."""
        self.reviews.start()
        self.search.start()
        self._openbao.start()
        port = self._openbao.get_exposed_port(8200)
        address = f"https://127.0.0.1:{port}"
        self.admin = Admin(address, SecretValue(""), ca_file=self.authority.ca_file)
        self._until({501})
        keys = self.admin.request(
            "POST", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1}
        )
        self.admin.token = SecretValue(keys["root_token"])
        self._until({200})
        self.admin.enable_kv("secret", version=2)
        self.admin.policy("shop", POLICY)
        self.admin.enable_kubernetes(
            host=self.reviews.address,
            ca_pem=self.reviews.ca_pem,
            reviewer=self.reviews.reviewer_token(),
        )
        self.admin.kubernetes_role(
            "shop",
            service_account=ACCOUNT,
            namespace=NAMESPACE,
            audience=AUDIENCE,
            policies=["shop"],
            token_ttl="10m",
        )

    def new_key(self) -> tuple[str, SecretValue]:
        """Mint a search key and write it to OpenBao; its id and text."""
        key, text = self.search.keys.mint()
        self.admin.kv_write("secret", "search-api", {"api_key": text.reveal()})
        return key.id, text

    def stop(self) -> None:
        """End all."""
        if hasattr(self, "admin"):
            self.admin.close()
        self._openbao.stop()
        self.search.stop()
        self.reviews.stop()
        self.network.remove()

    def _until(self, statuses: set[int]) -> None:
        deadline = time.monotonic() + 30.0
        while True:
            try:
                if self.admin.health() in statuses:
                    return
            except httpx2.TransportError:
                pass
            if time.monotonic() > deadline:
                logs = b"".join(self._openbao.get_logs()).decode()
                raise AssertionError(f"OpenBao is not ready: {logs[-2000:]}")
            time.sleep(0.05)
