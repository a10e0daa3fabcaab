"""The judge counts what the parts saw, and does not take the broker's word for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.demo.facts import (
    BROKER,
    ENVIRONMENT,
    EVENTS,
    Facts,
    Handout,
    LeaseLife,
    SearchCall,
    ToolCall,
)
from broker.demo.judge import Counters, counters, document, faults


def good_facts() -> Facts:
    """A story in which all went well for the broker."""
    return Facts(
        tool_calls=[
            ToolCall(10.0, BROKER, "web_search", ok=True),
            ToolCall(11.0, BROKER, "list_orders", ok=True),
        ],
        search_calls=[SearchCall(10.0, BROKER, "key-1", "ok")],
        key_of_version={"1": "key-1"},
        handouts=[
            Handout(10.0, "search-api", "a", use_until=12.0, source_version="1"),
            Handout(11.0, "orders-db", "b", use_until=13.0, lease="d1"),
        ],
        leases={"d1": LeaseLife(issued_at=5.0, expires_at=15.0)},
        users={"v-kubernet-1": BROKER, "v-pipeline-1": ENVIRONMENT},
        events=dict.fromkeys(EVENTS, 1),
        live_keys=1,
    )


def test_a_good_story_has_no_fault() -> None:
    """All calls well, every event seen: no fault, and the counters say so."""
    facts = good_facts()
    assert faults(facts) == []
    assert document(facts) == {
        "broker": {"calls": 2, "failed_calls": 0, "dead_keys": 0, "expired_handouts": 0},
        "environment": {"calls": 0, "failed_calls": 0, "dead_keys": 0, "expired_handouts": 0},
        "events": dict.fromkeys(EVENTS, 1),
        "live_keys_upstream": 1,
    }


def test_a_failed_tool_call_is_a_fault() -> None:
    """One failed call of the broker's server fails the demo."""
    facts = good_facts()
    facts.tool_calls.append(ToolCall(12.0, BROKER, "web_search", ok=False, detail="boom"))
    assert faults(facts) == ["1 tool calls of the broker's MCP server failed."]


@pytest.mark.parametrize("live", [0, 2])
def test_one_key_is_live_at_the_end(live: int) -> None:
    """A key left behind at the provider is a fault, and so is none at all."""
    (fault,) = faults(replace(good_facts(), live_keys=live))
    assert fault == f"{live} keys are live upstream, and it should be one."


def test_only_the_first_refusal_of_a_changed_key_is_announced() -> None:
    """Each edition may meet a changed key once; the second time it is a dead key."""
    facts = good_facts()
    facts.changed_keys.append("key-1")
    first = SearchCall(20.0, BROKER, "key-1", "revoked")
    facts.search_calls = [*facts.search_calls, first, replace(first, consumer=ENVIRONMENT)]
    assert counters(facts, BROKER).dead_keys == 0
    assert counters(facts, ENVIRONMENT).dead_keys == 0
    facts.search_calls = [*facts.search_calls, first, replace(first, consumer=ENVIRONMENT)]
    assert counters(facts, BROKER).dead_keys == 1
    assert counters(facts, ENVIRONMENT).dead_keys == 1
    assert faults(facts) == ["1 upstream calls went out with a dead key."]


@pytest.mark.parametrize("verdict", ["revoked", "expired", "unknown", "missing"])
def test_a_dead_key_without_an_announced_change_counts(verdict: str) -> None:
    """Any refused key counts when nobody announced a change of it."""
    facts = good_facts()
    call = SearchCall(20.0, BROKER, "key-9", verdict)  # type: ignore[arg-type]
    facts.search_calls = [*facts.search_calls, call]
    assert counters(facts, BROKER).dead_keys == 1


def test_a_refused_database_user_is_a_dead_key_of_its_edition() -> None:
    """PostgreSQL's refusals count for whom the user was made; strangers count for nobody."""
    facts = good_facts()
    facts.refused_users = ["v-pipeline-1", "v-pipeline-1", "v-kubernet-1", "postgres"]
    assert counters(facts, BROKER).dead_keys == 1
    assert counters(facts, ENVIRONMENT).dead_keys == 2


@pytest.mark.parametrize(
    ("life", "expired"),
    [
        (LeaseLife(5.0, expires_at=13.0), 0),
        (LeaseLife(5.0, expires_at=12.9), 1),
        (LeaseLife(5.0, expires_at=15.0, gone_at=12.0), 1),
        (LeaseLife(5.0, expires_at=15.0, gone_at=14.0), 0),
        (None, 1),
    ],
    ids=["to the end", "past use_until", "revoked early", "revoked after", "unknown lease"],
)
def test_a_leased_value_must_outlive_its_use_until(life: LeaseLife | None, expired: int) -> None:
    """OpenBao decides how long a lease lived; a lease it never had counts as over."""
    facts = good_facts()
    facts.leases = {} if life is None else {"d1": life}
    assert counters(facts, BROKER).expired_handouts == expired
    assert bool(faults(facts)) == bool(expired)


def test_a_key_with_its_own_end_is_not_handed_out_past_it() -> None:
    """A KV value is judged by the end the provider gave the key it holds."""
    facts = good_facts()
    facts.key_ends = {"key-1": 11.0}
    assert counters(facts, BROKER).expired_handouts == 1
    facts.key_ends = {"key-1": 12.0}
    assert counters(facts, BROKER).expired_handouts == 0
    facts.key_of_version = {}
    assert counters(facts, BROKER).expired_handouts == 1


def test_the_environment_hands_out_what_it_was_started_with() -> None:
    """Its orders calls after the end of its lease are hand-outs past expiry."""
    facts = good_facts()
    facts.environment_ends = 10.0
    facts.tool_calls += [
        ToolCall(9.0, ENVIRONMENT, "list_orders", ok=True),
        ToolCall(11.0, ENVIRONMENT, "list_orders", ok=False),
        ToolCall(11.0, ENVIRONMENT, "web_search", ok=True),
    ]
    assert counters(facts, ENVIRONMENT) == Counters(3, 1, 0, 1)


def test_a_story_that_did_not_happen_is_a_fault() -> None:
    """No calls, no hand-outs, no events: nothing is proved, so it fails."""
    said = faults(Facts())
    assert said == [
        "The broker's MCP server was never called.",
        "The audit log holds no hand-out.",
        "0 keys are live upstream, and it should be one.",
        f"These events never happened: {', '.join(EVENTS)}.",
    ]
