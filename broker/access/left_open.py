"""Policies with those conditions left open that differ from request to request [pure].

Duty: the same policy without them, for the question what a caller may have at all.
Not its duty: deciding: Cedar does, on what is left.
Rules: left open, a permit may only become wider and a forbid only narrower: a caller's list of
credentials names all it may have at some time or for some tool, and nothing that no
condition can open.
"""

from __future__ import annotations

from typing import Any, Final

from broker.access.est import Est, read

CHANGING: Final = frozenset({"address", "time", "weekday", "zones", "arguments"})
"""Conditions that differ between two requests of one caller, subject, tool and resource."""
OPEN: Final = CHANGING | {"tool"}
"""Those that are left open when a caller asks what it may have at all."""


def opened(est: Est) -> dict[str, Any] | None:
    """The policy with ``OPEN`` conditions left open; None when it then says nothing.

    A permit holds wherever some tool, time, address or argument would make it hold; a forbid
    only where it holds for all of them.
    """
    permit = est.get("effect") == "permit"
    conditions = []
    for condition in est.get("conditions", ()):
        wanted = condition["kind"] == "when"
        body = left_open(condition["body"], wider=permit == wanted)
        if body is wanted:
            continue
        if isinstance(body, bool):
            return None
        conditions.append({"kind": condition["kind"], "body": body})
    return {**est, "conditions": conditions}


def left_open(expression: Any, *, wider: bool) -> Any:
    """The expression without ``OPEN`` conditions: True, False, or what is left.

    Args:
        expression: a boolean one.
        wider: true wherever the original may be; else false wherever it may be.
    """
    if not read(expression) & OPEN:
        return expression
    match expression:
        case {"&&": {"left": left, "right": right}}:
            return _both(left_open(left, wider=wider), left_open(right, wider=wider))
        case {"||": {"left": left, "right": right}}:
            return _either(left_open(left, wider=wider), left_open(right, wider=wider))
        case {"!": {"arg": argument}}:
            inner = left_open(argument, wider=not wider)
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
