"""What is probably wrong with roles [pure].

Duty: grants that are unreachable, empty, shadowed by others, or wider than anybody meant.
Not its duty: roles that cannot work at all (``settings.rules_access``); policy files, where a
program cannot know what was meant.
Rules: nothing here keeps a broker from starting; each finding says what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal, TypeAlias

from broker.access.roles import (
    DEFAULT_ACTIONS,
    LIST_ACTIONS,
    Role,
    Window,
    list_id,
    policy_id,
    selected,
)
from broker.access.vocabulary import ADMIN, CREDENTIAL_ACTIONS, TOOL_ACTIONS
from broker.protocol.scopes import matches

Sort: TypeAlias = Literal["unreachable", "empty", "shadowed", "over-wide"]
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_LOCAL: Final = frozenset({"handout", "report", "read_status"})
"""Actions of the data plane, which listens on loopback and Unix sockets alone."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to look at."""

    path: tuple[str, ...]
    """Of the key that should change."""
    sort: Sort
    message: str
    remedy: str


def analyse(
    roles: Sequence[Role], lists: Mapping[str, tuple[str, ...]], paths: Mapping[str, str]
) -> Iterator[Remark]:
    """Yield every remark.

    Args:
        roles: as configured.
        lists: credentials listed for each client.
        paths: of every configured credential by name, as in Vault.
    """
    for role in roles:
        yield from _unreachable(role)
        yield from _empty(role, paths)
        yield from _wide(role)
        yield from _within(role)
    yield from _shadowed(roles, lists, paths)


def _remark(role: Role, key: str, sort: Sort, message: str, remedy: str) -> Remark:
    at = ("roles", role.name, *(key.split(".") if key else ()))
    return Remark(at, sort, f"{sort}: {message}", remedy)


def _unreachable(role: Role) -> Iterator[Remark]:
    if not role.callers and not role.subjects:
        yield _remark(
            role,
            "",
            "unreachable",
            "nobody holds it: it names neither callers nor subjects",
            "List who holds it under callers, subjects or both.",
        )
    actions = role.all_actions()
    networks = [ip_network(one) for one in role.addresses]
    local = any(_overlap(one, loop) for one in networks for loop in _LOOPBACK)
    if networks and not local and _LOCAL.issuperset(actions):
        yield _remark(
            role,
            "addresses",
            "unreachable",
            "hand-outs are asked for over loopback or a Unix socket, from none of these addresses",
            "Remove addresses, or grant call_tool, which is asked with the agent's address.",
        )
    if "rotate" in role.actions:
        yield _remark(
            role,
            "actions",
            "unreachable",
            "rotate is asked for at the admin socket, by operators, and by no caller",
            "Remove rotate.",
        )


def _empty(role: Role, paths: Mapping[str, str]) -> Iterator[Remark]:
    names = selected(role, paths)
    for number, glob in enumerate(role.paths):
        if not selected(Role("", paths=(glob,)), paths):
            yield _remark(
                role,
                f"paths.{number}",
                "empty",
                "no configured credential has such a path",
                "Write the path as in Vault, mount included and data/ left out; * is one "
                "component, ** any number.",
            )
    if not names and not role.tools:
        if not role.paths:
            yield _remark(
                role,
                "",
                "empty",
                "it grants nothing: it names neither credentials, paths nor tools",
                "List what it grants; or nothing, when policy files alone ask for the role.",
            )
        return
    actions = role.all_actions()
    if role.tools and not names and not set(actions) & set(TOOL_ACTIONS):
        yield _remark(
            role,
            "actions",
            "empty",
            "its actions are about credentials, and it names none",
            "List credentials, or grant call_tool.",
        )


def _wide(role: Role) -> Iterator[Remark]:
    for number, glob in enumerate(role.paths):
        if set(glob.split("/")) == {"**"}:
            yield _remark(
                role,
                f"paths.{number}",
                "over-wide",
                "grants every credential, those to come included",
                "Write the mount and as much of the path as is common: secret/mcp/*.",
            )
    for number, glob in enumerate(role.subjects):
        if set(glob) == {"*"}:
            yield _remark(
                role,
                f"subjects.{number}",
                "over-wide",
                "is held by everybody who has any scoped token",
                "Name the subjects, or a glob of them: *@example.com.",
            )
    for number, tool in enumerate(role.tools):
        if set(tool) == {"*"}:
            yield _remark(
                role,
                f"tools.{number}",
                "over-wide",
                "grants every tool, those to come included",
                "Name the tools, or a glob of them: search.*.",
            )
    for number, network in enumerate(role.addresses):
        if ip_network(network).prefixlen == 0:
            yield _remark(
                role,
                f"addresses.{number}",
                "over-wide",
                "holds every address",
                "Write the networks that are meant, or remove addresses.",
            )
    if ADMIN in role.actions:
        yield _remark(
            role,
            "actions",
            "over-wide",
            "admin grants every action, those to come included",
            f"Write the actions that are needed: {', '.join(DEFAULT_ACTIONS)}.",
        )


