"""A pod as a kubelet would make it: sandbox, broker, MCP server; and strangers on demand."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import docker
import httpx2
import yaml
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer

from tests.containers.cluster import ACCOUNT, AUDIENCE, HARDENED, NAMESPACE, Cluster

BROKER_UID: Final = 65532
MCP_UID: Final = 10001
GROUP: Final = 2000
"""The pod's ``fsGroup``: of the volume, and of every container in the pod."""
DIRECTORY: Final = "/run/broker/shop"
MCP_PORT: Final = 8000
OPERATIONS_PORT: Final = 8211
SLEEP: Final = "import signal; signal.sigwait([signal.SIGTERM])"


class Pod:
    """Containers that share one network namespace; the client's volume is memory.

    Args:
        client: the engine.
        cluster: what is around.
        directory: an empty directory, for what a ConfigMap and a projection would bring.
        broker_image: under test.
        mcp_image: the example server's; the sandbox and strangers use its Python too.
        stop_delay: how long the broker lingers at SIGTERM.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        cluster: Cluster,
        directory: Path,
        *,
        broker_image: str,
        mcp_image: str,
        stop_delay: str = "5s",
    ) -> None:
        self._client, self._cluster, self._directory = client, cluster, directory
        self._mcp_image = mcp_image
        self._write(stop_delay)
        # As the kubelet makes a memory-backed emptyDir under fsGroup.
        self._volume = client.volumes.create(
            f"shop-{uuid.uuid4().hex[:8]}",
            driver_opts={"type": "tmpfs", "device": "tmpfs", "o": f"gid={GROUP},mode=2770"},
        )
        self._sandbox = DockerContainer(mcp_image).with_network(cluster.network)
        self._sandbox.with_exposed_ports(MCP_PORT, OPERATIONS_PORT).with_command(["-c", SLEEP])
        self._sandbox.with_kwargs(**HARDENED, extra_hosts={"upstream": cluster.gateway})
        self._broker = DockerContainer(broker_image)
        self._broker.with_volume_mapping(directory / "etc", "/etc/broker", "ro")
        self._broker.with_volume_mapping(directory / "token", "/var/run/secrets/broker", "ro")
        self._broker.with_volume_mapping(str(self._volume.name), DIRECTORY, "rw")
        self._mcp = DockerContainer(mcp_image).with_command(
            ["-m", "broker.demo.mcp_server", "--host", "0.0.0.0", "--port", str(MCP_PORT)]
        )
        self._mcp.with_volume_mapping(str(self._volume.name), DIRECTORY, "ro")
        self._mcp.with_volume_mapping(directory / "etc" / "ca.pem", "/etc/ca.pem", "ro")
        self._mcp.with_envs(
            BROKER_URL=f"unix://{DIRECTORY}/broker.sock",
            SEARCH_URL=cluster.origin,
            SSL_CERT_FILE="/etc/ca.pem",
        )

    def start(self) -> None:
        """Start the sandbox, then the broker, then, once it says it has started, the MCP server."""
        self._sandbox.start()
        self._broker.tmpfs["/run/broker-admin"] = f"uid={BROKER_UID},mode=0700"
        # No user is given: the image's own is under test.
        self._join(self._broker, group_add=[str(GROUP)])
        self.wait_for(f"{self.operations}/startupz")
        self._join(self._mcp, group_add=[str(GROUP)])
        self.wait_for(self.mcp_url.removesuffix("/mcp"))

    def close(self) -> None:
        """Remove whatever there is."""
        for container in (self._mcp, self._broker, self._sandbox):
            container.stop()
        self._volume.remove()

    @property
    def broker(self) -> Container:
        """The broker's container."""
        return self._broker.get_wrapped_container()

    @property
    def mcp(self) -> Container:
        """The MCP server's container."""
        return self._mcp.get_wrapped_container()

    @property
    def mcp_url(self) -> str:
        """The MCP endpoint, from this machine."""
        return f"http://127.0.0.1:{self._sandbox.get_exposed_port(MCP_PORT)}/mcp"

    @property
    def operations(self) -> str:
        """Probes and metrics, from this machine."""
        return f"http://127.0.0.1:{self._sandbox.get_exposed_port(OPERATIONS_PORT)}"

    def wait_for(self, url: str, seconds: float = 40.0) -> None:
        """Poll ``url`` until it answers, whatever it answers short of a 5xx."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if httpx2.get(url, trust_env=False, timeout=2.0).status_code < 500:
                    return
            except httpx2.TransportError:
                pass
            assert time.monotonic() < deadline, f"{url}\n{self.logs()[-4000:]}"
            time.sleep(0.1)

    def logs(self) -> str:
        """Both containers' output so far."""
        parts = [part for part in (self._broker, self._mcp) if part._container is not None]
        return "\n".join(part.get_wrapped_container().logs().decode() for part in parts)

    def audit(self) -> list[dict[str, Any]]:
        """The broker's audit records so far, from its standard output."""
        lines = self.broker.logs(stderr=False).decode().splitlines()
        return [json.loads(line) for line in lines]

    @contextmanager
    def stranger(self, *, volume: bool = False, user: int = 10003) -> Iterator[Container]:
        """A container in the same pod that is no client, with a Python to try things with.

        Args:
            volume: somebody mounts the client's volume where it has no business.
            user: its uid and only group; a pod's ``fsGroup`` is not among them.
        """
        container = DockerContainer(self._mcp_image).with_command(["-c", SLEEP])
        if volume:
            container.with_volume_mapping(str(self._volume.name), DIRECTORY, "rw")
        try:
            self._join(container, user=f"{user}:{user}")
            yield container.get_wrapped_container()
        finally:
            container.stop()

    def terminate_all(self) -> dict[str, int]:
        """SIGTERM to both containers at once, as the kubelet does; their exit codes."""
        codes: dict[str, int] = {}

        def end(name: str, container: Container) -> None:
            container.kill("SIGTERM")
            codes[name] = int(container.wait(timeout=40)["StatusCode"])

        both = [("broker", self.broker), ("mcp", self.mcp)]
        threads = [threading.Thread(target=end, args=each) for each in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return codes

    def _join(self, container: DockerContainer, **options: Any) -> None:
        sandbox = f"container:{self._sandbox.get_wrapped_container().id}"
        container.tmpfs["/tmp"] = "mode=1777"
        container.with_kwargs(**HARDENED, network_mode=sandbox, **options).start()

    def _write(self, stop_delay: str) -> None:
        etc, token = self._directory / "etc", self._directory / "token"
        etc.mkdir()
        token.mkdir()
        (etc / "ca.pem").write_text(self._cluster.authority.ca_pem)
        configuration = {
            "vault": {
                "address": "https://openbao:8200",
                "tls": {"ca_file": "/etc/broker/ca.pem"},
                "auth": {
                    "method": "kubernetes",
                    "role": "shop",
                    "token_file": "/var/run/secrets/broker/token",
                    "audience": AUDIENCE,
                },
            },
            "clients": {"shop": {"credentials": ["search-api"], "group": GROUP}},
            "credentials": {
                "search-api": {
                    "source": {"kind": "kv", "mount": "secret", "path": "search-api"},
                    "use": {
                        "in": "header",
                        "name": "x-api-key",
                        "field": "api_key",
                        "origins": [self._cluster.origin],
                    },
                }
            },
            "stop": {"delay": stop_delay, "timeout": "20s"},
        }
        (etc / "broker.yaml").write_text(yaml.safe_dump(configuration))
        jwt = self._cluster.reviews.accounts.issue(NAMESPACE, ACCOUNT, audiences=[AUDIENCE])
        (token / "token").write_text(jwt.reveal())
        (token / "token").chmod(0o444)  # the broker in its container is another user


def run_python(container: Container, program: str) -> str:
    """What a short program prints in a container; the program must succeed."""
    code, output = container.exec_run(["python3", "-c", program])
    assert code == 0, output.decode()
    return str(output.decode())


def pod_is_ready(pod: Pod) -> bool:
    """Whether ``/readyz`` says so; nobody there is not ready."""
    try:
        return httpx2.get(f"{pod.operations}/readyz", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False
