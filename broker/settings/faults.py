"""The schema's faults in words, with place and remedy [pure].

Duty: turn pydantic's list of errors into ``SettingsError``.
Not its duty: finding faults (``schema``, ``rules``).
Rules: nothing here repeats a value; a wrong key gets the nearest right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from broker.errors import SettingsError
from broker.settings import kinds, literals, units
from broker.settings.document import Document
from broker.settings.places import Path
from broker.settings.schema import File, KvSource, LeasedSource, StaticRoleSource
from broker.settings.schema_rotation import GeneratedDriver, HttpDriver, VaultRoleDriver

_PATTERNS: Final = {
    units.NAME: (
        "is not a usable name",
        "Use at most 63 lower-case letters, digits, '-', '_', '.', no sign at either end.",
    ),
    units.FIELD: (
        "is not a usable field name",
        "Use letters, digits, '_', '-' and '.', at most 64.",
    ),
    units.DAY_TIME: ("is not a time of day", "Write hours and minutes: 08:30; 24:00 is the end."),
    units.TOOL_GLOB: (
        "is no name or glob of tools",
        "Write at most 128 characters; roles know * (any text) and no ?.",
    ),
    units.HEADER: ("is no name of a header", "Write the name that the provider documents."),
    units.POINTER: (
        "is not a JSON pointer",
        "Write '/' before each step, /data/key; '~1' for '/' and '~0' for '~' within one.",
    ),
}
_SOURCES: Final[Mapping[str, type[BaseModel]]] = {
    "kv": KvSource,
    "leased": LeasedSource,
    "static_role": StaticRoleSource,
}
_DRIVERS: Final[Mapping[str, type[BaseModel]]] = {
    "http": HttpDriver,
    "generated": GeneratedDriver,
    "vault_role": VaultRoleDriver,
}
EMPTY: Final = "Write its value, or remove the key."
_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "bool_type": ("is neither true nor false", "Write true or false, without quotes."),
    "int_type": ("is not a whole number", "Write a whole number, without quotes."),
    "int_from_float": ("is not a whole number", "Write a whole number."),
    "float_type": ("is not a number", "Write a number, without quotes."),
    "finite_number": ("is not a number", "Write a number."),
    "string_type": ("is not a text", "Write a text; put it in quotes if it looks like a number."),
    "list_type": ("is not a list", "Write it in brackets, [a, b], or one '- item' a line."),
    "dict_type": ("is not a mapping", "Write 'key: value' lines below it, indented."),
    "model_type": ("is not a mapping", "Write 'key: value' lines below it, indented."),
    "model_attributes_type": ("is not a mapping", "Write 'key: value' lines below it, indented."),
    "string_too_short": ("is empty", EMPTY),
    "too_short": ("is empty", "Write what belongs there, or remove the key."),
}


def from_validation(error: ValidationError, document: Document) -> list[tuple[Path, SettingsError]]:
    """Each of pydantic's errors as path and ``SettingsError``."""
    # pydantic's own message, URL and context are left: they hold the input.
    found = error.errors(include_url=False)
    return [_one(details, document) for details in found]


def _one(details: ErrorDetails, document: Document) -> tuple[Path, SettingsError]:
    path = _path(details["loc"])
    message, remedy = _words(details, path, document.data)
    place = document.place(path)
    return path, SettingsError(
        message, file=place.file, line=place.line, key=literals.dotted(path), remedy=remedy
    )


def _path(loc: tuple[int | str, ...]) -> Path:
    """Pydantic's location without what it adds: the union's tag and ``[key]``."""
    parts = [str(part) for part in loc if part != "[key]"]
    if len(parts) > 3 and parts[0] == "credentials" and parts[2] == "source":
        del parts[3]
    if len(parts) > 4 and parts[0] == "credentials" and parts[2:4] == ["rotation", "driver"]:
        del parts[4]
    return tuple(parts)


