"""The driver for services that read the keys they accept from Vault.

Duty: make random keys; publish and withdraw them in one KV v2 secret.
Not its duty: the readers' path (``rotator``); how the service reads (docs/rotation.md).
Rules:

* the contract with the service: each field of the secret is one accepted key, its name the
  key's id and its value the key's SHA-256 in lower-case hex, or the key itself; whatever else
  stands there is accepted too and is nobody's business here;
* every change is a check-and-set on the version that was read, so that no other writer's
  key is lost;
* a service learns by polling, so ``settle`` covers its interval.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from broker.clock import Clock
from broker.errors import (
    UpstreamRefused,
    UpstreamUnavailable,
    VaultConflict,
    VaultNotFound,
)
from broker.rotation.drivers.port import Capabilities, MintedKey
from broker.rotation.drivers.proof import HttpProof
from broker.rotation.drivers.vault import Port, with_token
from broker.rotation.model import KvPath, Label, UpstreamKey
from broker.secret import SecretValue
from broker.vault.interface import SessionPort

ALPHABETS: Final[Mapping[str, str]] = {
    "base62": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    "hex": "0123456789abcdef",
}
ATTEMPTS: Final = 5
"""Tries of one change against other writers."""
_ID: Final = re.compile(r"(?P<label>.+)@(?P<created>[0-9]{1,11})-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class KeyForm:
    """What a key looks like, and which field of the readers' value holds it."""

    field: str
    prefix: str = ""
    length: int = 43
    """Random characters; 43 of ``base62`` are 256 bits."""
    alphabet: Literal["base62", "hex"] = "base62"

    def make(self, rng: Random) -> SecretValue:
        """A new key."""
        letters = ALPHABETS[self.alphabet]
        return SecretValue(self.prefix + "".join(rng.choice(letters) for _ in range(self.length)))


class GeneratedDriver:
    """Random keys, published in Vault.

    Args:
        accepted: where the service reads what it accepts.
        publish: the key's digest, or the key.
        rng: of cryptographic quality (``random.SystemRandom``).
        proof: None: every new key is taken to be good.
    """

    def __init__(
        self,
        form: KeyForm,
        accepted: KvPath,
        *,
        publish: Literal["sha256", "plain"],
        vault: Port,
        session: SessionPort,
        clock: Clock,
        rng: Random,
        proof: HttpProof | None,
    ) -> None:
        self._form, self._accepted, self._publish = form, accepted, publish
        self._vault, self._session, self._clock, self._rng = vault, session, clock, rng
        self._proof = proof

    @property
    def capabilities(self) -> Capabilities:
        """See ``Driver``."""
        fields = frozenset({self._form.field})
        return Capabilities(overlap=True, prove_first=True, rollback=True, list=True, fields=fields)

    async def create(self, label: Label) -> MintedKey:
        """See ``Driver``."""
        key = self._form.make(self._rng)
        # The end keeps apart what is made twice for one rotation, in one second.
        key_id = f"{label.text}@{int(self._clock.wall())}-{self._rng.getrandbits(32):08x}"
        shown = key
        if self._publish == "sha256":
            shown = SecretValue(hashlib.sha256(key.reveal().encode()).hexdigest())
        await self._change(lambda keys: {**keys, key_id: shown})
        return MintedKey(key_id, {self._form.field: key})

    async def prove(self, key: MintedKey) -> None:
        """See ``Driver``."""
        if self._proof is not None:
            await self._proof(key)

    async def list(self) -> Sequence[UpstreamKey]:
        """See ``Driver``."""
        keys, _ = await self._read()
        return [_listed(key_id) for key_id in keys]

    async def retire(self, key_id: str) -> None:
        """See ``Driver``."""
        await self._change(lambda keys: {name: keys[name] for name in keys if name != key_id})

    async def _change(
        self, change: Callable[[Mapping[str, SecretValue]], Mapping[str, SecretValue]]
    ) -> None:
        for _ in range(ATTEMPTS):
            before, version = await self._read()
            after = change(before)
            if after.keys() == before.keys():
                return
            try:
                await with_token(self._session, self._clock, self._write(after, version))
            except VaultConflict:
                continue
            return
        raise UpstreamUnavailable(f"Others keep writing to {self._where}.", unclear=False)

    async def _read(self) -> tuple[Mapping[str, SecretValue], int]:
        mount, path = self._accepted.mount, self._accepted.path
        try:
            value = await with_token(
                self._session,
                self._clock,
                lambda token: self._vault.kv_read(token, mount=mount, path=path, kv_version=2),
            )
        except VaultNotFound:
            return {}, 0
        if value.version is None:
            raise UpstreamRefused(f"{self._where} is not in a KV version 2 mount.")
        return value.data, value.version

    def _write(
        self, data: Mapping[str, SecretValue], version: int
    ) -> Callable[[SecretValue], Awaitable[int]]:
        mount, path = self._accepted.mount, self._accepted.path
        return lambda token: self._vault.kv_write(
            token, mount=mount, path=path, data=data, cas=version
        )

    @property
    def _where(self) -> str:
        return f"{self._accepted.mount}/{self._accepted.path}"


def _listed(key_id: str) -> UpstreamKey:
    match = _ID.fullmatch(key_id)
    if match is None:
        return UpstreamKey(key_id, label=key_id)
    return UpstreamKey(key_id, label=match["label"], created_wall=float(match["created"]))
