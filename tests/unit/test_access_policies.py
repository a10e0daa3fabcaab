"""What lists, roles and policy files say together."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from broker.access import cedar
from broker.access.authorizer import Action, ListAuthorizer
from broker.access.caller import ClientSpec
from broker.access.left_open import opened
from broker.access.policies import SUBJECTS, Policies
from broker.access.policy_sources import PolicyFile, Sources, Target
from broker.access.principal import Caller, Principal
from broker.access.reach import reach
from broker.access.roles import LIST_ACTIONS, Role
from broker.access.vocabulary import (
    ACTIONS,
    CREDENTIAL_ACTIONS,
    WORDS,
    Question,
    Vocabulary,
    schema,
)
from broker.errors import CredentialUnknown, SettingsErrors

CREDENTIALS = {
    "web": Target("kv", "secret", "mcp/web"),
    "orders": Target("leased", "", "database/creds/orders"),
}
NIGHT, NOON = 1_772_424_000.0, 1_772_452_800.0
"""Monday, 2 March 2026, 04:00 and 12:00 UTC."""


def compiled(cedar: str = "", *roles: Role, **sources: Any) -> Policies:
    return Policies(
        Sources(
            **{
                "clients": {"search": ("web",), "shop": ()},
                "credentials": CREDENTIALS,
                "roles": roles,
                "files": (PolicyFile("team.cedar", cedar),),
                "vocabulary": Vocabulary(
                    zones=("Europe/Zurich",),
                    arguments={"database": "text", "limit": "whole_number"},
                ),
                **sources,
            }
        )
    )


def ask(
    caller: str = "search", name: str = "web", action: str = "handout", **more: Any
) -> Question:
    return Question(caller, action, name, **{"wall": NOON, **more})


def call(tool: str, caller: str = "search", **more: Any) -> Question:
    return ask(caller, tool, "call_tool", about_tool=True, tool=tool, **{"arguments": {}, **more})


def test_nothing_is_allowed_because_nothing_mentions_it() -> None:
    """Default deny: another's credential, a client without a list, a stranger."""
    policies = compiled()
    assert policies.decide(ask()).policies == ("clients.search",)
    for one in (ask(name="orders"), ask("shop"), ask("stranger"), call("any", "shop")):
        verdict = policies.decide(one)
        assert (verdict.allowed, verdict.reason) == (False, "no_policy")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["web", "orders"])
def test_a_compiled_list_is_the_plain_list(action: Action, name: str) -> None:
    """Adding a policy elsewhere takes nothing from, and gives nothing to, a client's list."""
    plain = ListAuthorizer([ClientSpec("search", credentials=("web",))], CREDENTIALS)
    policies, search = compiled(), Principal(Caller("search", "token"))
    if action in CREDENTIAL_ACTIONS:
        try:
            expected = plain.authorize(search, name, tool="", action=action).policies
        except CredentialUnknown:
            expected = ()
        assert policies.decide(ask(name=name, action=action)).policies == expected
    if action in {"call_tool", "mint_token"}:
        asked = ask(name="t", action=action, about_tool=True, tool="t", arguments={})
        expected = plain.authorize_tool(search, "t", action=action)
        assert policies.decide(asked).policies == expected
    assert action == "rotate" or action in LIST_ACTIONS


def test_a_forbid_beats_list_and_role() -> None:
    """And is named."""
    text = '@id("closed") forbid (principal, action, resource == Credential::"web");'
    verdict = compiled(text, Role("r", ("search",), credentials=("web",))).decide(ask())
    assert (verdict.allowed, verdict.policies) == (False, ("closed",))
    assert verdict.reason == "policy_forbids closed"


@pytest.mark.parametrize("action", get_args(Action))
def test_admin_covers_all_actions(action: str) -> None:
    """As the group in Cedar and as an action of a role: none is left out."""
    assert action in ACTIONS
    about_tool = action == "call_tool"
    one = ask("shop", "orders", action, about_tool=about_tool, tool="orders", arguments={})
    by_role = compiled("", Role("boss", ("shop",), credentials=("orders",), actions=("admin",)))
    text = '@id("all") permit (principal in Caller::"shop", action in Action::"admin", resource);'
    assert by_role.decide(one).policies == ("roles.boss",)
    assert compiled(text).decide(one).policies == ("all",)
    assert not compiled().decide(one).allowed


