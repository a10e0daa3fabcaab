"""When to renew the broker's Vault token, when to log in anew [pure].

Duty: from what Vault granted, the time, a jitter and a count of failures: the next step.
Not its duty: taking it (``session``); leases (``credentials.plan``).
Rules (DESIGN promises 3 and 4):

* a token's limit cannot always be read: it shows as a renewal that brought less than
  before. A third of the full life before the end something happens: a renewal, or a
  login when the token cannot be renewed or was cut short;
* two renewals, or two logins, are never closer than ``FLOOR``;
* a wait ends before the token does, unless less than ``FLOOR`` is left, or Vault
  itself asked for a longer one (``Retry-After``);
* jitter only ever moves a step earlier.

Times are readings of ``Clock.now()`` in seconds; a jitter is a number in [0, 1).
The arithmetic resembles ``api/lifetime_watcher.go`` of Vault's Go client, but returns the
delay, so that it cannot be computed and thrown away (hashicorp/vault #26382).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from broker.vault.backoff import FLOOR, backoff

SLOW: Final = 30.0
"""Least seconds before an attempt that somebody must first make possible."""
JUMP: Final = 5.0
"""Seconds by which wall time may outrun boot time before the token's life is in doubt."""
LAST: Final = 1 / 3
"""Share of the full life before whose end something happens."""
SPREAD: Final = 0.1
"""Share of the full life by which jitter may move a step earlier."""
SHORT: Final = 0.95
"""A grant below this share of the fullest was cut short. Vault answers in whole seconds."""


class Action(Enum):
    """What to do next with the token."""

    RENEW = "renew"
    LOG_IN = "log_in"
    REST = "rest"
    """Nothing: it never expires."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, and when."""

    action: Action
    at: float


@dataclass(frozen=True, slots=True)
class TokenLife:
    """What Vault granted last, and at best."""

    granted_at: float
    """When the request was sent that brought ``ttl``."""
    ttl: float
    """Seconds; ``inf`` never expires."""
    full: float
    """The most seconds ever granted to this token."""
    renewable: bool
    """False also for batch tokens, and once Vault refused a renewal."""

    @property
    def expires_at(self) -> float:
        """End of the token, unless it is renewed."""
        return self.granted_at + self.ttl

    @property
    def cut(self) -> bool:
        """Whether the last grant was cut short: a limit nears."""
        return self.ttl < self.full * SHORT

    @property
    def extendable(self) -> bool:
        """Whether a renewal can be expected to help."""
        return self.renewable and not self.cut


def life_of(
    *, ttl: float, renewable: bool, sent_at: float, before: TokenLife | None = None
) -> TokenLife:
    """The life after a grant.

    Args:
        ttl: seconds from ``sent_at`` as Vault tells them; 0 means for ever.
        renewable: as Vault says; False for batch tokens.
        sent_at: when the request was sent.
        before: the same token's life until now; None for a new token.
    """
    granted = ttl if ttl > 0 else inf
    full = granted if before is None else max(granted, before.full)
    return TokenLife(sent_at, granted, full, renewable)


def due(life: TokenLife, *, jitter: float) -> Step:
    """The step after a success."""
    if life.ttl == inf:
        return Step(Action.REST, inf)
    # A grant cut short came from a renewal; the login it calls for need not wait as well.
    floor = 0.0 if life.cut else FLOOR
    wanted = life.expires_at - life.full * (LAST + SPREAD * jitter)
    at = max(wanted, life.granted_at + floor)
    return Step(Action.RENEW if life.extendable else Action.LOG_IN, at)


def retry(
    life: TokenLife | None,
    *,
    now: float,
    failures: int,
    jitter: float,
    retry_after: float | None = None,
    least: float = FLOOR,
) -> Step:
    """The step after a failure.

    Args:
        life: of the current token; None when there is none, or it is dead.
        now: when the failure was known.
        failures: attempts that failed in a row, this one included.
        jitter: fresh for each failure.
        retry_after: seconds Vault asked to wait.
        least: seconds to wait at least.
    """
    left = inf if life is None or life.expires_at <= now else life.expires_at - now
    at = now + backoff(failures, jitter, left=left, retry_after=retry_after, least=least)
    if life is None or left == inf or not life.extendable:
        return Step(Action.LOG_IN, at)
    # In the last half of the last third both ways are tried in turn: one may work.
    if left < life.full * LAST / 2 and failures % 2:
        return Step(Action.LOG_IN, at)
    return Step(Action.RENEW, at)


def revocable_at(*, replaced_at: float, free_at: float, linger: float) -> float:
    """When an old token of our own may be revoked.

    Args:
        replaced_at: when the next generation was announced.
        free_at: ``Generation.free_at()``: the last promise, ``inf`` while a lease hangs on it.
        linger: seconds in which requests already under way with it may come back.
    """
    return max(replaced_at + linger, free_at)
