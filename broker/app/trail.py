"""What happens to the broker itself, as audit records.

Duty: login, refresh, configuration, start and stop → one record each; the observer that the
layers below are given.
Not its duty: the form of a line (``audit.lifecycle``), requests (``handout``), rotations
(``rotation_seen``), scoped tokens (``access``).
Rules:

* it has happened already: a record that cannot be written is counted by the log, told on
  standard error and stops nothing. Hand-outs refuse by themselves while that lasts;
* a failure that repeats is recorded once, until the credential is well or fails otherwise:
  the metric counts each;
* names, versions, digests and codes; messages of Vault may quote a path and stay out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Literal, Protocol

from broker.audit.lifecycle import (
    configuration_line,
    login_line,
    refresh_line,
    start_line,
    stop_line,
)
from broker.audit.record import Stamp
from broker.clock import Clock
from broker.credentials.model import Snapshot

log = logging.getLogger("broker.audit")

CONFIRMED: Final = "unchanged"
"""A poll that found the value as it was: no change, so no record."""


class Audit(Protocol):
    """The part of ``audit.log.AuditLog`` that is written to."""

    def note(self, line: bytes) -> bool:
        """Write one record; False when it cannot be written."""
        ...


class Trail:
    """Implements ``vault.tenure.LoginObserver`` and ``credentials.ports.RefreshObserver``.

    Args:
        audit: takes the records.
        clock: dates them.
    """

    def __init__(self, audit: Audit, clock: Clock) -> None:
        self._audit, self._clock = audit, clock
        self._stamp = Stamp()
        self._failing: dict[str, str] = {}
        """Code of the newest failure by credential, while it lasts."""

    # --- observers --------------------------------------------------------------------

    def logged_in(self, result: str, generation: int | None) -> None:
        """See ``LoginObserver.logged_in``."""
        self._write(login_line(self._now(), result, generation=generation))

    def refreshed(
        self, name: str, result: str, snapshot: Snapshot | None, previous: str = ""
    ) -> None:
        """See ``RefreshObserver.refreshed``."""
        self._failing.pop(name, None)
        if result != CONFIRMED:
            self._refresh(name, result, snapshot, previous)

    def refresh_failed(
        self, name: str, code: str, snapshot: Snapshot | None, previous: str = ""
    ) -> None:
        """See ``RefreshObserver.refresh_failed``."""
        if self._failing.get(name) != code:
            self._failing[name] = code
            self._refresh(name, code, snapshot, previous)

    def _refresh(self, name: str, result: str, snapshot: Snapshot | None, previous: str) -> None:
        lease = None if snapshot is None else snapshot.lease
        self._write(
            refresh_line(
                self._now(),
                name,
                result,
                version="" if snapshot is None else snapshot.version,
                source_version="" if snapshot is None else snapshot.source_version,
                lease_id="" if lease is None else lease.lease_id,
                previous=previous,
            )
        )

    # --- the process --------------------------------------------------------------------

    def configured(
        self,
        result: Literal["applied", "refused"],
        *,
        digest: str,
        keys: Sequence[str] = (),
        restart: Sequence[str] = (),
        reason: str = "",
    ) -> None:
        """The configuration file changed; see ``configuration_line``."""
        self._write(
            configuration_line(
                self._now(), result, digest=digest, keys=keys, restart=restart, reason=reason
            )
        )

    def started(self, *, process: str, broker_version: str, digest: str, host: str) -> None:
        """The process begins: the first record of all; see ``start_line``."""
        self._write(
            start_line(
                self._now(),
                process=process,
                broker_version=broker_version,
                digest=digest,
                host=host,
            )
        )

    def stopped(self, *, reason: str, exit_code: int | None) -> None:
        """The process ends: the last record of all."""
        self._write(stop_line(self._now(), reason=reason, exit_code=exit_code))

    def _now(self) -> str:
        return self._stamp(self._clock.wall())

    def _write(self, line: bytes) -> None:
        if not self._audit.note(line):
            log.error("something that happened is not in the audit")
