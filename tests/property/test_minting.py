"""A minted token gives what its caller, naming that subject, has without it; for any policies."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.access.policies import Policies
from broker.access.policy import PolicyAuthorizer
from broker.access.principal import Caller, Principal, narrow
from broker.access.roles import Role
from broker.access.tokens.minting import TokenDesk
from broker.access.tokens.showing import Asker
from broker.access.vocabulary import Question
from broker.errors import BrokerError
from broker.protocol.scopes import covers
from tests.property.test_access_roles import (
    ADDRESSES,
    CALLERS,
    CEDAR,
    CREDENTIALS,
    SUBJECTS,
    TOOLS,
    compiled,
    list_allows,
    lists,
    role_allows,
    roles,
)
from tests.simulators.clock import ManualClock
from tests.simulators.tokens import pod

GLOBS = ("*", "search*", "*.list", "s?arch", "o*")
MINTS = (
    'permit (principal, action == Action::"mint_token", resource);',
    'permit (principal in Caller::"one", action == Action::"mint_token", resource);',
    (
        'forbid (principal in Caller::"one", action == Action::"handout", resource) '
        'when { context.tool == "search" };'
    ),
)
files = st.lists(st.sampled_from((*CEDAR, *MINTS)), unique=True).map("\n".join)
wishes = st.fixed_dictionaries(
    {
        "subject": st.sampled_from(SUBJECTS),
        "tools": st.lists(st.sampled_from((*TOOLS, *GLOBS)), min_size=1, max_size=2, unique=True),
        "credentials": st.lists(st.sampled_from(list(CREDENTIALS)), max_size=2, unique=True),
    }
)
walls = st.integers(1_700_000_000, 1_800_000_000)


class Desk:
    """A desk over any policies, at any time."""

    def __init__(self, policies: Policies, wall: float) -> None:
        self.policies, self.clock = policies, ManualClock()
        self.at(wall)
        self.authorizer = PolicyAuthorizer(self.clock, policies)
        self.store, _ = pod(self.clock)
        self.desk = TokenDesk(
            clock=self.clock,
            store=self.store,
            authorizer=self.authorizer,
            records=pod(self.clock)[1],
            life=900,
            max_life=900,
            clients=CALLERS,
        )

    def at(self, wall: float) -> None:
        self.clock.offset = wall - self.clock.time

    def mint(self, asker: Asker, wish: dict[str, Any]) -> bytes | None:
        """The token; None when it is refused."""
        try:
            return asyncio.run(self.desk.mint(asker, wish))["token"].encode()
        except BrokerError:
            return None

    def allows(self, action: str, caller: str, subject: str | None, **asked: Any) -> bool:
        question = Question(caller, action, subject=subject, wall=self.clock.wall(), **asked)
        return self.policies.decide(question).allowed

    def gets(self, token: bytes, caller: str, name: str, tool: str, address: str) -> bool:
        """What a hand-out with the token comes to (``HandoutService``)."""
        try:
            principal = Principal(
                Caller(caller, "token"), self.store.verify(token, Caller(caller, "token"))
            )
            narrow(principal.grant, name, tool)
            self.authorizer.authorize(principal, name, tool=tool, address=address)
        except BrokerError:
            return False
        return True


@settings(max_examples=120, deadline=None)
@given(
    roles,
    lists,
    files,
    st.sampled_from((*CALLERS, None)),
    st.sampled_from(CALLERS),
    wishes,
    walls,
    st.sampled_from(ADDRESSES),
)
def test_what_is_minted_is_held(
    found: tuple[Role, ...],
    listed: dict[str, tuple[str, ...]],
    cedar: str,
    asks: str | None,
    client: str,
    wish: dict[str, Any],
    wall: int,
    address: str,
) -> None:
    """Each credential for each tool now, by the verdict that hand-outs have; by an operator too."""
    made = Desk(compiled(found, listed, cedar), wall)
    if asks is None:
        caller, address = client, ""
        token = made.mint(Asker("operator uid 0", "r"), {**wish, "caller": client})
    else:
        caller, principal = asks, Principal(Caller(asks, "token"))
        token = made.mint(Asker(asks, "r", principal, address=address), wish)
    if token is None:
        return
    subject = wish["subject"]
    for tool in (one for one in TOOLS if covers(wish["tools"], one)):
        for name in wish["credentials"]:
            asked = {"resource": name, "tool": tool, "address": address}
            assert made.allows("handout", caller, subject, **asked)
            if asks is not None:
                assert made.allows("mint_token", caller, None, **asked)
        if asks is not None:
            asked = {"resource": tool, "tool": tool, "address": address, "about_tool": True}
            assert made.allows("mint_token", caller, None, **asked)


@settings(max_examples=80, deadline=None)
@given(
    roles,
    lists,
    st.sampled_from(CALLERS),
    wishes,
    st.tuples(walls, st.integers(0, 899)),
    st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES)),
)
def test_what_a_token_gets_its_caller_has(
    found: tuple[Role, ...],
    listed: dict[str, tuple[str, ...]],
    caller: str,
    wish: dict[str, Any],
    walls: tuple[int, int],
    addresses: tuple[str, str],
) -> None:
    """At any later moment, from anywhere, by the plain rules of lists and roles."""
    made = Desk(compiled(found, listed), walls[0])
    principal = Principal(Caller(caller, "token"))
    token = made.mint(Asker(caller, "r", principal, address=addresses[0]), wish)
    if token is None:
        return
    made.at(walls[0] + walls[1])
    for name in CREDENTIALS:
        for tool in TOOLS:
            if not made.gets(token, caller, name, tool, addresses[1]):
                continue
            question = Question(
                caller,
                "handout",
                name,
                subject=wish["subject"],
                tool=tool,
                address=addresses[1],
                wall=made.clock.wall(),
            )
            assert list_allows(listed, question) or any(role_allows(one, question) for one in found)
            assert name in wish["credentials"]
            assert covers(wish["tools"], tool)


@settings(max_examples=60, deadline=None)
@given(roles, lists, st.sampled_from(CALLERS), wishes, walls)
def test_what_is_held_and_may_be_passed_on_is_minted(
    found: tuple[Role, ...],
    listed: dict[str, tuple[str, ...]],
    caller: str,
    wish: dict[str, Any],
    wall: int,
) -> None:
    """The rule refuses no more than it says: names of tools, by the plain rules."""
    wish = {**wish, "tools": [one for one in wish["tools"] if one in TOOLS] or ["search"]}
    wish["credentials"] = wish["credentials"] or ["web"]
    made = Desk(compiled(found, listed), wall)

    def allowed(action: str, subject: str | None, resource: str, tool: str) -> bool:
        question = Question(
            caller,
            action,
            resource,
            about_tool=resource == tool,
            subject=subject,
            tool=tool,
            wall=wall,
        )
        return list_allows(listed, question) or any(role_allows(one, question) for one in found)

    held = all(
        allowed("handout", wish["subject"], name, tool)
        and allowed("mint_token", None, name, tool)
        and allowed("mint_token", None, tool, tool)
        for tool in wish["tools"]
        for name in wish["credentials"]
    )
    asker = Asker(caller, "r", Principal(Caller(caller, "token")))
    assert (made.mint(asker, wish) is not None) is held
