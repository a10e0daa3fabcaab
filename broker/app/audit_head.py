"""The head of the audit's chain, shown to whoever may keep it.

Duty: gauge, status, and once a minute, when it moved, a line in the log and an event.
Not its duty: the chain (``audit.chain``), comparing a kept head (``broker audit verify``).
Rule: the head leaves the machine by ways that whoever can write the audit file does not hold:
only then does it show that the end of the file was cut off.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from broker.clock import Clock
from broker.telemetry.events import Events

log = logging.getLogger("broker.audit")

PERIOD: Final = 60.0
"""Seconds between two looks."""


class Headed(Protocol):
    """The part of ``audit.log.AuditLog`` that tells its head."""

    def head(self) -> tuple[int, str]:
        """Number and link of the last record; 0 when there is no chain."""
        ...


class AuditHead:
    """Tells the head.

    Args:
        audit: has it.
        events: the bus.
        clock: the only source of time.
    """

    def __init__(self, audit: Headed, events: Events, clock: Clock) -> None:
        self._audit, self._events, self._clock = audit, events, clock
        self._told = 0

    def sequence(self) -> int:
        """Number of the last record."""
        return self._audit.head()[0]

    def status(self) -> dict[str, object]:
        """Members of ``/v1/status``."""
        sequence, chain = self._audit.head()
        return {"sequence": sequence, "chain": chain, "head": f"{chain}@{sequence}"}

    async def run(self) -> None:
        """Tell for ever."""
        while True:
            await self._clock.sleep(PERIOD)
            self.tell()

    def tell(self) -> None:
        """Tell the head if it moved since it was told last; also at the stop."""
        sequence, chain = self._audit.head()
        if sequence == self._told:
            return
        self._told = sequence
        log.info("audit head %s@%d", chain, sequence)
        self._events.publish("audit_head", sequence=str(sequence), chain=chain)
