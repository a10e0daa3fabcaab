"""Roles of the configuration, and what they are in Cedar [pure].

Duty: who holds a role; the Cedar policy of a role; globs of paths.
Not its duty: judging a configuration's roles (``roles_analysis``), deciding (Cedar does).
Rules:

* every key of a role narrows it. Only ``credentials`` and ``paths`` add to each other: both
  name credentials;
* a role with ``subjects`` is held by scoped tokens of these subjects alone; with ``callers``
  too, only by tokens which these callers show;
* a role without ``tools`` is for any tool and for none; with them the request names one;
* a role without credentials, paths and tools grants nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from broker.access.est import CHAIN
from broker.access.vocabulary import ACTIONS, ADMIN, CREDENTIAL_ACTIONS, DAYS, pattern, quoted
from broker.protocol.scopes import covers

DEFAULT_ACTIONS: Final = ("handout", "report", "read_status", "call_tool")
LIST_ACTIONS: Final = ("handout", "report", "read_status", "mint_token", "call_tool")
"""What a client's list of credentials stands for."""
WHOLE_DAY: Final = 24 * 60
"""Minutes."""


@dataclass(frozen=True, slots=True)
class Window:
    """A daily span in a zone; past midnight when it ends before it starts."""

    zone: str
    days: tuple[str, ...] = DAYS
    """On which it starts."""
    start: int = 0
    """Minute of the day."""
    end: int = WHOLE_DAY
    """Minute of the day that is no more inside."""


@dataclass(frozen=True, slots=True)
class Role:
    """One role as configured."""

    name: str
    callers: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    """Subjects and globs of them."""
    tools: tuple[str, ...] = ()
    """Tools, and globs that know ``*`` alone."""
    credentials: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    """Globs of paths in Vault, by component."""
    times: tuple[Window, ...] = ()
    addresses: tuple[str, ...] = ()
    """Networks."""
    actions: tuple[str, ...] = DEFAULT_ACTIONS

    def held_by(self, caller: str, subject: str | None) -> bool:
        """Whether who asks holds this role."""
        if not self.callers and not self.subjects:
            return False
        if self.callers and caller not in self.callers:
            return False
        return not self.subjects or (subject is not None and covers(self.subjects, subject))

    def all_actions(self) -> tuple[str, ...]:
        """Its actions, ``admin`` spelled out."""
        return ACTIONS if ADMIN in self.actions else self.actions


def policy_id(role: str) -> str:
    """Id of a role's policy."""
    return f"roles.{role}"


def list_id(client: str) -> str:
    """Id of the policy that a client's list is."""
    return f"clients.{client}"


def held(roles: Iterable[Role], caller: str, subject: str | None) -> tuple[str, ...]:
    """Names of the roles that who asks holds."""
    return tuple(role.name for role in roles if role.held_by(caller, subject))


# --- paths ----------------------------------------------------------------------


def path_matches(glob: str, path: str) -> bool:
    """Whether a glob covers a path: ``*`` within one component, ``**`` any number of them."""
    return _match(glob.split("/"), path.split("/"))


def _match(glob: list[str], path: list[str]) -> bool:
    # Row by row instead of recursion: many ``**`` cost no more than length by length.
    reached = [True] + [False] * len(path)
    for one in glob:
        if one == "**":
            first = reached.index(True) if True in reached else len(reached)
            reached = [number >= first for number in range(len(reached))]
        else:
            form = re.compile("[^/]*".join(map(re.escape, one.split("*"))))
            reached = [False] + [
                reached[number] and form.fullmatch(path[number]) is not None
                for number in range(len(path))
            ]
    return reached[-1]