def test_the_words_cover_every_action() -> None:
    """What the port knows, the schema knows."""
    assert sorted(ACTIONS) == sorted(get_args(Action))


# --- callers, subjects, roles -------------------------------------------------------------


def test_a_subject_is_in_its_caller() -> None:
    """``principal in Caller`` is the caller with tokens and without; ``==`` without."""
    text = """
        @id("in") permit (principal in Caller::"shop", action == Action::"handout", resource);
        @id("is") permit (principal == Caller::"shop", action == Action::"handout", resource);
        @id("ann") permit (principal == Subject::"ann", action == Action::"handout", resource);
    """
    policies = compiled(text)
    assert policies.decide(ask("shop")).policies == ("in", "is")
    assert policies.decide(ask("shop", subject="ann")).policies == ("ann", "in")
    assert policies.decide(ask("search", "orders", subject="ann")).policies == ("ann",)
    assert policies.decide(ask("shop", subject="bob")).policies == ("in",)


def test_what_is_forbidden_to_a_caller_is_forbidden_to_its_tokens() -> None:
    """``in`` means both; a forbid for requests without tokens says so."""
    text = """
        permit (principal, action, resource);
        @id("in") forbid (principal in Caller::"shop", action, resource == Credential::"web");
        @id("bare") forbid (principal is Caller in Caller::"search", action, resource);
    """
    policies = compiled(text)
    for subject in (None, "ann"):
        assert policies.decide(ask("shop", subject=subject)).policies == ("in",)
    assert policies.decide(ask("search")).policies == ("bare",)
    assert policies.decide(ask("search", subject="ann")).allowed


def test_a_role_of_subjects_is_held_by_their_tokens_alone() -> None:
    """With callers too, only by tokens that these show; files ask for it by name."""
    role = Role("staff", ("shop",), ("*@shop.example",), credentials=("orders",))
    text = '@id("file") permit (principal in Role::"staff", action, resource == Credential::"web");'
    policies = compiled(text, role)
    assert policies.decide(ask("shop", "orders", subject="ann@shop.example")).allowed
    assert policies.decide(ask("shop", "web", subject="ann@shop.example")).policies == ("file",)
    assert not policies.decide(ask("shop", "orders")).allowed
    assert not policies.decide(ask("shop", "orders", subject="ann@else.example")).allowed
    assert not policies.decide(ask("search", "orders", subject="ann@shop.example")).allowed


def test_what_is_known_of_subjects_is_bounded() -> None:
    """A thousand subjects leave no more behind than the bound."""
    policies = compiled()
    for number in range(3 * SUBJECTS):
        assert policies.decide(ask(subject=f"user-{number}")).allowed
    assert len(policies._askers) <= SUBJECTS + 3


# --- errors refuse ------------------------------------------------------------------------


def test_an_error_in_any_policy_refuses() -> None:
    """Cedar skips a forbid that errs, and would allow; so it does for a permit beside another."""
    overflow = "when { context.arguments has limit && context.arguments.limit * 4 > 5 };"
    for effect in ("forbid", "permit"):
        text = (
            f'@id("errs") {effect} (principal, action == Action::"call_tool", resource) {overflow}'
        )
        policies = compiled(text)
        assert policies.decide(call("t", arguments={"limit": 1})).allowed
        verdict = policies.decide(call("t", arguments={"limit": 2**62}))
        assert not verdict.allowed
        assert verdict.reason.startswith("policy_error ")
        assert "errs" in verdict.reason


def test_a_forbid_on_an_absent_attribute_refuses() -> None:
    """It is not even loaded; and were it, the request would be refused, not let through."""
    text = """
        permit (principal, action, resource);
        forbid (principal, action, resource) when { context.subject == Subject::"ann" };
    """
    with pytest.raises(SettingsErrors) as refused:
        compiled(text)
    assert refused.value.faults[0].remedy == (
        "It may be missing: ask 'context has subject &&' before it."
    )
    policies = compiled()
    parsed = {str(n): est for n, (_, est) in enumerate(cedar.parse(text))}
    policies._set = cedar.PolicySet(parsed, cedar.Schema(schema(policies.vocabulary)))
    verdict = policies.decide(ask())
    assert not verdict.allowed
    assert verdict.reason.startswith("policy_error ")


