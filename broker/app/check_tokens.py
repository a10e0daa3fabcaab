"""What the replicas of an installation share of scoped tokens, as ``broker check`` tells it.

Duty: see that signing keys and revocations are such; what was found, in words.
Not its duty: reading them, naming a broken layer (``check``); making the first key (brokers do).
Rule: no key and no revocation appears, only how many.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from broker.access.tokens.documents import read_keys, read_revocations
from broker.errors import VaultValueDeleted
from broker.vault.interface import KvValue

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


DESCRIBED: Final[Mapping[str, Callable[[Found], Awaitable[str]]]] = {
    "key": _keys,
    "revocations": _revocations,
}
"""By name below ``tokens.path``. Raise ``TokensUnavailable`` for a document that is damaged."""
