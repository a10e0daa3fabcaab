"""The two sides of the contract: the simulator, and the real client on a real OpenBao.

A world is a port and the verbs that change what is behind it. The tests say what must
hold; where the two worlds differ, the simulator lies and is corrected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from broker.clock import Clock, SystemClock
from broker.errors import VaultDenied
from broker.secret import SecretValue
from broker.vault.client import VaultClient
from broker.vault.interface import ChangePort, JsonValue, VaultPort
from tests.simulators.clock import VirtualClock
from tests.simulators.service_account import service_account_jwt
from tests.simulators.vault import VaultSimulator
from tests.simulators.vault_server import LeasedPath, Role

if TYPE_CHECKING:
    from broker.demo.openbao import OpenBao
    from tests.conftest import KubernetesAuth

TIMEOUT = 60.0
"""Deadline of one call in seconds: what a busy machine never needs."""

HASTY = 1.0
"""Deadline of the ``hasty`` port in seconds."""

Engine = Literal["users", "one-time"]
"""``users``: renewable leases by reading. ``one-time``: leases by writing ``ip``, not renewable."""


class Port(VaultPort, ChangePort, Protocol):
    """Both ports to Vault."""


class World(Protocol):
    """What a test can do. TTLs are seconds; paths are below the mount."""

    clock: Clock
    auth_mount: str

    @property
    def port(self) -> Port: ...

    @property
    def hasty(self) -> VaultPort:
        """Another port to the same server, which does not wait long."""
        ...

    def jwt(self, *, audience: str = "vault", ttl: float = 3600.0) -> SecretValue: ...

    async def role(self, name: str, **like: Any) -> str:
        """A role that reads all below. ``ttl max_ttl period num_uses kind`` as of ``Role``."""
        ...

    async def token_review(self, *, works: bool) -> None: ...

    async def kv_put(self, path: str, data: Mapping[str, JsonValue], *, version: int = 2) -> int:
        """Write at ``secret`` (version 2) or ``kv1`` (version 1)."""
        ...

    async def kv_annotate(self, path: str, metadata: Mapping[str, str]) -> None: ...

    async def kv_change(self, action: str, path: str, number: int) -> None:
        """``delete undelete destroy`` a version, or ``rollback`` to it."""
        ...

    async def deny(self, path: str) -> None:
        """The policy refuses this full path from now on."""
        ...

    async def allow_all(self) -> None: ...

    async def leased(self, name: str, engine: Engine, *, ttl: int = 60, max_ttl: int = 120) -> str:
        """A full path that answers with leases."""
        ...

    async def unleased(self, name: str, data: Mapping[str, str]) -> str:
        """A full path that answers without a lease."""
        ...

    async def living(self, path: str) -> int:
        """How many leases of a path live."""
        ...

    async def revoke_lease(self, lease_id: str) -> None: ...

    async def revoke_token(self, accessor: str) -> None: ...

    async def seal(self) -> None: ...

    async def unseal(self) -> None: ...

    async def kill(self) -> None: ...

    async def restart(self) -> None: ...

    async def pause(self) -> None:
        """Requests are taken and not answered."""
        ...

    async def resume(self) -> None:
        """What was taken meanwhile is carried out now."""
        ...

    async def end(self) -> None:
        """Undo what would disturb the next test."""
        ...


class SimulatedWorld:
    """``VaultSimulator`` on virtual time."""

    auth_mount = "kubernetes"

    def __init__(self) -> None:
        self.clock: Clock = VirtualClock()
        self.port = self.hasty = self._vault = VaultSimulator(self.clock, timeout=HASTY)
        self._server = self._vault.server
        for path, version in (("started", 2), ("started", 1)):
            mount = "secret" if version == 2 else "kv1"
            self._server.kv.put(path, {"at": "set-up"}, mount=mount, kv_version=version)  # type: ignore[arg-type]

    def jwt(self, *, audience: str = "vault", ttl: float = 3600.0) -> SecretValue:
        return SecretValue(
            service_account_jwt(audience=audience, expires_wall=self.clock.wall() + ttl)
        )

    async def role(self, name: str, **like: Any) -> str:
        self._server.role(name, like=Role(audience="vault", **like))
        return name

    async def token_review(self, *, works: bool) -> None:
        self._vault.heal()
        if not works:
            self._vault.fail(VaultDenied(), operation="login_kubernetes")

    async def kv_put(self, path: str, data: Mapping[str, JsonValue], *, version: int = 2) -> int:
        mount = "secret" if version == 2 else "kv1"
        return self._server.kv.put(path, data, mount=mount)

    async def kv_annotate(self, path: str, metadata: Mapping[str, str]) -> None:
        self._server.kv.annotate(path, metadata)

    async def kv_change(self, action: str, path: str, number: int) -> None:
        kv = self._server.kv
        if action == "rollback":
            kv.rollback(path, number)
        else:
            {"delete": kv.delete, "undelete": kv.undelete, "destroy": kv.destroy}[action](
                path, version=number
            )

    async def deny(self, path: str) -> None:
        self._server.deny(path)

    async def allow_all(self) -> None:
        self._server.denied.clear()

    async def leased(self, name: str, engine: Engine, *, ttl: int = 60, max_ttl: int = 120) -> str:
        if engine == "users":
            path = f"database/creds/{name}"
            self._server.leased(path, LeasedPath(ttl=ttl, max_ttl=max_ttl))
        else:
            path = f"ssh/creds/{name}"
            self._server.leased(path, LeasedPath(renewable=False, method="write", required=("ip",)))
        return path

    async def unleased(self, name: str, data: Mapping[str, str]) -> str:
        self._server.leased(f"kv1/{name}", LeasedPath(leased=False, make=lambda _: data))
        return f"kv1/{name}"

    async def living(self, path: str) -> int:
        return sum(lease.lease_id.startswith(path) for lease in self._server.live_leases())

    async def revoke_lease(self, lease_id: str) -> None:
        self._server.revoke_lease(lease_id)

    async def revoke_token(self, accessor: str) -> None:
        (token,) = (t for t in self._server.tokens if t.accessor == accessor)
        self._server.revoke(token)

    async def seal(self) -> None:
        self._vault.seal()

    async def unseal(self) -> None:
        self._vault.heal()

    async def kill(self) -> None:
        self._vault.outage()

    async def restart(self) -> None:
        self._vault.heal()

    async def pause(self) -> None:
        self._vault.hang()

    async def resume(self) -> None:
        self._vault.resume()

    async def end(self) -> None:
        await self.port.aclose()


CONTRACT_POLICY = """\
path "secret/*"          { capabilities = ["read"] }
path "secret/data/rotated/*"    { capabilities = ["create", "read", "update"] }
path "secret/delete/rotated/*"  { capabilities = ["update"] }
path "secret/destroy/rotated/*" { capabilities = ["update"] }
path "database/rotate-role/*"   { capabilities = ["update"] }
path "kv1/*"             { capabilities = ["read"] }
path "database/creds/*"  { capabilities = ["read"] }
path "ssh/creds/*"       { capabilities = ["update"] }
path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
"""


class RealWorld:
    """``VaultClient`` on OpenBao, with PostgreSQL behind its database engine."""

    def __init__(self, openbao: OpenBao, auth: KubernetesAuth) -> None:
        self.clock: Clock = SystemClock()
        self.auth_mount = auth.mount
        self._bao, self._auth, self._admin = openbao, auth, openbao.admin
        self._paused = False
        self.port = VaultClient(openbao.address, clock=self.clock, timeout=TIMEOUT)
        self.hasty = VaultClient(openbao.address, clock=self.clock, timeout=HASTY)
        self._admin.policy("contract", CONTRACT_POLICY)

    def jwt(self, *, audience: str = "vault", ttl: float = 3600.0) -> SecretValue:
        return self._auth.token(audience=audience, ttl=ttl)

    async def role(self, name: str, **like: Any) -> str:
        fields = {
            "token_ttl": like.get("ttl", 3600),
            "token_max_ttl": like.get("max_ttl", 0),
            "token_period": like.get("period", 0),
            "token_num_uses": like.get("num_uses", 0),
            "token_type": like.get("kind", "service"),
        }
        self._admin.kubernetes_role(
            f"contract-{name}",
            service_account=self._auth.service_account,
            namespace=self._auth.namespace,
            audience=self._auth.audience,
            policies=["contract"],
            mount=self.auth_mount,
            **fields,
        )
        return f"contract-{name}"

    async def token_review(self, *, works: bool) -> None:
        self._auth.cluster.behaviour = "answer" if works else 500

    async def kv_put(self, path: str, data: Mapping[str, JsonValue], *, version: int = 2) -> int:
        mount = "secret" if version == 2 else "kv1"
        return self._admin.kv_write(mount, path, data, version=version) or 1

    async def kv_annotate(self, path: str, metadata: Mapping[str, str]) -> None:
        self._admin.kv_metadata("secret", path, metadata)

    async def kv_change(self, action: str, path: str, number: int) -> None:
        if action == "rollback":  # as ``bao kv rollback`` does it
            old = self._admin.request("GET", f"secret/data/{path}?version={number}")
            self._admin.kv_write("secret", path, old["data"]["data"])
        else:
            self._admin.kv_change(action, "secret", path, number)  # type: ignore[arg-type]

    async def deny(self, path: str) -> None:
        self._admin.policy(
            "contract", f'{CONTRACT_POLICY}path "{path}" {{ capabilities = ["deny"] }}\n'
        )

    async def allow_all(self) -> None:
        self._admin.policy("contract", CONTRACT_POLICY)

    async def leased(self, name: str, engine: Engine, *, ttl: int = 60, max_ttl: int = 120) -> str:
        if engine == "users":
            self._admin.database_role(
                name, connection="shop", grants=[], default_ttl=f"{ttl}s", max_ttl=f"{max_ttl}s"
            )
            return f"database/creds/{name}"
        if "ssh/" not in self._admin.request("GET", "sys/mounts")["data"]:
            self._admin.request("POST", "sys/mounts/ssh", {"type": "ssh"})
        role = {"key_type": "otp", "default_user": "broker", "cidr_list": "10.0.0.0/8"}
        self._admin.request("POST", f"ssh/roles/{name}", role)
        return f"ssh/creds/{name}"

    async def unleased(self, name: str, data: Mapping[str, str]) -> str:
        self._admin.kv_write("kv1", name, data, version=1)
        return f"kv1/{name}"

    async def living(self, path: str) -> int:
        return len(self._admin.leases(path))

    async def revoke_lease(self, lease_id: str) -> None:
        self._admin.revoke_lease(lease_id)

    async def revoke_token(self, accessor: str) -> None:
        self._admin.revoke_accessor(accessor)

    async def seal(self) -> None:
        self._bao.seal()

    async def unseal(self) -> None:
        await asyncio.to_thread(self._bao.unseal)

    async def kill(self) -> None:
        self._bao.kill()

    async def restart(self) -> None:
        await asyncio.to_thread(self._bao.restart)

    async def pause(self) -> None:
        self._bao.pause()
        self._paused = True

    async def resume(self) -> None:
        self._bao.resume()
        self._paused = False

    async def end(self) -> None:
        if self._paused:
            await self.resume()
        self._auth.cluster.behaviour = "answer"
        await self.hasty.aclose()
        await self.port.aclose()
