"""What the replicas of an installation share of scoped tokens, as ``broker check`` reads it.

Duty: read signing keys and revocations once, as a broker would; what was found, in words.
Not its duty: naming what is wrong with a path (``check``); making the first key (brokers do).
Rule: no key and no revocation appears, only how many; nothing is written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from broker.access.tokens.documents import read_keys, read_revocations
from broker.app.diagnosis import Diagnosis, Layer, of_shared_tokens
from broker.errors import BrokerError, TokensUnavailable, VaultError, VaultValueDeleted
from broker.secret import SecretValue
from broker.settings.domain import SourceSettings
from broker.settings.domain_tokens import TokenSettings
from broker.vault.interface import KvValue, VaultPort

Found: TypeAlias = KvValue | VaultValueDeleted | None
"""A document, what is left of it, or None when there was never one."""


async def _keys(found: Found) -> str:
    if found is None:
        return "no signing key yet, the first broker that needs it makes it"
    number = len(read_keys(found))
    return "a signing key" if number == 1 else f"{number} signing keys"


async def _revocations(found: Found) -> str:
    if not isinstance(found, KvValue):
        return "no revocations"  # brokers complete a document that was deleted
    number = len((await read_revocations(found)).revocations.entries)
    return f"{number or 'no'} revocation{'' if number == 1 else 's'}"


_DESCRIBED: Final[Mapping[str, Callable[[Found], Awaitable[str]]]] = {
    "key": _keys,
    "revocations": _revocations,
}
"""By name below ``tokens.path``. Raise ``TokensUnavailable`` for a document that is damaged."""


async def look(
    port: VaultPort,
    token: SecretValue,
    settings: TokenSettings,
    diagnose: Callable[[SourceSettings, BrokerError], Awaitable[Diagnosis]],
) -> str | Diagnosis:
    """What is there, or the layer that is broken.

    Args:
        port: Vault.
        token: of the check.
        settings: say where.
        diagnose: what is wrong with a path.
    """
    told: list[str] = []
    for name, describe in _DESCRIBED.items():
        source = SourceSettings("kv", mount=settings.mount, path=f"{settings.path}/{name}")
        found: Found
        try:
            found = await port.kv_read(token, mount=source.mount, path=source.path, kv_version=2)
        except VaultError as error:
            broken = await diagnose(source, error)
            if broken.layer not in {Layer.PATH, Layer.VALUE}:
                return of_shared_tokens(error, broken)
            found = error if isinstance(error, VaultValueDeleted) else None
        try:
            told.append(await describe(found))
        except TokensUnavailable as error:
            return of_shared_tokens(error)
    return f"{settings.mount}/{settings.path}: {', '.join(told)}"
