"""The driver for static roles, whose password Vault replaces in place.

Duty: ask Vault to do it now.
Not its duty: reading the new password (``credentials``, source ``static_role``).
Rules: the old password ends with the creation of the new one, so nothing overlaps, nothing can
be proved before readers have it, and there is no way back; it says so.

Source: https://developer.hashicorp.com/vault/api-docs/secret/databases#rotate-static-role-credentials
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.clock import Clock
from broker.rotation.drivers.port import Capabilities, MintedKey
from broker.rotation.drivers.vault import Port, with_token
from broker.rotation.model import Label, UpstreamKey
from broker.vault.interface import SessionPort


class VaultRoleDriver:
    """One static role.

    Args:
        path: such as ``database/rotate-role/orders``.
    """

    def __init__(self, path: str, *, vault: Port, session: SessionPort, clock: Clock) -> None:
        self._path, self._vault, self._session, self._clock = path, vault, session, clock

    @property
    def capabilities(self) -> Capabilities:
        """See ``Driver``."""
        return Capabilities(
            overlap=False, prove_first=False, rollback=False, list=False, fields=frozenset()
        )

    async def create(self, label: Label) -> MintedKey:
        """Have the password replaced. Done twice, it is replaced twice: nothing is left over."""
        await with_token(
            self._session,
            self._clock,
            lambda token: self._vault.write(token, path=self._path),
        )
        return MintedKey(label.rotation, {})

    async def prove(self, key: MintedKey) -> None:
        """Vault has tried the password when it set it."""

    async def list(self) -> Sequence[UpstreamKey]:
        """There is one password, and it has no label."""
        return ()

    async def retire(self, key_id: str) -> None:
        """The old password ended when the new one was set."""
