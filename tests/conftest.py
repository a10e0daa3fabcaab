"""Shared fixtures. Warnings are errors (``pyproject.toml``).

The real servers are started when the first test asks for them, once a worker; such
tests carry the marker ``real``. Who kills, seals or reconfigures one brings it back.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:  # the demo's packages are imported only when a real server is asked for
    from broker.demo.openbao import OpenBao
    from broker.demo.postgres import Postgres
    from broker.demo.tokenreview import TokenReviewServer
    from broker.secret import SecretValue


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real servers begin first: they wait most, while others use the processors."""
    items.sort(key=lambda item: item.get_closest_marker("real") is None)


# A property says what is true, not how fast the machine is that looks.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples for everybody, so that a failure is one of the change at hand;
# HYPOTHESIS_PROFILE=explore looks at others.
settings.register_profile("calm", settings.get_profile("explore"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "calm"))


def pytest_itemcollected(item: pytest.Item) -> None:
    """On virtual time nothing comes from outside: no idle loop turns before each step of it."""
    if item.get_closest_marker("looptime"):
        item.add_marker(pytest.mark.looptime(noop_cycles=0))


@pytest.fixture(scope="session", autouse=True)
def _no_loop_out_of_nowhere(event_loop_policy: asyncio.AbstractEventLoopPolicy) -> None:
    """Tests without a loop have none: looptime, asking for one, would make one nobody closes."""
    event_loop_policy.set_event_loop(None)


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """A running OpenBao with KV v2 at ``secret`` and KV v1 at ``kv1``; set up by ``.admin``."""
    from broker.demo.openbao import OpenBao
    from broker.demo.openbao_admin import BROKER_POLICY

    server = OpenBao(tmp_path_factory.mktemp("openbao"))
    server.start()
    try:
        server.admin.enable_kv("secret", version=2)
        server.admin.enable_kv("kv1", version=1)
        server.admin.policy("broker", BROKER_POLICY)
        yield server
    finally:
        server.stop()


@dataclass(frozen=True, slots=True)
class KubernetesAuth:
    """The kubernetes auth method of ``openbao``, and who may log in there."""

    cluster: TokenReviewServer
    """Fails on demand: ``cluster.behaviour``."""
    mount: str = "kubernetes"
    role: str = "broker"
    """Policies ``default`` and ``broker``, tokens of an hour; more roles by ``openbao.admin``."""
    namespace: str = "mcp"
    service_account: str = "search"
    audience: str = "vault"

    def token(self, *, ttl: float = 3600.0, audience: str | None = None) -> SecretValue:
        """A service-account token that may log in."""
        return self.cluster.accounts.issue(
            self.namespace, self.service_account, audiences=[audience or self.audience], ttl=ttl
        )

    def project(self, file: Path, *, ttl: float = 3600.0) -> None:
        """Write such a token to ``file`` as the kubelet does."""
        self.cluster.accounts.project(
            file, self.namespace, self.service_account, audiences=[self.audience], ttl=ttl
        )


@pytest.fixture(scope="session")
def kubernetes_auth(
    openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KubernetesAuth]:
    """OpenBao's kubernetes auth method before a TokenReview endpoint."""
    from broker.demo.tokenreview import TokenReviewServer

    cluster = TokenReviewServer(tmp_path_factory.mktemp("cluster"))
    auth = KubernetesAuth(cluster)
    cluster.accounts.create(auth.namespace, auth.service_account)
    cluster.start()
    try:
        openbao.admin.enable_kubernetes(
            host=cluster.address, ca_pem=cluster.ca_pem, reviewer=cluster.reviewer_token()
        )
        openbao.admin.kubernetes_role(
            auth.role,
            service_account=auth.service_account,
            namespace=auth.namespace,
            audience=auth.audience,
            policies=["broker"],
            token_ttl="1h",
        )
        yield auth
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL with the orders table."""
    from broker.demo.postgres import Postgres

    # Not below pytest's directory, which only its owner may enter: see Postgres.
    with tempfile.TemporaryDirectory(prefix="broker-postgres-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        server = Postgres(directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def orders_database(openbao: OpenBao, postgres: Postgres) -> str:
    """Path of a database role in ``openbao``: users of 60 s, at most 120 s, that read orders."""
    admin = openbao.admin
    admin.enable_database("database")
    admin.database_connection(
        "shop", url=postgres.url, username="postgres", password=postgres.password
    )
    admin.database_role(
        "orders",
        connection="shop",
        grants=['GRANT SELECT ON orders TO "{{name}}"'],
        default_ttl="60s",
        max_ttl="120s",
    )
    return "database/creds/orders"
