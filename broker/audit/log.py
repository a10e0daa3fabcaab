"""The audit log: one line, one write(2), before the answer leaves.

Duty: append lines to a file or standard output without ever blocking the loop.
Not its duty: what stands in a line (``record``).
"""

from __future__ import annotations

from typing import Literal, Protocol


class Recorder(Protocol):
    """The part of ``telemetry.metrics.Metrics`` that the log writes to."""

    def audit_record(self, result: str) -> None:
        """One record: ``written``, ``buffered``, ``refused`` or ``lost``."""
        ...


class AuditLog:
    """Appends records.

    Args:
        path: the file; empty for standard output.
        on_failure: ``refuse`` raises when a record cannot be written; ``allow`` counts it.

    Raises:
        AuditUnavailable: the file cannot be opened.
    """

    def __init__(
        self,
        path: str = "",
        *,
        metrics: Recorder,
        on_failure: Literal["refuse", "allow"] = "refuse",
    ) -> None:
        raise NotImplementedError

    def append(self, line: bytes) -> None:
        r"""Write one record; ``line`` ends in ``\n`` and has no other.

        Raises:
            AuditUnavailable: it could not be written (with ``refuse``).
        """
        raise NotImplementedError

    def flush(self) -> bool:
        """Try to write what a full pipe left over; True when nothing is left."""
        raise NotImplementedError

    def reopen(self) -> None:
        """Open the file again, after log rotation moved it; on failure the old one stays."""
        raise NotImplementedError

    def close(self) -> None:
        """Flush what can be written without waiting, and close."""
        raise NotImplementedError
