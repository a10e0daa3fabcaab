"""The rotation's documents in Vault: its own state, and the readers' path.

Duty: read both; write each with check-and-set; delete and destroy versions.
Not its duty: what is written (``steps``), when (``plan``), the documents' form (``document``,
``credentials.reserved``).
Rules:

* every write names the version it was decided on; when another came first it is
  ``RotationConflict``, and the caller reads and decides again;
* a write whose answer is lost is not repeated here: the caller reads back, and the
  rotation id in what it finds tells whether it happened;
* a denial asks the session whether the Vault token is dead, and retries once if it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeVar

from broker.clock import Clock
from broker.credentials.reserved import Note, read_note, with_note, without_note
from broker.errors import RotationConflict, VaultConflict, VaultDenied, VaultNotFound
from broker.errors import VaultValueDeleted as Deleted
from broker.rotation.document import from_data, to_data
from broker.rotation.due import Readers
from broker.rotation.model import KvPath, RotationState
from broker.rotation.steps import stored
from broker.secret import SecretValue
from broker.vault.generation import Generation
from broker.vault.interface import ChangePort, SessionPort, VaultPort

T = TypeVar("T")

KEY_ID: Final = "broker_key_id"
"""In ``custom_metadata`` of the readers' path: the provider's id of a key written by hand."""


class RotationVault(ChangePort, VaultPort, Protocol):
    """Both ports to Vault."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The state as it was read."""

    state: RotationState | None
    """None when there is no document, or it was deleted."""
    version: int
    """What the next write must name."""


@dataclass(frozen=True, slots=True)
class Value:
    """The readers' path as it was read, with its fields."""

    readers: Readers
    fields: Mapping[str, SecretValue]
    """Without the note."""


class Documents:
    """Reads and writes them for all rotations of a process."""

    def __init__(self, *, clock: Clock, vault: RotationVault, session: SessionPort) -> None:
        self._clock, self._vault, self._session = clock, vault, session

    async def load(self, path: KvPath) -> Loaded:
        """The state.

        Raises:
            RotationStateUnreadable: it is none that this version understands.
            VaultError or LoginError: it could not be read.
        """
        try:
            value = await self._with_token(
                lambda token: self._vault.kv_read(
                    token, mount=path.mount, path=path.path, kv_version=2
                )
            )
        except Deleted as error:
            return Loaded(None, error.version or 0)
        except VaultNotFound:
            return Loaded(None, 0)
        return Loaded(from_data(value.data), value.version or 0)

    async def commit(self, path: KvPath, state: RotationState, version: int) -> Loaded:
        """Write ``state`` over ``version``.

        Raises:
            RotationConflict: another replica wrote first.
            VaultError or LoginError: unclear (``VaultUnavailable``), or refused.
        """
        state = stored(state, version=version + 1)
        return Loaded(state, await self._write(path, to_data(state), version))

    async def read(self, path: KvPath) -> Value:
        """The readers' path; empty when nothing was ever written there.

        Raises:
            CredentialMalformed: it holds a note that cannot be read.
            VaultError or LoginError: it could not be read.
        """
        try:
            value = await self._with_token(
                lambda token: self._vault.kv_read(
                    token, mount=path.mount, path=path.path, kv_version=2
                )
            )
        except Deleted as error:
            return Value(Readers(error.version or 0, deleted=True), {})
        except VaultNotFound:
            return Value(Readers(), {})
        readers = Readers(
            version=value.version or 0,
            note=read_note(value.data),
            key_id=value.custom_metadata.get(KEY_ID, ""),
            created_wall=_unix(value.created_time) or self._clock.wall(),
        )
        return Value(readers, without_note(value.data))

    async def read_version(self, path: KvPath, version: int) -> Mapping[str, SecretValue] | None:
        """The fields of one version of the readers' path; None when it is gone."""
        try:
            value = await self._with_token(
                lambda token: self._vault.kv_read_version(
                    token, mount=path.mount, path=path.path, version=version
                )
            )
        except (Deleted, VaultNotFound):
            return None
        return without_note(value.data)

    async def publish(
        self, path: KvPath, fields: Mapping[str, SecretValue], note: Note, version: int
    ) -> int:
        """Write the readers' path over ``version``; the number of the new version.

        Raises:
            RotationConflict: somebody wrote first.
            VaultError or LoginError: unclear (``VaultUnavailable``), or refused.
        """
        return await self._write(path, with_note(fields, note), version)

    async def withdraw(self, path: KvPath, version: int) -> None:
        """Delete a version of the readers' path, so that every reader drops it."""
        await self._with_token(
            lambda token: self._vault.kv_delete(
                token, mount=path.mount, path=path.path, versions=[version]
            )
        )

    async def destroy(self, path: KvPath, versions: Sequence[int]) -> None:
        """Destroy versions of the state for good."""
        await self._with_token(
            lambda token: self._vault.kv_destroy(
                token, mount=path.mount, path=path.path, versions=versions
            )
        )

    async def _write(self, path: KvPath, data: Mapping[str, SecretValue], version: int) -> int:
        try:
            return await self._with_token(
                lambda token: self._vault.kv_write(
                    token, mount=path.mount, path=path.path, data=data, cas=version
                )
            )
        except VaultConflict as error:
            raise RotationConflict(f"{path.mount}/{path.path} was written meanwhile") from error

    async def _with_token(self, ask: Callable[[SecretValue], Awaitable[T]]) -> T:
        generation: Generation = await self._session.ready(self._clock.now())
        try:
            return await ask(generation.token)
        except VaultDenied:
            newer = await self._session.denied(generation)
            if newer is None:
                raise
            return await ask(newer.token)


def _unix(text: str) -> float | None:
    """Unix seconds of Vault's RFC 3339 text, which has nanoseconds; None when it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
