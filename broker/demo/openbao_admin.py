"""Setting OpenBao up, as the people who own it would.

Duty: the few administrative calls the demo and the tests need, with the root token.
Not its duty: anything the broker does (``vault.client``).
Rules: every call either succeeds or raises :class:`AdminError` with OpenBao's words.

Source: https://openbao.org/api-docs/
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx2

from broker.demo.process import PartError
from broker.secret import SecretValue

BROKER_POLICY = """\
path "secret/data/*"      { capabilities = ["read"] }
path "database/creds/*"   { capabilities = ["read"] }
path "sys/leases/renew"   { capabilities = ["update"] }
path "sys/leases/revoke"  { capabilities = ["update"] }
"""
"""What a broker needs that holds KV values under ``secret`` and users under ``database``."""


class AdminError(PartError):
    """OpenBao refused an administrative call."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"OpenBao answered {status}: {message}")
        self.status = status


class Admin:
    """Calls with one token.

    Args:
        address: base URL.
        token: sent with every call; :attr:`token` may be replaced.
        ca_file: trust for https; None for http.
    """

    def __init__(self, address: str, token: SecretValue, *, ca_file: Path | None = None) -> None:
        self.token = token
        self._client = httpx2.Client(
            base_url=f"{address}/v1/",
            timeout=15.0,
            trust_env=False,
            verify=ssl.create_default_context(cafile=ca_file) if ca_file else False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call; the JSON answer, or None when there is none.

        Raises:
            AdminError: the answer is not a 2xx.
            httpx2.TransportError: there is no answer.
        """
        answer = self._client.request(
            method,
            path,
            json=None if body is None else dict(body),
            headers={"X-Vault-Token": self.token.reveal()} if self.token else {},
        )
        if not answer.is_success:
            raise AdminError(answer.status_code, answer.text.strip())
        return answer.json() if answer.content else None

    def health(self) -> int:
        """Status of ``sys/health``: 200 active, 429 standby, 501 not initialised, 503 sealed."""
        return self._client.get("sys/health", timeout=2.0).status_code

    # --- tokens and policies ---------------------------------------------------

    def policy(self, name: str, text: str) -> None:
        """Write an ACL policy."""
        self.request("PUT", f"sys/policies/acl/{name}", {"policy": text})

    def create_token(
        self, policies: Sequence[str], *, ttl: str = "1h", **fields: Any
    ) -> SecretValue:
        """An orphan token; ``fields`` as of ``auth/token/create-orphan``."""
        body = {"policies": list(policies), "ttl": ttl, "display_name": "demo", **fields}
        answer = self.request("POST", "auth/token/create-orphan", body)
        return SecretValue(answer["auth"]["client_token"])

    def revoke_accessor(self, accessor: str) -> None:
        """Revoke a token that is known by its accessor only."""
        self.request("POST", "auth/token/revoke-accessor", {"accessor": accessor})

    def accessors(self) -> list[str]:
        """Accessors of all living tokens."""
        keys: list[str] = self.request("LIST", "auth/token/accessors")["data"]["keys"]
        return keys

    # --- KV ----------------------------------------------------------------------

    def enable_kv(self, mount: str = "secret", *, version: int = 2) -> None:
        """Mount a KV engine, and wait until it takes writes."""
        self.request(
            "POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": str(version)}}
        )
        # KV v2 answers 400 "upgrading" for a moment after it was mounted.
        deadline = time.monotonic() + 10.0
        while True:
            try:
                self.kv_write(mount, "started", {"at": "set-up"}, version=version)
                return
            except AdminError as error:
                if error.status != 400 or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def kv_write(
        self, mount: str, path: str, data: Mapping[str, Any], *, version: int = 2
    ) -> int | None:
        """Write a value; the new version number (v2) or None (v1)."""
        if version == 1:
            self.request("POST", f"{mount}/{path}", data)
            return None
        answer = self.request("POST", f"{mount}/data/{path}", {"data": dict(data)})
        number: int = answer["data"]["version"]
        return number

    def kv_metadata(self, mount: str, path: str, custom: Mapping[str, str]) -> None:
        """Set ``custom_metadata`` of a KV v2 path."""
        self.request("POST", f"{mount}/metadata/{path}", {"custom_metadata": dict(custom)})

    def kv_change(
        self,
        action: Literal["delete", "undelete", "destroy"],
        mount: str,
        path: str,
        *versions: int,
    ) -> None:
        """Delete, undelete or destroy versions of a KV v2 value."""
        self.request("POST", f"{mount}/{action}/{path}", {"versions": list(versions)})

    # --- kubernetes auth ---------------------------------------------------------

    def enable_kubernetes(
        self, *, host: str, ca_pem: str, reviewer: SecretValue, mount: str = "kubernetes"
    ) -> None:
        """Mount the kubernetes auth method towards one TokenReview endpoint."""
        self.request("POST", f"sys/auth/{mount}", {"type": "kubernetes"})
        config = {
            "kubernetes_host": host,
            "kubernetes_ca_cert": ca_pem,
            "token_reviewer_jwt": reviewer.reveal(),
            "disable_local_ca_jwt": True,
        }
        self.request("POST", f"auth/{mount}/config", config)

    def kubernetes_role(
        self,
        name: str,
        *,
        service_account: str,
        namespace: str,
        audience: str,
        policies: Sequence[str],
        mount: str = "kubernetes",
        **fields: Any,
    ) -> None:
        """A role for one service account; ``fields`` such as ``token_ttl``, ``token_max_ttl``."""
        body = {
            "bound_service_account_names": [service_account],
            "bound_service_account_namespaces": [namespace],
            "audience": audience,
            "token_policies": list(policies),
            **fields,
        }
        self.request("POST", f"auth/{mount}/role/{name}", body)

    # --- database ------------------------------------------------------------------

    def enable_database(self, mount: str = "database") -> None:
        """Mount the database engine."""
        self.request("POST", f"sys/mounts/{mount}", {"type": "database"})

    def database_connection(
        self,
        name: str,
        *,
        url: str,
        username: str,
        password: SecretValue,
        mount: str = "database",
    ) -> None:
        """A PostgreSQL connection; ``url`` as in ``postgresql://{{username}}:{{password}}@…``."""
        body = {
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": ["*"],
            "connection_url": url,
            "username": username,
            "password": password.reveal(),
            "password_authentication": "scram-sha-256",
        }
        self.request("POST", f"{mount}/config/{name}", body)

    def database_role(
        self,
        name: str,
        *,
        connection: str,
        grants: Sequence[str],
        default_ttl: str,
        max_ttl: str,
        mount: str = "database",
    ) -> None:
        """A role whose leases are users; ``grants`` are statements with ``{{name}}``."""
        create = (
            "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' "
            "VALID UNTIL '{{expiration}}'"
        )
        body = {
            "db_name": connection,
            "creation_statements": [create, *grants],
            "default_ttl": default_ttl,
            "max_ttl": max_ttl,
        }
        self.request("POST", f"{mount}/roles/{name}", body)

    # --- leases --------------------------------------------------------------------

    def leases(self, prefix: str) -> list[str]:
        """Ids of the living leases below a prefix such as ``database/creds/orders``."""
        try:
            keys = self.request("LIST", f"sys/leases/lookup/{prefix.strip('/')}/")["data"]["keys"]
        except AdminError as error:
            if error.status == 404:
                return []
            raise
        return [f"{prefix.strip('/')}/{key}" for key in keys]

    def lease(self, lease_id: str) -> Mapping[str, Any]:
        """What OpenBao knows of one lease: ``ttl`` in seconds, ``expire_time``, ``issue_time``."""
        found: Mapping[str, Any] = self.request("PUT", "sys/leases/lookup", {"lease_id": lease_id})[
            "data"
        ]
        return found

    def revoke_lease(self, lease_id: str) -> None:
        """Revoke a lease, and wait until it is done."""
        self.request("PUT", "sys/leases/revoke", {"lease_id": lease_id, "sync": True})
