"""Everything the story needs, running: the parts, the broker, both MCP servers.

Duty: build it up in a temporary directory, hold it, tear it down in reverse.
Not its duty: what happens then (``story``), watching (``watch``).
Rules:

* the broker and the MCP servers are processes of their own, started by their ordinary
  commands, with nothing in their environment but what is written here;
* nothing needs root, Docker or a fixed port; nothing is left behind.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from secrets import token_hex

import httpx2

from broker.demo.configuration import (
    AUDIENCE,
    CLIENT,
    NAMESPACE,
    ORDERS_PATH,
    SERVICE_ACCOUNT,
    Lives,
    broker_yaml,
)
from broker.demo.facts import BROKER, ENVIRONMENT
from broker.demo.keyring import ApiKey
from broker.demo.openbao import OpenBao
from broker.demo.openbao_admin import BROKER_POLICY, Admin
from broker.demo.operator import Operator
from broker.demo.postgres import ADMIN, Postgres
from broker.demo.process import Child, PartError, free_port
from broker.demo.search_api import SearchApi
from broker.demo.tokenreview import TokenReviewServer
from broker.secret import SecretValue


class Stage:
    """The parts. ``start`` builds, ``stop`` tears down; both block (use threads)."""

    def __init__(self, lives: Lives | None = None) -> None:
        self.lives = lives or Lives()
        self._stack = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="broker-demo-"))
        # PostgreSQL's account must be able to enter its directory; nobody may enter the other.
        self._open_directory = Path(tempfile.mkdtemp(prefix="broker-demo-pg-"))
        self._open_directory.chmod(0o755)
        for directory in (self.directory, self._open_directory):
            self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
        for name in ("openbao", "cluster", "run", "admin"):
            (self.directory / name).mkdir(mode=0o700)
        self.openbao = OpenBao(self.directory / "openbao")
        self.cluster = TokenReviewServer(self.directory / "cluster")
        self.postgres = Postgres(self._open_directory)
        self.search = SearchApi()
        self.audit_file = self.directory / "audit.jsonl"
        self.audit_key = self.directory / "audit.key"
        self.audit_key.touch(mode=0o600)
        self.audit_key.write_text(token_hex(32))
        self.broker_log = self.directory / "broker.log"
        self.tcp_port, self.operations_port = free_port(), free_port()
        self.mcp_ports = {BROKER: free_port(), ENVIRONMENT: free_port()}
        self.broker: Child
        self.key: ApiKey
        """The search key that is in Vault now."""
        self.key_of_version: dict[str, str] = {}
        """KV version number (as text) to key id."""
        self.key_texts: list[SecretValue] = []
        """Texts of all search keys, for the hunt in logs."""
        self.token_texts: list[SecretValue] = []
        """Texts of all scoped tokens, for the same."""
        self.operator = Operator(self.directory, _environment({}))
        self.environment_lease = self.environment_user = ""
        """The lease and its user that the environment edition was started with."""

    # --- addresses -----------------------------------------------------------------

    @property
    def socket(self) -> Path:
        """The MCP server's Unix socket of the broker."""
        return self.directory / "run" / CLIENT / "broker.sock"

    @property
    def client_token(self) -> Path:
        """The MCP server's proof of who it is."""
        return self.socket.with_name("client-token")

    @property
    def operations(self) -> str:
        """Origin of probes and metrics."""
        return f"http://127.0.0.1:{self.operations_port}"

    def mcp_log(self, edition: str) -> Path:
        """Log of one edition."""
        return self.directory / f"mcp-{edition}.log"

    def mcp_url(self, edition: str) -> str:
        """MCP endpoint of one edition."""
        return f"http://127.0.0.1:{self.mcp_ports[edition]}/mcp"

    # --- up and down -----------------------------------------------------------------

    async def start(self, tell: Callable[[str], None]) -> None:
        """Start all; ``tell`` hears of each step.

        Raises:
            PartError: a part does not come up.
        """
        self._stack.callback(self.openbao.stop)
        self._stack.callback(self.postgres.stop)
        self._stack.callback(self.cluster.stop)
        self._stack.callback(self.search.stop)
        self.cluster.start()
        self.search.start()
        starts = (asyncio.to_thread(self.openbao.start), asyncio.to_thread(self.postgres.start))
        # Both come to an end before anything is torn down.
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        tell(f"OpenBao at {self.openbao.address} (raft, static seal)")
        tell(f"PostgreSQL on port {self.postgres.port}, with a table of orders")
        tell(f"TokenReview at {self.cluster.address}, search API at {self.search.address}")
        await asyncio.to_thread(self._set_up)
        tell("OpenBao knows the kubernetes auth method, a KV value and a database role")
        await asyncio.to_thread(self._start_broker)
        tell(f"broker run --config {self.directory / 'broker.yaml'}: ready")
        await asyncio.to_thread(self._start_mcp_servers)
        tell("the MCP server runs twice: keys from the broker, keys from the environment")

    def stop(self) -> None:
        """End all in reverse order and remove the directories."""
        self._stack.close()

    # --- what the platform team set up -------------------------------------------------

    def _set_up(self) -> None:
        admin, lives = self.openbao.admin, self.lives
        self.cluster.accounts.create(NAMESPACE, SERVICE_ACCOUNT)
        admin.enable_kubernetes(
            host=self.cluster.address,
            ca_pem=self.cluster.ca_pem,
            reviewer=self.cluster.reviewer_token(),
        )
        admin.policy("broker", self._policy())
        admin.policy("pipeline", BROKER_POLICY)
        admin.kubernetes_role(
            "broker",
            service_account=SERVICE_ACCOUNT,
            namespace=NAMESPACE,
            audience=AUDIENCE,
            policies=["broker"],
            token_ttl=f"{lives.vault_token}s",
            token_max_ttl=f"{lives.vault_token_max}s",
        )
        admin.enable_kv("secret")
        admin.enable_database()
        admin.database_connection(
            "shop", url=self.postgres.url, username=ADMIN, password=self.postgres.password
        )
        admin.database_role(
            "orders",
            connection="shop",
            grants=['GRANT SELECT ON orders TO "{{name}}"'],
            default_ttl=f"{lives.orders_user}s",
            max_ttl=f"{lives.orders_user_max}s",
        )
        admin.kv_write("secret", "search-admin", {"token": self.search.admin.key.reveal()})
        self.change_key()
        self.project_token()

    def change_key(self) -> str:
        """A new search key: minted and written to Vault. Returns its KV version."""
        self.key, text = self.search.keys.mint("shop")
        self.key_texts.append(text)
        value = {"api_key": text.reveal()}
        version = str(self.openbao.admin.kv_write("secret", "search-api", value))
        # For the broker to know by which id to retire it.
        self.openbao.admin.kv_metadata("secret", "search-api", {"broker_key_id": self.key.id})
        self.key_of_version[version] = self.key.id
        return version

    def project_token(self) -> None:
        """What the kubelet does: a fresh service-account token in the broker's volume."""
        self.cluster.accounts.project(
            self.directory / "service-account-token",
            NAMESPACE,
            SERVICE_ACCOUNT,
            audiences=[AUDIENCE],
            ttl=self.lives.service_account_token,
        )

    # --- the broker ---------------------------------------------------------------------

    def _start_broker(self) -> None:
        argv = [sys.executable, "-m", "broker", "run", "--config", str(self.configuration)]
        self.broker = Child("the broker", argv, log=self.broker_log, env=_environment({}))
        self.broker.start()
        self._stack.callback(self.broker.stop)
        with httpx2.Client(base_url=self.operations, trust_env=False, timeout=2.0) as client:
            self.broker.wait_until(lambda: _answers(client, "/readyz"))

    async def ask(self, token: SecretValue, tool: str, credential: str) -> str:
        """Ask the broker as the MCP server does for an agent that came with ``token``."""
        headers = {
            "Authorization": f"Bearer {self.client_token.read_text().strip()}",
            "Broker-Subject-Token": token.reveal(),
            "Broker-Tool": tool,
        }
        url = f"http://127.0.0.1:{self.tcp_port}/v1/credentials/{credential}"
        async with httpx2.AsyncClient(trust_env=False, timeout=5.0) as client:
            answer = await client.get(url, headers=headers)
        title = "" if answer.is_success else f" {answer.json().get('title', '')}"
        return f"{answer.status_code}{title}"

    def saw_key(self, version: str, text: SecretValue) -> None:
        """Vault holds ``text`` now; whoever wrote it."""
        key_id, _ = self.search.keys.check(text)
        self.key_of_version[version] = key_id
        if text not in self.key_texts:
            self.key_texts.append(text)
        self.key = next((key for key in self.search.keys.known() if key.id == key_id), self.key)

    def _policy(self) -> str:
        """What ``broker policy vault`` prints for the configuration."""
        self._write_configuration()
        argv = [sys.executable, "-m", "broker", "policy", "vault"]
        argv += ["--config", str(self.configuration)]
        printed = subprocess.run(
            argv, env=_environment({}), capture_output=True, text=True, check=False
        )
        if printed.returncode != 0:
            raise PartError(f"broker policy vault: {printed.stderr}")
        return printed.stdout

    @property
    def configuration(self) -> Path:
        """The broker's file."""
        return self.directory / "broker.yaml"

    def _write_configuration(self) -> None:
        self.configuration.write_text(
            broker_yaml(
                directory=self.directory,
                lives=self.lives,
                vault=self.openbao.address,
                search=self.search.address,
                postgres=f"127.0.0.1:{self.postgres.port}",
                data_port=self.tcp_port,
                operations_port=self.operations_port,
            )
        )

    # --- the MCP servers -------------------------------------------------------------------

    def _start_mcp_servers(self) -> None:
        common = {"SEARCH_URL": self.search.address}
        children = [
            self._mcp_server(BROKER, common | {"BROKER_URL": f"unix://{self.socket}"}),
            self._mcp_server(ENVIRONMENT, common | self._deployment_secrets()),
        ]
        for child in children:
            child.start()
            self._stack.callback(child.kill)
        for child, edition in zip(children, (BROKER, ENVIRONMENT), strict=True):
            with httpx2.Client(trust_env=False, timeout=2.0) as client:
                # The root has nothing: its 404 says that the server serves.
                origin = self.mcp_url(edition).removesuffix("/mcp")
                child.wait_until(partial(_answers, client, origin, well=False))

    def _mcp_server(self, edition: str, environment: Mapping[str, str]) -> Child:
        argv = [sys.executable, "-m", "broker.demo.mcp_server", "--keys", edition]
        argv += ["--port", str(self.mcp_ports[edition])]
        name = f"the MCP server ({edition})"
        return Child(name, argv, log=self.mcp_log(edition), env=_environment(environment))

    def _deployment_secrets(self) -> dict[str, str]:
        """What a deployment pipeline does today: reads the secrets once, sets the environment."""
        token = self.openbao.admin.create_token(["pipeline"], display_name="pipeline")
        pipeline = Admin(self.openbao.address, token)
        try:
            value = pipeline.request("GET", "secret/data/search-api")["data"]["data"]
            lease = pipeline.request("GET", ORDERS_PATH)
        finally:
            pipeline.close()
        self.environment_lease, self.environment_user = lease["lease_id"], lease["data"]["username"]
        dsn = self.postgres.url.replace("{{username}}", self.environment_user)
        return {
            "SEARCH_API_KEY": value["api_key"],
            "ORDERS_DSN": dsn.replace("{{password}}", lease["data"]["password"]),
        }


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    # The children import this very package, also when it runs from a source tree.
    root = str(Path(__file__).parents[2])
    return kept | {"PYTHONPATH": root} | dict(extra)


def _answers(client: httpx2.Client, url: str, *, well: bool = True) -> bool:
    """Whether anything answers at ``url``, with success if ``well`` matters."""
    try:
        return client.get(url).is_success or not well
    except httpx2.TransportError:
        return False
