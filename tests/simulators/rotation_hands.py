"""How one replica reaches Vault and the provider: every side effect can end badly.

Duty: count side effects; at the n-th do what the script says.
Not its duty: what the effects do (``vault``, ``provider``).
Rules: reading is no side effect; a crash is a ``BaseException``, as nothing may catch it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from broker.errors import UpstreamMalformed, UpstreamUnavailable, VaultError, VaultUnreachable
from broker.rotation.document import from_data, to_data
from broker.rotation.drivers.port import Capabilities, Driver, MintedKey
from broker.rotation.model import Label, UpstreamKey
from broker.rotation.steps import stored
from broker.secret import SecretValue
from tests.simulators.vault import VaultSimulator

T = TypeVar("T")

Mishap: TypeAlias = Literal[
    "crash before",
    "crash after",
    "lost",
    "away",
    "twice",
    "conflict",
    "pause before",
    "pause after",
]
MISHAPS: Final[tuple[Mishap, ...]] = get_args(Mishap)


class Crash(BaseException):
    """The process is gone."""


class Hands:
    """The way of one replica's side effects.

    ``script``: what happens at the n-th, counted from 0. A pause waits for ``resume``. A
    conflict is another's write of the same document just before; nothing for other effects.
    """

    def __init__(self) -> None:
        self.script: dict[int, Mishap] = {}
        self.effects: list[str] = []
        self.retiring: set[str] = set()
        """Ids of keys whose end was asked for; the call may still be on its way."""
        self.paused = asyncio.Event()
        self.resume = asyncio.Event()

    async def carry(
        self,
        name: str,
        act: Callable[[], Awaitable[T]],
        lost: Callable[[], Exception],
        rival: Callable[[], None] = lambda: None,
    ) -> T:
        """One side effect; ``rival`` comes first when there is to be a conflict."""
        mishap = self.script.get(len(self.effects))
        self.effects.append(name)
        if mishap == "crash before":
            raise Crash
        if mishap == "away":
            raise lost()
        if mishap == "conflict":
            rival()
        if mishap == "pause before":
            await self._pause()
        answer = await act()
        if mishap == "twice":
            try:
                await act()  # a duplicate on the way; its answer reaches nobody
            except Exception:
                pass
        if mishap == "crash after":
            raise Crash
        if mishap == "lost":
            raise lost()
        if mishap == "pause after":
            await self._pause()
        return answer

    async def _pause(self) -> None:
        self.resume.clear()
        self.paused.set()
        await self.resume.wait()


class HandledVault(VaultSimulator):
    """The port of one replica to the Vault that all share."""

    def __init__(self, shared: VaultSimulator, hands: Hands) -> None:
        super().__init__(shared._clock)
        self.server = shared.server
        self._faults = shared._faults
        self._hands = hands

    async def kv_write(
        self,
        token: SecretValue,
        *,
        mount: str,
        path: str,
        data: Mapping[str, SecretValue],
        cas: int,
    ) -> int:
        ask, kv = super().kv_write, self.server.kv

        def rewrite() -> None:
            try:
                _, found = kv.read_version(path, 0, mount=mount)
            except VaultError:
                return  # nothing there that another could have read and written again
            data = found.data
            if "state" in data:  # another replica's write of it: that version holds secrets too
                secret = {name: SecretValue(str(text)) for name, text in data.items()}
                state = stored(from_data(secret), version=cas + 1)
                data = {name: text.reveal() for name, text in to_data(state).items()}
            kv.put(path, data, mount=mount)

        return await self._hands.carry(
            f"write {path}",
            lambda: ask(token, mount=mount, path=path, data=data, cas=cas),
            VaultUnreachable,
            rewrite,
        )

    async def kv_delete(
        self, token: SecretValue, *, mount: str, path: str, versions: Sequence[int]
    ) -> None:
        ask: Any = super().kv_delete
        await self._hands.carry(
            f"delete {path}",
            lambda: ask(token, mount=mount, path=path, versions=versions),
            VaultUnreachable,
        )

    async def kv_destroy(
        self, token: SecretValue, *, mount: str, path: str, versions: Sequence[int]
    ) -> None:
        ask: Any = super().kv_destroy
        await self._hands.carry(
            f"destroy {path}",
            lambda: ask(token, mount=mount, path=path, versions=versions),
            VaultUnreachable,
        )


class HandledDriver:
    """``Driver`` of one replica over the provider that all share."""

    def __init__(self, driver: Driver, hands: Hands) -> None:
        self._driver, self._hands = driver, hands
        self.away = False
        """The provider answers nothing."""
        self.garbage = False
        """It makes keys, and its answers cannot be read."""

    @property
    def capabilities(self) -> Capabilities:
        return self._driver.capabilities

    async def create(self, label: Label) -> MintedKey:
        self._there()
        key = await self._hands.carry(
            "create", lambda: self._driver.create(label), UpstreamUnavailable
        )
        if self.garbage:
            raise UpstreamMalformed
        return key

    async def prove(self, key: MintedKey) -> None:
        self._there()
        await self._driver.prove(key)

    async def list(self) -> Sequence[UpstreamKey]:
        self._there()
        return await self._driver.list()

    async def retire(self, key_id: str) -> None:
        self._there()
        self._hands.retiring.add(key_id)
        await self._hands.carry("retire", lambda: self._driver.retire(key_id), UpstreamUnavailable)

    def _there(self) -> None:
        if self.away:
            raise UpstreamUnavailable(unclear=False)
