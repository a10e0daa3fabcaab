"""``access.tokens.minting``: who may have which token, by roles and policies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.access.policy import PolicyAuthorizer
from broker.access.principal import Caller, Principal
from broker.access.roles import Role, Window
from broker.access.tokens.minting import TokenDesk
from broker.access.tokens.showing import Asker
from broker.access.vocabulary import DAYS
from broker.errors import BrokerError, CallerForbidden, CredentialUnknown, InsufficientScope
from tests.simulators.clock import ManualClock
from tests.simulators.tokens import RecordsSimulator, pod
from tests.unit.test_access_policy import policies

SHOP = Principal(Caller("shop", "token"))
SEARCH = Principal(Caller("search", "token"))

FINANCE = Role(
    "finance",
    callers=("shop",),
    subjects=("*@finance",),
    tools=("reports.*",),
    credentials=("orders",),
)
PASSES_ON = Role(
    "passes-on",
    callers=("shop",),
    tools=("shop.*",),
    credentials=("web",),
    actions=("handout", "call_tool", "mint_token"),
)
KEEPS = Role("keeps", callers=("shop",), tools=("own.*",), credentials=("orders",))


def desk(text: str = "", *roles: Role) -> tuple[TokenDesk, RecordsSimulator]:
    """``search`` has a list with ``web``; ``shop`` has what the roles and policies say."""
    clock = ManualClock()
    store, records = pod(clock)
    made = TokenDesk(
        clock=clock,
        store=store,
        authorizer=PolicyAuthorizer(clock, policies(text, *roles)),
        records=records,
        life=900,
        max_life=3600,
        clients=("search", "shop"),
    )
    return made, records


async def outcome(made: TokenDesk, who: Principal | None, **wish: Any) -> str:
    """``minted``, or the class of the refusal."""
    wish.setdefault("subject", "ann@finance")
    try:
        await made.mint(Asker("who", "r1", who), wish)
    except BrokerError as error:
        return type(error).__name__
    return "minted"


async def test_a_list_may_be_passed_on() -> None:
    """What a client's list names, for any tool and any subject; nothing else."""
    made, _ = desk()
    assert await outcome(made, SEARCH, tools=["*"], credentials=["web"]) == "minted"
    assert await outcome(made, SEARCH, tools=["*"], credentials=["orders"]) == "CredentialUnknown"
    assert await outcome(made, SHOP, tools=["*"]) == "InsufficientScope"


@pytest.mark.parametrize(
    ("tools", "credentials", "expected"),
    [
        (["shop.list"], ["web"], "minted"),
        (["shop.*"], ["web"], "minted"),
        (["shop.*", "shop.a?"], [], "minted"),
        (["*"], [], InsufficientScope.__name__),
        (["sho*"], [], InsufficientScope.__name__),
        (["own.list"], [], CallerForbidden.__name__),
        (["own.*"], ["orders"], CallerForbidden.__name__),
        (["shop.list"], ["orders"], CallerForbidden.__name__),
    ],
)
async def test_a_role_is_passed_on_if_it_says_so(
    tools: list[str], credentials: list[str], expected: str
) -> None:
    """``mint_token`` among its actions; what is held without it is kept for oneself."""
    made, records = desk("", PASSES_ON, KEEPS)
    assert await outcome(made, SHOP, tools=tools, credentials=credentials) == expected
    assert len(records.of("minted")) == (expected == "minted")
    assert len(records.reasons) == (expected != "minted")


async def test_what_is_for_some_subjects_is_minted_for_these_by_an_operator() -> None:
    """A caller that only holds it on their behalf cannot name one of them by itself."""
    made, _ = desk("", FINANCE, PASSES_ON)
    wish = {"tools": ["reports.read"], "credentials": ["orders"]}
    assert await outcome(made, SHOP, **wish) == CallerForbidden.__name__
    assert await outcome(made, None, caller="shop", **wish) == "minted"
    other = await outcome(made, None, caller="shop", subject="bob@sales", **wish)
    assert other == CredentialUnknown.__name__
    wide = await outcome(made, None, caller="shop", tools=["*"], credentials=["orders"])
    assert wide == InsufficientScope.__name__
    assert await outcome(made, None, caller="search", **wish) == CredentialUnknown.__name__


