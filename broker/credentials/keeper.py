"""Keeps one credential: asks the plan, carries it out, publishes the result.

Duty: the loop of one credential; the hand-over from an old value to a new one.
Not its duty: when and what (``plan``), what follows from an outcome (``status``), the
request itself (``requests``), revoking replaced leases (``retire``).
Rules:

* a value is published before the old one is retired (make before break);
* lease id and value change together, as one immutable snapshot;
* no outcome ends the loop: refusals and failures are states, faults are logged;
* it never calls upward; others learn from the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random

from broker.clock import Clock
from broker.credentials import plan
from broker.credentials.model import CredentialSpec, Entry, Lease, Snapshot
from broker.credentials.plan import Action, Situation
from broker.credentials.ports import EventSink, Recorder, RefreshObserver
from broker.credentials.proof import Proof
from broker.credentials.requests import Outcome, Requests
from broker.credentials.retire import Retirer
from broker.credentials.sources import serves, stands_in
from broker.credentials.status import Status
from broker.credentials.store import JUMP, CredentialStore
from broker.errors import BrokerError
from broker.vault.backoff import FLOOR
from broker.vault.interface import SessionPort, VaultPort

log = logging.getLogger("broker.credentials")

WISH_WAIT = 10.0
"""Seconds a report waits for the refresh it caused; one due later is not waited for."""


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
    observer: RefreshObserver | None = None
    """Told of each refresh."""


class Keeper:
    """The loop of one credential."""

    def __init__(self, spec: CredentialSpec, deps: Deps, proof: Proof | None = None) -> None:
        self.spec = spec
        self._d = deps
        self._status = Status(spec, since_wall=deps.clock.wall(), jitter=deps.rng.random())
        self._requests = Requests(
            spec,
            clock=deps.clock,
            vault=deps.vault,
            session=deps.session,
            retirer=deps.retirer,
            new_version=deps.new_version,
            limit=self._status.limit,
            remaining=self._remaining,
            proof=proof,
        )
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._started = self._finished = 0
        self._warned = ""
        self._expiring = ""

    def announce(self) -> None:
        """Publish that the credential is kept, so that readers can wait for its value."""
        self._publish(inf)

    async def run(self) -> None:
        """Keep the credential until cancelled."""
        status, clock = self._status, self._d.clock
        while True:
            self._wake.clear()
            now, wall = clock.now(), clock.wall()
            step = plan.next_step(status.situation(self._generation(now), now, wall))
            if step.action is Action.IDLE:
                await self._learn_why()
            self._publish(step.at)
            if step.at <= now:
                await self._attempt(step.action)
                continue
            ends = status.expires_at(now, wall)
            await clock.wait(self._wake, min(step.at, ends if ends > now else inf))

    # --- wishes -----------------------------------------------------------------

    def wake(self) -> None:
        """Something the plan depends on has changed: plan again."""
        self._wake.set()

    def doubt(self) -> None:
        """The clocks jumped: have the value confirmed at once."""
        self._status.doubted = self._status.snapshot is not None
        self.wake()

    def changed(self) -> None:
        """The source has a new value: read it at once, or right after a read under way."""
        self._status.announced(self._d.clock.now())
        self.wake()

    async def refresh(self) -> Entry | None:
        """An operator's wish: a refresh at the next moment the floor allows."""
        now = self._d.clock.now()
        due = max(now, self._status.last_attempt + FLOOR)
        self._status.wanted = min(self._status.wanted, due)
        return await self._wish_answered()

    async def report(self, version: str) -> Entry | None:
        """A caller says the upstream refused ``version``: one floored refresh.

        It never withdraws the value: that becomes ``suspect`` until a newer one is there
        or the proof, where one is configured, says it is well (DESIGN section 4).
        """
        snapshot = self._status.snapshot
        if snapshot is None or snapshot.version != version:
            return self._d.store.get(self.spec.key)
        if self._status.suspect != version:
            self._log(logging.WARNING, "the upstream refused a version, a caller reports", snapshot)
            self._d.events.publish("suspect", credential=self.spec.key.name, version=version)
        self._status.report(version, self._d.clock.now())
        return await self._wish_answered()

    async def _wish_answered(self) -> Entry | None:
        target = self._started + 1  # one already under way started before the wish
        deadline = self._d.clock.now() + WISH_WAIT
        self.wake()
        while self._finished < target and self._status.wanted <= deadline:
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

    def configure(self, spec: CredentialSpec, proof: Proof | None) -> bool:
        """Go on under another specification, when the value held will do; whether it does."""
        if not serves(self._status.snapshot, self.spec, spec):
            return False
        self.spec = self._status.spec = spec
        self._requests.configure(spec, proof)
        self.wake()
        return True

    # --- the end ----------------------------------------------------------------

    @property
    def lease(self) -> Lease | None:
        """The lease of the current value, if it has one."""
        return None if self._status.snapshot is None else self._status.snapshot.lease

    def hand_over(self, spec: CredentialSpec) -> tuple[Snapshot, float] | None:
        """Give the value up to a keeper of ``spec``, with the end of its life.

        None when there is none, or none that could stand in for one of ``spec``.
        """
        status, now = self._status, self._d.clock.now()
        ends = status.expires_at(now, self._d.clock.wall())
        snapshot = status.snapshot
        if snapshot is None or status.doubted or ends <= now or not stands_in(snapshot, spec):
            return None
        status.snapshot = None
        return snapshot, ends

    def inherit(self, snapshot: Snapshot, until: float) -> None:
        """Serve a value of a former configuration until the first of this one is there."""
        self._status.snapshot, self._status.inherited_until = snapshot, until

    def abandon(self) -> None:
        """The credential is no longer kept: its lease is retired after its last promise."""
        snapshot, self._status.snapshot = self._status.snapshot, None
        self._retire(snapshot)

    # --- doing ------------------------------------------------------------------

    async def _attempt(self, action: Action) -> None:
        status = self._status
        self._started += 1
        status.begin(action, self._d.clock.now())
        answered_wish = status.wanted <= status.last_attempt
        suspect = bool(status.suspect)
        offset = self._offset()
        self._publish(status.last_attempt)
        try:
            held = status.snapshot if status.inherited_until == inf else None
            outcome = await self._requests.ask(action, held, suspect=suspect)
        except BrokerError as error:
            self._failed(action, error)
        except Exception as error:  # a fault of ours must not end the loop
            self._log(logging.ERROR, "a fault while refreshing", None, exc_info=error)
            self._failed(action, BrokerError("a fault while refreshing"))
        else:
            # Sent before the clocks jumped, it confirms nothing about the time after.
            jumped = self._offset() - offset > JUMP
            self._succeeded(outcome, suspect=suspect, doubted=jumped)
        finally:
            self._finished += 1
            status.end(self._d.rng.random(), answered_wish=answered_wish)
            self._progress.set()

    def _succeeded(self, outcome: Outcome, *, suspect: bool, doubted: bool) -> None:
        status = self._status
        self._warned = ""
        self._d.recorder.refresh(self.spec.key.name, outcome.result)
        if self._d.observer is not None:
            before = status.snapshot.version if outcome.new and status.snapshot else ""
            self._d.observer.refreshed(self.spec.key.name, outcome.result, outcome.snapshot, before)
        if not outcome.new:
            status.snapshot = outcome.snapshot
            if suspect and outcome.proved:
                status.suspect = ""  # the upstream itself says it is well
            if status.succeed(truncated=outcome.truncated):
                self._log(logging.INFO, "credential healed", outcome.snapshot)
            status.doubted = doubted
            self._publish(inf)
            return
        old = status.adopt(outcome.snapshot)
        status.busy, status.doubted = None, doubted
        self._publish(inf)  # readers move before the old one is retired
        self._retire(old)
        self._log(logging.INFO, "credential published", outcome.snapshot)
        self._d.events.publish(
            "published", credential=self.spec.key.name, version=outcome.snapshot.version
        )

    def _failed(self, action: Action, error: BrokerError) -> None:
        name, before = self.spec.key.name, self._status.snapshot
        self._status.fail(action, error)
        self._d.recorder.refresh(name, error.code)
        if self._d.observer is not None:
            held = self._status.snapshot
            gone = before.version if before is not None and held is None else ""
            self._d.observer.refresh_failed(name, error.code, held, gone)
        self._publish(inf)
        if self._warned == error.code:
            return  # logged once a kind; the metric counts each
        self._warned = error.code
        log.warning(
            "credential not refreshed: %s",
            error,
            extra={"credential": name, "reason": error.code, "remedy": error.remedy},
        )
        if self._status.refused:
            self._d.events.publish("refused", credential=name, reason=error.code)

    def _tell_expiring(self, situation: Situation) -> None:
        """Once a version: a value that should long have been replaced nears its end."""
        snapshot = situation.snapshot
        if snapshot is None or snapshot.version == self._expiring:
            return
        if plan.is_expiring(situation):
            self._expiring = snapshot.version
            self._log(logging.WARNING, "a credential nears its end unreplaced", snapshot)
            self._d.events.publish(
                "expiring", credential=self.spec.key.name, version=snapshot.version
            )

    def _retire(self, old: Snapshot | None) -> None:
        if old is not None and old.lease is not None:
            until = self._d.store.promised_until(self.spec.key, old.version)
            self._d.retirer.retire(old.lease, until)

    def _generation(self, now: float) -> int | None:
        generation = self._d.session.generation
        if generation is None or generation.ended or generation.expires_at <= now:
            return None
        return generation.number

    def _remaining(self) -> float:
        """Seconds for which the value held may still be handed out; negative: none."""
        if self._status.doubted:
            return -inf
        now = self._d.clock.now()
        return self._status.expires_at(now, self._d.clock.wall()) - now

    def _offset(self) -> float:
        """Wall against boot time."""
        return self._d.clock.wall() - self._d.clock.now()

    async def _learn_why(self) -> None:
        try:
            await self._d.session.ready(self._d.clock.now())
        except BrokerError as error:
            self._status.problem = error

    def _publish(self, at: float) -> None:
        status, clock = self._status, self._d.clock
        now, wall = clock.now(), clock.wall()
        situation = status.situation(self._generation(now), now, wall)
        before = self._d.store.get(self.spec.key)
        entry = self._d.store.publish(status.entry(situation, wall, at, before))
        self._tell_expiring(situation)
        snapshot = entry.snapshot
        self._d.recorder.credential(
            self.spec.key.name,
            state=entry.state.value,
            expires_wall=entry.expires_wall,
            obtained_wall=None if snapshot is None else wall - (now - snapshot.obtained_at),
            last_success_wall=entry.validated_wall,
        )

    def _log(
        self,
        level: int,
        message: str,
        snapshot: Snapshot | None,
        exc_info: BaseException | None = None,
    ) -> None:
        extra = {"credential": self.spec.key.name}
        if snapshot is not None:
            extra |= {"version": snapshot.version, "source_version": snapshot.source_version}
        log.log(level, message, extra=extra, exc_info=exc_info)