def _words(details: ErrorDetails, path: Path, data: dict[str, Any]) -> tuple[str, str]:
    kind, context = details["type"], details.get("ctx", {})
    match kind:
        case kinds.FAULT:
            return context["message"], context["remedy"]
        case "missing":
            return "is missing", f"Write it: {_description(path, data)}"
        case "extra_forbidden":
            return _unknown(path, data)
        case "literal_error":
            return _choice(str(context["expected"]), details["input"])
        case "union_tag_invalid" | "union_tag_not_found":
            return _kinds(_SOURCES if path[-1] == "source" else _DRIVERS)
        case "string_pattern_mismatch":
            words = _PATTERNS.get(context["pattern"])
            return words or ("holds a control character", "Write it on one line, without tabs.")
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            bound = next(iter(context.values()))
            how = {"greater_than": "more than", "greater_than_equal": "at least"}
            how |= {"less_than": "less than", "less_than_equal": "at most"}
            return f"must be {how[kind]} {bound}", f"Write a number {how[kind]} {bound}."
    return _WORDS.get(kind, ("is not what belongs here", "See docs/configuration.md."))


def _kinds(family: Mapping[str, type[BaseModel]]) -> tuple[str, str]:
    *most, last = family
    listed = f"{', '.join(most)} or {last}"
    return f"needs a kind: {listed}", f"Write kind: {most[0]}, or another of them."


def _choice(expected: str, value: Any) -> tuple[str, str]:
    words = expected.replace("'", "").replace("'' or ", "")
    names = [name.strip() for name in words.replace(" or ", ",").split(",") if name.strip()]
    near = get_close_matches(str(value), names, n=1)
    listed = " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"must be {listed}", f"Did you mean {near[0]}?" if near else f"Write {listed}."


def _unknown(path: Path, data: dict[str, Any]) -> tuple[str, str]:
    """Words for an unknown key: the nearest right one, or where it belongs."""
    key, model = path[-1], _model(path[:-1], data)
    if literals.names_a_secret(key):
        return "is no key, and looks like a place for a secret", literals.REMEDY
    names = _keys(model) if model else []
    for family, what in ((_SOURCES, "sources"), (_DRIVERS, "drivers")):
        if model not in family.values() or key in names:
            continue
        for other, owner in family.items():
            if key in _keys(owner):
                return f"belongs to {what} of kind {other}", f"Remove it, or write kind: {other}."
    if near := get_close_matches(key, names, n=1):
        return "is not a key", f"Did you mean {near[0]}?"
    return "is not a key", f"Remove it; here may stand: {', '.join(names)}."


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _description(path: Path, data: dict[str, Any]) -> str:
    model = _model(path[:-1], data)
    for name, info in model.model_fields.items() if model else ():
        if path[-1] in {name, info.alias}:
            return info.description or ""
    return "see docs/configuration.md."


def _model(path: Path, data: dict[str, Any]) -> type[BaseModel] | None:
    """The model that describes the mapping at ``path``."""
    kind: Any = File
    value: Any = data
    for part in path:
        value = _inside(value, part)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = next(
                (i for n, i in kind.model_fields.items() if part in {n, i.alias}),
                None,
            )
            kind = field.annotation if field else None
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif get_origin(kind) is list:
            kind = get_args(kind)[0]
        kind = _plain(kind, value)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _inside(value: Any, part: str) -> Any:
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return value.get(part) if isinstance(value, dict) else None


def _plain(kind: Any, value: Any) -> Any:
    """``X`` of ``Annotated[X, …]`` and ``X | None``; the source that ``kind`` names."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    arguments = [argument for argument in get_args(kind) if argument is not type(None)]
    written = value.get("kind") if isinstance(value, dict) else None
    for family in (_SOURCES, _DRIVERS):
        if set(arguments) == set(family.values()):
            return family.get(str(written), next(iter(family.values())))
    if len(arguments) == 1 and get_origin(kind) not in {dict, list}:
        return arguments[0]
    return kind
