"""What to do next with a credential, and when [pure].

Duty: from what is known and the time, the next action and its moment.
Not its duty: carrying it out (``keeper``), time, chance: both are arguments.
Rules:

* between two requests for one credential lies at least ``FLOOR``;
* while a value lives, no wait ends after its effective expiry;
* a lease is renewed at 60–70 % of its life, replaced at the same point once renewing
  no longer extends it (truncated), when it cannot be renewed, or when its Vault token
  is no longer the current one; when renewing keeps failing, replacing is tried too;
* a temporary failure backs off with full jitter, its cap below the remaining life;
  a refusal is asked again every ``refused_interval``; nothing is terminal;
* equal lives are spread by jitter from the first schedule on.

Source: Vault's LifetimeWatcher (``api/lifetime_watcher.go``: renew near two thirds,
replace when renewing stops extending).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from broker.credentials.model import (
    CredentialSpec,
    KvSource,
    LeasedSource,
    Snapshot,
    State,
    StaticRoleSource,
)
from broker.vault.backoff import CAP, FLOOR, backoff

SPREAD = 0.1
"""Half-width of the jitter on polls and refusals, as a part of the interval."""
EARLY, LATE = 0.60, 0.70
"""Part of a life after which it is renewed or replaced: a third is left for failures."""
RESCUE = 0.85
"""Part of a life after which, while renewing keeps failing, a new lease is tried instead."""
OWN_EXPIRY_NOTICE = 86_400.0
"""Seconds before a provider's own expiry at which subscribers are told."""
MOVE_SPREAD = 5.0
"""Seconds over which leases move to a new Vault token, so that they do not all move at once."""
REPORT_FLOOR_KV = 2.0
"""Least seconds between a re-read and the next one a report may cause."""
REPORT_FLOOR_LEASED = 30.0
"""The same for a replacement, which makes a new user upstream each time."""
UNPROVED = 20.0
"""Seconds before the end of a value from which its replacement is taken unproved when nobody can
tell: longer than a proof lasts, so that the end does not come first."""
TRUNCATED = 1.0
"""Seconds by which a renewal may fall short without being called truncated (Vault rounds)."""


class Action(StrEnum):
    """What the keeper does next."""

    IDLE = "idle"
    """Nothing until something changes: there is no Vault token."""
    READ = "read"
    """Read the KV value, for the first time or again."""
    LEASE = "lease"
    """Take out a lease: the first one, or one that replaces the current."""
    RENEW = "renew"


