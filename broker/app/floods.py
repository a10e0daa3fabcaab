"""Floods of failed authentications, told once they are over.

Duty: record failures over the limit that have no record yet, about once a minute and at the stop.
Not its duty: counting and limiting (``access.failed_authentications``).
"""

from __future__ import annotations

from typing import Final, Protocol

from broker.access.failed_authentications import FailedAuthentications
from broker.clock import Clock

PERIOD: Final = 60.0
"""Seconds between two looks."""


class Recorder(Protocol):
    """The part of ``handout.service`` that writes the records."""

    def record_flood(self, peer: str, count: int) -> None:
        """So many failures of a peer share this record."""
        ...


async def record_floods(failures: FailedAuthentications, recorder: Recorder, clock: Clock) -> None:
    """Tell for ever; a named task of ``run``."""
    while True:
        await clock.sleep(PERIOD)
        tell_floods(failures, recorder)


def tell_floods(
    failures: FailedAuthentications, recorder: Recorder, *, everything: bool = False
) -> None:
    """Record those whose window is over, or all of them."""
    for peer, count in failures.ended(everything=everything):
        recorder.record_flood(peer, count)
