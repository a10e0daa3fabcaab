"""The KV engines of the simulated Vault, v1 and v2.

Duty: versions, deletion, destruction, rollback, ``custom_metadata``.
Not its duty: who may read (``vault_server``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from broker.errors import VaultConflict, VaultNotFound, VaultValueDeleted
from broker.vault.interface import JsonValue

Data = Mapping[str, JsonValue]


@dataclass
class KvVersion:
    """One version of a KV secret."""

    data: dict[str, JsonValue] = field(repr=False)
    created_wall: float
    deleted: bool = False
    destroyed: bool = False

    @property
    def created_time(self) -> str:
        return datetime.fromtimestamp(self.created_wall, UTC).isoformat().replace("+00:00", "Z")


@dataclass
class KvSecret:
    """A secret of a KV engine. KV v1 keeps one version only."""

    versions: list[KvVersion] = field(default_factory=list)
    custom_metadata: dict[str, str] = field(default_factory=dict)


class KvEngines:
    """All KV mounts; ``put`` makes a mount at its first use."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._kv: dict[tuple[str, str], KvSecret] = {}
        self._kv_kind: dict[str, Literal[1, 2]] = {}

    def put(
        self,
        path: str,
        data: Data,
        *,
        mount: str = "secret",
        kv_version: Literal[1, 2] = 2,
        custom_metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Write a version; returns its number (KV v1: always 1)."""
        self._kv_kind.setdefault(mount, kv_version)
        secret = self._kv.setdefault((mount, path), KvSecret())
        if self._kv_kind[mount] == 1:
            secret.versions.clear()
        secret.versions.append(KvVersion(dict(data), self._wall()))
        if custom_metadata is not None:
            secret.custom_metadata = dict(custom_metadata)
        return len(secret.versions)

    def annotate(self, path: str, metadata: Mapping[str, str], *, mount: str = "secret") -> None:
        """Replace ``custom_metadata``; makes no new version."""
        self._kv[mount, path].custom_metadata = dict(metadata)

    def delete(self, path: str, *, mount: str = "secret", version: int | None = None) -> None:
        """Delete the newest or the given version (KV v1: the whole secret)."""
        if self._kv_kind[mount] == 1:
            del self._kv[mount, path]
        else:
            self._version(path, mount, version).deleted = True

    def undelete(self, path: str, *, mount: str = "secret", version: int | None = None) -> None:
        """Bring a deleted version back."""
        self._version(path, mount, version).deleted = False

    def destroy(self, path: str, *, mount: str = "secret", version: int | None = None) -> None:
        """Destroy a version's data for good."""
        found = self._version(path, mount, version)
        found.destroyed = True
        found.data.clear()

    def rollback(self, path: str, version: int, *, mount: str = "secret") -> int:
        """Write an old version's data as a new version, as ``vault kv rollback`` does."""
        return self.put(path, self._version(path, mount, version).data, mount=mount)

    def _version(self, path: str, mount: str, version: int | None) -> KvVersion:
        return self._kv[mount, path].versions[-1 if version is None else version - 1]

    def read(self, path: str, *, mount: str, kv_version: Literal[1, 2]) -> tuple[KvSecret, int]:
        """The newest version, as a client that believes ``kv_version`` would find it."""
        secret = self._kv.get((mount, path))
        if secret is None or not secret.versions or self._kv_kind[mount] != kv_version:
            raise VaultNotFound(f"nothing at {mount}/{path}")
        self._living(secret, len(secret.versions))
        return secret, len(secret.versions)

    def read_version(self, path: str, version: int, *, mount: str) -> tuple[KvSecret, KvVersion]:
        """One version of a KV v2 secret; 0 is the newest, as Vault takes it."""
        secret = self._kv.get((mount, path))
        if secret is None or self._kv_kind[mount] == 1 or version > len(secret.versions):
            raise VaultNotFound(f"nothing at {mount}/{path}")
        return secret, self._living(secret, version or len(secret.versions))

    def write(self, path: str, data: Data, cas: int, *, mount: str) -> int:
        """Write with check-and-set, which compares with the newest version, deleted or not."""
        secret = self._kv.get((mount, path))
        if cas != (0 if secret is None else len(secret.versions)):
            raise VaultConflict("check-and-set parameter did not match the current version")
        return self.put(path, data, mount=mount)

    def change(
        self,
        path: str,
        versions: Sequence[int],
        action: Literal["delete", "destroy"],
        *,
        mount: str,
    ) -> None:
        """Delete or destroy versions; what does not exist is passed over."""
        secret = self._kv.get((mount, path))
        for version in versions:
            if secret is not None and 1 <= version <= len(secret.versions):
                (self.delete if action == "delete" else self.destroy)(
                    path, mount=mount, version=version
                )

    def count(self, path: str, *, mount: str = "secret") -> int:
        """How many versions there ever were; 0: none."""
        secret = self._kv.get((mount, path))
        return 0 if secret is None else len(secret.versions)

    def wipe(self, path: str, *, mount: str = "secret") -> None:
        """Delete a secret with all its versions and metadata."""
        self._kv.pop((mount, path), None)

    def backup(self, path: str, *, mount: str = "secret") -> KvSecret | None:
        """A copy of a secret as it is now, for ``restore``."""
        return deepcopy(self._kv.get((mount, path)))

    def restore(self, path: str, secret: KvSecret | None, *, mount: str = "secret") -> None:
        """Put a copy back, as a restored snapshot of the server does."""
        self.wipe(path, mount=mount)
        if secret is not None:
            self._kv[mount, path] = deepcopy(secret)

    @staticmethod
    def _living(secret: KvSecret, version: int) -> KvVersion:
        found = secret.versions[version - 1]
        if found.deleted or found.destroyed:
            raise VaultValueDeleted("the version is deleted", version=version)
        return found
