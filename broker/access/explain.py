"""Why a question is answered so.

Duty: the verdict of the one deciding function, the policies behind it, and for a refusal
those permits that came close and what each of them lacks.
Not its duty: deciding; words on a terminal (``cli``).
Rules: what a permit lacks is found by Cedar as well: each of its clauses is asked by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches

from broker.access import cedar
from broker.access.policies import Policies, Policy, Verdict
from broker.access.vocabulary import ADMIN, Json, Question

CLOSE = 5
"""Permits that are told of."""


@dataclass(frozen=True, slots=True)
class Near:
    """A permit that does not apply."""

    policy: Policy
    lacks: tuple[str, ...]
    """What does not fit: ``principal``, ``action``, ``resource``, or a clause as written."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict and what is behind it."""

    verdict: Verdict
    decided: tuple[Policy, ...]
    close: tuple[Near, ...] = ()
    """Closest first; empty for a permission."""
    hints: tuple[str, ...] = ()
    """Names that do not exist."""


def explain(policies: Policies, question: Question) -> Explanation:
    """Decide a question and say why."""
    verdict = policies.decide(question)
    decided = tuple(policies.all[name] for name in verdict.policies if name in policies.all)
    if verdict.allowed:
        return Explanation(verdict, decided)
    near = [
        Near(one, tuple(_lacks(policies, one, question)))
        for one in policies.all.values()
        if one.permits
    ]
    near.sort(key=lambda one: (sum(part in _HEAD for part in one.lacks), len(one.lacks)))
    # One that is about other people and other things alike is not close.
    close = [one for one in near if one.lacks and sum(p in _HEAD for p in one.lacks) < 2]
    return Explanation(verdict, decided, tuple(close[:CLOSE]), tuple(_hints(policies, question)))


_HEAD = frozenset({"principal", "action", "resource"})


def _lacks(policies: Policies, one: Policy, question: Question) -> list[str]:
    uids = policies.principals(question)
    resource = ("Tool" if question.about_tool else "Credential", question.resource)
    found: list[str] = []
    if not one.reach.asked_by(uids):
        found.append("principal")
    if not replace(one.reach, resources=()).about(question.action, resource, admin=ADMIN):
        found.append("action")
    if not replace(one.reach, actions=None).about(question.action, resource, admin=ADMIN):
        found.append("resource")
    if found:
        return found
    return [
        _clause(condition)
        for condition in one.est.get("conditions", ())
        if not policies.holds(condition, question)
    ]


def _clause(condition: Json) -> str:
    """A clause as Cedar writes it."""
    everything = {"op": "All"}
    text = cedar.written(
        {
            "effect": "permit",
            "principal": everything,
            "action": everything,
            "resource": everything,
            "conditions": [condition],
        }
    )
    kind = str(condition["kind"])
    return kind + text.partition(kind)[2].rstrip().removesuffix(";").rstrip()


def _hints(policies: Policies, question: Question) -> list[str]:
    known = {"caller": policies.sources.clients}
    asked = {"caller": question.caller}
    if not question.about_tool:
        known["credential"] = dict.fromkeys(policies.sources.credentials, ())
        asked["credential"] = question.resource
    hints = []
    for what, name in asked.items():
        if name not in known[what]:
            near = get_close_matches(name, known[what], n=1)
            guess = f"; did you mean {near[0]}?" if near else ""
            hints.append(f"there is no {what} {name}{guess}")
    return hints
