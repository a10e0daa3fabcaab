"""Revokes replaced leases, each when nobody may be using it any more.

Duty: see each replaced lease to its end.
Not its duty: replacing (``keeper``), revoking tokens (``vault.session``).
Rules (DESIGN promises 2 and 3):

* nothing is revoked before the last ``use_until`` given out for it has passed;
* until then the lease is held on its generation, so that its token stays too;
* Vault away: tried again until the lease has ended by itself; refused: left to end.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from broker.clock import Clock
from broker.credentials.model import Lease
from broker.errors import LoginError, VaultError, VaultUnavailable
from broker.vault.backoff import backoff
from broker.vault.interface import SessionPort, VaultPort

log = logging.getLogger("broker.credentials")


class Retirer:
    """One task for each replaced lease; requests are bounded by Vault's limiter.

    Replaced leases that are left at ``close`` die with the Vault token that took them; those
    of a token that is not ours ``Keepers.close`` has revoked.
    """

    def __init__(
        self, *, clock: Clock, vault: VaultPort, session: SessionPort, rng: Random
    ) -> None:
        self._clock, self._vault, self._session, self._rng = clock, vault, session, rng
        self._tasks: dict[asyncio.Task[None], Lease] = {}

    def retire(self, lease: Lease, promised_until: float) -> None:
        """Revoke ``lease`` once ``promised_until`` (``Clock.now()``) has passed.

        The end of the lease itself bounds the promise: no ``use_until`` lies after it.
        """
        until = max(promised_until, self._clock.now())
        lease.generation.release(lease.lease_id, until=until)
        task = asyncio.create_task(self._end(lease, until), name="retire a lease")
        self._tasks[task] = lease
        task.add_done_callback(self._tasks.pop)

    def pending(self) -> int:
        """How many replaced leases are not revoked yet."""
        return len(self._tasks)

    def leases(self) -> list[Lease]:
        """Those not revoked yet."""
        return list(self._tasks.values())

    async def close(self) -> None:
        """Stop waiting for anything."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _end(self, lease: Lease, until: float) -> None:
        await self._clock.sleep_until(until)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((VaultUnavailable, LoginError)),
            wait=self._wait,
            stop=lambda _: self._over(lease),
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            await retrying(self._revoke, lease)
        except (VaultError, LoginError) as error:
            log.warning(
                "a replaced lease could not be revoked and is left to expire",
                extra={"reason": error.code},
            )
        finally:
            lease.generation.release(lease.lease_id)

    async def _revoke(self, lease: Lease) -> None:
        if self._over(lease):
            return
        current = await self._session.ready(self._clock.now())
        await self._vault.revoke_lease(current.token, lease.lease_id)

    def _over(self, lease: Lease) -> bool:
        """Whether it died with its token, or by itself."""
        return lease.generation.ended or self._clock.now() >= lease.expires_at

    def _wait(self, state: RetryCallState) -> float:
        error = None if state.outcome is None else state.outcome.exception()
        asked = getattr(error, "retry_after", None) or 0.0
        return max(backoff(state.attempt_number, self._rng.random()), asked)
