"""Requests that change something in Vault: versions of KV secrets, and paths that act.

Duty: one method of ``ChangePort`` = one request. Not its duty: what ``client`` does for it:
deadlines, threads, errors; deciding what to do after an unclear outcome (its callers).
Rules: a secret goes from ``SecretValue`` into the body of its request and nowhere else.

Source: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from broker.errors import VaultInvalid
from broker.secret import SecretValue
from broker.vault import responses
from broker.vault.interface import JsonValue, KvValue
from broker.vault.responses import Answer
from broker.vault.wire import Wire

T = TypeVar("T")


class Changes(ABC):
    """``ChangePort`` for a client that can ask."""

    @abstractmethod
    async def _ask(
        self,
        operation: str,
        request: str,
        call: Callable[[Wire], Any],
        read: Callable[[Answer, float], T],
        *,
        token: SecretValue | None = None,
    ) -> T:
        """One request."""

    async def kv_write(
        self,
        token: SecretValue,
        *,
        mount: str,
        path: str,
        data: Mapping[str, SecretValue],
        cas: int,
    ) -> int:
        """See ``ChangePort``."""
        return await self._ask(
            "kv_write",
            f"write of {mount}/{path}",
            lambda wire: wire.post(
                _url(mount, "data", path),
                json={
                    "options": {"cas": cas},
                    "data": {name: value.reveal() for name, value in data.items()},
                },
            ),
            responses.kv2_written,
            token=token,
        )

    async def kv_read_version(
        self, token: SecretValue, *, mount: str, path: str, version: int
    ) -> KvValue:
        """See ``ChangePort``."""
        return await self._ask(
            "kv_read_version",
            f"read of {mount}/{path}, version {version}",
            lambda wire: wire.get(_url(mount, "data", path), {"version": str(version)}),
            responses.kv2_value,
            token=token,
        )

    async def kv_delete(
        self, token: SecretValue, *, mount: str, path: str, versions: Sequence[int]
    ) -> None:
        """See ``ChangePort``."""
        await self._ask(
            "kv_delete",
            f"deletion of versions of {mount}/{path}",
            lambda wire: wire.post(_url(mount, "delete", path), json={"versions": list(versions)}),
            nothing,
            token=token,
        )

    async def kv_destroy(
        self, token: SecretValue, *, mount: str, path: str, versions: Sequence[int]
    ) -> None:
        """See ``ChangePort``."""
        await self._ask(
            "kv_destroy",
            f"destruction of versions of {mount}/{path}",
            lambda wire: wire.put(_url(mount, "destroy", path), json={"versions": list(versions)}),
            nothing,
            token=token,
        )

    async def write(
        self, token: SecretValue, *, path: str, parameters: Mapping[str, JsonValue] | None = None
    ) -> None:
        """See ``ChangePort``."""
        await self._ask(
            "write",
            f"write of {path}",
            lambda wire: wire.post(f"/v1/{quote(checked(path))}", json=parameters or {}),
            nothing,
            token=token,
        )


def _url(mount: str, what: str, path: str) -> str:
    return f"/v1/{quote(checked(mount))}/{what}/{quote(checked(path))}"


def nothing(_: Answer, __: float) -> None:
    """The answer of a request that only does something."""


def checked(path: str) -> str:
    """A path without slashes around it.

    Raises:
        VaultInvalid: with a segment that is empty or climbs, it would not ask for what it says.
    """
    path = path.strip("/")
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        raise VaultInvalid("A Vault path has an empty, '.' or '..' segment.")
    return path
