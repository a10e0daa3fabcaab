"""Keys that are being rotated, hidden from the log before readers have them.

Duty: teach the redactor every key that a driver makes or proves.
Not its duty: the driver's work; values that readers have (``masking``).
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.app.masking import Masking
from broker.rotation.drivers.port import Capabilities, Driver, MintedKey
from broker.rotation.model import Label, UpstreamKey


class MaskedDriver:
    """Implements ``rotation.drivers.port.Driver`` around another one."""

    def __init__(self, driver: Driver, masking: Masking) -> None:
        self._driver, self._masking = driver, masking

    @property
    def capabilities(self) -> Capabilities:
        """See ``Driver``."""
        return self._driver.capabilities

    async def create(self, label: Label) -> MintedKey:
        """See ``Driver``."""
        key = await self._driver.create(label)
        self._masking.met(key.fields.values())
        return key

    async def prove(self, key: MintedKey) -> None:
        """See ``Driver``; another replica may have made the key."""
        self._masking.met(key.fields.values())
        await self._driver.prove(key)

    async def list(self) -> Sequence[UpstreamKey]:
        """See ``Driver``."""
        return await self._driver.list()

    async def retire(self, key_id: str) -> None:
        """See ``Driver``."""
        await self._driver.retire(key_id)
