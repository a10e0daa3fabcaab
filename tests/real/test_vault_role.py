"""The driver ``vault_role`` on a real database engine."""

from __future__ import annotations

from random import Random

import psycopg
import pytest

from broker.clock import SystemClock
from broker.credentials.model import CredentialKey, CredentialSpec, StaticRoleSource
from broker.credentials.sources import static_snapshot
from broker.demo.openbao import OpenBao
from broker.demo.postgres import Postgres
from broker.rotation.drivers.vault_role import VaultRoleDriver
from broker.rotation.model import Label
from broker.secret import SecretValue
from broker.vault.client import VaultClient
from tests.simulators.session import FixedSession

pytestmark = pytest.mark.real

CLOCK = SystemClock()
SPEC = CredentialSpec(CredentialKey("reports"), StaticRoleSource("database/static-creds/reports"))


def works(postgres: Postgres, password: SecretValue) -> bool:
    host = postgres.url.rpartition("@")[2]
    try:
        with psycopg.connect(f"postgresql://reports:{password.reveal()}@{host}"):
            return True
    except psycopg.OperationalError:
        return False


@pytest.mark.usefixtures("orders_database")
async def test_the_password_is_replaced_in_place(openbao: OpenBao, postgres: Postgres) -> None:
    """The old password ends as the new one begins; the driver says that nothing overlaps."""
    with postgres.connect() as connection:
        connection.execute(f"CREATE ROLE reports LOGIN PASSWORD 'first-{Random().random()}'")
    role = {"db_name": "shop", "username": "reports", "rotation_period": "1h"}
    openbao.admin.request("POST", "database/static-roles/reports", role)
    vault = VaultClient(openbao.address, clock=CLOCK, timeout=10.0)
    session = FixedSession(openbao.root_token)
    driver = VaultRoleDriver(
        "database/rotate-role/reports", vault=vault, session=session, clock=CLOCK
    )

    async def read() -> tuple[str, SecretValue]:
        grant = await vault.lease(openbao.root_token, path=SPEC.source.path)
        snapshot = static_snapshot(SPEC, grant, version="v")
        left = snapshot.ends_at - snapshot.validated_at
        assert 3500 < left < 3600.001  # of floating point
        return snapshot.source_version, snapshot.data["password"]

    try:
        before, old = await read()
        assert works(postgres, old)

        key = await driver.create(Label("here", "reports", "r1"))

        after, new = await read()
        assert (works(postgres, old), works(postgres, new)) == (False, True)
        assert before != after
        assert key.fields == {}
        await driver.prove(key)
        await driver.retire(key.key_id)
        assert works(postgres, new)
        assert not driver.capabilities.overlap
        assert list(await driver.list()) == []
    finally:
        await vault.aclose()
