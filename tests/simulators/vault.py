"""A Vault in memory that implements the broker's own port, on virtual time.

Duty: the calls of the port, carried out on the simulated server.
Not its duty: tokens, leases, KV (``vault_server.VaultServer``, at ``vault.server``);
faults, hangs, the log (``vault_line.Line``, its base).

A test in short::

    clock = VirtualClock()
    vault = VaultSimulator(clock)
    vault.server.role(like=Role(ttl=60, max_ttl=180))
    vault.server.kv.put("search-api", {"api_key": "k1"})
    vault.outage()                                   # from now on, until vault.heal()
    vault.fail(VaultFailed(), operation="renew_self", times=2)
    vault.latency["lease"] = 3.0
    ...
    assert vault.times("renew_self") == [40.0, 41.0, 42.5]
    assert vault.peak_rate() <= 50
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Literal

from broker.clock import Clock
from broker.errors import VaultSealed, VaultStandby
from broker.secret import SecretValue
from broker.vault.interface import (
    JsonValue,
    KvValue,
    LeaseGrant,
    LeaseRenewal,
    TokenGrant,
    TokenInfo,
    VaultHealth,
)
from tests.simulators.vault_line import Call, Line
from tests.simulators.vault_server import Lease, Token, VaultServer


class VaultSimulator(Line):
    """``VaultPort`` over a ``VaultServer``; the switches and the log are ``Line``'s."""

    def __init__(self, clock: Clock, *, timeout: float = 10.0) -> None:
        super().__init__(clock, timeout=timeout)
        self.server = VaultServer(clock.now, clock.wall)
        self.closed = False

    def dump(self) -> str:
        """Live tokens and leases and the last calls, without secrets, for a person."""
        lines = [f"t={self._clock.now():.3f}"]
        lines += [f"  {token}" for token in self.server.live_tokens()]
        lines += [
            f"  {lease.lease_id} of token {lease.token.number}, until {lease.expires_at:.3f}"
            for lease in self.server.live_leases()
        ]
        lines += [f"  {call}" for call in self.calls[-20:]]
        return "\n".join(lines)

    # --- the port -------------------------------------------------------------------

    async def login_kubernetes(self, *, mount: str, role: str, jwt: SecretValue) -> TokenGrant:
        sent_at = self._clock.now()

        def act() -> Token:
            return self.server.login(mount=mount, role=role, jwt=jwt.reveal())

        token = await self._send(
            "login_kubernetes", f"auth/{mount}/login", None, act, undo=self._discard_token
        )
        return self._token_grant(token, sent_at)

    async def lookup_self(self, token: SecretValue) -> TokenInfo:
        sent_at, path = self._clock.now(), "auth/token/lookup-self"
        found = await self._send(
            "lookup_self", path, self._number(token), lambda: self._use(token, path)
        )
        return TokenInfo(
            accessor=found.accessor,
            ttl=found.left(self.server.now()),
            renewable=found.renewable,
            kind=found.kind,
            sent_at=sent_at,
            num_uses=found.num_uses,
            period=found.period,
            policies=found.policies,
        )

    async def renew_self(self, token: SecretValue, *, increment: float | None = None) -> TokenGrant:
        sent_at, path = self._clock.now(), "auth/token/renew-self"

        def act() -> Token:
            found = self._use(token, path)
            self.server.renew(found, increment)
            return found

        return self._token_grant(
            await self._send("renew_self", path, self._number(token), act), sent_at
        )

    async def revoke_self(self, token: SecretValue) -> None:
        path = "auth/token/revoke-self"
        await self._send(
            "revoke_self",
            path,
            self._number(token),
            lambda: self.server.revoke(self._use(token, path)),
        )

    async def kv_read(
        self, token: SecretValue, *, mount: str, path: str, kv_version: Literal[1, 2]
    ) -> KvValue:
        sent_at = self._clock.now()
        full = f"{mount}/data/{path}" if kv_version == 2 else f"{mount}/{path}"

        def act() -> KvValue:
            self._use(token, full)
            secret, number = self.server.kv.read(path, mount=mount, kv_version=kv_version)
            newest = secret.versions[-1]
            return KvValue(
                data={key: _secret(value) for key, value in newest.data.items()},
                sent_at=sent_at,
                version=number if kv_version == 2 else None,
                custom_metadata=dict(secret.custom_metadata) if kv_version == 2 else {},
                created_time=newest.created_time if kv_version == 2 else "",
            )

        return await self._send("kv_read", full, self._number(token), act)

    async def kv_read_version(
        self, token: SecretValue, *, mount: str, path: str, version: int
    ) -> KvValue:
        sent_at, full = self._clock.now(), f"{mount}/data/{path}"

        def act() -> KvValue:
            self._use(token, full)
            secret, found = self.server.kv.read_version(path, version, mount=mount)
            return KvValue(
                data={key: _secret(value) for key, value in found.data.items()},
                sent_at=sent_at,
                version=version or len(secret.versions),
                custom_metadata=dict(secret.custom_metadata),
                created_time=found.created_time,
            )

        return await self._send("kv_read_version", full, self._number(token), act)

    async def kv_write(
        self,
        token: SecretValue,
        *,
        mount: str,
        path: str,
        data: Mapping[str, SecretValue],
        cas: int,
    ) -> int:
        full = f"{mount}/data/{path}"

        def act() -> int:
            self._use(token, full)
            plain = {name: value.reveal() for name, value in data.items()}
            return self.server.kv.write(path, plain, cas, mount=mount)

        return await self._send("kv_write", full, self._number(token), act)

    async def kv_delete(
        self, token: SecretValue, *, mount: str, path: str, versions: Sequence[int]
    ) -> None:
        await self._change("delete", token, mount, path, versions)

    async def kv_destroy(
        self, token: SecretValue, *, mount: str, path: str, versions: Sequence[int]
    ) -> None:
        await self._change("destroy", token, mount, path, versions)

    async def _change(
        self,
        action: Literal["delete", "destroy"],
        token: SecretValue,
        mount: str,
        path: str,
        versions: Sequence[int],
    ) -> None:
        full = f"{mount}/{action}/{path}"

        def act() -> None:
            self._use(token, full)
            self.server.kv.change(path, versions, action, mount=mount)

        await self._send(f"kv_{action}", full, self._number(token), act)

    async def write(
        self, token: SecretValue, *, path: str, parameters: Mapping[str, JsonValue] | None = None
    ) -> None:
        def act() -> None:
            self.server.grant(self._use(token, path), path, "write", parameters)

        await self._send("write", path, self._number(token), act)

    async def lease(
        self,
        token: SecretValue,
        *,
        path: str,
        method: Literal["read", "write"] = "read",
        parameters: Mapping[str, JsonValue] | None = None,
    ) -> LeaseGrant:
        sent_at = self._clock.now()

        def act() -> Lease | Mapping[str, str]:
            return self.server.grant(self._use(token, path), path, method, parameters)

        got = await self._send("lease", path, self._number(token), act, undo=self._discard_lease)
        if not isinstance(got, Lease):
            data = {key: SecretValue(text) for key, text in got.items()}
            return LeaseGrant(data, "", 0.0, renewable=False, sent_at=sent_at)
        data = {key: SecretValue(text) for key, text in got.data.items()}
        return LeaseGrant(data, got.lease_id, got.ttl, got.renewable, sent_at)

    async def renew_lease(
        self, token: SecretValue, lease_id: str, *, increment: float | None = None
    ) -> LeaseRenewal:
        sent_at = self._clock.now()

        def act() -> tuple[Lease, float]:
            self._use(token, "sys/leases/renew")
            lease = self.server.renew_lease(lease_id, increment)
            return lease, lease.expires_at - self.server.now()

        lease, left = await self._send("renew_lease", lease_id, self._number(token), act)
        return LeaseRenewal(lease_id, left, lease.renewable, sent_at)

    async def revoke_lease(self, token: SecretValue, lease_id: str) -> None:
        def act() -> None:
            self._use(token, "sys/leases/revoke")
            self.server.revoke_lease(lease_id)

        await self._send("revoke_lease", lease_id, self._number(token), act)

    async def health(self) -> VaultHealth:
        kinds = {type(fault.error) for fault in self._faults}
        sealed, standby = VaultSealed in kinds, VaultStandby in kinds
        await self._send("health", "sys/health", None, lambda: None)
        return VaultHealth(initialized=True, sealed=sealed, standby=standby, version="simulator")

    async def aclose(self) -> None:
        """Wait for late answers within ``timeout``; what is still hung then is let go."""
        self.closed = True
        if self._late:
            done = asyncio.gather(*self._late, return_exceptions=True)
            try:
                async with asyncio.timeout(self.timeout):
                    await done
            except TimeoutError:
                pass

    def _use(self, token: SecretValue, path: str) -> Token:
        return self.server.use(token.reveal(), path)

    def _token_grant(self, token: Token, sent_at: float) -> TokenGrant:
        return TokenGrant(
            token=SecretValue(token.text),
            accessor=token.accessor,
            ttl=token.left(self.server.now()),
            renewable=token.renewable,
            kind=token.kind,
            sent_at=sent_at,
            num_uses=token.num_uses,
            policies=token.policies,
        )

    def _discard_token(self, token: Token) -> None:
        self._note("revoke_self", "auth/token/revoke-self", token)
        if token.kind == "service":
            self.server.revoke(token)

    def _discard_lease(self, lease: Lease | Mapping[str, str]) -> None:
        if isinstance(lease, Lease):
            self._note("revoke_lease", lease.lease_id, lease.token)
            self.server.revoke_lease(lease.lease_id)

    def _note(self, operation: str, path: str, token: Token) -> None:
        """What the port does by itself with a late answer stands in the log, too."""
        self.calls.append(Call(self._clock.now(), operation, path, token.number, "ok"))

    def _number(self, token: SecretValue | None) -> int | None:
        if token is None:
            return None
        return next((t.number for t in self.server.tokens if t.text == token.reveal()), None)


def _secret(value: JsonValue) -> SecretValue:
    if isinstance(value, str):
        return SecretValue(value)
    return SecretValue(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
