"""A store with a history of any kind, seen through the service, never yields an expired value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.credentials.model import CredentialKey, State
from broker.credentials.store import JUMP
from broker.errors import AuditUnavailable, CredentialUnavailable
from broker.handout.answer import Answer
from broker.protocol.models import parse_time
from broker.vault.generation import Generation
from tests.simulators.clock import ManualClock
from tests.simulators.desk import CANARY, Desk, headers

HOLD, MARGIN = 30.0, 5.0
lives = st.floats(0.01, 100.0) | st.sampled_from([2.0, 5.0, 35.0, 86400.0, 2.6e6])


@dataclass
class Truth:
    """What the world knows of the newest value of one credential."""

    version: str
    ends_at: float
    """On ``Clock.now()``; by lease, staleness and own expiry as they were at first."""
    own_expiry_wall: float = inf
    generation: Generation | None = None

    def alive_until(self, now: float, wall: float) -> float:
        if self.generation is not None and self.generation.ended:
            return -inf
        return min(self.ends_at, now + (self.own_expiry_wall - wall))


class Handouts(RuleBasedStateMachine):
    """Keepers publish, clocks move, tokens end, disks fill; callers ask all the while."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.desk = Desk(self.clock, hold=HOLD, margin=MARGIN)
        self.truth: dict[str, Truth | None] = {"web": None, "db": None}
        self.offset_base = self.clock.wall() - self.clock.now()
        self.distrusted: set[str] = set()
        self.told: dict[tuple[str, str], float] = {}
        """Latest end told to a caller, counted as he counts it, by name and version."""
        self.records = 0
        self.number = 0

    def _version(self) -> str:
        self.number += 1
        return f"v{self.number}"

    def _observe(self) -> None:
        """As the store does: a jump forward puts every value that is there in doubt."""
        ahead = self.clock.wall() - self.clock.now() - self.offset_base
        if abs(ahead) > JUMP:
            self.offset_base += ahead
            if ahead > 0:
                self.distrusted |= {name for name, truth in self.truth.items() if truth}

    # --- what happens ---------------------------------------------------------------

    @rule(staleness=lives | st.just(inf), own=st.none() | lives)
    def kv(self, staleness: float, own: float | None) -> None:
        version = self._version()
        entry = self.desk.kv(version, staleness=staleness, own_expiry_in=own)
        snapshot = entry.snapshot
        assert snapshot is not None
        self.truth["web"] = Truth(
            version,
            min(self.clock.now() + staleness, self.clock.now() + (inf if own is None else own)),
            inf if own is None else snapshot.own_expiry_wall or inf,
        )
        self.distrusted.discard("web")

    @rule(life=lives, state=st.sampled_from([State.FRESH, State.STALE, State.SUSPECT]))
    def lease(self, life: float, state: State) -> None:
        version = self._version()
        generation = Generation(self.number, self.desk.generation.token, inf, renewable=True)
        self.desk.lease(version, life=life, generation=generation, state=state)
        self.truth["db"] = Truth(version, self.clock.now() + life, generation=generation)
        self.distrusted.discard("db")

    @rule(
        name=st.sampled_from(["web", "db"]), state=st.sampled_from([State.WITHDRAWN, State.REFUSED])
    )
    def withdraw(self, name: str, state: State) -> None:
        self.desk.without_value(name, state)
        self.truth[name] = None

    @precondition(lambda self: self.truth["db"] is not None)
    @rule()
    def token_ends(self) -> None:
        truth = self.truth["db"]
        assert truth is not None
        assert truth.generation is not None
        truth.generation.ended = True

    @rule(seconds=st.floats(0, 2) | st.floats(0, 200))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.floats(-30, 30) | st.sampled_from([-3600.0, 3600.0]))
    def wall_jumps(self, seconds: float) -> None:
        self.clock.jump_wall(seconds)

    @rule(broken=st.booleans())
    def disk(self, broken: bool) -> None:
        self.desk.audit.broken = broken

    # --- what callers see, after each step -----------------------------------------------

    @invariant()
    def everybody_asks(self) -> None:
        for name in self.truth:
            for known in (False, True):
                self._ask(name, known=known)

    def _ask(self, name: str, *, known: bool) -> None:
        now, wall = self.clock.now(), self.clock.wall()
        self._observe()
        truth = self.truth[name]
        etag = f'"{truth.version}"' if known and truth else None
        lives = truth is not None and truth.alive_until(now, wall) > now
        try:
            answer = self.desk.service.handout(
                self.desk.caller(), name, self.desk.request(), if_none_match=etag
            )
        except CredentialUnavailable:
            self.records += not self.desk.audit.broken
            assert not lives or name in self.distrusted
            return
        except AuditUnavailable:
            assert self.desk.audit.broken
            return
        if answer is None:
            assert name in self.distrusted
            return
        self.records += 1
        assert truth is not None
        assert lives
        assert name not in self.distrusted
        assert not self.desk.audit.broken
        assert answer.version == truth.version
        assert answer.status == (304 if known else 200)
        self._check_times(name, answer, truth, now, wall)

    def _check_times(
        self, name: str, answer: Answer, truth: Truth, now: float, wall: float
    ) -> None:
        if answer.status == 200:
            body = json.loads(answer.body)
            assert all(value.startswith(CANARY) for value in body["data"].values())
            issued, until = body["issued_at"], body["use_until"]
            expires_in = body["expires_in"]
        else:
            told = headers(answer)
            issued, until = told["broker-issued-at"], told["broker-use-until"]
            expires_in = float(told["broker-expires-in"]) if "broker-expires-in" in told else None
        end = truth.alive_until(now, wall)
        slack = 0.007  # a millisecond of rounding, and what the wall clock may drift in a tick
        assert now - slack <= now + parse_time(until) - wall <= min(end, now + HOLD) + slack
        assert (expires_in is None) == (end == inf)
        if expires_in is not None:
            assert 0 <= expires_in <= end - now + 1e-6
        span = parse_time(until) - parse_time(issued)
        end_as_counted = min(now + span, end)
        key = (name, answer.version)
        self.told[key] = max(self.told.get(key, -inf), end_as_counted)

    # --- what must hold at any time -------------------------------------------------------

    @invariant()
    def whoever_revokes_knows_what_was_told(self) -> None:
        for (name, version), until in self.told.items():
            if until > self.clock.now():
                promised = self.desk.store.promised_until(CredentialKey(name), version)
                assert promised >= until - 0.002  # a millisecond of rounding at either end

    @invariant()
    def every_answer_has_its_record_without_a_value(self) -> None:
        assert len(self.desk.audit.lines) == self.records
        assert not any(CANARY.encode() in line for line in self.desk.audit.lines)

    @invariant()
    def no_bytes_outlive_their_entry(self) -> None:
        for key, prepared in self.desk.service._answers._prepared.items():
            assert prepared.entry is self.desk.store.get(key)


TestHandouts = Handouts.TestCase
TestHandouts.settings = settings(max_examples=40, stateful_step_count=30)
