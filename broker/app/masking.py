"""Keeps the log's redactor in step with the secrets that are live.

Duty: teach it each published value and Vault token; let old ones go after a while.
Not its duty: masking (``protocol.redaction``).
Rule: a replaced value stays masked for ``MEMORY``: it may still be in flight, and in
errors told late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from broker.clock import Clock
from broker.credentials.model import Entry, Snapshot
from broker.protocol.redaction import Redactor
from broker.secret import SecretValue
from broker.vault.generation import Generation

MEMORY: Final = 3600.0
"""Seconds a value stays masked after it was replaced."""


class Masking:
    """Listens to the store and the session."""

    def __init__(self, clock: Clock, redactor: Redactor) -> None:
        self._clock, self._redactor = clock, redactor
        self._leaving: deque[tuple[float, SecretValue]] = deque()
        self._token: SecretValue | None = None

    def published(self, before: Entry | None, after: Entry) -> None:
        """A subscriber of ``CredentialStore``."""
        old = None if before is None else before.snapshot
        new = after.snapshot
        if old is not None and new is not None and old.data is new.data:
            return
        self._swap(_secrets(old), _secrets(new))

    def token(self, generation: Generation | None) -> None:
        """The Vault token may have changed."""
        if generation is not None and generation.token is not self._token:
            self._swap(() if self._token is None else (self._token,), (generation.token,))
            self._token = generation.token

    def met(self, values: Iterable[SecretValue]) -> None:
        """Values that nobody has yet, and perhaps nobody ever will: masked for a while."""
        values = tuple(values)
        self._swap(values, values)

    def _swap(self, old: Iterable[SecretValue], new: Iterable[SecretValue]) -> None:
        now = self._clock.now()
        for value in new:
            self._redactor.learn(value)
        self._leaving.extend((now + MEMORY, value) for value in old)
        while self._leaving and self._leaving[0][0] <= now:
            self._redactor.forget(self._leaving.popleft()[1])


def _secrets(snapshot: Snapshot | None) -> tuple[SecretValue, ...]:
    """What is handed out, and what it was assembled from: a DSN is known, its password too."""
    return () if snapshot is None else (*snapshot.data.values(), *snapshot.parts.values())
