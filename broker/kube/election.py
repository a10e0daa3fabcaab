"""Leading by a Lease.

Duty: look, create, take, renew, give back; tell who leads; carry a wish's bell to it.
Not its duty: deciding (``plan``), HTTP (``client``), what a leader does (``rotation``).
Rules:

* ``leading`` is worked out at each question: a process that was paused past the deadline
  says no from its first instruction on, before any timer of its own has run;
* the deadline counts from before the last good renewal was *sent*: a slow answer shortens
  the lead, never lengthens it. (client-go counts from when it begins to try again, up to a
  retry period later; stricter is safer and compatible);
* nothing that goes wrong ends the election: it is tried again, as long as the process lives;
* when the process stops, the Lease is given back;
* the bell is an annotation of the Lease, which the leader reads every ``retry_period`` anyway:
  it says no more than "look at the wishes now", and one that gets lost makes them late only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random

from broker.clock import Clock
from broker.errors import KubernetesConflict, KubernetesError
from broker.kube.plan import (
    RETRY_JITTER,
    Create,
    Leave,
    Seen,
    Times,
    decide,
    look,
    released,
)
from broker.kube.ports import Held, LeasePort

log = logging.getLogger("broker.kube")

RINGS = 3
"""Attempts to ring; between two lies a renewal by the leader."""


class LeaseElection:
    """Candidate, and leader now and then. Implements ``rotation.election.Election``.

    Args:
        lock: the Lease.
        identity: of this process; nobody else's, not even its own from before a restart.
        times: as agreed with all candidates.
        clock: the only source of time.
        rng: spreads the attempts of those who wait.
    """

    def __init__(
        self, lock: LeasePort, *, identity: str, times: Times, clock: Clock, rng: Random
    ) -> None:
        self._lock, self._identity, self._times = lock, identity, times
        self._clock, self._rng = clock, rng
        self._seen: Seen | None = None
        self._leads_until = float("-inf")
        self._told = False
        self._callbacks: list[Callable[[], None]] = []
        self._problem = ""

    @property
    def leading(self) -> bool:
        """Whether this process leads now, as far as it can know."""
        return self._clock.now() < self._leads_until

    @property
    def leader(self) -> str:
        """Identity of who leads, as last seen; empty when nobody does or nothing is known."""
        return "" if self._seen is None else self._seen.record.holder

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop whenever ``leading`` changes, or somebody rang."""
        self._callbacks.append(callback)

    async def ring(self) -> None:
        """Have who leads look at the wishes at its next attempt."""
        for _ in range(RINGS):
            try:
                held = await self._lock.get()
                if held is None or held.record.holder in ("", self._identity) or held.bell:
                    return  # who takes it looks at the wishes first
                self._take(await self._lock.update(held.record, held.version, bell=True))
            except KubernetesConflict:
                continue  # the leader renewed it in between
            except KubernetesError as error:
                log.info("the leader cannot be told of a wish, it will see it: %s", error)
            return

    async def run(self) -> None:
        """Take part for ever; meant to be a named task of ``app``."""
        while True:
            await self._attempt()
            pause = self._times.retry_period
            if not self.leading:
                pause *= 1 + RETRY_JITTER * self._rng.random()
            await self._pause(self._clock.now() + pause)

    async def release(self) -> None:
        """Give the Lease back, if it is held; call it when ``run`` has ended."""
        self._leads_until = float("-inf")
        self._tell()
        if self._seen is None or self._seen.record.holder != self._identity:
            return
        record = released(self._seen.record, wall=self._clock.wall())
        try:
            await self._lock.update(record, self._seen.version)
        except KubernetesError as error:
            log.warning("the Lease could not be given back, it ends by itself: %s", error)
        else:
            log.info("the Lease is given back")

    async def _attempt(self) -> None:
        """One look and one step, told of in time even when the API hangs."""
        sent_at = self._clock.now()
        attempt = asyncio.create_task(self._acquire_or_renew(), name="lease attempt")
        done = asyncio.Event()
        attempt.add_done_callback(lambda _: done.set())
        problem = ""
        try:
            while not await self._clock.wait(done, self._next_loss()):
                self._tell()
            if attempt.result():
                self._leads_until = sent_at + self._times.renew_deadline
        except KubernetesConflict:
            pass  # somebody was quicker; the next look shows who
        except KubernetesError as error:
            problem = error.code
            if problem != self._problem:
                log.warning("the Lease cannot be had or renewed: %s %s", error, error.remedy)
        finally:
            attempt.cancel()
        self._problem = problem
        self._tell()

    async def _acquire_or_renew(self) -> bool:
        """Whether the Lease is held after one look and one step."""
        clock, held = self._clock, await self._lock.get()
        if held is None:
            self._seen = None
        else:
            self._take(held)
        step = decide(self._seen, self._identity, self._times, now=clock.now(), wall=clock.wall())
        if isinstance(step, Leave):
            self._leads_until = float("-inf")  # another holds it, whatever we believed
            return False
        if isinstance(step, Create):
            self._take(await self._lock.create(step.record))
        else:
            self._take(await self._lock.update(step.record, step.version))
        if held is not None and held.bell:
            self._call()
        return True

    def _take(self, held: Held) -> None:
        self._seen = look(self._seen, held.record, held.version, self._clock.now())

    def _next_loss(self) -> float:
        """When ``_tell`` has something to say if nothing else happens."""
        return self._leads_until if self._told else float("inf")

    async def _pause(self, until: float) -> None:
        """Wait; tell on the way of a lead that ends."""
        while (now := self._clock.now()) < until:
            await self._clock.sleep(min(until, max(now, self._next_loss())) - now)
            self._tell()

    def _tell(self) -> None:
        if self._told == (leading := self.leading):
            return
        self._told = leading
        log.info("leading" if leading else "leading no more", extra={"identity": self._identity})
        self._call()

    def _call(self) -> None:
        for callback in self._callbacks:
            callback()
