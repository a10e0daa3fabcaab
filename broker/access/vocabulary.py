"""The words policies are written in, and one question put in them [pure].

Duty: the Cedar schema; a question as Cedar takes it; texts as Cedar literals.
Not its duty: the time of day in a zone (``moments``), evaluating (``cedar``).
Rules:

* closed: what the schema does not name, no policy can ask for;
* who shows a scoped token is a ``Subject`` in its ``Caller``: ``principal in Caller::"x"``
  is the caller with and without tokens;
* a condition that may be missing is optional in the schema, so that a policy which does not
  ask ``has`` first is refused when it is loaded;
* ``tool`` is never missing: it is empty when the request names none.

Source: https://docs.cedarpolicy.com/schema/human-readable-schema.html ,
https://docs.cedarpolicy.com/auth/entities-syntax.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Literal, TypeAlias

CREDENTIAL_ACTIONS: Final = ("handout", "report", "read_status", "mint_token", "rotate")
"""What may be asked about a credential."""
TOOL_ACTIONS: Final = ("call_tool", "mint_token")
"""What may be asked about a tool."""
ACTIONS: Final = ("handout", "call_tool", "mint_token", "report", "read_status", "rotate")
ADMIN: Final = "admin"
"""The group of all actions."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Kind: TypeAlias = Literal["text", "whole_number", "boolean"]
Json: TypeAlias = dict[str, Any]

_CEDAR_KINDS: Final[Mapping[Kind, str]] = {
    "text": "String",
    "whole_number": "Long",
    "boolean": "Bool",
}
_LONG: Final = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What of the words is configured."""

    zone: str = "UTC"
    """Time zone of ``context.time`` and ``context.weekday``."""
    zones: tuple[str, ...] = ()
    """Further ones, in ``context.zones``; no name twice."""
    arguments: Mapping[str, Kind] = field(default_factory=dict)
    """Arguments of tools that policies may look at."""
    service_account: str = ""
    """Of this pod, ``namespace/name``; empty: not known."""

    def all_zones(self) -> tuple[str, ...]:
        """Every zone whose time is needed; the first is ``zone``."""
        return (self.zone, *self.zones)


@dataclass(frozen=True, slots=True)
class Moment:
    """A reading of a clock on the wall of some zone."""

    minute: int
    """Of the day, from 0."""
    weekday: str


@dataclass(frozen=True, slots=True)
class Question:
    """May this principal do this?"""

    caller: str
    action: str
    resource: str
    about_tool: bool = False
    """The resource is a tool, not a credential."""
    subject: str | None = None
    """The verified subject; None without a scoped token."""
    tool: str = ""
    """The tool a credential is for; for a tool, the tool itself."""
    address: str = ""
    """Of the peer; empty on a Unix socket."""
    wall: float = 0.0
    """Unix time."""
    arguments: Mapping[str, Any] | None = None
    """Of the tool; None: not known."""


def quoted(text: str) -> str:
    """A Cedar string literal."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"


def pattern(glob: str) -> str:
    """The Cedar pattern of a glob that knows ``*`` alone."""
    return '"' + "".join("*" if one == "*" else _escaped(one) for one in glob) + '"'


def uid(kind: str, name: str) -> Json:
    """An entity's id as Cedar's JSON."""
    return {"type": kind, "id": name}


WORDS: Final[Mapping[str, str]] = {
    "caller": "caller: Caller",
    "subject": "subject?: Subject",
    "tool": "tool: String",
    "address": "address?: ipaddr",
    "time": "time: duration",
    "weekday": "weekday: Weekday",
    "zones": "zones: Zones",
    "service_account": "service_account?: String",
    "arguments": "arguments: Arguments",
}
"""What a policy may ask of the context, as the schema declares it."""


def schema(vocabulary: Vocabulary, words: Collection[str] = WORDS) -> str:
    """The Cedar schema.

    Args:
        vocabulary: what is configured.
        words: those of the context that are needed; putting each into its type takes time.
    """
    actions = "\n".join(_action(action, words) for action in ACTIONS)
    arguments = _record(
        f"{quoted(name)}?: {_CEDAR_KINDS[kind]}" for name, kind in vocabulary.arguments.items()
    )
    zones = _record(f"{quoted(name)}: Moment" for name in vocabulary.zones)
    return f"""\
entity Role;
entity Caller in [Role];
entity Subject in [Caller, Role];
entity Tool;
entity Credential {{ name: String, kind: String, mount: String, path: String }};
entity Weekday enum [{", ".join(map(quoted, DAYS))}];
type Moment = {{ time: duration, weekday: Weekday }};
type Zones = {zones};
type Arguments = {arguments};
action {quoted(ADMIN)};
{actions}
"""


def _record(members: Iterable[str]) -> str:
    text = ", ".join(members)
    return f"{{ {text} }}" if text else "{}"


def _action(action: str, words: Collection[str]) -> str:
    kinds = ["Credential"] * (action in CREDENTIAL_ACTIONS) + ["Tool"] * (action in TOOL_ACTIONS)
    context = _record(
        declared
        for word, declared in WORDS.items()
        if word in words and (word != "arguments" or action == "call_tool")
    )
    return (
        f"action {quoted(action)} in [{quoted(ADMIN)}] appliesTo {{ "
        f"principal: [Caller, Subject], resource: [{', '.join(kinds)}], "
        f"context: {context} }};"
    )


def principal(question: Question) -> Json:
    """Who asks, as Cedar's JSON."""
    if question.subject is None:
        return uid("Caller", question.caller)
    return uid("Subject", question.subject)


def request(
    question: Question,
    moments: Mapping[str, Moment],
    vocabulary: Vocabulary,
    words: Collection[str] = WORDS,
) -> dict[str, Any]:
    """The question as Cedar takes it.

    Args:
        question: what is asked.
        moments: the time in each zone of the vocabulary.
        vocabulary: what is configured.
        words: those of the schema's context; the rest is looked at, but left out.

    Raises:
        ValueError: an address that is none, or an argument of another kind than configured.
    """
    here = _moment(moments[vocabulary.zone])
    context: Json = {
        "caller": uid("Caller", question.caller),
        "tool": question.tool,
        **here,
        "zones": {name: _moment(moments[name]) for name in vocabulary.zones},
    }
    if question.subject is not None:
        context["subject"] = uid("Subject", question.subject)
    if question.address:
        context["address"] = plain_address(question.address)
    if vocabulary.service_account:
        context["service_account"] = vocabulary.service_account
    if question.action == "call_tool":
        context["arguments"] = _arguments(question.arguments or {}, vocabulary.arguments)
    return {
        "principal": principal(question),
        "action": uid("Action", question.action),
        "resource": uid("Tool" if question.about_tool else "Credential", question.resource),
        "context": {word: value for word, value in context.items() if word in words},
    }


def _moment(moment: Moment) -> Json:
    return {"time": f"{moment.minute}m", "weekday": uid("Weekday", moment.weekday)}


def plain_address(text: str) -> str:
    """An address without its zone; one that is IPv4 within IPv6 as IPv4.

    Raises:
        ValueError: no address.
    """
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _arguments(said: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Json:
    """The selected arguments; null counts as missing.

    Raises:
        ValueError: one is of another kind, so that no policy could judge it.
    """
    found: Json = {}
    for name, kind in kinds.items():
        value = said.get(name)
        if value is None:
            continue
        if not _fits(value, kind):
            raise ValueError(f"argument {name} is no {kind}")
        found[name] = value
    return found


def _fits(value: object, kind: Kind) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    return isinstance(value, int) and not isinstance(value, bool) and value in _LONG
