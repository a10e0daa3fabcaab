"""The authorizer by policies: what it keeps, what it forgets, what it tells."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.access.authorizer import Authorizer, ListAuthorizer
from broker.access.cache import Cache
from broker.access.caller import ClientSpec
from broker.access.current import CurrentAuthorizer
from broker.access.policies import Policies
from broker.access.policy import PolicyAuthorizer
from broker.access.policy_sources import PolicyFile, Sources, Target
from broker.access.principal import Caller, Grant, Principal
from broker.access.roles import Role
from broker.credentials.model import CredentialKey
from broker.errors import CallerForbidden, CredentialUnknown
from tests.simulators.clock import ManualClock

SEARCH, SHOP = (Principal(Caller(name, "token")) for name in ("search", "shop"))
ANN = Principal(
    Caller("shop", "token"), Grant("id", "ann", "shop", "", ("*",), ("web", "orders"), 0, 9e9)
)
PERMIT = 'permit (principal in Caller::"shop", action == Action::"handout", resource)'


def policies(text: str = "", *roles: Role) -> Policies:
    return Policies(
        Sources(
            clients={"search": ("web",), "shop": ()},
            credentials={
                "web": Target("kv", "secret", "web"),
                "orders": Target("kv", "secret", "orders"),
            },
            roles=roles,
            files=(PolicyFile("p.cedar", text),),
        )
    )


class Counting(Policies):
    """Counts evaluations."""

    evaluations = 0

    def decide(self, question: Any) -> Any:
        self.evaluations += 1
        return super().decide(question)


def counting(text: str = "", *roles: Role) -> tuple[Counting, PolicyAuthorizer, ManualClock]:
    clock, found = ManualClock(), Counting(policies(text, *roles).sources)
    return found, PolicyAuthorizer(clock, found), clock


def refused(authorizer: Authorizer, who: Principal, name: str, **more: Any) -> tuple[str, str]:
    with pytest.raises((CredentialUnknown, CallerForbidden)) as refusal:
        authorizer.authorize(who, name, **{"tool": "", **more})
    reason = refusal.value.reason  # type: ignore[attr-defined]
    return type(refusal.value).__name__, reason


def test_a_permission_names_its_policies() -> None:
    """As the audit wants them; the key is the store's."""
    decision = PolicyAuthorizer(ManualClock(), policies()).authorize(SEARCH, "web", tool="")
    assert decision.key == CredentialKey("web")
    assert decision.policies == ("clients.search",)
    assert decision.lasting


async def test_who_can_have_it_otherwise_is_told_so_and_nobody_else() -> None:
    """Outside, an unknown credential and one that nothing opens look the same."""
    authorizer = PolicyAuthorizer(
        ManualClock(),
        policies(
            'permit (principal in Caller::"shop", action == Action::"handout", '
            'resource == Credential::"web") when { context.tool == "a" };'
        ),
    )
    assert authorizer.authorize(SHOP, "web", tool="a").key.name == "web"
    assert refused(authorizer, SHOP, "web", tool="b") == ("CallerForbidden", "no_policy")
    assert refused(authorizer, SHOP, "orders", tool="a") == ("CredentialUnknown", "no_policy")
    assert refused(authorizer, SHOP, "nothing", tool="a") == ("CredentialUnknown", "unknown")
    assert refused(authorizer, SEARCH, "orders", tool="a") == ("CredentialUnknown", "no_policy")
    assert await authorizer.credentials(SHOP) == (CredentialKey("web"),)


def test_a_decision_without_changing_conditions_is_kept() -> None:
    """The second answer is the first; each subject, action, tool and name has its own."""
    found, authorizer, _ = counting(PERMIT + ";")
    first = authorizer.authorize(SHOP, "web", tool="a")
    assert authorizer.authorize(SHOP, "web", tool="a") is first
    assert authorizer.authorize(SHOP, "web", tool="b") is first  # no policy looks at tools
    assert found.evaluations == 1
    authorizer.authorize(ANN, "web", tool="a")
    assert refused(authorizer, SHOP, "web", action="report") == ("CallerForbidden", "no_policy")
    assert refused(authorizer, SHOP, "web", action="report") == ("CallerForbidden", "no_policy")
    assert found.evaluations == 3