def test_arguments_that_nobody_knows_refuse() -> None:
    """Where a policy may look at them; elsewhere they do not matter."""
    text = """
        @id("prod") forbid (principal, action == Action::"call_tool", resource == Tool::"sql")
        when { context.arguments has database && context.arguments.database == "prod" };
    """
    policies = compiled(text)
    assert policies.decide(call("sql")).allowed
    assert policies.decide(call("sql", arguments={"database": None})).allowed
    assert policies.decide(call("sql", arguments={"database": "prod"})).policies == ("prod",)
    unknown = policies.decide(call("sql", arguments=None))
    assert (unknown.allowed, unknown.reason) == (False, "policy_needs_arguments")
    assert policies.decide(call("other", arguments=None)).allowed


@pytest.mark.parametrize("value", [["prod"], {"a": "prod"}, 5, True])
def test_an_argument_of_another_kind_refuses(value: object) -> None:
    """No policy could judge it, and leaving it out would be a way around one."""
    verdict = compiled().decide(call("sql", arguments={"database": value}))
    assert not verdict.allowed
    assert verdict.reason == "policy_error argument database is no text"


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.0, True, "1"])
def test_a_whole_number_is_one_of_64_bits(value: object) -> None:
    """Nothing is rounded, cut or converted."""
    assert not compiled().decide(call("sql", arguments={"limit": value})).allowed
    assert compiled().decide(call("sql", arguments={"limit": 2**63 - 1})).allowed


@pytest.mark.parametrize("text", ["\ud800", 'a"; permit(principal,action,resource); "', "x" * 5000])
def test_hostile_texts_are_texts(text: str) -> None:
    """Tool, subject and argument are data: they end no string and stop no decision."""
    policies = compiled(
        'forbid (principal, action == Action::"call_tool", resource) when { '
        'context.arguments has database && context.arguments.database == "prod" };'
    )
    verdict = policies.decide(ask("shop", "orders", tool=text, subject=text))
    assert not verdict.allowed
    assert not policies.decide(call(text, "shop", arguments={"database": text})).allowed


def test_an_address_that_is_none_refuses() -> None:
    """No half-understood address is compared."""
    assert not compiled().decide(ask(address="testclient")).allowed
    assert compiled().decide(ask(address="fe80::1%eth0")).allowed


# --- conditions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        ('context.tool == "a"', {"tool": "a"}, {"tool": ""}),
        (
            'context has address && context.address.isInRange(ip("10.0.0.0/8"))',
            {"address": "::ffff:10.0.0.1"},
            {"address": ""},
        ),
        ('context.time >= duration("6h")', {"wall": NOON}, {"wall": NIGHT}),
        (
            'context.zones["Europe/Zurich"].time < duration("5h")',
            {"wall": NIGHT - 1},
            {"wall": NIGHT},
        ),
        ('context.weekday == Weekday::"mon"', {"wall": NOON}, {"wall": NOON + 86400}),
        ('context has subject && context.subject == Subject::"ann"', {"subject": "ann"}, {}),
        ('context.caller == Caller::"shop"', {}, {"caller": "search"}),
        ('resource.path like "mcp/*"', {}, {"name": "orders"}),
        ('resource.kind == "kv" && resource.mount == "secret"', {}, {"name": "orders"}),
        ('resource.name == "web"', {}, {"name": "orders"}),
    ],
)
def test_conditions(condition: str, yes: dict[str, Any], no: dict[str, Any]) -> None:
    """Every word of the schema can be asked for, and tells."""
    policies = compiled(
        f'permit (principal, action == Action::"handout", resource) when {{ {condition} }};',
        clients={"search": (), "shop": ()},
    )
    assert policies.decide(ask(**{"caller": "shop", **yes})).allowed
    assert not policies.decide(ask(**{"caller": "shop", **no})).allowed


def test_the_service_account_is_known_or_missing() -> None:
    """A policy for many pods names the account it is meant for."""
    text = """
        permit (principal, action, resource)
        when { context has service_account && context.service_account == "tools/search" };
    """
    for account, allowed in (("tools/search", True), ("tools/other", False), ("", False)):
        policies = compiled(text, vocabulary=Vocabulary(service_account=account))
        assert policies.decide(ask("shop")).allowed is allowed


