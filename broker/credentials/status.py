"""What one keeper knows, and how outcomes change it [pure].

Duty: fold outcomes, errors and wishes into the facts that ``plan`` decides on, and
into the ``Entry`` that readers see.
Not its duty: asking Vault, waiting, time, chance: all are arguments.
Rules:

* a refusal while renewing means "no longer renewable": a new lease may be allowed;
* "lease unknown" while renewing withdraws the value at once: Vault says it is dead;
* a deleted or destroyed KV version withdraws the value at once (DESIGN promise 5);
* any other refusal or failure leaves the value in use until its life ends;
* readings differ by arithmetic noise; those within ``STEADY`` are the same, so that
  readers are not woken for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from broker.credentials import plan
from broker.credentials.model import (
    CredentialSpec,
    Entry,
    KvSource,
    Snapshot,
    StaticRoleSource,
)
from broker.credentials.plan import Action, Situation
from broker.errors import (
    BrokerError,
    CredentialMalformed,
    VaultLeaseExpired,
    VaultRefused,
    VaultValueDeleted,
)
from broker.vault.backoff import FLOOR

REPORT_MEMORY = 900.0
"""Seconds after which a report no longer counts as one of a row."""
STEADY = 0.02
"""Seconds (20 ms): far above the noise of float arithmetic, far below any margin."""


@dataclass(slots=True)
class Status:
    """The facts about one credential. Times are ``Clock.now()`` unless ``_wall``."""

    spec: CredentialSpec
    since_wall: float | None
    jitter: float
    snapshot: Snapshot | None = None
    problem: BrokerError | None = None
    busy: Action | None = None
    last_attempt: float = -inf
    last_lease: float = -inf
    failures: int = 0
    refused: bool = False
    lost: bool = False
    truncated: bool = False
    doubted: bool = False
    withdrawn: bool = False
    suspect: str = ""
    """The version a caller reported, while nothing newer came."""
    inherited_until: float = inf
    """End of a value of a former configuration; ``inf`` when the value is of this one."""
    wanted: float = inf
    reports: int = 0
    """Reports in a row that caused a refresh."""
    reported_at: float = -inf
    generation: int | None = None
    generation_since: float = -inf

    # --- outcomes -----------------------------------------------------------------

    def begin(self, action: Action, now: float) -> None:
        """An attempt starts."""
        self.busy, self.last_attempt = action, now
        if action is Action.LEASE:
            self.last_lease = now

    def end(self, jitter: float, *, answered_wish: bool) -> None:
        """An attempt ended, well or not; ``jitter`` is for the next schedule."""
        self.busy, self.jitter = None, jitter
        if answered_wish:
            self.wanted = inf

    def adopt(self, fresh: Snapshot) -> Snapshot | None:
        """A new version is there; returns the one it replaces."""
        old, self.snapshot = self.snapshot, fresh
        self.suspect, self.truncated, self.inherited_until = "", False, inf
        self.succeed()
        return old

    def succeed(self, *, truncated: bool | None = None) -> bool:
        """Vault brought or confirmed the value; returns whether this heals a problem."""
        healed = bool(self.failures or self.refused)
        self.failures, self.problem = 0, None
        self.refused = self.lost = self.doubted = self.withdrawn = False
        if truncated is not None:
            self.truncated = truncated
        return healed

    def fail(self, action: Action, problem: BrokerError) -> None:
        """An attempt failed."""
        self.problem = problem
        match problem:
            case VaultLeaseExpired() if action is Action.RENEW:
                self.lost = True  # not a failure: a new lease is the next step
            case VaultRefused() if action is Action.RENEW:
                self.truncated = True
            case VaultValueDeleted():
                self.refused = self.withdrawn = True
                self.snapshot, self.failures, self.suspect = None, 0, ""
            case VaultRefused() | CredentialMalformed():
                self.refused, self.failures = True, 0
            case _:
                self.failures += 1

    def report(self, version: str, now: float) -> float:
        """A caller says the upstream refused ``version``; returns when to refresh.

        The floor doubles with each report of a row, so that a flood of false reports
        costs Vault and the upstream little.
        """
        self.suspect = version
        if now - self.reported_at > REPORT_MEMORY:
            self.reports = 0
        if isinstance(self.spec.source, KvSource | StaticRoleSource):
            floor, last = plan.REPORT_FLOOR_KV, self.last_attempt
        else:
            floor, last = plan.REPORT_FLOOR_LEASED, self.last_lease
        if self.wanted == inf:
            due = max(now, last + min(floor * 2.0 ** min(self.reports, 10), REPORT_MEMORY))
            self.reports, self.reported_at = self.reports + 1, now
            self.wanted = due
        return self.wanted

    def limit(self, end_wall: float) -> None:
        """The held value must not be served from ``end_wall`` (Unix time) on."""
        if self.snapshot is not None:
            own = self.snapshot.own_expiry_wall
            end = end_wall if own is None else min(own, end_wall)
            self.snapshot = replace(self.snapshot, own_expiry_wall=end)

    def announced(self, now: float) -> None:
        """The source has a new value: the floor is for faults, not for this."""
        self.wanted = now
        self.last_attempt = min(self.last_attempt, now - FLOOR)

    # --- for the plan -----------------------------------------------------------------

    def expires_at(self, now: float, wall: float) -> float:
        """Effective expiry; ``-inf`` without a value that may be trusted."""
        if self.snapshot is None or self.lost:
            return -inf
        source = self.spec.source
        polled = KvSource | StaticRoleSource
        staleness = source.max_staleness if isinstance(source, polled) else inf
        ends = self.snapshot.expires_at(now=now, wall=wall, max_staleness=staleness)
        return min(ends, self.inherited_until)

    def situation(self, generation: int | None, now: float, wall: float) -> Situation:
        """The arguments of ``plan.next_step``; notes when the Vault token changed."""
        if generation is not None and generation != self.generation:
            self.generation, self.generation_since = generation, now
        return Situation(
            spec=self.spec,
            now=now,
            jitter=self.jitter,
            snapshot=self.snapshot,
            expires_at=self.expires_at(now, wall),
            generation=generation,
            generation_since=self.generation_since,
            last_attempt=self.last_attempt,
            failures=self.failures,
            retry_after=getattr(self.problem, "retry_after", None) or 0.0,
            refused=self.refused,
            lost=self.lost,
            truncated=self.truncated,
            doubted=self.doubted,
            inherited=self.inherited_until < inf,
            wanted=self.wanted,
        )

    # --- for readers --------------------------------------------------------------------

    def entry(self, situation: Situation, wall: float, at: float, before: Entry | None) -> Entry:
        """What readers shall see now.

        Args:
            situation: the newest.
            wall: Unix time.
            at: when the next step is due, ``inf`` when only a change brings it.
            before: what they see so far.
        """
        now, snapshot = situation.now, self.snapshot
        expires_at = -inf if self.doubted else situation.expires_at
        usable = snapshot is not None and now < expires_at
        if usable:
            self.since_wall = None
        elif self.since_wall is None:
            self.since_wall = wall
        entry = Entry(
            key=self.spec.key,
            state=plan.state_of(
                situation,
                busy=self.busy,
                suspect=snapshot is not None and self.suspect == snapshot.version,
                withdrawn=self.withdrawn,
            ),
            snapshot=snapshot,
            expires_at=expires_at,
            expires_wall=None if abs(expires_at) == inf else wall + (expires_at - now),
            since_wall=self.since_wall,
            next_attempt_wall=(
                wall + max(0.0, at - now)
                if at < inf and (self.problem is not None or not usable)
                else None
            ),
            reason="" if self.problem is None else self.problem.code,
            detail="" if self.problem is None else str(self.problem),
            revalidating=not usable and (self.doubted or self.lost),
            validated_wall=None if snapshot is None else wall - (now - snapshot.validated_at),
        )
        return entry if before is None else _steadied(entry, before)


def _steadied(entry: Entry, before: Entry) -> Entry:
    return replace(
        entry,
        expires_at=_steady(entry.expires_at, before.expires_at),
        expires_wall=_steady_or_none(entry.expires_wall, before.expires_wall),
        next_attempt_wall=_steady_or_none(entry.next_attempt_wall, before.next_attempt_wall),
        validated_wall=_steady_or_none(entry.validated_wall, before.validated_wall),
    )


def _steady(new: float, old: float) -> float:
    return min(new, old) if abs(new - old) < STEADY else new


def _steady_or_none(new: float | None, old: float | None) -> float | None:
    return new if new is None or old is None else _steady(new, old)
