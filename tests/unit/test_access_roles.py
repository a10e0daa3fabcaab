"""Roles: who holds them, what they grant, what is probably wrong with them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.access.roles import Role, Window, list_policy, path_matches, role_policy
from broker.access.roles_analysis import Remark, analyse

PATHS = {"web": "secret/mcp/web", "maps": "secret/mcp/deep/maps", "orders": "database/creds/orders"}
LISTS = {"search": ("web",), "shop": ()}
GOOD = Role("good", ("shop",), credentials=("orders",), tools=("orders.*",))


@pytest.mark.parametrize(
    ("glob", "path", "covers"),
    [
        ("secret/mcp/web", "secret/mcp/web", True),
        ("secret/mcp/*", "secret/mcp/web", True),
        ("secret/mcp/*", "secret/mcp/deep/maps", False),
        ("secret/mcp/*", "secret/mcp", False),
        ("secret/*", "secret/mcp/web", False),
        ("secret/**", "secret/mcp/deep/maps", True),
        ("secret/**", "secret", True),
        ("**/maps", "secret/mcp/deep/maps", True),
        ("**/maps", "maps", True),
        ("secret/**/maps", "secret/maps", True),
        ("secret/**/web/**/x", "secret/a/b/web/c/x", True),
        ("secret/**/web/**/x", "secret/a/b/c/x", False),
        ("secret/m*/w*b", "secret/mcp/web", True),
        ("secret/m*", "secret/mcp/web", False),
        ("secret/mcp/w.b", "secret/mcp/web", False),
        ("**", "anything/at/all", True),
    ],
)
def test_globs_of_paths_go_by_component(glob: str, path: str, covers: bool) -> None:
    """One star stays within its component, two are any number of components."""
    assert path_matches(glob, path) is covers


def test_many_stars_cost_little() -> None:
    """A glob cannot make a reload slow."""
    assert not path_matches("/".join(["**", "a"] * 200), "/".join(["a"] * 199))


def test_a_role_is_printed_as_cedar() -> None:
    """As people will read it."""
    window = Window("Europe/Zurich", ("fri",), 22 * 60, 6 * 60)
    role = replace(GOOD, subjects=("*@x.example",), times=(window,), addresses=("10.0.0.0/8",))
    assert role_policy(role, PATHS) == (
        """\
