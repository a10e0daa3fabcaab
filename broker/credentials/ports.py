"""What the keepers need from below and beside, as small ports.

Duty: name them. Not its duty: implementing them (``telemetry``, ``vault``, ``app``).
"""

from __future__ import annotations

from typing import Protocol

from broker.credentials.model import Snapshot


class Recorder(Protocol):
    """The part of ``telemetry.metrics.Metrics`` that keepers write to."""

    def credential(
        self,
        name: str,
        *,
        state: str,
        expires_wall: float | None,
        obtained_wall: float | None,
        last_success_wall: float | None,
    ) -> None:
        """Where a credential stands; times are Unix seconds."""
        ...

    def refresh(self, name: str, result: str) -> None:
        """One attempt ended: renewed, replaced, changed, unchanged or an error code."""
        ...


class RefreshObserver(Protocol):
    """Who is told what became of credentials at Vault, for the audit."""

    def refreshed(
        self, name: str, result: str, snapshot: Snapshot | None, previous: str = ""
    ) -> None:
        """One attempt went well.

        Args:
            name: the credential.
            result: renewed, replaced, changed or unchanged.
            snapshot: what is held now.
            previous: the version that it takes the place of.
        """
        ...

    def refresh_failed(
        self, name: str, code: str, snapshot: Snapshot | None, previous: str = ""
    ) -> None:
        """One attempt failed.

        Args:
            name: the credential.
            code: of the error.
            snapshot: what is still held.
            previous: the version that was withdrawn for it.
        """
        ...


class EventSink(Protocol):
    """The part of ``telemetry.events.Events`` that keepers write to."""

    def publish(self, kind: str, **fields: str) -> None:
        """Tell subscribers; names and versions only."""
        ...
