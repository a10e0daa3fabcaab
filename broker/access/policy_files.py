"""Policy files: each statement judged by itself, with its place.

Duty: texts of files to policies, or every fault with file, line and remedy.
Not its duty: reading files (``settings.load``); evaluating.
Rules:

* statements are parsed and validated one by one, so that a fault names its line and hides
  no other;
* whom and what a policy names must exist: a caller, credential or role that is not
  configured is a fault, for a forbid on a name with a slip in it protects nothing;
* an id is an ``@id("…")``, else ``file:line``; none twice, none that a list or role has;
* a forbid with ``principal == Caller::"…"`` is refused: who shows a scoped token is another
  principal, so that any token would be a way around it;
* templates are refused: nothing here fills them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import Final

from broker.access import cedar
from broker.access.est import Est, bare_caller, literals
from broker.access.left_open import CHANGING
from broker.access.policy_sources import PolicyFile
from broker.access.statements import Statement, split, too_deep
from broker.errors import SettingsError

RESERVED: Final = ("clients.", "roles.")
"""Beginnings of ids that lists and roles have."""
_ATTRIBUTES: Final = (*sorted(CHANGING), "caller", "service_account", "subject", "tool")
_WHERE: Final = re.compile(r"^for policy `\w+`[,:] | in context for Action::\"\w+\"")
_TOO_DEEP: Final = (
    "is nested too deeply",
    'Write several policies, or a set: ["a", "b"].contains(context.tool).',
)
_REMEDY: Final = "See docs/policy.md; 'broker policy print --schema' shows every word there is."


@dataclass(frozen=True, slots=True)
class Sets:
    """What policies may name."""

    callers: Collection[str]
    credentials: Collection[str]
    roles: Collection[str]
    tools: Collection[str] | None = None
    """None: any."""

    def of(self, kind: str) -> tuple[Collection[str] | None, str]:
        """Names of a kind of entity, and the configuration's key for them."""
        known: dict[str, tuple[Collection[str] | None, str]] = {
            "Caller": (self.callers, "clients"),
            "Credential": (self.credentials, "credentials"),
            "Role": (self.roles, "roles"),
            "Tool": (self.tools, "policies.tools"),
        }
        return known.get(kind, (None, ""))


@dataclass(frozen=True, slots=True)
class Written:
    """A policy of a file that has no fault."""

    id: str
    place: str
    text: str
    est: Est


def read_files(
    files: Iterable[PolicyFile], schema: cedar.Schema, sets: Sets, *, taken: Collection[str] = ()
) -> tuple[list[Written], list[SettingsError]]:
    """Judge every statement.

    Args:
        files: as they were read.
        schema: what policies may say.
        sets: what they may name.
        taken: ids that are in use.

    Returns:
        The policies without a fault, and every fault.
    """
    found: dict[str, Written] = {}
    faults: list[SettingsError] = []
    for file in files:
        for statement in split(file.text):
            est, mine = _judged(file, statement, schema, sets)
            faults += mine
            if est is None or mine:
                continue
            place = f"{file.path}:{statement.line}"
            own = est.get("annotations", {}).get("id")
            name = own or _free(f"{PurePath(file.path).name}:{statement.line}", found)
            clash = found[name].place if name in found else ""
            if name in taken or name.startswith(RESERVED):
                clash = "the lists and roles of the configuration"
            if clash:
                message = f"has the id {name}, which belongs to {clash}"
                faults.append(_fault(file, statement, message, "Give it another one."))
            else:
                found[name] = Written(name, place, statement.text, est)
    return list(found.values()), faults


def _free(name: str, taken: Collection[str]) -> str:
    """The name, or with a number where several policies have one line or one file name."""
    number, result = 1, name
    while result in taken:
        number += 1
        result = f"{name}#{number}"
    return result


def _judged(
    file: PolicyFile, statement: Statement, schema: cedar.Schema, sets: Sets
) -> tuple[Est | None, list[SettingsError]]:
    """The policy, if it is one, and its faults."""
    if too_deep(statement.text):
        return None, [_fault(file, statement, *_TOO_DEEP)]
    try:
        ((sort, est),) = cedar.parse(statement.text)
    except RecursionError:
        return None, [_fault(file, statement, *_TOO_DEEP)]
    except ValueError as error:
        message = str(error).partition("\n")[0]
        remedy = "Correct this policy; a ';' may be missing before it."
        return None, [_fault(file, statement, f"is no Cedar policy: {message}", remedy)]
    if sort == "template":
        message = "is a template, and nothing here fills its slots"
        remedy = "Write whom and what it is about in the place of each ?slot."
        return None, [_fault(file, statement, message, remedy)]
    if not cedar.fits(est):
        return None, [_fault(file, statement, *_TOO_DEEP)]
    faults = list(_unknown(file, statement, est, sets))
    if bare := bare_caller(est):
        faults.append(
            _fault(
                file,
                statement,
                f'forbids to principal == Caller::"{bare}", who gets round it by any scoped token',
                f'Write principal in Caller::"{bare}"; where only requests without a scoped token '
                f'are meant, principal is Caller in Caller::"{bare}".',
            )
        )
    told = {_WHERE.sub("", text): None for text in schema.faults(statement.text)}
    if len(told) > 1:  # follows from the others
        told.pop("unable to find an applicable action given the policy scope constraints", None)
    faults += [_fault(file, statement, message, _remedy(message)) for message in told]
    return est, faults


def _unknown(
    file: PolicyFile, statement: Statement, est: Est, sets: Sets
) -> Iterator[SettingsError]:
    for kind, name in dict.fromkeys(literals(est)):
        known, key = sets.of(kind)
        if known is None or name in known:
            continue
        near = get_close_matches(name, known, n=1)
        yield _fault(
            file,
            statement,
            f'names {kind}::"{name}", which is not configured',
            f"Did you mean {near[0]}?" if near else f"Add it under {key}, or correct the name.",
        )


def _remedy(message: str) -> str:
    missing = re.match(r"attribute `([\w.]+)`(?: in context)? not found", message)
    if missing:
        name = missing[1]
        if name.startswith("arguments"):
            return (
                "Declare the argument under policies.arguments, and ask for it in policies whose "
                'action is Action::"call_tool" alone.'
            )
        near = get_close_matches(name, _ATTRIBUTES, n=1)
        if near:
            return f"Did you mean {near[0]}? {_REMEDY}"
    optional = re.search(r"optional attribute `(?:([\w.]+)\.)?(\w+)`", message)
    if optional:
        owner = f"context.{optional[1]}" if optional[1] else "context"
        return f"It may be missing: ask '{owner} has {optional[2]} &&' before it."
    return _REMEDY


def _fault(file: PolicyFile, statement: Statement, message: str, remedy: str) -> SettingsError:
    return SettingsError(message, file=file.path, line=statement.line, remedy=remedy)
