"""What both contestants stand before: OpenBao, with a leased PostgreSQL user and a KV secret."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.demo.openbao import OpenBao
from broker.demo.postgres import Postgres

LEASED_PATH: Final = "database/creds/orders"
KV_MOUNT: Final = "secret"
KV_PATH: Final = "search-api"

KV_POLICY: Final = f"""
path "{KV_MOUNT}/data/{KV_PATH}" {{ capabilities = ["read"] }}
path "{KV_MOUNT}/metadata/{KV_PATH}" {{ capabilities = ["read"] }}
"""
_POLICY: Final = f"""{KV_POLICY}
path "{LEASED_PATH}" {{ capabilities = ["read"] }}
path "sys/leases/renew" {{ capabilities = ["update"] }}
path "sys/leases/revoke" {{ capabilities = ["update"] }}
"""


@dataclass(frozen=True, slots=True)
class Backend:
    """A configured OpenBao and a file with a token for it."""

    address: str
    token_file: Path


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes started within this run on one CPU: they inherit ours."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def backend(directory: Path, core: int) -> Iterator[Backend]:
    """Start the parts on ``core``; end them afterwards."""
    where = {name: directory / name for name in ("openbao", "postgres")}
    for place in where.values():
        place.mkdir(mode=0o755)
    openbao, postgres = OpenBao(where["openbao"]), Postgres(where["postgres"])
    try:
        with pinned(core):
            openbao.start()
            postgres.start()
        yield _configured(openbao, postgres, directory)
    finally:
        openbao.stop()
        postgres.stop()


def _configured(openbao: OpenBao, postgres: Postgres, directory: Path) -> Backend:
    admin = openbao.admin
    admin.enable_database()
    admin.database_connection(
        "shop", url=postgres.url, username="postgres", password=postgres.password
    )
    admin.database_role(
        "orders",
        connection="shop",
        grants=['GRANT SELECT ON orders TO "{{name}}"'],
        default_ttl="1h",
        max_ttl="24h",
    )
    admin.enable_kv(KV_MOUNT)
    admin.kv_write(KV_MOUNT, KV_PATH, {"api_key": "bench-key-of-usual-length-0000000"})
    admin.policy("bench", _POLICY)
    token = admin.create_token(["bench"], ttl="24h")
    file = directory / "token"
    file.touch(mode=0o600)
    file.write_text(token.reveal())
    return Backend(openbao.address, file)