def _within(role: Role) -> Iterator[Remark]:
    """What another item of the same list covers."""
    for key, items in (("tools", role.tools), ("subjects", role.subjects)):
        for number, one in enumerate(items):
            others = (*items[:number], *(other for other in items[number + 1 :] if other != one))
            cover = next((other for other in others if matches(other, one)), None)
            if cover is not None:
                message = f"is covered by {cover} beside it"
                yield _remark(role, f"{key}.{number}", "shadowed", message, "Keep one of the two.")


# --- one grant within another -------------------------------------------------------


def _shadowed(
    roles: Sequence[Role], lists: Mapping[str, tuple[str, ...]], paths: Mapping[str, str]
) -> Iterator[Remark]:
    for number, role in enumerate(roles):
        names = selected(role, paths)
        if not names and not (role.tools and set(role.all_actions()) & set(TOOL_ACTIONS)):
            continue
        if not role.callers and not role.subjects:
            continue
        by = next(
            (
                policy_id(other.name)
                for place, other in enumerate(roles)
                if place != number
                and _covers(other, role, paths)
                # Of two that are alike, the first stays.
                and (place < number or not _covers(role, other, paths))
            ),
            None,
        )
        if by is None and role.callers and _listed(role, names, lists):
            by = ", ".join(list_id(caller) for caller in role.callers)
        if by is not None:
            message = f"adds nothing to {by}, which grants all of it"
            remedy = "Remove it, or narrow the other one, which makes this one's conditions void."
            yield _remark(role, "", "shadowed", message, remedy)


def _listed(role: Role, names: Sequence[str], lists: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether the lists of all its callers grant a role already."""
    if not set(LIST_ACTIONS).issuperset(role.all_actions()):
        return False
    tools = bool(set(role.all_actions()) & set(TOOL_ACTIONS))
    return all(
        set(names) <= set(lists.get(caller, ())) and (bool(lists.get(caller)) or not tools)
        for caller in role.callers
    )


def _covers(wide: Role, narrow: Role, paths: Mapping[str, str]) -> bool:
    """Whether everything that ``narrow`` grants, ``wide`` grants too."""
    if not wide.callers and not wide.subjects:
        return False
    actions = set(narrow.all_actions())
    about_credentials = bool(actions & set(CREDENTIAL_ACTIONS))
    about_tools = bool(actions & set(TOOL_ACTIONS))
    return (
        (not wide.callers or (bool(narrow.callers) and set(narrow.callers) <= set(wide.callers)))
        and (not wide.subjects or _all_matched(narrow.subjects, wide.subjects))
        and (not wide.tools or _all_matched(narrow.tools, wide.tools))
        and actions <= set(wide.all_actions())
        and (not about_credentials or set(selected(narrow, paths)) <= set(selected(wide, paths)))
        and (not about_tools or bool(selected(wide, paths)) or bool(wide.tools))
        and (not wide.times or _times_within(narrow.times, wide.times))
        and (not wide.addresses or _networks_within(narrow.addresses, wide.addresses))
    )


def _all_matched(narrow: Sequence[str], wide: Sequence[str]) -> bool:
    # A glob is within another when that one matches its text: its own signs stand for texts
    # that only a sign of the other can have taken.
    return bool(narrow) and all(any(_within_glob(one, other) for other in wide) for one in narrow)


def _within_glob(narrow: str, wide: str) -> bool:
    if "?" in wide and ("*" in narrow or "?" in narrow):
        return narrow == wide  # '?' may have taken a '*', which stands for more
    return matches(wide, narrow)


def _times_within(narrow: Sequence[Window], wide: Sequence[Window]) -> bool:
    return bool(narrow) and all(any(_window_within(one, other) for other in wide) for one in narrow)


def _window_within(narrow: Window, wide: Window) -> bool:
    if narrow.zone != wide.zone or not set(narrow.days) <= set(wide.days):
        return False
    if (narrow.start < narrow.end) != (wide.start < wide.end):
        return False
    return wide.start <= narrow.start and narrow.end <= wide.end


def _networks_within(narrow: Sequence[str], wide: Sequence[str]) -> bool:
    return bool(narrow) and all(
        any(_subnet(ip_network(one), ip_network(other)) for other in wide) for one in narrow
    )


def _subnet(narrow: IPv4Network | IPv6Network, wide: IPv4Network | IPv6Network) -> bool:
    if isinstance(narrow, IPv4Network) and isinstance(wide, IPv4Network):
        return narrow.subnet_of(wide)
    if isinstance(narrow, IPv6Network) and isinstance(wide, IPv6Network):
        return narrow.subnet_of(wide)
    return False


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return _subnet(one, other) or _subnet(other, one)
