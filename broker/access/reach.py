"""What a parsed policy reaches and what it looks at [pure].

Duty: from Cedar's JSON form of one policy: whom it may concern, which conditions it reads,
which entities it names; the same policy with changing conditions left open.
Not its duty: deciding: Cedar does, on the whole set.
Rules:

* what is not understood counts as reaching everybody and reading everything: then a
  decision is not kept, and a listing asks Cedar;
* left open, a permit may only become wider and a forbid only narrower: a caller's list of
  credentials names all it may have at some time or for some tool, and nothing that no
  condition can open.

Source: https://docs.cedarpolicy.com/policies/json-format.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Est: TypeAlias = Mapping[str, Any]
"""One policy in Cedar's JSON form."""
Uid: TypeAlias = tuple[str, str]
"""Type and id of an entity."""

CHANGING: Final = frozenset({"address", "time", "weekday", "zones", "arguments"})
"""Conditions that differ between two requests of one caller, subject, tool and resource."""
OPEN: Final = CHANGING | {"tool"}
"""Those that are left open when a caller asks what it may have at all."""
_KEPT: Final = frozenset({"caller", "subject", "tool", "service_account"})
_UNDERSTOOD: Final = frozenset({"All", "==", "in", "is", "any"})


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom and what one policy concerns."""

    principals: tuple[Est, ...]
    """Constraints that must all hold."""
    actions: frozenset[str] | None
    """None: any."""
    resources: tuple[Est, ...]
    reads: frozenset[str]
    """Of ``OPEN``."""
    plain: bool
    """Nothing but the constraints above decides, once ``OPEN`` conditions are left open."""

    def about(self, action: str, resource: Uid, *, admin: str) -> bool:
        """Whether it may apply to an action on a resource.

        Args:
            action: what is asked.
            resource: about what.
            admin: the group that every action is in.
        """
        if self.actions is not None and self.actions.isdisjoint((action, admin)):
            return False
        return all(_admits(one, (resource,)) for one in self.resources)

    def asked_by(self, principals: Collection[Uid]) -> bool:
        """Whether it may apply to the first of ``principals``, which is in all the others."""
        return all(_admits(one, principals) for one in self.principals)

    def tools(self) -> tuple[str, ...] | None:
        """The tools that it names, when it is about these alone; None: any."""
        for one in self.resources:
            match one:
                case {"op": "==" | "in", "entity": {"type": "Tool", "id": str(name)}}:
                    return (name,)
                case {"op": "any", "of": list(options)}:
                    entities = [option.get("entity") for option in options]
                    if all(each and each["type"] == "Tool" for each in entities):
                        return tuple(each["id"] for each in entities)
        return None


def reach(est: Est) -> Reach:
    """Read a policy."""
    conditions = est.get("conditions", ())
    principals, resources = [est["principal"]], [est["resource"]]
    reads: set[str] = set()
    plain = True
    permit = est.get("effect") == "permit"
    for condition in conditions:
        body = condition["body"]
        reads |= read(body) & OPEN
        wanted = condition["kind"] == "when"
        found = _constraint(body) if wanted else None
        if found is not None:
            variable, constraint = found
            (principals if variable == "principal" else resources).append(constraint)
        elif _left_open(body, wider=permit == wanted) is not wanted:
            plain = False
    plain = plain and all(one["op"] in _UNDERSTOOD for one in (*principals, *resources))
    plain = plain and est["action"]["op"] in _UNDERSTOOD
    return Reach(
        tuple(principals), _actions(est["action"]), tuple(resources), frozenset(reads), plain
    )


def _actions(constraint: Est) -> frozenset[str] | None:
    match constraint:
        case {"op": "==" | "in", "entity": {"id": str(name)}}:
            return frozenset({name})
        case {"op": "in", "entities": list(entities)}:
            return frozenset(str(one["id"]) for one in entities)
    return None


def _admits(constraint: Est, uids: Collection[Uid]) -> bool:
    """Whether a constraint may hold for the first of ``uids``, which is in all the others."""
    match constraint:
        case {"op": "==", "entity": {"type": kind, "id": name}}:
            return next(iter(uids)) == (kind, name)
        case {"op": "in", "entity": {"type": kind, "id": name}}:
            return (kind, name) in uids
        case {"op": "is", "entity_type": kind, **rest}:
            if next(iter(uids))[0] != kind:
                return False
            within = rest.get("in")
            return within is None or _admits({"op": "in", **within}, uids)
        case {"op": "any", "of": list(options)}:
            return any(_admits(one, uids) for one in options)
    return True


def _constraint(body: Any) -> tuple[str, Est] | None:
    """A clause that is a constraint on principal or resource, as of the policy's head."""
    match body:
        case {"||": {"left": left, "right": right}}:
            first, second = _constraint(left), _constraint(right)
            if first and second and first[0] == second[0]:
                return first[0], {"op": "any", "of": [first[1], second[1]]}
        case {"is": {"left": {"Var": "principal" | "resource" as variable}, **rest}}:
            if set(rest) == {"entity_type"}:
                return variable, {"op": "is", "entity_type": rest["entity_type"]}
        case {"==": {"left": {"Var": "principal" | "resource" as variable}, "right": right}}:
            if entity := _entity(right):
                return variable, {"op": "==", "entity": entity}
        case {"in": {"left": {"Var": "principal" | "resource" as variable}, "right": right}}:
            if entity := _entity(right):
                return variable, {"op": "in", "entity": entity}
            entities = [_entity(one) for one in right.get("Set", ())]
            if entities and all(entities):
                of = [{"op": "in", "entity": one} for one in entities]
                return variable, {"op": "any", "of": of}
    return None


