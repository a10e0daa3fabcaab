"""The broker's configuration in the demo, as a platform team would write it.

Duty: short lives, so that a minute is enough; the YAML file.
Not its duty: what is set up in OpenBao (``stage``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from broker.demo.postgres import DATABASE

NAMESPACE: Final = "shop"
SERVICE_ACCOUNT: Final = "shop-helper"
AUDIENCE: Final = "vault"
CLIENT: Final = "shop"
"""What the broker's configuration calls the MCP server."""
ORDERS_PATH: Final = "database/creds/orders"


@dataclass(frozen=True, slots=True)
class Lives:
    """How long things live, in seconds: hours and days of a real place, in a minute."""

    vault_token: int = 20
    vault_token_max: int = 34
    orders_user: int = 12
    orders_user_max: int = 20
    service_account_token: int = 45
    """OpenBao reviews the token of the login again at each renewal (tried: 403 once it had
    expired), so it outlives a Vault token's maximum, as the kubelet's ten minutes and more do."""
    service_account_rotation: int = 10
    hold: int = 2
    margin: int = 1


BROKER_YAML: Final = Template(f"""\
vault:
  address: $vault
  timeout: 2s
  auth:
    method: kubernetes
    role: broker
    token_file: $token_file
    audience: {AUDIENCE}
listeners:
  socket_directory: $run
  tcp: [$data]
  admin_socket: $admin_socket
  operations: $operations
clients:
  {CLIENT}:
    credentials: [search-api, orders-db]
credentials:
  search-api:
    source:
      kind: kv
      mount: secret
      path: search-api
    use:
      in: header
      name: x-api-key
      field: api_key
      origins: [$search]
    hold: ${{hold}}s
    margin: ${{margin}}s
  orders-db:
    source:
      kind: leased
      path: {ORDERS_PATH}
    fields:
      dsn: $dsn
    hold: ${{hold}}s
    margin: ${{margin}}s
audit:
  file: $audit
log:
  level: info
  format: json
""")


def broker_yaml(
    *,
    directory: Path,
    lives: Lives,
    vault: str,
    search: str,
    postgres: str,
    data_port: int,
    operations_port: int,
) -> str:
    """The whole file.

    Args:
        directory: sockets, tokens and the audit log go below it.
        lives: for ``hold`` and ``margin``.
        vault: OpenBao's address.
        search: origin of the search API.
        postgres: host and port.
        data_port: of the data plane on ``127.0.0.1``.
        operations_port: of probes and metrics on ``127.0.0.1``.
    """
    values = {
        "vault": vault,
        "token_file": directory / "service-account-token",
        "run": directory / "run",
        "admin_socket": directory / "admin" / "admin.sock",
        "data": f"127.0.0.1:{data_port}",
        "operations": f"127.0.0.1:{operations_port}",
        "search": search,
        "dsn": f"postgresql://{{username}}:{{password}}@{postgres}/{DATABASE}?sslmode=disable",
        "audit": directory / "audit.jsonl",
    }
    # A JSON string is a YAML string, whatever stands in it.
    quoted = {name: json.dumps(str(value)) for name, value in values.items()}
    return BROKER_YAML.substitute(quoted, hold=lives.hold, margin=lives.margin)