# --- what a caller sees -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('permit (principal, action, resource) when { context.tool == "a" };', ("orders", "web")),
        (
            'permit (principal, action, resource) when { context.caller == Caller::"search" };',
            (),
        ),
        (
            (
                "permit (principal, action, resource) when { "
                'context.tool == "a" && resource is Credential && resource.kind == "kv" };'
            ),
            ("web",),
        ),
        (
            (
                "permit (principal, action, resource) unless { "
                'context.time < duration("6h") || resource is Tool || resource.kind == "kv" };'
            ),
            ("orders",),
        ),
        (
            (
                "permit (principal, action, resource); "
                'forbid (principal, action, resource) when { context.tool == "a" };'
            ),
            ("orders", "web"),
        ),
        (
            (
                "permit (principal, action, resource); forbid (principal, action, resource is "
                'Credential) unless { resource.kind == "kv" };'
            ),
            ("web",),
        ),
        (
            (
                'permit (principal, action, resource == Credential::"web") when { '
                'if context.tool == "a" then resource.kind == "kv" else false };'
            ),
            ("web",),
        ),
        ('permit (principal, action == Action::"report", resource);', ()),
        ('permit (principal, action == Action::"read_status", resource);', ("orders", "web")),
    ],
)
def test_a_caller_sees_what_some_condition_could_open(text: str, seen: tuple[str, ...]) -> None:
    """Tool, time and address are left open; what nothing can open is not seen."""
    assert compiled(text).listing.visible("shop", None) == seen


def test_strangers_see_nothing() -> None:
    """Nor may they anything."""
    policies = compiled("permit (principal, action, resource);")
    assert policies.listing.visible("stranger", None) == ()


@pytest.mark.parametrize(
    ("text", "tools"),
    [
        ("", ()),
        ('permit (principal, action, resource == Tool::"a");', ("a",)),
        (
            'permit (principal, action, resource) when { resource in [Tool::"a", Tool::"b"] };',
            ("a", "b"),
        ),
        ('permit (principal, action, resource is Tool) when { context.tool like "a*" };', None),
        ('permit (principal, action, resource == Credential::"web");', None),
        ('permit (principal in Caller::"search", action, resource);', ()),
    ],
)
def test_tools_are_told_where_names_say_them(text: str, tools: tuple[str, ...] | None) -> None:
    """None is any; a list stands for any tool."""
    policies = compiled(text)
    assert policies.tools("shop", None) == tools
    assert policies.tools("search", None) is None


def test_tools_of_roles_are_told_with_their_globs() -> None:
    """As they are written."""
    policies = compiled("", Role("r", ("shop",), tools=("a", "b*")))
    assert policies.tools("shop", None) == ("a", "b*")


# --- what policies read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "reads"),
    [
        ('context.tool == "a"', {"tool"}),
        ("context has address", {"address"}),
        ('context.zones["UTC"].time > duration("1h")', {"zones"}),
        ("context == context", set(WORDS)),
        (
            'if context.weekday == Weekday::"mon" then true else context.time > duration("1h")',
            {"weekday", "time"},
        ),
        ('context.arguments has "x"', {"arguments"}),
        ('resource.name == "context.time"', set()),
    ],
)
def test_what_a_policy_reads(condition: str, reads: set[str]) -> None:
    """However deep it stands; the whole context is everything."""
    ((_, est),) = cedar.parse(f"permit (principal, action, resource) when {{ {condition} }};")
    assert reach(est).reads == reads


def test_a_forbid_that_some_tool_escapes_says_nothing_when_tools_are_open() -> None:
    """And one that none escapes stays."""
    ((_, some),) = cedar.parse('forbid (principal, action, resource) when { context.tool == "a" };')
    ((_, all_),) = cedar.parse(
        "forbid (principal, action, resource) when { "
        '(context.tool == "a" && false) || resource.kind == "kv" };'
    )
    assert opened(some) is None
    left = opened(all_)
    assert left is not None
    assert "kv" in cedar.written(left)
    assert "tool" not in cedar.written(left)


def test_a_policy_is_described_by_its_id() -> None:
    """Place and text, as the audit's reader wants them."""
    policies = compiled('\n@id("x") permit (principal, action, resource);', file="broker.yaml")
    assert policies.describe("x") == (
        'x (team.cedar:2)\n@id("x") permit (principal, action, resource);'
    )
    assert policies.describe("clients.search").startswith(
        "clients.search (broker.yaml: clients.search.credentials)\n// clients.search.credentials\n"
    )
    assert policies.describe("nothing") == ""
