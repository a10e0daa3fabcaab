"""Every key of the configuration as tables for people [pure].

Duty: make docs/configuration.md's tables from the JSON Schema, so that they cannot lag.
Not its duty: the prose around them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from broker.settings.schema import json_schema


@dataclass(frozen=True, slots=True)
class Row:
    """One key."""

    key: str
    """Below its section: ``timeout`` of ``vault``."""
    kind: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """The keys of one mapping of the file."""

    section: str
    """Dotted, with ``<name>`` where people choose: ``credentials.<name>.source``."""
    meaning: str
    rows: tuple[Row, ...]


def tables() -> Iterator[Table]:
    """Every mapping of the file, outer ones first."""
    schema = json_schema()
    yield from _tables(schema, schema["$defs"], "")


def markdown() -> str:
    """All tables as GitHub-flavoured Markdown."""
    parts = []
    for table in tables():
        title = f"### `{table.section}`\n\n{table.meaning}" if table.section else table.meaning
        rows = [
            f"| `{row.key}` | {row.kind} | {row.default} | {row.meaning} |" for row in table.rows
        ]
        head = ["| key | kind | default | meaning |", "|---|---|---|---|"]
        parts.append("\n".join([title, "", *head, *rows]))
    return "\n\n".join(parts) + "\n"


def _tables(
    model: Mapping[str, Any], definitions: Mapping[str, Any], section: str
) -> Iterator[Table]:
    required = model.get("required", ())
    rows: list[Row] = []
    inner: list[tuple[str, Mapping[str, Any]]] = []
    for key, raw in model["properties"].items():
        one = _resolved(raw, definitions)
        at = f"{section}.{key}" if section else key
        rows.append(Row(key, _kind(one), _default(one, key in required), one["description"]))
        if "oneOf" in one:
            inner += [
                (f"{at} (kind: {kind})", _resolved({"$ref": reference}, definitions))
                for kind, reference in one["discriminator"]["mapping"].items()
            ]
        elif "properties" in one:
            inner.append((at, one))
        else:
            items = _resolved(one.get("items", {}), definitions)
            if "properties" in items:
                inner.append((f"{at}[]", items))
            inner += [
                (f"{at}.<name>", _resolved(values, definitions))
                for values in one.get("patternProperties", {}).values()
                if "$ref" in values
            ]
    yield Table(section, model.get("x-meaning") or model["description"], tuple(rows))
    for at, one in inner:
        yield from _tables(one, definitions, at)


def _resolved(one: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = one.get("$ref")
    if reference is None:
        return one
    definition = definitions[reference.rpartition("/")[2]]
    return {**definition, **one, "x-meaning": definition["description"]}


def _kind(one: Mapping[str, Any]) -> str:
    if "enum" in one or "const" in one:
        values = one.get("enum", [one.get("const")])
        return ", ".join(f"`{value}`" for value in values if value != "")
    if "oneOf" in one or "properties" in one:
        return "mapping"
    if one["type"] == "array":
        if "$ref" in one["items"]:
            return "list of mappings"
        kind = _kind(one["items"])
        if "enum" in one["items"]:
            return f"list of {kind}"
        return f"list of {kind}es" if kind.endswith("s") else f"list of {kind}s"
    if one["type"] == "object":
        return "mapping by name"
    words = {"boolean": "`true`, `false`", "integer": "whole number", "string": "text"}
    return str(one.get("x-kind") or words.get(one["type"], one["type"]))


def _default(one: Mapping[str, Any], required: bool) -> str:
    if required:
        return "**required**"
    value = one.get("default")
    if value in (None, "", {}) or "properties" in one:
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
