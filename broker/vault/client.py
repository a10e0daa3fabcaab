"""``VaultPort`` and ``ChangePort`` on hvac: which request asks for what.

Duty: one method of the port = one request to Vault.
Not its duty: tokens and when to ask (``session``), reading answers (``responses``,
``refusals``), deadlines and late answers (``calls``), HTTP (``transport``).
Rules:

* of hvac the API classes alone are used, which know Vault's paths
  and parameters, on an adapter of ours (``wire``): its client would take ``VAULT_TOKEN``,
  ``~/.vault-token`` and ``VAULT_CACERT`` silently, and answer a dict or a response;
* the token is an argument of each request and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import ceil
from typing import Any, Final, Literal, TypeVar

from broker.clock import Clock
from broker.errors import SettingsError
from broker.secret import SecretValue
from broker.vault import responses
from broker.vault.calls import Call, Calls, RequestMetrics
from broker.vault.changes import Changes, checked, nothing
from broker.vault.hvac_api import Health, Kubernetes, KvV1, KvV2, Lease, Token, format_url
from broker.vault.interface import (
    JsonValue,
    KvValue,
    LeaseGrant,
    LeaseRenewal,
    MountInfo,
    Priority,
    TokenGrant,
    TokenInfo,
    VaultHealth,
)
from broker.vault.limiter import Budget, Limiter
from broker.vault.responses import Answer, Minted
from broker.vault.tls import TlsOptions
from broker.vault.transport import Exchange, Transport
from broker.vault.wire import Wire, fits_header

T = TypeVar("T")

_HEALTH_STATUSES: Final = frozenset({429, 472, 473, 501, 503})
"""``sys/health`` says standby, recovery, uninitialised and sealed by these, with its usual body."""


class VaultClient(Changes):
    """Speaks to HashiCorp Vault or OpenBao. Use within one event loop.

    Args:
        address: ``https://host:port`` of Vault.
        clock: time; read in the event loop only.
        namespace: Vault namespace, or empty.
        timeout: deadline of one request in seconds, connection included, the wait in
            the limiter's queue not.
        redirect_addresses: further origins a standby's 307 may lead to.
        tls: how to trust and be trusted.
        limiter: what this client may cost Vault; None: 50 requests a second, 8 at once.
        metrics: told of each request.
        close_timeout: longest ``aclose`` in seconds.

    Raises:
        SettingsError: an address is no http(s) URL, or the namespace cannot be one.
    """

    def __init__(
        self,
        address: str,
        *,
        clock: Clock,
        namespace: str = "",
        timeout: float = 10.0,
        redirect_addresses: Iterable[str] = (),
        tls: TlsOptions | None = None,
        limiter: Limiter | None = None,
        metrics: RequestMetrics | None = None,
        close_timeout: float = 5.0,
    ) -> None:
        if not fits_header(namespace):
            raise SettingsError("holds characters no namespace has", key="vault.namespace")
        self._namespace = namespace
        limiter = limiter or Limiter(Budget(rate=50, burst=50, concurrency=8), clock=clock)
        self._transport = Transport(
            address,
            redirects=redirect_addresses,
            options=tls or TlsOptions(),
            connect_timeout=timeout,
            # Above the deadline, which ends a call long before; a late answer may come till then.
            read_timeout=2 * timeout + 1,
            connections=limiter.concurrency,
        )
        self._calls = Calls(
            self._transport,
            limiter,
            clock=clock,
            timeout=timeout,
            close_timeout=close_timeout,
            metrics=metrics,
        )

    async def login_kubernetes(self, *, mount: str, role: str, jwt: SecretValue) -> TokenGrant:
        """See ``VaultPort``."""
        mount = checked(mount)
        return await self._ask(
            "login_kubernetes",
            f"login at auth/{mount}",
            lambda wire: Kubernetes(wire).login(
                role, jwt.reveal(), use_token=False, mount_point=mount
            ),
            responses.token_grant,
            priority=Priority.LOGIN,
            mints=True,
        )

    async def lookup_self(self, token: SecretValue) -> TokenInfo:
        """See ``VaultPort``."""
        return await self._ask(
            "lookup_self",
            "look-up of the token",
            lambda wire: Token(wire).lookup_self(),
            responses.token_info,
            token=token,
            priority=Priority.LOGIN,
        )

    async def renew_self(self, token: SecretValue, *, increment: float | None = None) -> TokenGrant:
        """See ``VaultPort``."""
        return await self._ask(
            "renew_self",
            "renewal of the token",
            lambda wire: Token(wire).renew_self(_whole(increment)),
            responses.token_grant,
            token=token,
            priority=Priority.LOGIN,
        )

    async def revoke_self(self, token: SecretValue) -> None:
        """See ``VaultPort``."""
        await self._ask(
            "revoke_self",
            "revocation of the token",
            lambda wire: Token(wire).revoke_self(),
            nothing,
            token=token,
            priority=Priority.LOGIN,
        )

    async def kv_read(
        self, token: SecretValue, *, mount: str, path: str, kv_version: Literal[1, 2]
    ) -> KvValue:
        """See ``VaultPort``."""
        mount, path = checked(mount), checked(path)

        def call(wire: Wire) -> Any:
            if kv_version == 1:
                return KvV1(wire).read_secret(path, mount_point=mount)
            return KvV2(wire).read_secret_version(
                path, mount_point=mount, raise_on_deleted_version=True
            )

        return await self._ask(
            "kv_read",
            f"read of {mount}/{path}",
            call,
            responses.kv1_value if kv_version == 1 else responses.kv2_value,
            token=token,
        )

    async def lease(
        self,
        token: SecretValue,
        *,
        path: str,
        method: Literal["read", "write"] = "read",
        parameters: Mapping[str, JsonValue] | None = None,
    ) -> LeaseGrant:
        """See ``VaultPort``."""
        url = format_url("/v1/{path}", path=checked(path))
        return await self._ask(
            "lease",
            f"{method} of {path}",
            lambda wire: (
                wire.get(url) if method == "read" else wire.post(url, json=parameters or {})
            ),
            responses.lease_grant,
            token=token,
            mints=True,
        )

    async def renew_lease(
        self, token: SecretValue, lease_id: str, *, increment: float | None = None
    ) -> LeaseRenewal:
        """See ``VaultPort``."""
        return await self._ask(
            "renew_lease",
            "renewal of a lease",
            lambda wire: Lease(wire).renew_lease(lease_id, _whole(increment)),
            responses.lease_renewal,
            token=token,
            priority=Priority.RENEW,
        )

    async def revoke_lease(self, token: SecretValue, lease_id: str) -> None:
        """See ``VaultPort``."""
        await self._ask(
            "revoke_lease",
            "revocation of a lease",
            lambda wire: Lease(wire).revoke_lease(lease_id),
            nothing,
            token=token,
        )

    async def mount_info(self, token: SecretValue, *, path: str) -> MountInfo:
        """See ``MountPort``."""
        url = format_url("/v1/sys/internal/ui/mounts/{path}", path=checked(path))
        return await self._ask(
            "mount_info",
            f"look-up of the mount of {path}",
            lambda wire: wire.get(url),
            lambda answer, _: responses.mount_info(answer),
            token=token,
        )

    async def health(self) -> VaultHealth:
        """See ``VaultPort``."""
        return await self._ask(
            "health",
            "health",
            lambda wire: Health(wire).read_health_status(method="GET"),
            lambda answer, _: responses.health(answer),
            priority=Priority.LOGIN,
            also_good=_HEALTH_STATUSES,
        )

    async def aclose(self) -> None:
        """See ``VaultPort``. Takes at most ``close_timeout``."""
        await self._calls.aclose()

    def reload_tls(self) -> bool:
        """Read the TLS files again now; see ``Transport.reload_tls``.

        Happens by itself within ten seconds of a change, at the next request.
        """
        return self._transport.reload_tls()

    async def _ask(
        self,
        operation: str,
        request: str,
        call: Callable[[Wire], Any],
        read: Callable[[Answer, float], T],
        *,
        token: SecretValue | None = None,
        priority: Priority = Priority.READ,
        mints: bool = False,
        also_good: frozenset[int] = frozenset(),
    ) -> T:
        """One ``Call``, in which ``call`` makes hvac use the adapter it is given, once."""

        def send(exchange: Exchange) -> Answer:
            answer = call(Wire(exchange, token=token, namespace=self._namespace))
            assert isinstance(answer, Answer)  # hvac returns what its adapter returned
            return answer

        undo = partial(self._revoke, token) if mints else None
        return await self._calls.ask(
            Call(operation, request, send, read, priority, also_good, undo)
        )

    async def _revoke(self, token: SecretValue | None, brought: Minted) -> None:
        """Undo a login or a lease nobody waits for."""
        if brought.token is not None:
            await self.revoke_self(brought.token)
        elif token is not None:
            await self.revoke_lease(token, brought.lease_id)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else ceil(seconds)
