"""The way to Vault that settings describe.

Duty: client and login from ``VaultSettings``, for ``run`` and ``check`` alike.
Not its duty: what is asked of Vault.
"""

from __future__ import annotations

from broker.app import translate
from broker.clock import Clock
from broker.settings.domain import AuthSettings, VaultSettings
from broker.vault.calls import RequestMetrics
from broker.vault.client import VaultClient
from broker.vault.interface import VaultPort
from broker.vault.limiter import Budget, Limiter
from broker.vault.login import KubernetesLogin, Login, TokenFileLogin


def vault_client(
    settings: VaultSettings, *, clock: Clock, metrics: RequestMetrics | None = None
) -> VaultClient:
    """Make the client. Call ``aclose`` on it at the end.

    Raises:
        SettingsError: an address or the namespace cannot be used.
    """
    limits = settings.limits
    budget = Budget(
        rate=limits.requests_per_second, burst=limits.burst, concurrency=limits.concurrency
    )
    return VaultClient(
        settings.address,
        clock=clock,
        namespace=settings.namespace,
        timeout=settings.timeout,
        redirect_addresses=settings.redirect_addresses,
        tls=translate.tls(settings.tls),
        limiter=Limiter(budget, clock=clock),
        metrics=metrics,
    )


def vault_login(settings: AuthSettings, port: VaultPort) -> Login:
    """The configured way to log in."""
    if settings.method == "token_file":
        return TokenFileLogin(port, token_file=settings.token_file)
    return KubernetesLogin(
        port, mount=settings.mount, role=settings.role, token_file=settings.token_file
    )