def test_a_decision_by_the_time_holds_for_its_minute() -> None:
    """It does not last, and is not evaluated again within the minute."""
    found, authorizer, clock = counting(
        PERMIT + ' when { context.time >= duration("8h") && context.time < duration("8h1m") };'
    )
    clock.offset = 8 * 3600 - clock.time - 1
    assert refused(authorizer, SHOP, "web") == ("CallerForbidden", "no_policy")
    clock.time += 1
    for _ in range(3):
        assert not authorizer.authorize(SHOP, "web", tool="").lasting
        clock.time += 19
    clock.time += 3
    assert refused(authorizer, SHOP, "web") == ("CallerForbidden", "no_policy")
    assert found.evaluations == 3


def test_a_decision_by_the_address_holds_for_it_alone() -> None:
    """Another address asks anew."""
    _, authorizer, _ = counting(
        PERMIT + ' when { context has address && context.address == ip("127.0.0.1") };'
    )
    for _ in range(2):
        assert not authorizer.authorize(SHOP, "web", tool="", address="127.0.0.1").lasting
        assert refused(authorizer, SHOP, "web", address="127.0.0.2")[0] == "CallerForbidden"
        assert refused(authorizer, SHOP, "web")[0] == "CallerForbidden"


def test_a_condition_on_other_people_leaves_decisions_lasting() -> None:
    """A policy that cannot apply does not matter."""
    text = (
        f'{PERMIT}; forbid (principal in Caller::"search", action, resource) '
        'when { context.time < duration("1h") };'
    )
    _, authorizer, _ = counting(text)
    assert authorizer.authorize(SHOP, "web", tool="").lasting
    assert not authorizer.authorize(SEARCH, "web", tool="").lasting


def test_tools_are_decided_and_kept_alike() -> None:
    """By name, and for who mints a token for one."""
    found, authorizer, _ = counting("", Role("r", ("shop",), tools=("a*",)))
    for _ in range(2):
        assert authorizer.authorize_tool(SHOP, "ab") == ("roles.r",)
        with pytest.raises(CallerForbidden) as refusal:
            authorizer.authorize_tool(SHOP, "b")
        assert refusal.value.reason == "no_policy"
        with pytest.raises(CallerForbidden):
            authorizer.authorize_tool(SHOP, "ab", action="mint_token")
    assert found.evaluations == 3
    assert authorizer.tools(SHOP) == ("a*",)
    assert authorizer.tools(SEARCH) is None


async def test_a_new_configuration_empties_the_memory_at_once() -> None:
    """And moves the generation, for those who keep decisions themselves."""
    authorizer = PolicyAuthorizer(ManualClock(), policies(PERMIT + ";"))
    before = authorizer.generation
    assert authorizer.authorize(SHOP, "web", tool="").lasting
    assert await authorizer.credentials(SHOP)
    authorizer.configure(policies())
    assert authorizer.generation > before
    assert refused(authorizer, SHOP, "web") == ("CredentialUnknown", "no_policy")
    assert await authorizer.credentials(SHOP) == ()


def test_forgetting_asks_the_policies_again() -> None:
    """As after a revocation."""
    found, authorizer, _ = counting(PERMIT + ";")
    authorizer.authorize(SHOP, "web", tool="")
    before = authorizer.generation
    authorizer.forget()
    authorizer.authorize(SHOP, "web", tool="")
    assert found.evaluations == 2
    assert authorizer.generation > before


def test_inventing_tools_pushes_out_nobody_elses_decisions() -> None:
    """Each caller has its own bounded memory."""
    found = Counting(policies("", Role("r", ("shop",), tools=("a",), credentials=("web",))).sources)
    authorizer = PolicyAuthorizer(ManualClock(), found, kept=10)
    authorizer.authorize(SEARCH, "web", tool="")
    for number in range(100):
        refused(authorizer, SHOP, "web", tool=f"invented-{number}")
    assert len(authorizer._verdicts) == 11
    before = found.evaluations
    authorizer.authorize(SEARCH, "web", tool="")
    assert found.evaluations == before


