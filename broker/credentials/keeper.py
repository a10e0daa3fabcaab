"""Keeps one credential: asks the plan, carries it out, publishes the result.

Duty: the loop of one credential; the hand-over from an old value to a new one.
Not its duty: when and what (``plan``), the shape of values (``sources``), the Vault
token (``vault.session``), revoking replaced leases (``retire``).
Rules:

* a value is published before the old one is retired, and proved before that where a
  proof is configured (make before break);
* lease id and value change together, as one immutable snapshot;
* a lease that cannot be published is revoked at once: nobody else knows it;
* no outcome ends the loop: refusals and failures are states, faults are logged;
* it never calls upward; others learn from the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from random import Random

from broker.clock import Clock
from broker.credentials import plan
from broker.credentials.model import (
    CredentialSpec,
    Entry,
    KvSource,
    Lease,
    LeasedSource,
    Snapshot,
)
from broker.credentials.plan import Action, Situation, Step
from broker.credentials.ports import EventSink, Recorder
from broker.credentials.proof import Proof
from broker.credentials.retire import Retirer
from broker.credentials.sources import kv_snapshot, leased_snapshot, same_value
from broker.credentials.store import CredentialStore
from broker.errors import (
    BrokerError,
    CredentialMalformed,
    VaultDenied,
    VaultError,
    VaultLeaseExpired,
    VaultRefused,
    VaultValueDeleted,
)
from broker.vault.generation import Generation
from broker.vault.interface import SessionPort, VaultPort

log = logging.getLogger("broker.credentials")

REPORT_WAIT = 10.0
"""Seconds a report waits for the refresh it caused; due later, it is answered at once."""
REPORT_MEMORY = 900.0
"""Seconds after which a report no longer counts as one of a row."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What every keeper of a process shares."""

    clock: Clock
    vault: VaultPort
    session: SessionPort
    store: CredentialStore
    retirer: Retirer
    rng: Random
    recorder: Recorder
    events: EventSink
    new_version: Callable[[], str]


