"""Is the token dead? What a look-up of it can tell, and what it cannot.

Duty: ask Vault whether it still knows a token; floored.
Not its duty: single flight and what follows from the answer (``session``).
Rules:

* a 403 proves a dead token only if the policy lets a living one look itself up, which
  the ``default`` policy does and a role may leave out: tried once, after a login
  (a token given by file has been looked up to be taken in);
* any other failure tells nothing;
* two look-ups are never closer than ``backoff.FLOOR``.
"""

from __future__ import annotations

import logging
from math import inf

from broker.clock import Clock
from broker.errors import VaultDenied, VaultError
from broker.vault.backoff import FLOOR
from broker.vault.generation import Generation
from broker.vault.interface import VaultPort

log = logging.getLogger("broker.vault")


class Pulse:
    """Looks tokens up.

    Args:
        port: Vault.
        clock: time.
    """

    def __init__(self, port: VaultPort, clock: Clock) -> None:
        self._port, self._clock = port, clock
        self._allowed: bool | None = None
        """Whether the policy lets the token look itself up; None until tried."""
        self._asked_at = -inf
        self._asked_for: Generation | None = None
        self._answer: bool | None = None

    async def learn(self, generation: Generation) -> None:
        """Find out with a token fresh from a login whether look-ups can tell anything."""
        if self._allowed:
            return
        answer = await self._look_up(generation)
        if answer is False and self._allowed is None:
            log.warning(
                "the Vault policy does not let the token look itself up: a token revoked behind "
                "the broker's back is noticed at its next renewal only; allow read on "
                "auth/token/lookup-self"
            )
        self._allowed = self._allowed if answer is None else answer

    async def alive(self, generation: Generation) -> bool | None:
        """Whether Vault knows the token; None when nobody can tell."""
        return None if self._allowed is False else await self._look_up(generation)

    async def _look_up(self, generation: Generation) -> bool | None:
        """What Vault says; the last answer again when asked too soon."""
        now = self._clock.now()
        if now < self._asked_at + FLOOR:
            return self._answer if generation is self._asked_for else None
        self._asked_at, self._asked_for, self._answer = now, generation, None
        try:
            await self._port.lookup_self(generation.token)
            self._answer = True
        except VaultDenied:
            self._answer = False
        except VaultError as error:
            log.info("whether Vault token %d lives cannot be told: %s", generation.number, error)
        return self._answer
