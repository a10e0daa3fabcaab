"""The same request again: what was decided stands exactly as long as nothing of it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from broker.access.authorizer import Decision, ListAuthorizer
from broker.access.caller import ClientSpec
from broker.access.principal import Caller, Grant, Principal
from broker.errors import (
    AuditUnavailable,
    CredentialUnavailable,
    CredentialUnknown,
    InsufficientScope,
    SubjectTokenRefused,
)
from broker.handout.passes import Pass
from broker.handout.service import HandoutService
from tests.simulators.clock import ManualClock
from tests.simulators.desk import Desk


class Tokens:
    """Implements ``SubjectTokens``: one token, which may be revoked."""

    def __init__(self, grant: Grant) -> None:
        self.generation = 0
        self._grant: Grant | None = grant

    def verify(self, token: bytes, caller: Caller) -> Grant:
        if self._grant is None or token != b"good" or caller.name != self._grant.caller:
            raise SubjectTokenRefused(reason="token_unknown")
        return self._grant

    def recheck(self, grant: Grant) -> None:
        if self._grant != grant:
            raise SubjectTokenRefused(reason="token_revoked")

    def revoke(self) -> None:
        self._grant = None
        self.generation += 1

    def expire(self) -> None:
        """An end by time, which moves no generation."""
        self._grant = None


class TwoOf:
    """Implements ``passes.Limits``: two hand-outs, then a wait."""

    def __init__(self) -> None:
        self.generation = 0
        self.taken = 0

    def counter(self, caller: str, tool: str, credential: str) -> TwoOf:
        assert (caller, tool, credential) == ("search", "", "web")
        return self

    def hit(self) -> float:
        self.taken += 1
        return 0.0 if self.taken <= 2 else 12.5

    def refusal(self, seconds: float) -> Exception:
        return CredentialUnavailable(f"wait {seconds}", name="web", reason="limited")


class Asked(ListAuthorizer):
    """A list that counts how often it was asked, and may say that a decision does not last."""

    def __init__(self) -> None:
        super().__init__([ClientSpec("search", credentials=("web", "db"))], ["web", "db"])
        self.times = 0
        self.lasting = True

    def authorize(self, principal: Principal, name: str, **asked: Any) -> Decision:
        self.times += 1
        return replace(super().authorize(principal, name, **asked), lasting=self.lasting)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def authorizer() -> Asked:
    return Asked()


@pytest.fixture
def tokens(clock: ManualClock) -> Tokens:
    wall = clock.wall()
    return Tokens(Grant("t1", "alice", "search", "", ("find",), ("web",), wall, wall + 60))


@pytest.fixture
def desk(clock: ManualClock, authorizer: Asked, tokens: Tokens) -> Desk:
    desk = Desk(clock, authorizer=authorizer, tokens=tokens)
    desk.kv("v1")
    return desk


class Door:
    """Asks as the hot path does: keeps a pass as long as it stands."""

    def __init__(self, desk: Desk, *, subject_token: bytes | None = None, tool: str = "") -> None:
        self._desk, self._token, self._tool = desk, subject_token, tool
        self.held: Pass | None = None
        self.settled: list[AuditUnavailable | None] = []

    def ask(self, *, if_none_match: str | None = None) -> int:
        """One request; its status."""
        service, clock = self._desk.service, self._desk.clock
        request = self._desk.request(tool=self._tool)
        now, wall = clock.now(), clock.wall()
        held = self.held
        if held is None or not service.stands(held, now, wall):
            principal = service.authenticate("key", None, None, request, self._token)
            held = service.admit(principal, "web", request, if_none_match=if_none_match)
            self.held = held
        answer = service.ready(held, request.id, now, wall)
        assert answer is not None
        service.stage(held, request.id, wall, self.settled.append)
        service.settled(held, now, self.settled[-1])
        return answer.status


@pytest.fixture
def door(desk: Desk) -> Door:
    desk.trust("search", "key")
    return Door(desk)


def test_the_same_request_is_decided_once_and_recorded_each_time(
    door: Door, desk: Desk, authorizer: Asked
) -> None:
    """Records differ in time and id alone."""
    for _ in range(3):
        assert door.ask() == 200
    assert authorizer.times == 1
    assert [record["result"] for record in desk.audit.records] == ["ok"] * 3
    assert len({record["request_id"] for record in desk.audit.records}) == 3
    assert desk.metrics.handouts == [("web", "search", "ok")] * 3


def test_a_new_value_is_handed_out_at_once(door: Door, desk: Desk) -> None:
    """A pass is about who may have what, not about the value."""
    door.ask()
    desk.kv("v2")
    door.ask()
    assert [record["version"] for record in desk.audit.records] == ["v1", "v2"]


def test_a_value_that_ended_is_not_handed_out_by_a_pass(
    door: Door, desk: Desk, clock: ManualClock
) -> None:
    """Nor one that nobody has confirmed since the clock jumped."""
    desk.kv("v1", staleness=10.0)
    door.ask()
    clock.advance(11.0)
    with pytest.raises(CredentialUnavailable):
        door.ask()
    assert desk.audit.records[-1]["result"] == "credential_unavailable"


@pytest.mark.parametrize(
    "move",
    [
        lambda desk, _: desk.trust("search", "key"),
        lambda desk, authorizer: authorizer.configure(
            [ClientSpec("search", credentials=("web",))], ["web"]
        ),
        lambda desk, _: desk.service.reconfigure(desk.specs),
        lambda desk, _: desk.kv("v2"),
    ],
)
def test_whatever_moves_has_it_decided_anew(
    door: Door, desk: Desk, authorizer: Asked, move: Callable[[Desk, Asked], object]
) -> None:
    """Client tokens, policies, configuration, live values."""
    door.ask()
    move(desk, authorizer)
    door.ask()
    assert authorizer.times == 2


def test_what_was_taken_away_is_refused_to_a_pass(door: Door, authorizer: Asked) -> None:
    """By the very next request."""
    door.ask()
    authorizer.configure([ClientSpec("search", credentials=("db",))], ["web", "db"])
    with pytest.raises(CredentialUnknown):
        door.ask()


def test_a_decision_that_does_not_last_is_made_each_time(door: Door, authorizer: Asked) -> None:
    """One that reads the clock or the arguments, for instance."""
    authorizer.lasting = False
    door.ask()
    door.ask()
    assert authorizer.times == 2


def test_while_a_replaced_token_is_taken_nothing_is_kept(
    door: Door, desk: Desk, clock: ManualClock, authorizer: Asked
) -> None:
    """Its end is an end by time, which no generation tells."""
    desk.callers.accept("search", b"x" * 32, overlap=60.0)
    door.ask()
    door.ask()
    assert authorizer.times == 2
    clock.advance(60.0)
    with pytest.raises(Exception, match="proof"):
        door.ask()


def test_a_revoked_scoped_token_ends_its_pass(door: Door, desk: Desk, tokens: Tokens) -> None:
    """The next request is refused, whatever was decided before."""
    mine = Door(desk, subject_token=b"good", tool="find")
    mine.ask()
    mine.ask()
    assert desk.audit.records[-1]["token_id"] == "t1"
    assert desk.audit.records[-1]["subject"] == "alice"
    tokens.revoke()
    with pytest.raises(SubjectTokenRefused):
        mine.ask()
    assert desk.audit.records[-1]["reason"] == "token_unknown"
    assert door.ask() == 200


def test_a_scoped_token_ends_its_pass_by_time(door: Door, desk: Desk, clock: ManualClock) -> None:
    """At its expiry what was decided no longer stands: the token is looked at again."""
    mine = Door(desk, subject_token=b"good", tool="find")
    mine.ask()
    assert mine.held is not None
    assert desk.service.stands(mine.held, clock.now(), clock.wall() + 59.9)
    assert not desk.service.stands(mine.held, clock.now(), clock.wall() + 60.0)


def test_a_date_set_back_prolongs_no_pass(
    door: Door, desk: Desk, tokens: Tokens, clock: ManualClock
) -> None:
    """A scoped token ends by the clock that nobody sets, too: its verifier is asked again soon."""
    mine = Door(desk, subject_token=b"good", tool="find")
    mine.ask()
    clock.jump_wall(-3600.0)
    clock.advance(0.9)
    mine.ask()
    tokens.expire()
    clock.advance(0.1)
    with pytest.raises(SubjectTokenRefused):
        mine.ask()
    assert door.ask() == 200


def test_a_token_for_another_tool_names_the_scope(door: Door, desk: Desk) -> None:
    """The refusal says which scope would do, and is recorded."""
    with pytest.raises(InsufficientScope) as refusal:
        Door(desk, subject_token=b"good", tool="delete").ask()
    assert refusal.value.scope == "tool:delete"
    assert desk.audit.records[-1]["result"] == "insufficient_scope"


def test_every_hand_out_of_a_pass_is_counted_by_the_limit(desk: Desk, clock: ManualClock) -> None:
    """A refused one is recorded and hands nothing out; new limits have it decided anew."""
    limits = TwoOf()
    desk.service = HandoutService(
        clock=clock,
        store=desk.store,
        callers=desk.callers,
        authorizer=desk.lists,
        audit=desk.audit,
        metrics=desk.metrics,
        reports=desk.reports,
        specs=desk.specs,
        mask=str,
        limits=limits,
    )
    desk.trust("search", "key")
    door = Door(desk)
    door.ask()
    door.ask()
    with pytest.raises(CredentialUnavailable, match=r"wait 12\.5"):
        door.ask()
    assert desk.audit.records[-1]["kind"] == "refusal"
    assert door.held is not None
    limits.generation += 1
    assert not desk.service.stands(door.held, clock.now(), clock.wall())


def test_an_answer_without_its_record_is_counted_as_refused(door: Door, desk: Desk) -> None:
    """The log says so when it settles."""
    desk.audit.broken = True
    door.ask()
    assert isinstance(door.settled[0], AuditUnavailable)
    assert desk.metrics.handouts == [("web", "search", "audit_unavailable")]


def test_an_unchanged_version_is_a_304_by_a_pass_too(door: Door) -> None:
    """The condition belongs to the request, so it is part of the pass."""
    assert door.ask(if_none_match='"v1"') == 304
    assert door.ask() == 304