def test_the_cache_drops_the_oldest() -> None:
    """A value put again is not a new one."""
    cache: Cache[int] = Cache(2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        cache.put("x", key, value)
    cache.put("y", "a", 5)
    assert [cache.get("x", key) for key in "abc"] == [None, 2, 4]
    assert (cache.get("y", "a"), cache.get("z", "a"), len(cache)) == (5, None, 3)
    cache.clear()
    assert len(cache) == 0


async def test_kinds_may_change_while_it_runs() -> None:
    """Lists to policies and back; the generation never stands still or goes back."""
    plain = ListAuthorizer([ClientSpec("search", credentials=("web",))], ["web"])
    current = CurrentAuthorizer(plain)
    seen = [current.generation]
    assert current.authorize(SEARCH, "web", tool="").lasting
    current.use(PolicyAuthorizer(ManualClock(), policies(PERMIT + ";")))
    seen.append(current.generation)
    assert current.authorize(SHOP, "orders", tool="").key.name == "orders"
    assert current.authorize_tool(SEARCH, "any") == ("clients.search",)
    assert await current.credentials(SEARCH) == (CredentialKey("web"),)
    assert current.tools(SHOP) is None
    current.use(ListAuthorizer([], ["web"]))
    seen.append(current.generation)
    with pytest.raises(CredentialUnknown):
        current.authorize(SEARCH, "web", tool="")
    assert seen == sorted(set(seen))


def test_a_subject_that_its_caller_verified_is_a_subject() -> None:
    """For decisions about tools: never judged as the caller itself."""
    who = 'principal == Subject::"https://as.example|ann"'
    authorizer = PolicyAuthorizer(
        ManualClock(), policies(f'permit ({who}, action == Action::"call_tool", resource);')
    )
    ann, bob = (
        Principal(Caller("shop", "token"), asserted=f"https://as.example|{name}")
        for name in ("ann", "bob")
    )
    assert authorizer.authorize_tool(ann, "web_search")
    for other in (bob, SHOP):
        with pytest.raises(CallerForbidden):
            authorizer.authorize_tool(other, "web_search")


def many(text: str, number: int = 60) -> Policies:
    """Many credentials, each of which a file's policies look at."""
    return Policies(
        Sources(
            clients={"shop": ()},
            credentials={f"c{each}": Target("kv", "secret", f"a/{each}") for each in range(number)},
            roles=(),
            files=(PolicyFile("p.cedar", text),),
        )
    )


SEES = 'permit (principal in Caller::"shop", action, resource is Credential)'


async def test_a_first_list_lets_others_have_the_loop() -> None:
    """Where policies look at each credential it is made in many turns."""
    policies = many(SEES + ' when { resource.path like "a/*" };')
    authorizer = PolicyAuthorizer(ManualClock(), policies)
    listing = asyncio.create_task(authorizer.credentials(ANN))
    turns = 0
    while not listing.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(await listing) == 60
    assert turns >= 20
    assert len(await authorizer.credentials(ANN)) == 60  # kept


async def test_policies_that_change_while_a_list_is_made_make_it() -> None:
    """Nothing of what was seen by the set before is told, or kept."""
    authorizer = PolicyAuthorizer(ManualClock(), many(SEES + ' when { resource.path like "a/*" };'))
    current = CurrentAuthorizer(authorizer)
    listing = asyncio.create_task(current.credentials(ANN))
    for _ in range(5):
        await asyncio.sleep(0)
    authorizer.configure(many(SEES + ' when { resource.path like "a/7" };'))
    assert await listing == (CredentialKey("c7"),)
    authorizer.forget()
    listing = asyncio.create_task(current.credentials(ANN))
    await asyncio.sleep(0)
    current.use(PolicyAuthorizer(ManualClock(), many("")))
    assert await listing == ()