async def test_a_policy_may_let_a_caller_name_subjects() -> None:
    """Who verifies subjects gets ``mint_token`` for what is held on their behalf."""
    text = (
        'permit (principal == Caller::"shop", action == Action::"mint_token", resource) '
        'when { resource == Credential::"orders" || context.tool like "reports.*" };'
    )
    made, _ = desk(text, FINANCE)
    wish = {"tools": ["reports.read"], "credentials": ["orders"]}
    assert await outcome(made, SHOP, **wish) == "minted"
    assert await outcome(made, SHOP, subject="bob@sales", **wish) == CredentialUnknown.__name__


async def test_a_policy_may_forbid_minting() -> None:
    """A list alone passes on; a forbid stops that."""
    made, _ = desk(
        'forbid (principal in Caller::"search", action == Action::"mint_token", resource);'
    )
    assert await outcome(made, SEARCH, tools=["*"], credentials=["web"]) == "CallerForbidden"
    assert await outcome(made, None, caller="search", tools=["*"], credentials=["web"]) == "minted"


MINT = 'forbid (principal in Caller::"search", action == Action::"mint_token", '


@pytest.mark.parametrize(
    ("text", "minted", "refused"),
    [
        (MINT + 'resource == Tool::"drop");', ["find*"], ["d*"]),
        (MINT + 'resource) when { resource in [Tool::"drop"] };', ["dro"], ["*"]),
        (MINT + 'resource) when { context.tool == "drop" };', ["dro"], ["dro?"]),
        (MINT + 'resource) when { ["drop"].contains(context.tool) };', ["a*"], ["?rop"]),
        (MINT + 'resource) when { context.tool like "admin.*" };', ["a?min"], ["ad*"]),
        (MINT + 'resource) when { context.tool like "*.drop" };', ["a.dro"], ["a.*"]),
        (MINT + 'resource) unless { context.tool like "s*" };', ["s*"], ["*"]),
        (MINT + 'resource == Credential::"web") when { context.tool == "a" };', ["b"], ["?"]),
        (MINT + 'resource == Credential::"web") when { context.tool == "a" };', ["b"], ["a", "b"]),
    ],
)
async def test_no_glob_and_no_company_is_a_way_around_a_forbid(
    text: str, minted: list[str], refused: list[str]
) -> None:
    """What a tool may not be minted for alone it is not minted for under a wider name."""
    made, _ = desk(text)
    assert await outcome(made, SEARCH, tools=minted, credentials=["web"]) == "minted"
    assert await outcome(made, SEARCH, tools=refused, credentials=["web"]) == "CallerForbidden"


async def test_a_glob_covers_nothing_that_a_permit_leaves_out() -> None:
    """A permit may be for all tools but one."""
    text = (
        'permit (principal in Caller::"shop", action, resource) when '
        '{ (resource is Tool || resource == Credential::"web") && context.tool != "drop" };'
    )
    made, _ = desk(text)
    assert await outcome(made, SHOP, tools=["find*"], credentials=["web"]) == "minted"
    assert await outcome(made, SHOP, tools=["dro*"], credentials=["web"]) == "CallerForbidden"


async def test_a_token_holds_no_pair_that_its_caller_does_not() -> None:
    """Each credential for each tool; what goes with different tools is two tokens."""
    actions = ("handout", "call_tool", "mint_token")
    roles = [
        Role(name, callers=("shop",), tools=(f"{name}.*",), credentials=(name,), actions=actions)
        for name in ("web", "orders")
    ]
    made, records = desk("", *roles)
    wish = {"tools": ["web.*", "orders.x"], "credentials": ["web", "orders"]}
    assert await outcome(made, SHOP, **wish) == "CallerForbidden"
    assert await outcome(made, None, caller="shop", **wish) == "CallerForbidden"
    assert records.of("minted") == []
    assert await outcome(made, SHOP, tools=["web.*"], credentials=["web"]) == "minted"
    assert await outcome(made, SHOP, tools=["orders.x"], credentials=["orders"]) == "minted"


ALL_MINT = 'permit (principal in Caller::"shop", action == Action::"mint_token", resource);'
SEES = Role("sees", callers=("shop",), credentials=("orders",), actions=("read_status",))
NIGHT = Role(
    "night",
    callers=("shop",),
    credentials=("orders",),
    times=(Window("UTC", DAYS, 1, 2),),
)


