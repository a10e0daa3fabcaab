"""Revokes replaced leases, each when nobody may be using it any more.

Duty: keep the list of replaced leases; revoke each after its last ``use_until``.
Not its duty: replacing (``keeper``), revoking tokens (``vault.session``).
Rules (DESIGN promises 2 and 3):

* nothing is revoked before the last ``use_until`` given out for it has passed;
* until then the lease is held on its generation, so that its token stays too;
* Vault away: tried again until the lease has ended by itself; refused: left to end.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from math import inf
from random import Random

from broker.clock import Clock
from broker.credentials.model import Lease
from broker.credentials.plan import FLOOR, backoff
from broker.errors import VaultRefused, VaultUnavailable
from broker.vault.interface import SessionPort, VaultPort

log = logging.getLogger("broker.credentials")


class Retirer:
    """One queue for all replaced leases of this process."""

    def __init__(
        self, *, clock: Clock, vault: VaultPort, session: SessionPort, rng: Random
    ) -> None:
        self._clock, self._vault, self._session, self._rng = clock, vault, session, rng
        self._queue: list[tuple[float, int, int, Lease]] = []
        self._wake = asyncio.Event()
        self._count = 0

    def retire(self, lease: Lease, promised_until: float) -> None:
        """Revoke ``lease`` once ``promised_until`` (``Clock.now()``) has passed.

        The end of the lease itself bounds the promise: no ``use_until`` lies after it.
        """
        lease.generation.release(lease.lease_id, until=max(promised_until, self._clock.now()))
        self._push(promised_until, 0, lease)

    def pending(self) -> int:
        """How many replaced leases are not revoked yet."""
        return len(self._queue)

    async def run(self) -> None:
        """Revoke what is due, for ever."""
        while True:
            due = self._queue[0][0] if self._queue else inf
            if due > self._clock.now():
                self._wake.clear()
                await self._clock.wait(self._wake, due)
                continue
            _, _, failures, lease = self._queue[0]
            again = await self._revoke(lease, failures)
            self._queue = [item for item in self._queue if item[3] is not lease]
            heapq.heapify(self._queue)
            if again < lease.expires_at:
                self._push(again, failures + 1, lease)
            else:
                lease.generation.release(lease.lease_id)

    async def _revoke(self, lease: Lease, failures: int) -> float:
        """Try once; returns when to try again, ``inf`` when done or given up."""
        current = self._session.generation
        now = self._clock.now()
        if lease.generation.ended or now >= lease.expires_at:
            return inf  # it died with its token, or by itself
        if current is None or current.ended:
            return now + FLOOR
        try:
            await self._vault.revoke_lease(current.token, lease.lease_id)
        except VaultRefused as error:
            log.warning(
                "a replaced lease could not be revoked and is left to expire",
                extra={"reason": error.code},
            )
        except VaultUnavailable as error:
            wait = backoff(failures + 1, self._rng.random())
            return self._clock.now() + max(wait, error.retry_after or 0.0)
        return inf

    def _push(self, at: float, failures: int, lease: Lease) -> None:
        self._count += 1  # breaks ties: leases are not ordered
        heapq.heappush(self._queue, (at, self._count, failures, lease))
        self._wake.set()
