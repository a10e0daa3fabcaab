"""What the keepers need from below and beside, as small ports.

Duty: name them. Not its duty: implementing them (``telemetry``, ``vault``).
"""

from __future__ import annotations

from typing import Protocol


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


class EventSink(Protocol):
    """The part of ``telemetry.events.Events`` that keepers write to."""

    def publish(self, kind: str, **fields: str) -> None:
        """Tell subscribers; names and versions only."""
        ...
