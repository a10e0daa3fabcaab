"""One policy in Cedar's JSON form, read [pure].

Duty: what a policy reads of the context, and which entities it names; long chains made flat.
Not its duty: what follows from it (``reach``, ``left_open``, ``policy_files``).

Source: https://docs.cedarpolicy.com/policies/json-format.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from broker.access.vocabulary import WORDS

Est: TypeAlias = Mapping[str, Any]
"""A policy, or a part of one."""
Uid: TypeAlias = tuple[str, str]
"""Type and id of an entity."""

CHAIN: Final = 16
"""Operands of one ``||`` or ``&&`` in a row that are left as they were written."""


def balanced(expression: Any) -> Any:
    """The same with long chains of ``||`` and ``&&`` as trees, whose depth is a logarithm.

    Cedar writes ``a || b || c`` as ``(a || b) || c`` and reads back some fifty levels. Operands
    stay in their order, so that the same ones are evaluated.

    Raises:
        RecursionError: something else is nested too deeply.
    """
    match expression:
        case {"||": {"left": _, "right": _}} | {"&&": {"left": _, "right": _}}:
            (operator,) = expression
            operands = _operands(operator, expression)
            if len(operands) > CHAIN:
                return _tree(operator, [balanced(one) for one in operands])
    match expression:
        case dict():
            return {name: balanced(inner) for name, inner in expression.items()}
        case list():
            return [balanced(inner) for inner in expression]
    return expression


def _operands(operator: str, expression: Any) -> list[Any]:
    found: list[Any] = []
    left = [expression]
    while left:
        one = left.pop()
        if isinstance(one, dict) and operator in one:
            left += [one[operator]["right"], one[operator]["left"]]
        else:
            found.append(one)
    return found


def _tree(operator: str, operands: list[Any]) -> Any:
    if len(operands) == 1:
        return operands[0]
    half = len(operands) // 2
    left, right = _tree(operator, operands[:half]), _tree(operator, operands[half:])
    return {operator: {"left": left, "right": right}}


def read(expression: Any) -> frozenset[str]:
    """Attributes of the context that an expression reads; all when it takes it as a whole."""
    return frozenset(_read(expression))


def _read(expression: Any) -> Iterator[str]:
    match expression:
        case {"Var": "context"}:
            yield from WORDS
        case {".": {"left": {"Var": "context"}, "attr": str(name)}}:
            yield name
        case {"has": {"left": {"Var": "context"}, "attr": str(name)}}:
            yield name
        case {"Value": _}:
            return
        case dict():
            for inner in expression.values():
                yield from _read(inner)
        case list():
            for inner in expression:
                yield from _read(inner)


def literals(value: Any) -> Iterator[Uid]:
    """Every entity that a policy names, its own head included."""
    match value:
        case {"__entity": {"type": str(kind), "id": str(name)}}:
            yield kind, name
        case {"entity": {"type": str(kind), "id": str(name)}, **rest}:
            yield kind, name
            yield from literals(rest)
        case {"entities": list(entities), **rest}:
            yield from ((str(one["type"]), str(one["id"])) for one in entities)
            yield from literals(rest)
        case dict():
            for inner in value.values():
                yield from literals(inner)
        case list():
            for inner in value:
                yield from literals(inner)


def texts(expression: Any) -> Iterator[str]:
    """Every text and, as a glob, every pattern that an expression compares something with."""
    match expression:
        case {"Value": str(text)}:
            yield text
        case {"like": {"left": left, "pattern": list(parts)}}:
            yield from texts(left)
            yield "".join("*" if one == "Wildcard" else one["Literal"] for one in parts)
        case dict():
            for inner in expression.values():
                yield from texts(inner)
        case list():
            for inner in expression:
                yield from texts(inner)


def bare_caller(est: Est) -> str | None:
    """The caller that a forbid compares its principal with; None when it does not."""
    if est.get("effect") != "forbid":
        return None
    match est["principal"]:
        case {"op": "==", "entity": {"type": "Caller", "id": str(name)}}:
            return name
    bodies = [one["body"] for one in est.get("conditions", ()) if one["kind"] == "when"]
    return next(_compared(bodies), None)


def _callers(one: Any, others: list[Any]) -> Iterator[str]:
    if one == {"Var": "principal"}:
        for entity in filter(None, map(entity_of, others)):
            if entity["type"] == "Caller":
                yield str(entity["id"])


def _compared(value: Any) -> Iterator[str]:
    match value:
        case {"==": {"left": left, "right": right}}:
            for one, other in ((left, right), (right, left)):
                yield from _callers(one, [other])
            yield from _compared([left, right])
        case {"contains": {"left": {"Set": list(members)}, "right": one}}:
            yield from _callers(one, members)
        case dict():
            for inner in value.values():
                yield from _compared(inner)
        case list():
            for inner in value:
                yield from _compared(inner)


def entity_of(expression: Est) -> Est | None:
    """The entity that an expression is; None when it is none."""
    match expression:
        case {"Value": {"__entity": dict(entity)}}:
            return entity
    return None
