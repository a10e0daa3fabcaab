"""The keys of the demo's search API.

Duty: mint, look up, list, revoke; several keys live at once, each with its own end; spoil
the next new one when the story says so.
Not its duty: HTTP (``search_api``, ``search_admin``).
Rules: a key's text is shown once, when it is minted; after that only its digest is
known, and people speak of it by its id.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass, replace
from typing import Final

from broker.clock import Clock, SystemClock
from broker.demo.facts import Verdict
from broker.secret import SecretValue

PREFIX: Final = "sk-demo-"
"""Recognisable, as real providers make theirs for secret scanners."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What the provider remembers of one key."""

    id: str
    label: str
    created_at: float
    expires_at: float | None = None
    """Unix time, or None."""
    revoked_at: float | None = None
    spoiled: bool = False
    """Minted, but refused whenever it is shown: a provider's mishap."""

    def verdict(self, wall: float) -> Verdict:
        """Whether the key is good at Unix time ``wall``."""
        if self.revoked_at is not None and wall >= self.revoked_at:
            return "revoked"
        if self.expires_at is not None and wall >= self.expires_at:
            return "expired"
        return "unknown" if self.spoiled else "ok"


class KeyRing:
    """All keys, by digest. Safe to use from several threads."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._by_digest: dict[str, ApiKey] = {}
        self._spoil_next = False

    def mint(self, label: str = "", *, ttl: float | None = None) -> tuple[ApiKey, SecretValue]:
        """A new key; dies after ``ttl`` seconds if given. Only here its text is seen."""
        text = SecretValue(PREFIX + secrets.token_urlsafe(24))
        now = self._clock.wall()
        with self._lock:
            key = ApiKey(
                id=f"key-{secrets.token_hex(4)}",
                label=label,
                created_at=now,
                expires_at=None if ttl is None else now + ttl,
                spoiled=self._spoil_next,
            )
            self._spoil_next = False
            self._by_digest[_digest(text)] = key
        return key, text

    def spoil_next(self) -> None:
        """The next key that is minted will be refused."""
        with self._lock:
            self._spoil_next = True

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key; again is no error and changes nothing.

        Raises:
            KeyError: no key has this id.
        """
        with self._lock:
            for digest, key in self._by_digest.items():
                if key.id == key_id:
                    at = self._clock.wall() if key.revoked_at is None else key.revoked_at
                    self._by_digest[digest] = revoked = replace(key, revoked_at=at)
                    return revoked
        raise KeyError(key_id)

    def known(self) -> list[ApiKey]:
        """All keys there ever were, oldest first."""
        with self._lock:
            return list(self._by_digest.values())

    def live(self) -> list[ApiKey]:
        """Keys neither revoked nor expired, spoiled ones included, oldest first."""
        now = self._clock.wall()
        return [key for key in self.known() if key.verdict(now) not in {"revoked", "expired"}]

    def check(self, shown: SecretValue | None) -> tuple[str, Verdict]:
        """Id and verdict for what a caller showed; the id of an unknown key is its digest's."""
        if not shown:
            return "", "missing"
        digest = _digest(shown)
        with self._lock:
            key = self._by_digest.get(digest)
        if key is None:
            return f"unknown-{digest[:8]}", "unknown"
        return key.id, key.verdict(self._clock.wall())


def _digest(text: SecretValue) -> str:
    return hashlib.sha256(text.reveal().encode()).hexdigest()
