"""The state as it stands in Vault [pure].

Duty: a ``RotationState`` to the members of a KV value and back.
Not its duty: reading and writing it (``state``).
Rules:

* all but the staged secrets is one JSON text in the member ``state``; each staged secret
  is a member of its own, so that it stays a ``SecretValue`` on its way;
* a document of a newer schema, or none at all, is ``RotationStateUnreadable``: guessing
  could delete a live key;
* no error quotes the document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from broker.errors import RotationStateUnreadable
from broker.rotation.model import SCHEMA, KeyRef, Past, Phase, Reason, Result, RotationState
from broker.secret import SecretValue

_MEMBER: Final = "state"
_FIELD: Final = "field."


def to_data(state: RotationState) -> Mapping[str, SecretValue]:
    """The members of the KV value."""
    plain = asdict(replace(state, fields={}))
    del plain["fields"]
    text = json.dumps({"schema": SCHEMA, **plain}, separators=(",", ":"), sort_keys=True)
    fields = {_FIELD + name: value for name, value in state.fields.items()}
    return {_MEMBER: SecretValue(text), **fields}


def from_data(data: Mapping[str, SecretValue]) -> RotationState:
    """The state in a KV value.

    Raises:
        RotationStateUnreadable: it is none that this version understands.
    """
    member = data.get(_MEMBER)
    if member is None:
        raise RotationStateUnreadable("The rotation's state lacks its document.")
    try:
        found = json.loads(member.reveal())
        schema = found.pop("schema")
        state = _state(found) if schema == SCHEMA else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RotationStateUnreadable("The rotation's state is damaged.") from None
    if state is None:
        raise RotationStateUnreadable("The rotation's state is of another schema.")
    fields = {
        name.removeprefix(_FIELD): value for name, value in data.items() if name.startswith(_FIELD)
    }
    return replace(state, fields=fields)


def _state(found: dict[str, Any]) -> RotationState:
    """Raises ValueError, TypeError or KeyError for what is no state."""
    state = RotationState(
        **{
            **found,
            "phase": Phase(found["phase"]),
            "current": _key(found["current"]),
            "candidate": _key(found["candidate"]),
            "reason": _reason(found["reason"]),
            "wish": _reason(found["wish"]),
            "past": tuple(_past(each) for each in found["past"]),
            "staged": tuple(int(each) for each in found["staged"]),
        }
    )
    for flag in (state.suspected, state.frozen, state.pinned):
        if not isinstance(flag, bool):
            raise TypeError
    for number in (
        state.base,
        state.previous,
        state.started_wall,
        state.promoted_wall,
        state.retire_at_wall,
    ):
        float(number)
    return state


def _reason(found: str | None) -> Reason | None:
    return None if found is None else Reason(found)


def _key(found: dict[str, Any] | None) -> KeyRef | None:
    return None if found is None else KeyRef(**found)


def _past(found: dict[str, Any]) -> Past:
    return Past(**{**found, "result": Result(found["result"]), "reason": _reason(found["reason"])})
