"""Any story of scoped tokens, told to the real stores and to a naive model."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from broker.access.principal import Caller, Grant
from broker.access.tokens.model import BY, Target, Wish
from broker.access.tokens.pod import PodTokens
from broker.access.tokens.port import TokenStore
from broker.errors import BrokerError, CredentialUnknown, InsufficientScope, SubjectTokenRefused
from broker.protocol.scopes import covers, includes
from tests.simulators.clock import ManualClock
from tests.simulators.session import SessionByHand
from tests.simulators.tokens import RecordsSimulator, Replica, mint, pod
from tests.simulators.vault import VaultSimulator

T = TypeVar("T")

CALLERS = st.sampled_from(["mcp-a", "mcp-b"])
SUBJECTS = st.sampled_from(["alice", "bob"])
TOOLS = st.lists(
    st.sampled_from(["search", "sea*", "fetch", "*", "se?rch"]), min_size=1, max_size=2, unique=True
).map(tuple)
NAMES = ("search", "seas", "fetch", "write")
"""Tools that are really called."""
CREDENTIALS = st.lists(st.sampled_from(["x", "y"]), max_size=2, unique=True).map(tuple)


@dataclass
class Told:
    """What the model knows of one token: everything, in the simplest form."""

    text: bytes
    grant: Grant
    parent: Told | None
    ends: float
    revoked: bool = False
    children: list[Told] = field(default_factory=list)

    def line(self) -> list[Told]:
        """Itself and all it came from."""
        return [self, *(self.parent.line() if self.parent else [])]

    def revoke(self) -> None:
        """With everything that came of it."""
        self.revoked = True
        for child in self.children:
            child.revoke()


class Story(RuleBasedStateMachine):
    """One store; the shared one below has two brokers in turn."""

    tokens = Bundle("tokens")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.told: list[Told] = []
        self.open()

    def open(self) -> None:
        self.only: PodTokens
        self.records: RecordsSimulator
        self.only, self.records = pod(self.clock, most=1000)

    def store(self, number: int) -> TokenStore:
        """The store that is asked next."""
        del number
        return self.only

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def news(self) -> None:
        """Every replica has heard of everything."""

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.close()

    @rule(
        target=tokens,
        at=st.integers(0, 1),
        caller=CALLERS,
        subject=SUBJECTS,
        tools=TOOLS,
        credentials=CREDENTIALS,
        life=st.integers(1, 100),
    )
    def mint(
        self,
        at: int,
        caller: str,
        subject: str,
        tools: tuple[str, ...],
        credentials: tuple[str, ...],
        life: int,
    ) -> Told:
        wish = Wish(subject, tools, credentials)
        return self._keep(self._mint(at, wish, None, caller, life), None)

    @rule(
        target=tokens,
        at=st.integers(0, 1),
        parent=tokens,
        caller=CALLERS,
        subject=SUBJECTS,
        tools=TOOLS,
        credentials=CREDENTIALS,
        life=st.integers(1, 100),
    )
    def child(
        self,
        at: int,
        parent: Told | None,
        caller: str,
        subject: str,
        tools: tuple[str, ...],
        credentials: tuple[str, ...],
        life: int,
    ) -> Told | None:
        if parent is None:
            return None
        wish = Wish(subject, tools, credentials)
        try:
            made = self._mint(at, wish, parent.text, caller, life)
        except SubjectTokenRefused:
            assert not self._good(parent) or caller != parent.grant.caller
            return None
        except InsufficientScope:
            held = parent.grant.tools
            assert not all(any(includes(one, asked) for one in held) for asked in tools)
            return None
        except CredentialUnknown:
            assert not set(credentials) <= set(parent.grant.credentials)
            return None
        except BrokerError:
            assert subject != parent.grant.subject or len(parent.line()) > 8
            return None
        assert self._good(parent)
        assert (caller, subject) == (parent.grant.caller, parent.grant.subject)
        return self._keep(made, parent)

    @rule(
        at=st.integers(0, 1),
        by=st.sampled_from(BY),
        token=tokens,
        value=st.sampled_from(["alice", "bob", "mcp-a", "mcp-b", "x", "y"]),
    )
    def revoke(self, at: int, by: Any, token: Told | None, value: str) -> None:
        if by in {"id", "parent"}:
            if token is None:
                return
            value = token.grant.id
        self.run(self.store(at).revoke(Target(by, "" if by == "all" else value)))
        self.news()
        for one in self.told:
            grant = one.grant
            if by == "parent":
                if grant.id == value:
                    for child in one.children:
                        child.revoke()
            elif (
                by == "all"
                or (by == "id" and grant.id == value)
                or (by == "subject" and grant.subject == value)
                or (by == "caller" and grant.caller == value)
                or (by == "credential" and value in grant.credentials)
            ):
                one.revoke()

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.news()

    @invariant()
    def each_token_is_as_good_as_the_model_says(self) -> None:
        for told in getattr(self, "told", ()):
            for number in (0, 1):
                for caller in ("mcp-a", "mcp-b"):
                    expected = self._good(told) and caller == told.grant.caller
                    assert self._taken(number, told, caller) == expected

    @invariant()
    def no_token_is_wider_or_longer_than_what_it_came_from(self) -> None:
        for told in getattr(self, "told", ()):
            for above in told.line():
                assert told.grant.expires_at <= above.grant.expires_at
                assert set(told.grant.credentials) <= set(above.grant.credentials)
                for name in NAMES:
                    if covers(told.grant.tools, name):
                        assert covers(above.grant.tools, name)

    def _mint(
        self, at: int, wish: Wish, parent: bytes | None, caller: str, life: int
    ) -> tuple[bytes, Grant]:
        return self.run(
            mint(self.store(at), wish, parent=parent, caller=Caller(caller, "token"), life=life)
        )

    def _keep(self, made: tuple[bytes, Grant], parent: Told | None) -> Told:
        text, grant = made
        told = Told(text, grant, parent, grant.expires_at)
        if parent is not None:
            parent.children.append(told)
        self.told.append(told)
        return told

    def _good(self, told: Told) -> bool:
        return not told.revoked and self.clock.wall() < told.ends

    def _taken(self, number: int, told: Told, caller: str) -> bool:
        try:
            grant = self.store(number).verify(told.text, Caller(caller, "token"))
        except SubjectTokenRefused:
            return False
        assert grant == told.grant
        return True


class SharedStory(Story):
    """Two brokers; between two steps each has read the document."""

    def open(self) -> None:
        vault = VaultSimulator(self.clock)
        vault.server.kv.put("started", {"at": "set-up"})
        session = SessionByHand(vault)
        session.log_in()
        self.replicas = [
            Replica(vault, session, self.clock, seed=seed, most=1000) for seed in (1, 2)
        ]
        self.news()

    def store(self, number: int) -> TokenStore:
        return self.replicas[number].store

    def news(self) -> None:
        for replica in self.replicas:
            reader = replica.store._reader
            reader._used()
            self.run(reader._attempt(self.clock.now()))


def test_any_story_on_one_broker() -> None:
    """Minted, passed on, revoked, expired in any order: each token is as good as it should be."""
    limits = settings(max_examples=60, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(Story, settings=limits)


def test_any_story_on_two_replicas() -> None:
    """The same by signed tokens, asked of either replica once each has read the revocations."""
    limits = settings(max_examples=40, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(SharedStory, settings=limits)
