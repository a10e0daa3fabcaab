"""What a rotation asks of a provider of keys.

Duty: name it, as a small port. Not its duty: implementing it (one module a driver), saying
when (``rotation.plan``).
Rules:

* every call ends by its own deadline, may be repeated, and may have been carried out
  although its answer was lost;
* ``prove`` tells "the key is refused" (``ProofFailed``) from "nobody can tell now"
  (``UpstreamUnavailable``): only the first rolls a rotation back;
* ``retire`` of a key that is gone is no error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.rotation.model import Label, UpstreamKey
from broker.secret import SecretValue


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do; the plan leaves out what it cannot."""

    overlap: bool
    """The old key works on beside the new one. Without: ``create`` itself ends the old."""
    prove_first: bool
    """A new key can be proved before readers have it."""
    rollback: bool
    """Readers can be given the old key again."""
    list: bool
    """Keys can be listed with their labels, so that lost ones are found."""
    fields: frozenset[str]
    """Fields of the readers' value that a new key replaces; what stands beside them stays."""


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key. ``fields`` is empty when it was made in place, where readers read already."""

    key_id: str
    fields: Mapping[str, SecretValue]
    """What is written for the readers, by name of the field."""
    expires_wall: float | None = None
    """The key's own expiry as Unix time; None when it has none."""


class Driver(Protocol):
    """Mints and retires the keys of one credential.

    Every method raises only ``errors.UpstreamError`` (``UpstreamUnavailable`` when the same
    call may succeed later), ``errors.VaultError`` where Vault is the provider, and
    ``prove`` also ``errors.ProofFailed``.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; never changes."""
        ...

    async def create(self, label: Label) -> MintedKey:
        """Make a key that the provider calls ``label.text``."""
        ...

    async def prove(self, key: MintedKey) -> None:
        """Return when the upstream accepts the key.

        Raises:
            ProofFailed: the upstream refuses it.
        """
        ...

    async def list(self) -> Sequence[UpstreamKey]:
        """All keys of the account, whoever made them. Never called without the capability."""
        ...

    async def retire(self, key_id: str) -> None:
        """End a key for good; one that is gone already is no error."""
        ...
