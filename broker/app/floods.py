"""Floods of failed authentications, told once they are over.

Duty: record failures over the limit that have no record yet, about once a minute and at the stop.
Not its duty: counting and limiting (``access.failed_authentications``).
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from broker.access.failed_authentications import FailedAuthentications
from broker.clock import Clock

PERIOD: Final = 60.0
"""Seconds between two looks."""
SLICE: Final = 20
"""Records written in one turn of the loop; each is a write(2) of its own."""


class Recorder(Protocol):
    """The part of ``handout.service`` that writes the records."""

    def record_flood(self, peer: str, count: int) -> None:
        """So many failures of a peer share this record."""
        ...


async def record_floods(failures: FailedAuthentications, recorder: Recorder, clock: Clock) -> None:
    """Tell for ever; a named task of ``run``."""
    while True:
        await clock.sleep(PERIOD)
        for number, (peer, count) in enumerate(failures.ended(), 1):
            recorder.record_flood(peer, count)
            if number % SLICE == 0:
                await asyncio.sleep(0)


def tell_floods(failures: FailedAuthentications, recorder: Recorder) -> None:
    """Record all that have no record yet, at the stop, when nobody waits for an answer."""
    for peer, count in failures.ended(everything=True):
        recorder.record_flood(peer, count)
