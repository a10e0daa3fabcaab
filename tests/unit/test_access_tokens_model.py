"""``access.tokens.model`` and ``revocations``: what is asked for, said and revoked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.principal import Grant
from broker.access.tokens import model
from broker.access.tokens.model import (
    BY,
    Claims,
    Target,
    Wish,
    names,
    read_target,
    read_wish,
)
from broker.access.tokens.revocations import (
    MOST,
    SKEW,
    Entry,
    Revocations,
    read_entry,
    read_head,
)
from broker.errors import RequestMalformed, RevocationFailed, TokensUnavailable
from broker.settings import rules_tokens

GOOD: dict[str, Any] = {"subject": "alice", "tools": ["search"]}


def test_a_wish_is_read() -> None:
    """Every member, names once each, in their order."""
    said = {
        "subject": "alice@example",
        "tools": ["search", "fetch_*", "search"],
        "credentials": ["search-api"],
        "audience": "https://mcp.example/search",
        "expires_in": 600,
        "caller": "search-mcp",
    }
    assert read_wish(said) == Wish(
        "alice@example",
        ("search", "fetch_*"),
        ("search-api",),
        "https://mcp.example/search",
        600.0,
        "search-mcp",
    )
    assert read_wish(GOOD) == Wish("alice", ("search",))


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ""},
        {"subject": 7},
        {"subject": None},
        {"subject": "a" * 129},
        {"subject": "a\nb"},
        {"subject": "\ud800"},
        {"tools": []},
        {"tools": "search"},
        {"tools": ["search", 7]},
        {"tools": [""]},
        {"tools": ["a\x00"]},
        {"tools": [f"t{n}" for n in range(65)]},
        {"tools": [f"{n}-{'ü' * 60}" for n in range(60)]},
        {"credentials": None},
        {"credentials": {"a": 1}},
        {"audience": "mcp.example"},
        {"audience": "https://mcp.example/#a"},
        {"audience": "https://mcp.example/a b"},
        {"audience": "https://[broken"},
        {"audience": 7},
        {"audience": "https://" + "a" * 600},
        {"expires_in": 0},
        {"expires_in": -5},
        {"expires_in": "15m"},
        {"expires_in": True},
        {"expires_in": float("nan")},
        {"caller": 7},
        {"expires": 5},
        {"tool": ["search"]},
    ],
    ids=str,
)
def test_a_wish_that_is_not_understood(change: dict[str, Any]) -> None:
    """A slip is an error, not another token."""
    with pytest.raises(RequestMalformed):
        read_wish({**GOOD, **change})


def test_no_life_is_for_ever() -> None:
    """Whatever number is sent; the bound of the rules is that of the model."""
    for said in (1e300, 10**30, 10**400, float("inf")):
        assert read_wish({**GOOD, "expires_in": said}).life == model.LONGEST_LIFE
    assert rules_tokens.LONGEST == model.LONGEST_LIFE


def test_targets_are_read() -> None:
    """One way of naming tokens at a time."""
    for by in BY[:-1]:
        assert read_target({by: "x"}) == Target(by, "x")
    assert read_target({"all": True}) == Target("all")
    for said in ({}, {"all": False}, {"all": "true"}, {"id": ""}, {"id": 7}, {"who": "x"}):
        with pytest.raises(RequestMalformed):
            read_target(said)
    with pytest.raises(RequestMalformed):
        read_target({"id": "x", "subject": "y"})


FEW = st.sampled_from("abc")
SOME = st.lists(FEW, unique=True, max_size=3).map(tuple)
CLAIMS = st.builds(
    lambda token_id, subject, caller, credentials, line, sequence: Claims(
        Grant(token_id, subject, caller, "", ("*",), credentials[:1], 0.0, 1.0, "".join(line[-1:])),
        line,
        credentials,
        sequence,
    ),
    FEW,
    FEW,
    FEW,
    SOME,
    SOME,
    st.integers(0, 5),
)
TARGETS = st.builds(Target, st.sampled_from(BY[:-1]), FEW) | st.just(Target("all"))
ENTRIES = st.lists(st.builds(Entry, TARGETS, st.integers(1, 6), st.just(100.0)), max_size=6)


@given(ENTRIES, CLAIMS)
def test_the_index_says_what_each_entry_says(entries: list[Entry], claims: Claims) -> None:
    """A token is revoked by one that names it and that its maker did not know."""
    known = Revocations(max([one.sequence for one in entries], default=0), entries)
    expected = any(names(one.target, claims) and one.sequence > claims.sequence for one in entries)
    assert known.revoked(claims) == expected


@given(ENTRIES, ENTRIES, CLAIMS)
def test_what_either_knows_both_know(one: list[Entry], two: list[Entry], claims: Claims) -> None:
    """Joined revocations revoke what either does; the joined one lacks nothing of both."""
    first, second = (Revocations(6, entries) for entries in (one, two))
    joined = first.joined(second)
    assert joined.revoked(claims) == (first.revoked(claims) or second.revoked(claims))
    assert not joined.lacks(first, 0.0)
    assert not joined.lacks(second, 0.0)


@given(ENTRIES, TARGETS, CLAIMS, st.integers(0, 200))
def test_a_revocation_adds_itself_and_takes_nothing_away(
    entries: list[Entry], target: Target, claims: Claims, wall: int
) -> None:
    """What was revoked stays so until its time has passed; what is named now is revoked too."""
    before = Revocations(6, entries)
    after = before.with_targets([(target, 300.0)], wall)
    assert after.sequence > before.sequence
    if names(target, claims) or (before.revoked(claims) and wall < 100):
        assert after.revoked(claims)
    if wall >= 100 + SKEW:
        assert [one.target for one in after.entries] == [target]


@given(ENTRIES)
def test_a_document_is_read_as_it_was_written(entries: list[Entry]) -> None:
    """Head and entries, line by line."""
    known = Revocations(7, entries)
    head, *lines = known.lines()
    assert read_head(head) == 7
    assert tuple(map(read_entry, lines)) == known.entries


def test_numbers_survive_the_loss_of_the_document() -> None:
    """After everything was lost a new revocation still reaches what was minted before."""
    early = Revocations().with_targets([(Target("subject", "bob"), 9e9)], 1_800_000_000.0)
    claims = Claims(Grant("t", "alice", "c", "", ("*",), (), 0.0, 9e9), sequence=early.sequence)
    late = Revocations().with_targets([(Target("subject", "alice"), 9e9)], 1_800_000_060.0)
    assert late.revoked(claims)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"schema":2,"sequence":1}',
        '{"schema":1,"sequence":-1}',
        '{"schema":1,"sequence":true}',
        '{"schema":1}',
        '["id","x",1]',
        '["who","x",1,2.0]',
        '["id",7,1,2.0]',
        '["id","x","1",2.0]',
        '["id","x",1,"2"]',
        "[" * 5000,
    ],
)
def test_a_damaged_document_is_no_empty_one(line: str) -> None:
    """What cannot be understood closes, it does not open."""
    with pytest.raises(TokensUnavailable):
        read_head(line)
    with pytest.raises(TokensUnavailable):
        read_entry(line)


def test_the_document_is_bounded() -> None:
    """In number and in bytes; then it is said, and 'all' makes room."""
    many = [(Target("id", str(n)), 1000.0) for n in range(MOST)]
    full = Revocations().with_targets(many, 1.0)
    with pytest.raises(RevocationFailed):
        full.with_targets([(Target("id", "one more"), 1000.0)], 1.0)
    assert len(full.with_targets([(Target("all"), 1000.0)], 1.0).entries) == 1
    assert full.with_targets([(Target("id", "one more"), 2000.0)], 1000.0 + SKEW).entries
    wide = [(Target("subject", "ü" * 120 + str(n)), 1000.0) for n in range(MOST - 1)]
    with pytest.raises(RevocationFailed):
        Revocations().with_targets(wide, 1.0)
    assert json.loads(next(full.lines()))["schema"] == 1
