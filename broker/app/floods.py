"""Floods of refusals, told once they are over.

Duty: record refusals that share a record and have none yet (failed authentications over the
limit, hand-outs over one, scoped tokens that are none), about once a minute and at the stop.
Not its duty: counting (``access.failed_authentications``, ``audit.sharing``), limiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
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


class Sharing(Protocol):
    """Whoever lets refusals share records."""

    def write_shared(self, *, everything: bool = False) -> Iterator[None]:
        """Write one record a step, of those whose period is over."""
        ...


async def record_floods(
    failures: FailedAuthentications, recorder: Recorder, clock: Clock, *sharing: Sharing
) -> None:
    """Tell for ever; a named task of ``run``."""
    while True:
        await clock.sleep(PERIOD)
        for number, _ in enumerate(_records(failures, recorder, sharing), 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)


def tell_floods(failures: FailedAuthentications, recorder: Recorder, *sharing: Sharing) -> None:
    """Record all that have no record yet, at the stop, when nobody waits for an answer."""
    for _ in _records(failures, recorder, sharing, everything=True):
        pass


def _records(
    failures: FailedAuthentications,
    recorder: Recorder,
    sharing: Iterable[Sharing],
    *,
    everything: bool = False,
) -> Iterator[None]:
    for peer, count in failures.ended(everything=everything):
        recorder.record_flood(peer, count)
        yield
    for one in sharing:
        yield from one.write_shared(everything=everything)
