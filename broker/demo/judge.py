"""Counts and judges what the demo's parts saw  [pure].

Duty: from facts that the upstreams, OpenBao and the audit log recorded, the counters of
both editions of the MCP server, and what is wrong.
Not its duty: the facts (``facts``), collecting them (``watch``), causing them (``story``).
Rules:

* the broker is no witness in its own cause: whether a value was past its end is for
  OpenBao and the upstream to say; the audit log only says what was handed out when;
* a key changed behind the broker's back is *announced* by its first refusal: the one
  upstream call per edition and change that meets it is no dead key. From then on it is;
* what cannot be judged counts against the broker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Final

from broker.demo.facts import BROKER, ENVIRONMENT, EVENTS, Facts, Handout, SearchCall

ROUNDING: Final = 0.005
"""Seconds: the audit log and the answers cut times to milliseconds."""


@dataclass(frozen=True, slots=True)
class Counters:
    """One column of the final table."""

    calls: int = 0
    failed_calls: int = 0
    dead_keys: int = 0
    expired_handouts: int = 0


def dead_search_calls(
    calls: Iterable[SearchCall], edition: str, changed: Iterable[str]
) -> list[SearchCall]:
    """Upstream calls of ``edition`` with a dead key, the announcing ones left out."""
    announcing = set(changed)
    dead = []
    for call in calls:
        if call.consumer != edition or not call.dead_key:
            continue
        if call.key_id in announcing:
            announcing.remove(call.key_id)
        else:
            dead.append(call)
    return dead


def expired_handouts(facts: Facts) -> list[Handout]:
    """Hand-outs of values that were over, or that ended before their ``use_until``."""
    return [handout for handout in facts.handouts if _is_expired(handout, facts)]


def _is_expired(handout: Handout, facts: Facts) -> bool:
    if handout.lease:
        life = facts.leases.get(handout.lease)
        end = -inf if life is None else life.end
    else:
        key_id = facts.key_of_version.get(handout.source_version)
        end = -inf if key_id is None else facts.key_ends.get(key_id, inf)
    return max(handout.at, handout.use_until) > end + ROUNDING


def counters(facts: Facts, edition: str) -> Counters:
    """The counters of one edition."""
    calls = [call for call in facts.tool_calls if call.edition == edition]
    refused = sum(facts.users.get(user) == edition for user in facts.refused_users)
    if edition == BROKER:
        expired = len(expired_handouts(facts))
    else:
        # Its "hand-out" is the start-up value, taken out of the environment at each call.
        expired = sum(c.tool == "list_orders" and c.at > facts.environment_ends for c in calls)
    return Counters(
        calls=len(calls),
        failed_calls=sum(not call.ok for call in calls),
        dead_keys=len(dead_search_calls(facts.search_calls, edition, facts.changed_keys)) + refused,
        expired_handouts=expired,
    )


def document(facts: Facts) -> dict[str, Any]:
    """The report that ``make demo REPORT=file.json`` writes."""
    return {edition: asdict(counters(facts, edition)) for edition in (BROKER, ENVIRONMENT)} | {
        "events": dict(facts.events),
        "live_keys_upstream": facts.live_keys,
    }


def faults(facts: Facts) -> list[str]:
    """Why the demo failed, one sentence each; empty when the broker kept its promises."""
    found = counters(facts, BROKER)
    said = []
    if not found.calls:
        said.append("The broker's MCP server was never called.")
    if found.failed_calls:
        said.append(f"{found.failed_calls} tool calls of the broker's MCP server failed.")
    if found.dead_keys:
        said.append(f"{found.dead_keys} upstream calls went out with a dead key.")
    if found.expired_handouts:
        said.append(f"{found.expired_handouts} hand-outs were past their end.")
    if not facts.handouts:
        said.append("The audit log holds no hand-out.")
    if facts.live_keys != 1:
        said.append(f"{facts.live_keys} keys are live upstream, and it should be one.")
    missing = [event for event in EVENTS if not facts.events.get(event)]
    if missing:
        said.append(f"These events never happened: {', '.join(missing)}.")
    return said
