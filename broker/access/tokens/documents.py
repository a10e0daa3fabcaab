"""What an installation's scoped tokens share in Vault: signing keys, and the revocations.

Duty: read both; make the first key; write revocations with check-and-set.
Not its duty: when (``reader``), what is in them (``signing``, ``revocations``).
Rules:

* ``<mount>/data/<path>/key`` and ``<mount>/data/<path>/revocations`` (KV v2), nothing else;
* keys are written once, by whoever needs one first and finds none: replacing them is a
  person's decision;
* every write names the version it was decided on; what another replica wrote meanwhile is
  read and joined, and the write tried again;
* a write whose answer is lost is told as not confirmed: it may have happened;
* a denial asks the session whether the Vault token is dead, and retries once if it was;
* a long document is read in slices, so that the loop is free in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from broker.access.tokens.revocations import Revocations, read_entry, read_head
from broker.access.tokens.signing import KEY_BYTES, Keys, new_keys
from broker.clock import Clock
from broker.errors import (
    TokensUnavailable,
    VaultConflict,
    VaultDenied,
    VaultNotFound,
    VaultValueDeleted,
)
from broker.secret import SecretValue
from broker.vault.interface import ChangePort, KvValue, SessionPort, VaultPort

T = TypeVar("T")

MEMBER: Final = "revocations"
"""Member of the document that holds its text."""
LINES: Final = 100
"""Lines read in one turn of the loop."""


class TokensVault(ChangePort, VaultPort, Protocol):
    """Both ports to Vault."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The revocations as they were read."""

    revocations: Revocations
    version: int
    """What the next write must name."""
    text: str = ""
    """As it stands there: numbers begin anew when the metadata is deleted."""


def read_keys(found: KvValue | VaultValueDeleted) -> Keys:
    """The document of signing keys as it was read.

    Raises:
        TokensUnavailable: it is no such thing, or was deleted.
    """
    if isinstance(found, VaultValueDeleted):
        raise TokensUnavailable(
            "The signing keys of scoped tokens were deleted in Vault.",
            remedy="Undelete them; or delete the metadata too, and every token with them.",
        ) from found
    return Keys(found.data)


async def read_revocations(value: KvValue, known: Loaded | None = None) -> Loaded:
    """The document of revocations as it was read; ``known`` itself while it is the same.

    Raises:
        TokensUnavailable: it is damaged.
    """
    member = value.data.get(MEMBER)
    if member is None:
        raise TokensUnavailable("The document of revocations is damaged.")
    text, version = member.reveal(), value.version or 0
    if known is not None and (version, text) == (known.version, known.text):
        return known
    head, *lines = text.split("\n")
    sequence = read_head(head)
    entries = []
    for number, line in enumerate(lines, 1):
        entries.append(read_entry(line))
        if number % LINES == 0:
            await asyncio.sleep(0)
    return Loaded(Revocations(sequence, entries), version, text)


class TokenDocuments:
    """Both documents of one installation.

    Args:
        clock: the only source of time.
        vault: the port.
        session: gives the Vault token.
        mount: of the KV engine.
        path: of the directory below it.
        random_bytes: where the first key comes from.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        vault: TokensVault,
        session: SessionPort,
        mount: str,
        path: str,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._clock, self._vault, self._session = clock, vault, session
        self._mount, self._path = mount, path
        self._random_bytes = random_bytes

    async def keys(self) -> Keys:
        """The signing keys; the first one is made when there is none.

        Raises:
            TokensUnavailable: the document is no such thing, or was deleted.
            VaultError or LoginError: it could not be read.
        """
        try:
            value = await self._read("key")
        except VaultValueDeleted as error:
            return read_keys(error)
        if value is not None:
            return read_keys(value)
        made = new_keys(self._random_bytes(4).hex(), self._random_bytes(KEY_BYTES))
        try:
            await self._write("key", made, 0)
        except VaultConflict:  # another replica was first
            value = await self._read("key")
            if value is None:
                raise
            return read_keys(value)
        return Keys(made)

    async def load(self, known: Loaded | None) -> Loaded:
        """The revocations; ``known`` itself while they are the same.

        Raises:
            TokensUnavailable: the document is damaged.
            VaultError or LoginError: it could not be read.
        """
        try:
            value = await self._read("revocations")
        except VaultValueDeleted as error:
            return Loaded(Revocations(), error.version or 0)
        if value is None:
            return Loaded(Revocations(), 0)
        return await read_revocations(value, known)

    async def store(self, revocations: Revocations, version: int) -> Loaded:
        """Write the revocations over ``version``.

        Raises:
            VaultConflict: another replica wrote first.
            VaultError or LoginError: unclear (``VaultUnavailable``), or refused.
        """
        text = "\n".join(revocations.lines())
        number = await self._write(MEMBER, {MEMBER: SecretValue(text)}, version)
        return Loaded(revocations, number, text)

    async def _read(self, name: str) -> KvValue | None:
        """A document; None when nothing was ever written there."""
        try:
            return await self._with_token(
                lambda token: self._vault.kv_read(
                    token, mount=self._mount, path=f"{self._path}/{name}", kv_version=2
                )
            )
        except VaultNotFound:
            return None

    async def _write(self, name: str, data: Mapping[str, SecretValue], version: int) -> int:
        return await self._with_token(
            lambda token: self._vault.kv_write(
                token, mount=self._mount, path=f"{self._path}/{name}", data=data, cas=version
            )
        )

    async def _with_token(self, ask: Callable[[SecretValue], Awaitable[T]]) -> T:
        generation = await self._session.ready(self._clock.now())
        try:
            return await ask(generation.token)
        except VaultDenied:
            newer = await self._session.denied(generation)
            if newer is None:
                raise
            return await ask(newer.token)