@pytest.mark.parametrize("role", [SEES, NIGHT], ids=lambda role: role.name)
async def test_a_grant_of_minting_alone_widens_nothing(role: Role) -> None:
    """To see a credential's state, or to have it at another hour, is not to hold it now."""
    made, records = desk(ALL_MINT, role)
    wish = {"tools": ["*"], "credentials": ["orders"]}
    assert await outcome(made, SHOP, **wish) == "CallerForbidden"
    assert await outcome(made, None, caller="shop", **wish) == "CallerForbidden"
    assert records.of("minted") == []


async def test_what_hand_outs_forbid_of_a_glob_minting_does_too() -> None:
    """A tool for which the subject gets nothing keeps the glob from being minted."""
    text = (
        'forbid (principal in Caller::"search", action == Action::"handout", resource) '
        'when { context.tool == "drop" };'
    )
    made, _ = desk(text)
    for who in (SEARCH, None):
        more = {} if who else {"caller": "search"}
        wide = await outcome(made, who, tools=["d*"], credentials=["web"], **more)
        assert wide == "CallerForbidden"
        assert await outcome(made, who, tools=["f*"], credentials=["web"], **more) == "minted"


async def test_a_token_for_tools_alone_is_for_tools_that_may_be_called() -> None:
    """Where a policy looks at arguments each call is decided; without them nothing is known."""
    text = (
        'forbid (principal in Caller::"search", action == Action::"call_tool", '
        'resource == Tool::"drop");'
        'forbid (principal in Caller::"search", action == Action::"call_tool", '
        'resource == Tool::"query") when { context.arguments has database };'
    )
    made, _ = desk(text)
    assert await outcome(made, SEARCH, tools=["drop"]) == "CallerForbidden"
    assert await outcome(made, SEARCH, tools=["d*"]) == "CallerForbidden"
    assert await outcome(made, SEARCH, tools=["query", "find"]) == "minted"
    assert await outcome(made, None, caller="search", tools=["drop"]) == "CallerForbidden"


async def test_what_is_for_a_network_only_no_operator_mints() -> None:
    """He comes without an address, as the policies say of a Unix socket."""
    actions = ("handout", "call_tool", "mint_token")
    made, _ = desk(
        "",
        Role("near", ("shop",), credentials=("web",), addresses=("10.0.0.0/8",), actions=actions),
    )
    wish = {"subject": "ann", "tools": ["a"], "credentials": ["web"]}
    minted = await made.mint(Asker("shop", "r1", SHOP, address="10.1.2.3"), wish)
    assert minted["caller"] == "shop"
    assert await outcome(made, None, caller="shop", **wish) == "CallerForbidden"


async def test_policies_that_change_while_it_is_decided_decide() -> None:
    """A large wish takes many turns; the set that was in use first does not count alone."""
    made, records = desk()
    held = made._authorizer
    assert isinstance(held, PolicyAuthorizer)
    wish = {"tools": [f"tool-{number}" for number in range(30)], "credentials": ["web"]}
    minting = asyncio.create_task(outcome(made, SEARCH, **wish))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not minting.done()
    text = 'forbid (principal in Caller::"search", action, resource) when { context.tool == "%s" };'
    held.configure(policies(text % "tool-0"))
    assert await minting == "CallerForbidden"
    assert records.of("minted") == []


async def test_lives_follow_the_configuration() -> None:
    """What is configured anew holds for the next token."""
    made, _ = desk()
    asker = Asker("search", "r1", SEARCH)
    wish = {"subject": "ann", "tools": ["*"]}
    assert (await made.mint(asker, wish))["expires_in"] == pytest.approx(900, abs=0.01)
    made.configure(life=60, max_life=120, clients=("search",))
    assert (await made.mint(asker, wish))["expires_in"] == pytest.approx(60, abs=0.01)
    long = await made.mint(asker, {**wish, "expires_in": 5000})
    assert long["expires_in"] == pytest.approx(120, abs=0.01)
    made.configure(life=1e9, max_life=1e9, clients=("search",))
    assert (await made.mint(asker, wish))["expires_in"] <= 86400
