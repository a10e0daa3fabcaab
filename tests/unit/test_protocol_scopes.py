"""Scopes and globs: what a token covers can be read off it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol import scopes


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("web_search", "web_search", True),
        ("web_search", "WEB_search", False),
        ("web_*", "web_search", True),
        ("web_*", "web_", True),
        ("web_*", "a_web_", False),
        ("*", "anything/at all", True),
        ("web_?", "web_1", True),
        ("web_?", "web_", False),
        ("a.c", "abc", False),
        ("[ab]*", "[ab]c", True),
        ("[ab]*", "a", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_a_glob_knows_star_and_question_mark(pattern: str, name: str, covered: bool) -> None:
    """And nothing else; case counts."""
    assert scopes.matches(pattern, name) is covered


def test_many_stars_are_not_slow() -> None:
    """A pattern cannot make the matcher try for ever: a run of stars is one star."""
    assert not scopes.matches("*" * 1000 + "b", "a" * 128)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_scope_is_one_word_and_leads_back(name: str, other: str) -> None:
    """Every name has one scope, with the characters RFC 6749 allows; two names two scopes."""
    try:
        scope = scopes.tool_scope(name)
        another = scopes.tool_scope(other)
    except UnicodeEncodeError:
        return
    assert all("!" <= c <= "~" and c not in '"\\' for c in scope)
    assert scopes.tools_of(scopes.scope_text([name, other], [other])) == (name, other)
    assert (scope == another) is (name == other)


@pytest.mark.parametrize(
    ("pattern", "asked", "expected"),
    [
        ("*", "search*", True),
        ("s*", "search*", True),
        ("search*", "s*", False),
        ("se?rch", "se*rch", False),
        ("se?rch", "se?rch", True),
        ("*?", "?*", True),
        ("a*b", "a?b", True),
        ("a?b", "a*b", False),
        ("**", "*", True),
        ("a*c", "ab*c", True),
        ("*a*", "xay*", True),
        ("a*a", "a", False),
        ("search", "search", True),
        ("search", "search*", False),
    ],
)
def test_a_glob_within_a_glob(pattern: str, asked: str, expected: bool) -> None:
    """What may be minted is what the pattern covers whatever the asked glob stands for."""
    assert scopes.includes(pattern, asked) is expected


SIGNS = st.text("ab*?", max_size=6)


@given(SIGNS, SIGNS, st.text("ab", max_size=7))
def test_no_name_escapes_by_a_glob(pattern: str, asked: str, name: str) -> None:
    """If a pattern includes a glob it covers every name that the glob covers."""
    if scopes.includes(pattern, asked) and scopes.matches(asked, name):
        assert scopes.matches(pattern, name)


@given(SIGNS)
def test_a_pattern_includes_itself(pattern: str) -> None:
    """Passing on exactly what one has is always possible."""
    assert scopes.includes(pattern, pattern)
    assert scopes.includes("*", pattern)


@given(SIGNS, SIGNS, st.text("ab", max_size=7))
def test_where_two_patterns_meet_is_a_name_of_both(one: str, other: str, name: str) -> None:
    """And they meet wherever any name is covered by both."""
    found = scopes.meeting(one, other)
    if found is not None:
        assert scopes.matches(one, found)
        assert scopes.matches(other, found)
    else:
        assert not (scopes.matches(one, name) and scopes.matches(other, name))


@pytest.mark.parametrize(
    "pattern", ["*a" * 63 + "b", "a*" * 62 + "b", "*?a" * 42 + "b", "*" + "a?*" * 40 + "b"]
)
def test_no_pattern_makes_the_matcher_slow(pattern: str) -> None:
    """Whoever mints a token chooses the pattern, and whoever uses it the name.

    Trying each place of each star would take longer than the universe is old.
    """
    assert not scopes.matches(pattern, "a" * 128)
    assert scopes.matches(pattern, "a" * 127 + "b")


@given(st.text("ab*?\n", max_size=10), st.text("ab*?\n", max_size=12))
def test_a_glob_covers_what_trying_everything_says(pattern: str, name: str) -> None:
    """Sign by sign, without any shortcut."""
    reached = [True] + [False] * len(name)
    for sign in pattern:
        if sign == "*":
            first = reached.index(True) if True in reached else len(reached)
            reached = [place >= first for place in range(len(reached))]
        else:
            steps = [
                before and sign in {"?", letter}
                for before, letter in zip(reached, name, strict=False)
            ]
            reached = [False, *steps]
    assert scopes.matches(pattern, name) == (reached[-1] or pattern == name)
