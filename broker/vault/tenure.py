"""The current generation, and what comes next: bookkeeping without a wait.

Duty: take in what logins, renewals, failures and ends bring; hold the next step; tell
those who listen.
Not its duty: asking Vault (``session``), when (``plan``), old generations (``retirement``).
Rules:

* a success plans by ``plan.due``, a failure by ``plan.retry``: the step is never stale;
* a token that dies young may do so again: logins after it come slower and slower;
* whoever listens is told after each new generation, renewal or end, on the loop.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from math import inf
from random import Random
from typing import Protocol

from broker.clock import Clock
from broker.errors import BrokerError, LoginError, TokenUnfit, VaultError, VaultUnavailable
from broker.vault import plan
from broker.vault.backoff import CAP, FLOOR, backoff
from broker.vault.generation import Generation
from broker.vault.interface import TokenGrant
from broker.vault.plan import Action, Step, TokenLife

log = logging.getLogger("broker.vault")


class SessionMetrics(Protocol):
    """What the session records."""

    def login(self, result: str) -> None:
        """One attempt to log in: ``ok`` or an error's code."""
        ...

    def vault_token(self, *, expires_wall: float | None, generation: int) -> None:
        """The current token; ``expires_wall`` is None when it never expires."""
        ...


class LoginObserver(Protocol):
    """Who is told of logins, for the audit."""

    def logged_in(self, result: str, generation: int | None) -> None:
        """One attempt ended: ``ok`` with the generation in use, or an error's code."""
        ...


