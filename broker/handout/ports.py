"""What the hand-out service needs from beside it, as small ports.

Duty: name them, so that the use case can be read and tested without its neighbours.
Not its duty: implementing them (``audit``, ``telemetry``, ``credentials.keepers``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from broker.credentials.model import CredentialKey, Entry
from broker.errors import AuditUnavailable

Settle: TypeAlias = Callable[[AuditUnavailable | None], None]
"""Told what became of a staged record: None when its answer may leave."""


class Audit(Protocol):
    """The part of ``audit.log.AuditLog`` that the service writes to."""

    def append(self, line: bytes) -> None:
        """Write one record; ``AuditUnavailable`` when it cannot be written."""
        ...

    def stage(self, line: bytes, settle: Settle) -> None:
        """Write one record at the end of this turn of the loop, and then tell ``settle``."""
        ...

    def commit(self) -> None:
        """Write what is staged now."""
        ...

    @property
    def durable(self) -> bool:
        """Whether ``synced`` waits for the disk."""
        ...

    async def synced(self) -> None:
        """Return when the disk has what was written; ``AuditUnavailable`` when it has not."""
        ...


class Failures(Protocol):
    """The part of ``access.failed_authentications`` that bounds what failures cost."""

    def failed(self, peer: str) -> float:
        """Count a failure; 0.0, or the seconds until the next one is answered as usual."""
        ...

    def to_record(self, peer: str) -> int:
        """For how many failures over the limit one record stands now; 0: write none."""
        ...


class Recorder(Protocol):
    """The part of ``telemetry.metrics.Metrics`` that the service writes to."""

    def handout(self, name: str, client: str, result: str) -> None:
        """One hand-out or refusal: ok, not_modified or an error code."""
        ...

    def handout_seconds(self, seconds: float) -> None:
        """How long the service took for one hand-out that did not wait."""
        ...

    def report(self, name: str, result: str) -> None:
        """One report: newer, conflict or an error code."""
        ...

    def limited(self, client: str, credential: str) -> None:
        """One hand-out refused by a limit."""
        ...

    def failure_limited(self) -> None:
        """One failed authentication over its limit."""
        ...


class Reports(Protocol):
    """The part of ``credentials.keepers.Keepers`` that takes reports."""

    async def report(
        self, key: CredentialKey, version: str, status: int, detail: str = "", *, actor: str = ""
    ) -> Entry | None:
        """One floored re-read or replacement; the entry after it. ``actor``: who reports."""
        ...
