"""What a parsed policy reaches and what it looks at [pure].

Duty: whom it may concern, and which conditions it reads.
Not its duty: deciding: Cedar does, on the whole set.
Rules: what is not understood counts as reaching everybody and reading everything: then a
decision is not kept, and a listing asks Cedar.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from broker.access.est import Est, Uid, entity_of, read
from broker.access.left_open import left_open

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
    """Attributes of the context."""
    plain: bool
    """Nothing but the constraints above decides, once ``OPEN`` conditions are left open."""

    def about(self, action: str, resource: Uid, *, admin: str) -> bool:
        """Whether it may apply to an action on a resource.

        Args:
            action: what is asked.
            resource: about what.
            admin: the group that every action is in.
        """
        return self.does(action, admin=admin) and all(
            _admits(one, (resource,)) for one in self.resources
        )

    def does(self, action: str, *, admin: str) -> bool:
        """Whether it may apply to an action; as for ``about``."""
        return self.actions is None or not self.actions.isdisjoint((action, admin))

    def asked_by(self, principals: Collection[Uid]) -> bool:
        """Whether it may apply to the first of ``principals``, which is in all the others."""
        return all(_admits(one, principals) for one in self.principals)

    def credentials(self, names: frozenset[str]) -> frozenset[str]:
        """Those of the names that it may apply to."""
        for one in self.resources:
            names &= _named(one, names)
        return names

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
        reads |= read(body)
        wanted = condition["kind"] == "when"
        found = _constraint(body) if wanted else None
        if found is not None:
            variable, constraint = found
            (principals if variable == "principal" else resources).append(constraint)
        elif left_open(body, wider=permit == wanted) is not wanted:
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


def _named(constraint: Est, names: frozenset[str]) -> frozenset[str]:
    """Credentials that a constraint may hold for."""
    match constraint:
        case {"op": "==" | "in", "entity": {"type": kind, "id": str(name)}}:
            return names & {name} if kind == "Credential" else frozenset()
        case {"op": "is", "entity_type": kind, **rest} if "in" not in rest:
            return names if kind == "Credential" else frozenset()
        case {"op": "any", "of": list(options)}:
            return frozenset[str]().union(*(_named(one, names) for one in options))
    return names


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
            if entity := entity_of(right):
                return variable, {"op": "==", "entity": entity}
        case {"in": {"left": {"Var": "principal" | "resource" as variable}, "right": right}}:
            if entity := entity_of(right):
                return variable, {"op": "in", "entity": entity}
            entities = [entity_of(one) for one in right.get("Set", ())]
            if entities and all(entities):
                of = [{"op": "in", "entity": one} for one in entities]
                return variable, {"op": "any", "of": of}
    return None
