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
    poll: int = 2
    staleness: int = 12
    """Longer than OpenBao is away in the story."""
    overlap: int = 17
    """At least poll and its jitter, hold and staleness together."""
    settle: int = 1


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
      poll: ${{poll}}s
      max_staleness: ${{staleness}}s
    use:
      in: header
      name: x-api-key
      field: api_key
      origins: [$search]
    hold: ${{hold}}s
    margin: ${{margin}}s
    rotation:
      driver:
        kind: http
        auth: search-admin
        create:
          method: POST
          url: $admin_keys
          body: {{label: "{{label}}"}}
          answer: {{fields: {{api_key: /key}}, id: /id}}
        list:
          method: GET
          url: $admin_keys_listed
          answer:
            items: /keys
            id: /id
            label: /label
            created_at: /created_at
            next: {{pointer: /next, parameter: after}}
        retire: {{method: DELETE, url: $admin_key}}
      prove: {{method: GET, url: $key}}
      overlap: ${{overlap}}s
      settle: ${{settle}}s
  search-admin:
    source: {{kind: kv, mount: secret, path: search-admin}}
    use: {{scheme: bearer, field: token, origins: [$search]}}
  orders-db:
    source:
      kind: leased
      path: {ORDERS_PATH}
    fields:
      dsn: $dsn
    hold: ${{hold}}s
    margin: ${{margin}}s
rotation:
  mode: sidecar
  installation: demo
audit:
  file: $audit
  key_file: $audit_key
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
        "admin_keys": f"{search}/admin/keys",
        "admin_keys_listed": f"{search}/admin/keys?label_prefix={{label_prefix}}",
        "admin_key": f"{search}/admin/keys/{{id}}",
        "key": f"{search}/key",
        "dsn": f"postgresql://{{username}}:{{password}}@{postgres}/{DATABASE}?sslmode=disable",
        "audit": directory / "audit.jsonl",
        "audit_key": directory / "audit.key",
    }
    # A JSON string is a YAML string, whatever stands in it.
    quoted = {name: json.dumps(str(value)) for name, value in values.items()}
    return BROKER_YAML.substitute(
        quoted,
        hold=lives.hold,
        margin=lives.margin,
        poll=lives.poll,
        staleness=lives.staleness,
        overlap=lives.overlap,
        settle=lives.settle,
    )