@dataclass(frozen=True, slots=True)
class Step:
    """An action and its moment on ``Clock.now()``; ``inf`` when only a change brings it."""

    action: Action
    at: float


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the next step depends on. Times are readings of ``Clock.now()``."""

    spec: CredentialSpec
    now: float
    jitter: float
    """In [0, 1), drawn once after each attempt, so that planning again changes nothing."""
    snapshot: Snapshot | None = None
    expires_at: float = -inf
    """Effective expiry of the snapshot."""
    generation: int | None = None
    """Number of the usable Vault token; None when there is none."""
    generation_since: float = -inf
    last_attempt: float = -inf
    failures: int = 0
    """Temporary failures in a row."""
    retry_after: float = 0.0
    """Seconds Vault asked to wait, with the newest failure."""
    refused: bool = False
    """The newest attempt was refused (400, 403, 404, malformed)."""
    lost: bool = False
    """Vault says the lease is gone."""
    truncated: bool = False
    """The newest renewal was cut by a maximum, or refused: the lease ends for good."""
    doubted: bool = False
    """The clocks jumped: the value must be confirmed before it is handed out again."""
    inherited: bool = False
    """The value is of a former configuration: the first of the new one is due."""
    wanted: float = inf
    """When a refresh that somebody asked for is due (a report, an operator)."""


def next_step(s: Situation) -> Step:
    """The next action for a credential, and when.

    ``at`` may lie in the past: do it now.
    """
    if s.generation is None:
        return Step(Action.IDLE, inf)
    action, due = _due(s)
    living = s.snapshot is not None and s.now < s.expires_at and not s.doubted
    if s.failures:
        left = s.expires_at - s.now if living else inf
        due = s.last_attempt + backoff(
            s.failures, s.jitter, left=left, retry_after=min(s.retry_after, CAP)
        )
    elif s.refused:
        due = s.last_attempt + s.spec.refused_interval * _spread(s.jitter)
    if not s.failures:
        due = min(due, s.wanted)
    if living:
        due = min(due, s.expires_at)
    return Step(action, max(due, s.last_attempt + FLOOR))


def _due(s: Situation) -> tuple[Action, float]:
    if isinstance(s.spec.source, KvSource | StaticRoleSource):
        if s.snapshot is None or s.doubted or s.inherited:
            return Action.READ, -inf
        polled = s.snapshot.validated_at + s.spec.source.poll * _spread(s.jitter)
        # At its end, and from then on as often as the floor allows, until Vault has replaced it.
        return Action.READ, min(polled, s.snapshot.ends_at)
    lease = None if s.snapshot is None else s.snapshot.lease
    if lease is None or s.lost or s.inherited or lease.generation.ended:
        return Action.LEASE, -inf
    current = lease.generation.number == s.generation
    lasting = lease.renewable and not s.truncated
    if s.doubted:
        return (Action.RENEW if current and lasting else Action.LEASE), -inf
    if s.now >= s.expires_at:
        return Action.LEASE, -inf
    point = lease.refreshed_at + lease.duration * (EARLY + (LATE - EARLY) * s.jitter)
    if not current:
        left = max(0.0, s.expires_at - s.generation_since)
        return Action.LEASE, s.generation_since + min(MOVE_SPREAD, left / 3) * s.jitter
    if s.wanted <= s.now or not lasting:
        return Action.LEASE, point
    if s.failures and s.now >= lease.refreshed_at + lease.duration * RESCUE:
        return Action.LEASE, point
    return Action.RENEW, point


def _spread(jitter: float) -> float:
    return 1.0 + SPREAD * (2.0 * jitter - 1.0)


def is_truncated(source: LeasedSource, first_duration: float, renewed: float) -> bool:
    """Whether a renewal of ``renewed`` seconds was cut by a maximum.

    Vault grants what was asked for (``increment``) or the role's default, unless the
    lease's maximum comes first: then it grants the rest, and nothing extends it again.
    """
    expected = first_duration if source.increment is None else source.increment
    return renewed < expected - TRUNCATED


def is_expiring(s: Situation) -> bool:
    """Whether a value that should long have been replaced nears its end.

    True in the last part of its life that ``RESCUE`` leaves, counted from the last answer
    of Vault; a provider's own expiry counts a day before it (``OWN_EXPIRY_NOTICE``).
    """
    if s.snapshot is None or not s.now < s.expires_at < inf:
        return False
    left = s.expires_at - s.now
    if s.snapshot.own_expiry_wall is not None and left < OWN_EXPIRY_NOTICE:
        return True
    return left < (s.expires_at - s.snapshot.validated_at) * (1 - RESCUE)


def state_of(s: Situation, *, busy: Action | None, suspect: bool, withdrawn: bool) -> State:
    """The state to publish (DESIGN section 5).

    Args:
        s: the situation.
        busy: the action under way, if any.
        suspect: a caller reported the current version and nothing newer came.
        withdrawn: the value was taken back on purpose.
    """
    if withdrawn:
        return State.WITHDRAWN
    if s.refused:
        return State.REFUSED
    if s.snapshot is None:
        return State.PENDING
    if s.now >= s.expires_at or s.lost:
        return State.EXPIRED
    if suspect:
        return State.SUSPECT
    if s.failures or s.doubted:
        return State.STALE
    if busy is Action.RENEW:
        return State.RENEWING
    if busy is Action.LEASE:
        return State.REPLACING
    return State.FRESH