class Tenure:
    """What the session knows of its token.

    Args:
        clock: time.
        rng: jitter.
        metrics: where to record the token's end.
    """

    def __init__(self, *, clock: Clock, rng: Random, metrics: SessionMetrics) -> None:
        self._clock, self._rng, self._metrics = clock, rng, metrics
        self.current: Generation | None = None
        """May have ended."""
        self.life: TokenLife | None = None
        """Of the current generation; None when there is none, or it has ended."""
        self.step = Step(Action.LOG_IN, -inf)
        self.replanned = asyncio.Event()
        """Set with each new step; whoever acts on steps clears it."""
        self.change = asyncio.Event()
        """Set at the next change; another event stands here after it."""
        self.closed = False
        """No step is ever due again."""
        self.callbacks: list[Callable[[], None]] = []
        self._failures = 0
        self._error: BrokerError | None = None
        self._early_deaths = 0
        self._adopted_at = -inf

    # --- questions ------------------------------------------------------------------

    def usable(self) -> Generation | None:
        """The current generation when its token lives."""
        current = self.current
        if current is None or current.ended or self._clock.now() >= current.expires_at:
            return None
        return current

    def due(self) -> bool:
        """Whether the step's time has come."""
        return not self.closed and self._clock.now() >= self.step.at

    def next_at(self) -> float:
        """When something is to be done or noticed: the step, or the token's end."""
        if self.closed:
            return inf
        return self.step.at if self.life is None else min(self.step.at, self.life.expires_at)

    def reason(self) -> BrokerError:
        """Why there is no usable generation; a copy, since several may raise it."""
        if self._error is None:
            known = (
                "not logged in to Vault yet" if self.current is None else "no living Vault token"
            )
            return LoginError(f"the broker has {known}")
        return copy.copy(self._error)

    # --- events -----------------------------------------------------------------------

    def adopt(self, grant: TokenGrant, *, own: bool) -> Generation | None:
        """A login brought a token.

        Returns:
            The generation it replaces while that is still good; None when it was the first,
            the one before is dead, or the token is the same.
        """
        before, now = self.current, self._clock.now()
        if before is not None and not before.ended and before.token == grant.token:
            failures = self._failures + 1
            self.extend(before, grant)
            if self.step.action is Action.LOG_IN and self.step.at <= now + FLOOR:
                # The file still holds the token that nears its end: no failure, no gain.
                self._failures, jitter = failures, self._rng.random()
                self.step = plan.retry(self.life, now=now, failures=failures, jitter=jitter)
            return None
        life = plan.life_of(
            ttl=grant.ttl,
            renewable=grant.renewable and grant.kind == "service",
            sent_at=grant.sent_at,
        )
        self.current = Generation(
            number=1 if before is None else before.number + 1,
            token=grant.token,
            expires_at=life.expires_at,
            renewable=life.renewable,
            kind=grant.kind,
            own=own,
        )
        self._adopted_at = now
        self._succeeded(life)
        log.info("Vault token %d %s", self.current.number, _told(life))
        return before if before is not None and not before.ended else None

    def extend(self, generation: Generation, grant: TokenGrant) -> None:
        """The current token lives on, says a renewal or another look into its file."""
        life = plan.life_of(
            ttl=grant.ttl,
            renewable=grant.renewable and grant.kind == "service",
            sent_at=grant.sent_at,
            before=self.life,
        )
        generation.expires_at, generation.renewable = life.expires_at, life.renewable
        self._succeeded(life)

    def renewal_refused(self, generation: Generation) -> None:
        """The token lives, but may not renew itself."""
        generation.renewable = False
        if self.life is not None:
            self.life = replace(self.life, renewable=False)

    def failed(self, error: LoginError | VaultError) -> None:
        """An attempt failed: plan the next."""
        self._failures, self._error = self._failures + 1, error
        now = self._clock.now()
        self.step = plan.retry(
            self.life,
            now=now,
            failures=self._failures,
            jitter=self._rng.random(),
            retry_after=error.retry_after if isinstance(error, VaultUnavailable) else None,
            least=plan.SLOW if isinstance(error, TokenUnfit) else FLOOR,
        )
        self.replanned.set()
        wait = self.step.at - now
        log.warning("Vault token: attempt in %.1f s again: %s %s", wait, error, error.remedy)

    def end(self, generation: Generation) -> None:
        """The current token is dead: expired, or Vault does not know it."""
        now = self._clock.now()
        young = now < min(generation.expires_at, self._adopted_at + CAP)
        self._early_deaths = self._early_deaths + 1 if young else 0
        generation.ended = True
        self.life = None
        if self._early_deaths > 1:
            at = now + backoff(self._early_deaths, self._rng.random())
        else:
            at = self.step.at if self._failures else now
        self.step = Step(Action.LOG_IN, at)
        log.warning("Vault token %d has ended", generation.number)
        self.announce()

    def doubt(self, seconds: float) -> None:
        """So many seconds may have passed unseen: count them, and ask Vault at once.

        The token is not declared dead for it, however many: only Vault can tell.
        """
        if self.current is None or self.life is None or self.life.ttl == inf:
            return
        self.current.expires_at = self.life.expires_at - seconds
        if not self._failures:
            at = max(self._clock.now(), self.life.granted_at + FLOOR)
            self.step = Step(Action.RENEW if self.life.extendable else Action.LOG_IN, at)
        self.announce()

    def close(self) -> None:
        """The broker stops: nothing more is planned."""
        self.closed = True
        self.replanned.set()

    def announce(self) -> None:
        """Tell whoever waits or subscribed, and the metrics."""
        self.replanned.set()
        change, self.change = self.change, asyncio.Event()
        change.set()
        if self.current is not None:
            end = self.current.expires_at
            self._metrics.vault_token(
                expires_wall=None if end == inf else self._clock.wall() + end - self._clock.now(),
                generation=self.current.number,
            )
        for callback in self.callbacks:
            callback()

    def _succeeded(self, life: TokenLife) -> None:
        self.life, self._failures, self._error = life, 0, None
        self.step = plan.due(life, jitter=self._rng.random())
        self.announce()


def _told(life: TokenLife) -> str:
    if life.ttl == inf:
        return "never expires"
    return f"lives {life.ttl:.0f} s, {'renewable' if life.renewable else 'not renewable'}"
