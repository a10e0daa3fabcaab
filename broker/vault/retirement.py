"""Old generations: revoked when nothing hangs on them, else left to expire.

Duty: watch replaced generations; revoke those of our own; mark the ends of all.
Not its duty: making new ones (``session``); what hangs on one (``generation``).
Rules (DESIGN promise 3):

* revoked only: tokens the broker logged in for, of kind ``service``, once no lease and
  no open promise hangs on them and requests under way had time to come back;
* a generation that ends for whatever reason is marked and told of at once;
* a failing revocation is tried again with growing waits until the token has expired.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final

from broker.clock import Clock
from broker.errors import VaultError, VaultRefused
from broker.vault import plan
from broker.vault.backoff import FLOOR, backoff
from broker.vault.generation import Generation
from broker.vault.interface import VaultPort

POLL: Final = 5.0
"""Seconds between two looks at what hangs on an old generation: nobody tells."""

log = logging.getLogger("broker.vault")


@dataclass(slots=True, eq=False)
class _Replaced:
    """A generation after its time."""

    generation: Generation
    at: float
    """When it was replaced."""
    failures: int = 0
    not_before: float = -inf
    """The next attempt to revoke."""
    revocable: bool = True


class Retirement:
    """Takes replaced generations to their end.

    Args:
        port: Vault.
        clock: time.
        rng: jitter.
        linger: seconds for requests already under way; more than the port's deadline.
        changed: called on the loop after each end of a generation.
    """

    def __init__(
        self,
        port: VaultPort,
        *,
        clock: Clock,
        rng: Random,
        linger: float,
        changed: Callable[[], None],
    ) -> None:
        self._port, self._clock, self._rng = port, clock, rng
        self._linger, self._changed = linger, changed
        self._replaced: list[_Replaced] = []
        self._more = asyncio.Event()

    @property
    def generations(self) -> tuple[Generation, ...]:
        """Those not ended yet, oldest first."""
        return tuple(one.generation for one in self._replaced)

    def add(self, generation: Generation) -> None:
        """It has been replaced just now."""
        self._replaced.append(
            _Replaced(generation, self._clock.now(), revocable=revocable(generation))
        )
        self._more.set()

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            await self._clock.wait(self._more, self._next_look())
            self._more.clear()
            for one in tuple(self._replaced):
                await self._attend(one)

    def _next_look(self) -> float:
        """The first moment at which something may have to be done."""
        return min((self._look_at(one) for one in self._replaced), default=inf)

    def _look_at(self, one: _Replaced) -> float:
        if not one.revocable:
            return one.generation.expires_at
        now, due = self._clock.now(), self._due(one)
        look = now + POLL if due == inf else max(due, now + FLOOR)
        return min(look, one.generation.expires_at)

    def _due(self, one: _Replaced) -> float:
        """When it may be revoked; ``inf`` while a lease hangs on it."""
        if not one.revocable:
            return inf
        free_at = one.generation.free_at()
        free = plan.revocable_at(replaced_at=one.at, free_at=free_at, linger=self._linger)
        return max(free, one.not_before)

    async def _attend(self, one: _Replaced) -> None:
        generation, now = one.generation, self._clock.now()
        gone = generation.ended or now >= generation.expires_at
        if not gone and now >= self._due(one):
            gone = await self._revoke(one)
        if not gone:
            return
        generation.ended = True
        self._replaced.remove(one)
        self._changed()

    async def _revoke(self, one: _Replaced) -> bool:
        """Whether the token is gone."""
        number = one.generation.number
        try:
            await self._port.revoke_self(one.generation.token)
        except VaultError as error:
            one.failures += 1
            wait = backoff(one.failures, self._rng.random())
            one.not_before = self._clock.now() + wait
            one.revocable = not isinstance(error, VaultRefused)
            log.warning("old Vault token %d could not be revoked: %s", number, error)
            return False
        log.info("old Vault token %d revoked: nothing hangs on it", number)
        return True


def revocable(generation: Generation) -> bool:
    """Whether the broker may ever revoke it: its own, and not a batch token."""
    return generation.own and generation.kind == "service"