// roles.good, held by callers shop on behalf of *@x.example
@id("roles.good")
permit (
  principal in Role::"good",
  action in [Action::"handout", Action::"report", Action::"read_status", Action::"call_tool"],
  resource
)
when { resource is Tool || resource in [Credential::"orders"] }
when { context.tool != "" && (context.tool like "orders.*") }
"""
        'when { ([Weekday::"fri"].contains(context.zones["Europe/Zurich"].weekday) && '
        'context.zones["Europe/Zurich"].time >= duration("1320m")) || '
        '([Weekday::"sat"].contains(context.zones["Europe/Zurich"].weekday) && '
        'context.zones["Europe/Zurich"].time < duration("360m")) }\n'
        'when { context has address && (context.address.isInRange(ip("10.0.0.0/8"))) };\n'
    )


def test_what_grants_nothing_is_no_policy() -> None:
    """Neither an empty list nor a role without credentials and tools, paths that fit none too."""
    assert list_policy("search", ()) is None
    assert role_policy(Role("r", ("shop",)), PATHS) is None
    assert role_policy(Role("r", ("shop",), paths=("kv/*",)), PATHS) is None


# --- remarks ------------------------------------------------------------------------------------


def remarks(*roles: Role) -> list[tuple[str, str]]:
    return [(".".join(one.path), one.sort) for one in analyse(roles, LISTS, PATHS)]


def test_nothing_is_said_of_good_roles() -> None:
    """No false alarm: other people, other tools, other times, other networks."""
    night = Window("UTC", start=1320, end=360)
    assert (
        remarks(
            GOOD,
            replace(GOOD, name="b", callers=("search",)),
            replace(GOOD, name="c", tools=("tickets.*",)),
            replace(GOOD, name="d", tools=("*.list",), times=(Window("UTC", start=60),)),
            replace(GOOD, name="e", tools=("*.list",), times=(night,)),
            replace(GOOD, name="f", tools=("*.list",), times=(Window("Asia/Kolkata", start=60),)),
            replace(GOOD, name="g", tools=("*.x",), addresses=("10.0.0.0/8", "127.0.0.1")),
            replace(GOOD, name="h", tools=("*.x",), addresses=("fd00::/8", "::1")),
            replace(GOOD, name="i", tools=("x?".replace("?", "y"),), subjects=("a?b@x",)),
        )
        == []
    )


@pytest.mark.parametrize(
    ("role", "key", "sort"),
    [
        (replace(GOOD, callers=()), "", "unreachable"),
        (
            replace(GOOD, addresses=("10.0.0.0/8",), actions=("handout", "report")),
            "addresses",
            "unreachable",
        ),
        (replace(GOOD, actions=("handout", "rotate")), "actions", "unreachable"),
        (replace(GOOD, credentials=(), tools=()), "", "empty"),
        (replace(GOOD, paths=("secret/mcp/nothing/*",)), "paths.0", "empty"),
        (replace(GOOD, credentials=(), actions=("handout",)), "actions", "empty"),
        (replace(GOOD, paths=("**",)), "paths.0", "over-wide"),
        (replace(GOOD, paths=("**/**",)), "paths.0", "over-wide"),
        (replace(GOOD, subjects=("*",)), "subjects.0", "over-wide"),
        (replace(GOOD, tools=("**",)), "tools.0", "over-wide"),
        (replace(GOOD, addresses=("0.0.0.0/0",)), "addresses.0", "over-wide"),
        (replace(GOOD, addresses=("::/0",)), "addresses.0", "over-wide"),
        (replace(GOOD, actions=("admin",)), "actions", "over-wide"),
        (replace(GOOD, tools=("orders.list", "orders.*")), "tools.0", "shadowed"),
        (replace(GOOD, subjects=("*@x", "a@x")), "subjects.1", "shadowed"),
        (Role("good", ("search",), credentials=("web",), actions=("handout",)), "", "shadowed"),
    ],
)
def test_what_is_wrong_with_one_role_is_told(role: Role, key: str, sort: str) -> None:
    """With the key that should change."""
    at = f"roles.good.{key}" if key else "roles.good"
    assert remarks(role) == [(at, sort)]


@pytest.mark.parametrize(
    "narrow",
    [
        replace(GOOD, tools=("orders.list",)),
        replace(GOOD, actions=("handout",)),
        replace(GOOD, subjects=("ann",)),
        replace(GOOD, times=(Window("UTC", ("mon",), 60, 120),)),
        replace(GOOD, addresses=("10.0.0.0/8",)),
        replace(GOOD, credentials=(), paths=("database/creds/orders",)),
        GOOD,
    ],
)
def test_a_role_within_another_is_told(narrow: Role) -> None:
    """Its conditions are void: the other one grants the same without them."""
    narrow = replace(narrow, name="narrow")
    assert remarks(GOOD, narrow) == [("roles.narrow", "shadowed")]
    if narrow.credentials and narrow != replace(GOOD, name="narrow"):  # else they are alike
        assert remarks(narrow, GOOD) == [("roles.narrow", "shadowed")]


def test_windows_and_networks_lie_within_wider_ones() -> None:
    """Of the same zone and family."""
    wide = replace(GOOD, times=(Window("UTC", start=60, end=600),), addresses=("10.0.0.0/8",))
    narrow = replace(
        wide, name="n", times=(Window("UTC", ("mon",), 120, 300),), addresses=("10.1.0.0/16",)
    )
    assert remarks(wide, narrow) == [("roles.n", "shadowed")]
    for other in (
        replace(narrow, times=(Window("UTC", ("mon",), 0, 300),)),
        replace(narrow, times=(Window("Asia/Kolkata", ("mon",), 120, 300),)),
        replace(narrow, addresses=("11.0.0.0/8", "127.0.0.1")),
        replace(narrow, addresses=("fd00::/16", "::1")),
        replace(narrow, times=()),
        replace(narrow, addresses=()),
    ):
        assert remarks(wide, other) == []


def test_a_remark_says_what_to_write() -> None:
    """Sort, words, remedy."""
    (one,) = analyse([replace(GOOD, callers=())], LISTS, PATHS)
    assert one == Remark(
        ("roles", "good"),
        "unreachable",
        "unreachable: nobody holds it: it names neither callers nor subjects",
        "List who holds it under callers, subjects or both.",
    )