class Keeper:
    """The loop of one credential."""

    def __init__(self, spec: CredentialSpec, deps: Deps, proof: Proof | None = None) -> None:
        self.spec = spec
        self._d = deps
        self._proof = proof
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._started = self._finished = 0
        self._snapshot: Snapshot | None = None
        self._problem: BrokerError | None = None
        self._busy: Action | None = None
        self._jitter = deps.rng.random()
        self._last_attempt = self._last_lease = -inf
        self._failures = 0
        self._refused = self._lost = self._truncated = self._doubted = self._withdrawn = False
        self._suspect = ""
        self._wanted = inf
        self._reports, self._reported_at = 0, -inf
        self._generation, self._generation_since = 0, -inf
        self._since_wall: float | None = deps.clock.wall()
        self._warned = ""

    # --- the loop ---------------------------------------------------------------

    async def run(self) -> None:
        """Keep the credential until cancelled."""
        while True:
            self._wake.clear()
            step = plan.next_step(self._situation())
            if step.action is Action.IDLE:
                await self._learn_why()
            self._publish(step)
            now = self._d.clock.now()
            if step.at <= now:
                await self._attempt(step.action)
                continue
            expires_at = self._expires_at(now)
            await self._d.clock.wait(
                self._wake, min(step.at, expires_at if expires_at > now else inf)
            )

    def wake(self) -> None:
        """Something the plan depends on has changed: plan again."""
        self._wake.set()

    def doubt(self) -> None:
        """The clocks jumped: have the value confirmed at once."""
        self._doubted = self._snapshot is not None
        self.wake()

    async def refresh(self) -> Entry | None:
        """An operator's wish: a refresh at the next moment the floor allows."""
        return await self._refresh_by(max(self._d.clock.now(), self._last_attempt + plan.FLOOR))

    async def report(self, version: str) -> Entry | None:
        """A caller says the upstream refused ``version``: one floored refresh.

        The floor doubles with each report of a row, so that a flood of false reports
        costs Vault and the upstream little.
        """
        snapshot, now = self._snapshot, self._d.clock.now()
        if snapshot is None or snapshot.version != version:
            return self._d.store.get(self.spec.key)
        self._suspect = version
        if now - self._reported_at > REPORT_MEMORY:
            self._reports = 0
        if isinstance(self.spec.source, KvSource):
            floor, last = plan.REPORT_FLOOR_KV, self._last_attempt
        else:
            floor, last = plan.REPORT_FLOOR_LEASED, self._last_lease
        due = max(now, last + min(floor * 2.0 ** min(self._reports, 10), REPORT_MEMORY))
        if self._wanted == inf:  # the first of those that one refresh will answer
            self._reports += 1
            self._reported_at = now
            log.warning(
                "the upstream refused a version, a caller reports",
                extra={"credential": self.spec.key.name, "version": version},
            )
            self._d.events.publish("suspect", credential=self.spec.key.name, version=version)
        return await self._refresh_by(due)

    async def _refresh_by(self, due: float) -> Entry | None:
        self._wanted = min(self._wanted, due)
        target = self._started + 1
        self.wake()
        deadline = self._d.clock.now() + REPORT_WAIT
        while self._finished < target and self._wanted <= deadline:
            self._progress.clear()
            if not await self._d.clock.wait(self._progress, deadline):
                break
        return self._d.store.get(self.spec.key)

    async def tried(self, deadline: float) -> None:
        """Wait until the first attempt has ended, or until ``deadline``."""
        while not self._finished:
            self._progress.clear()
            if not await self._d.clock.wait(self._progress, deadline):
                break

    @property
    def lease(self) -> Lease | None:
        """The lease of the current value, if it has one."""
        return None if self._snapshot is None else self._snapshot.lease

    def abandon(self) -> None:
        """The credential is no longer kept: its lease is retired after its last promise."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None and snapshot.lease is not None:
            self._d.retirer.retire(
                snapshot.lease, self._d.store.promised_until(self.spec.key, snapshot.version)
            )

    # --- deciding ---------------------------------------------------------------

    def _situation(self) -> Situation:
        now = self._d.clock.now()
        generation = self._usable_generation(now)
        if generation is not None and generation.number != self._generation:
            self._generation, self._generation_since = generation.number, now
        retry_after = getattr(self._problem, "retry_after", None) or 0.0
        return Situation(
            spec=self.spec,
            now=now,
            jitter=self._jitter,
            snapshot=self._snapshot,
            expires_at=self._expires_at(now),
            generation=None if generation is None else generation.number,
            generation_since=self._generation_since,
            last_attempt=self._last_attempt,
            failures=self._failures,
            retry_after=retry_after,
            refused=self._refused,
            lost=self._lost,
            truncated=self._truncated,
            doubted=self._doubted,
            wanted=self._wanted,
        )

    def _usable_generation(self, now: float) -> Generation | None:
        generation = self._d.session.generation
        if generation is None or generation.ended or generation.expires_at <= now:
            return None
        return generation

    def _expires_at(self, now: float) -> float:
        if self._snapshot is None or self._lost:
            return -inf
        source = self.spec.source
        return self._snapshot.expires_at(
            now=now,
            wall=self._d.clock.wall(),
            max_staleness=source.max_staleness if isinstance(source, KvSource) else inf,
        )

    async def _learn_why(self) -> None:
        try:
            await self._d.session.ready(self._d.clock.now())
        except BrokerError as error:
            self._problem = error

    # --- doing ------------------------------------------------------------------

    async def _attempt(self, action: Action) -> None:
        self._started += 1
        self._busy = action
        self._last_attempt = self._d.clock.now()
        if action is Action.LEASE:
            self._last_lease = self._last_attempt
        answers_wish = self._wanted <= self._last_attempt
        if self._snapshot is not None:
            self._publish(Step(action, self._last_attempt))
        try:
            result = await self._ask(action)
        except Exception as error:  # a fault of ours must not end the loop
            self._failed(action, error)
        else:
            self._succeeded(result)
        finally:
            self._finished += 1
            self._busy = None
            self._jitter = self._d.rng.random()
            if answers_wish:
                self._wanted = inf
            self._progress.set()

    async def _ask(self, action: Action) -> str:
        """One request to Vault; once more when a re-login was the cure. Returns the result."""
        generation = await self._d.session.ready(self._d.clock.now())
        try:
            return await self._ask_with(action, generation)
        except VaultDenied:
            newer = await self._d.session.denied(generation)
            if newer is None:
                raise
            self._last_attempt = self._d.clock.now()
            # a lease of a dead token cannot be renewed
            return await self._ask_with(Action.LEASE if action is Action.RENEW else action, newer)

    async def _ask_with(self, action: Action, generation: Generation) -> str:
        source = self.spec.source
        if isinstance(source, KvSource):
            return await self._read(source, generation)
        lease = None if self._snapshot is None else self._snapshot.lease
        if action is Action.RENEW and lease is not None:
            return await self._renew(source, lease, generation)
        return await self._lease(source, generation)

    async def _read(self, source: KvSource, generation: Generation) -> str:
        value = await self._d.vault.kv_read(
            generation.token, mount=source.mount, path=source.path, kv_version=source.kv_version
        )
        fresh = kv_snapshot(self.spec, source, value, version=self._d.new_version())
        held = self._snapshot
        if held is not None and same_value(held, fresh):
            self._snapshot = replace(
                held, validated_at=fresh.validated_at, own_expiry_wall=fresh.own_expiry_wall
            )
            if self._suspect and self._proof is not None:
                await self._proof.prove(self._snapshot)
                self._suspect = ""  # the upstream itself says it is well
            return "unchanged"
        await self._prove(fresh)
        self._adopt(fresh)
        return "changed"

    async def _lease(self, source: LeasedSource, generation: Generation) -> str:
        grant = await self._d.vault.lease(
            generation.token, path=source.path, method=source.method, parameters=source.parameters
        )
        try:
            fresh = leased_snapshot(self.spec, grant, generation, version=self._d.new_version())
        except CredentialMalformed:
            if grant.lease_id:
                await self._give_back(generation, grant.lease_id)
            raise
        assert fresh.lease is not None
        generation.hold(fresh.lease.lease_id)
        try:
            await self._prove(fresh)
        except BaseException:
            generation.release(fresh.lease.lease_id)
            self._d.retirer.retire(fresh.lease, -inf)
            raise
        self._adopt(fresh)
        return "replaced"

    async def _renew(self, source: LeasedSource, lease: Lease, generation: Generation) -> str:
        renewal = await self._d.vault.renew_lease(
            generation.token, lease.lease_id, increment=source.increment
        )
        self._truncated = not renewal.renewable or plan.is_truncated(
            source, lease.first_duration, renewal.duration
        )
        assert self._snapshot is not None
        self._snapshot = replace(
            self._snapshot,
            validated_at=renewal.sent_at,
            lease=replace(lease, refreshed_at=renewal.sent_at, duration=renewal.duration),
        )
        return "renewed"

    async def _prove(self, fresh: Snapshot) -> None:
        if self._proof is not None:
            await self._proof.prove(fresh)

    async def _give_back(self, generation: Generation, lease_id: str) -> None:
        try:
            await self._d.vault.revoke_lease(generation.token, lease_id)
        except VaultError as error:
            log.warning("an unusable lease is left to expire", extra={"reason": error.code})

    def _adopt(self, fresh: Snapshot) -> None:
        """Readers move to ``fresh``; the old lease is retired after its last promise."""
        old = self._snapshot
        self._snapshot = fresh
        self._suspect = ""
        self._lost = self._truncated = self._withdrawn = self._doubted = False
        self._refused, self._failures, self._problem = False, 0, None
        self._publish(Step(Action.IDLE, inf))
        self._d.events.publish("published", credential=self.spec.key.name, version=fresh.version)
        log.info(
            "credential published",
            extra={
                "credential": self.spec.key.name,
                "version": fresh.version,
                "source_version": fresh.source_version,
            },
        )
        if old is not None and old.lease is not None:
            self._d.retirer.retire(
                old.lease, self._d.store.promised_until(self.spec.key, old.version)
            )

    def _succeeded(self, result: str) -> None:
        if self._failures or self._refused:
            log.info("credential healed", extra={"credential": self.spec.key.name})
        self._failures, self._problem, self._warned = 0, None, ""
        self._refused = self._doubted = False
        self._d.recorder.refresh(self.spec.key.name, result)

    def _failed(self, action: Action, error: Exception) -> None:
        name = self.spec.key.name
        if not isinstance(error, BrokerError):
            log.error("a fault while refreshing", extra={"credential": name}, exc_info=error)
            problem: BrokerError = BrokerError("a fault while refreshing")
        else:
            problem = error
        self._problem = problem
        self._d.recorder.refresh(name, problem.code)
        match error:
            case VaultLeaseExpired() if action is Action.RENEW:
                self._lost = True  # no failure: the next step is a new lease
            case VaultRefused() if action is Action.RENEW and not self._doubted:
                self._truncated = True  # renewing is refused; a new lease may not be
            case VaultValueDeleted():
                self._withdraw()
            case VaultRefused() | CredentialMalformed():
                self._refused, self._failures = True, 0
            case _:
                self._failures += 1
        if self._warned != problem.code:  # once a kind; the metric counts each
            self._warned = problem.code
            log.warning(
                "credential not refreshed: %s",
                problem,
                extra={"credential": name, "reason": problem.code, "remedy": problem.remedy},
            )
            if self._refused:
                self._d.events.publish("refused", credential=name, reason=problem.code)

    def _withdraw(self) -> None:
        self._refused = self._withdrawn = True
        self._snapshot, self._failures, self._suspect = None, 0, ""

    # --- publishing -------------------------------------------------------------

    def _publish(self, step: Step) -> None:
        situation = self._situation()
        now, wall = situation.now, self._d.clock.wall()
        before = self._d.store.get(self.spec.key)
        expires_at = -inf if self._doubted else situation.expires_at
        usable = self._snapshot is not None and now < expires_at
        if usable:
            self._since_wall = None
        elif self._since_wall is None:
            self._since_wall = wall
        expires_wall = None if abs(expires_at) == inf else wall + (expires_at - now)
        attempt_wall = None
        if step.at < inf and (self._problem is not None or not usable):
            attempt_wall = wall + max(0.0, step.at - now)
        snapshot = self._snapshot
        validated = None if snapshot is None else wall - (now - snapshot.validated_at)
        if before is not None:
            expires_wall = _steady(expires_wall, before.expires_wall)
            attempt_wall = _steady(attempt_wall, before.next_attempt_wall)
            validated = _steady(validated, before.validated_wall)
            expires_at = _steady(expires_at, before.expires_at) or expires_at
        entry = self._d.store.publish(
            Entry(
                key=self.spec.key,
                state=plan.state_of(
                    situation,
                    busy=self._busy,
                    suspect=snapshot is not None and self._suspect == snapshot.version,
                    withdrawn=self._withdrawn,
                ),
                snapshot=snapshot,
                expires_at=expires_at,
                expires_wall=expires_wall,
                since_wall=self._since_wall,
                next_attempt_wall=attempt_wall,
                reason="" if self._problem is None else self._problem.code,
                detail="" if self._problem is None else str(self._problem),
                revalidating=not usable and (self._doubted or self._lost),
                validated_wall=validated,
            )
        )
        self._d.recorder.credential(
            self.spec.key.name,
            state=entry.state.value,
            expires_wall=entry.expires_wall,
            obtained_wall=None if snapshot is None else wall - (now - snapshot.obtained_at),
            last_success_wall=validated,
        )


def _steady(new: float | None, old: float | None) -> float | None:
    """Keep the old reading when the new one is the same but for arithmetic noise."""
    if new is None or old is None or abs(new - old) >= 0.02:  # 20 ms
        return new
    return min(new, old)