def _entity(expression: Est) -> Est | None:
    match expression:
        case {"Value": {"__entity": dict(entity)}}:
            return entity
    return None


def read(expression: Any) -> frozenset[str]:
    """Attributes of the context that an expression reads; all when it takes it as a whole."""
    return frozenset(_read(expression))


def _read(expression: Any) -> Iterator[str]:
    match expression:
        case {"Var": "context"}:
            yield from OPEN | _KEPT
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
        for entity in filter(None, map(_entity, others)):
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


# --- conditions left open ---------------------------------------------------------


def opened(est: Est) -> dict[str, Any] | None:
    """The policy with ``OPEN`` conditions left open; None when it then says nothing.

    A permit holds wherever some tool, time, address or argument would make it hold; a forbid
    only where it holds for all of them.
    """
    permit = est.get("effect") == "permit"
    conditions = []
    for condition in est.get("conditions", ()):
        wanted = condition["kind"] == "when"
        body = _left_open(condition["body"], wider=permit == wanted)
        if body is wanted:
            continue
        if isinstance(body, bool):
            return None
        conditions.append({"kind": condition["kind"], "body": body})
    return {**est, "conditions": conditions}


def _left_open(expression: Any, *, wider: bool) -> Any:
    """The expression without ``OPEN`` conditions: True, False, or what is left.

    Args:
        expression: a boolean one.
        wider: true wherever the original may be; else false wherever it may be.
    """
    if not read(expression) & OPEN:
        return expression
    match expression:
        case {"&&": {"left": left, "right": right}}:
            return _both(_left_open(left, wider=wider), _left_open(right, wider=wider))
        case {"||": {"left": left, "right": right}}:
            return _either(_left_open(left, wider=wider), _left_open(right, wider=wider))
        case {"!": {"arg": argument}}:
            inner = _left_open(argument, wider=not wider)
            return not inner if isinstance(inner, bool) else {"!": {"arg": inner}}
    return wider


def _both(left: Any, right: Any) -> Any:
    if left is False or right is False:
        return False
    if left is True or right is True:
        return right if left is True else left
    return {"&&": {"left": left, "right": right}}


def _either(left: Any, right: Any) -> Any:
    if left is True or right is True:
        return True
    if left is False or right is False:
        return right if left is False else left
    return {"||": {"left": left, "right": right}}