def selected(role: Role, paths: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the credentials that a role grants.

    Args:
        role: the role.
        paths: of every configured credential by name, as in Vault, mount included.
    """
    return tuple(
        name
        for name, path in paths.items()
        if name in role.credentials or any(path_matches(glob, path) for glob in role.paths)
    )


# --- Cedar ----------------------------------------------------------------------


def list_policy(client: str, credentials: Iterable[str]) -> str | None:
    """The Cedar policy of a client's list; None when it is empty."""
    listed = _credentials(credentials)
    if not listed:
        return None
    return _statement(
        list_id(client),
        f"principal in Caller::{quoted(client)}",
        LIST_ACTIONS,
        [f"resource is Tool || {listed}"],
        [f"clients.{client}.credentials"],
    )


def role_policy(role: Role, paths: Mapping[str, str]) -> str | None:
    """The Cedar policy of a role; None when it grants nothing.

    Args:
        role: the role.
        paths: of every configured credential by name.
    """
    names = selected(role, paths)
    listed = _credentials(names)
    if not listed and not role.tools:
        return None
    resource = " || ".join(filter(None, ["resource is Tool", listed]))
    clauses = [resource]
    if role.tools:
        clauses.append(_tools(role.tools))
    if role.times:
        clauses.append(_either([*map(_window, role.times)]))
    if role.addresses:
        ranges = _either([f"context.address.isInRange(ip({quoted(n)}))" for n in role.addresses])
        clauses.append(f"context has address && ({ranges})")
    comments = [f"roles.{role.name}, held by " + _holders(role)]
    if role.paths:
        comments.append("credentials by paths " + ", ".join(role.paths))
    return _statement(
        policy_id(role.name),
        f"principal in Role::{quoted(role.name)}",
        role.actions,
        clauses,
        comments,
    )


def _statement(
    name: str, principal: str, actions: Iterable[str], clauses: Iterable[str], comments: list[str]
) -> str:
    ids = [f"Action::{quoted(action)}" for action in actions]
    action = f"action in [{', '.join(ids)}]"
    lines = [f"// {comment}" for comment in comments]
    lines += [f"@id({quoted(name)})", "permit (", f"  {principal},", f"  {action},", "  resource"]
    lines += [")", *(f"when {{ {clause} }}" for clause in clauses)]
    return "\n".join(lines) + ";\n"


def _holders(role: Role) -> str:
    if not role.callers and not role.subjects:
        return "nobody"
    callers = f"callers {', '.join(role.callers)}" if role.callers else "any caller"
    return callers + (f" on behalf of {', '.join(role.subjects)}" if role.subjects else "")


def _credentials(names: Iterable[str]) -> str:
    listed = ", ".join(f"Credential::{quoted(name)}" for name in names)
    return f"resource in [{listed}]" if listed else ""


def _tools(tools: Iterable[str]) -> str:
    """A tool is named, and it is one of these."""
    either = _either(
        [
            f"context.tool like {pattern(one)}" if "*" in one else f"context.tool == {quoted(one)}"
            for one in tools
        ]
    )
    return f'context.tool != "" && ({either})'


def _either(parts: Sequence[str]) -> str:
    """Any of them; many as a tree, since Cedar takes no long row."""
    if len(parts) <= CHAIN:
        return " || ".join(parts)
    half = len(parts) // 2
    return f"({_either(parts[:half])}) || ({_either(parts[half:])})"


def _window(window: Window) -> str:
    at = f"context.zones[{quoted(window.zone)}]"
    start, end = (f'duration("{minute}m")' for minute in (window.start, window.end))
    if window.start < window.end:
        return f"({_days(at, window.days)} && {at}.time >= {start} && {at}.time < {end})"
    after = tuple(DAYS[(DAYS.index(day) + 1) % len(DAYS)] for day in window.days)
    return (
        f"({_days(at, window.days)} && {at}.time >= {start}) || "
        f"({_days(at, after)} && {at}.time < {end})"
    )


def _days(at: str, days: Iterable[str]) -> str:
    listed = ", ".join(f"Weekday::{quoted(day)}" for day in days)
    return f"[{listed}].contains({at}.weekday)"


def credential_actions(actions: Iterable[str]) -> tuple[str, ...]:
    """Those of the actions that are about credentials."""
    return tuple(action for action in actions if action in CREDENTIAL_ACTIONS)
