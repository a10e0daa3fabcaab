"""YAML text to plain data that remembers its lines: the first step of three [pure].

Duty: one document to ``dict``, ``list`` and scalars, and the line of every key.
Not its duty: what the keys mean (``schema``); reading the file (``load``).
Rules:

* scalars follow YAML 1.2's core schema: ``no`` is a text, ``010`` is ten, a date is a text;
* a key written twice is a fault, not "the last one wins";
* nesting is bounded before anything follows it: the parser's own recursion would end the process;
* no message holds a piece of the text: the parser's own words may quote a secret.

Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from broker.errors import SettingsError
from broker.settings.literals import dotted
from broker.settings.places import Path, Place

try:
    from yaml import CSafeLoader as _BaseLoader
except ImportError:  # PyYAML built without libyaml: the same, slower
    from yaml import SafeLoader as _BaseLoader  # type: ignore[assignment]

MAX_BYTES: Final = 1_000_000
MAX_NODES: Final = 200_000
# A thousand credentials have some 20,000 nodes; aliases of aliases have millions.
DEEPEST: Final = 100
"""Levels of nesting; a configuration has ten."""
_INDENTED: Final = re.compile(rf"^[ \-?:]{{{DEEPEST},}}", re.MULTILINE)

_INT: Final = r"[-+]?[0-9]{1,18}"
_FLOAT: Final = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"


@dataclass(slots=True)
class Document:
    """Plain data, and where each piece of it was written."""

    file: str
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path) -> Place:
        """Place of ``path``, or of the nearest thing around it that was written."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return Place(self.file)


class _Loader(_BaseLoader):
    """Resolves plain scalars by YAML 1.2, so that ``no`` and ``12:30:00`` stay texts."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", rf"^{_INT}$", list("-+0123456789")),
    ("float", rf"^{_FLOAT}$", list("-+.0123456789")),
    ("merge", r"^(?:<<)$", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse(text: str, *, file: str) -> tuple[Document, list[SettingsError]]:
    """Read one YAML document whose root is a mapping.

    Args:
        text: the whole file.
        file: its name, for messages.

    Returns:
        The document (empty when it cannot be read) and every fault found.
    """
    document = Document(file)
    if len(text) > MAX_BYTES:
        return document, [SettingsError(f"is larger than {MAX_BYTES} bytes", file=file)]
    try:
        if (deep := _too_deep(text)) is not None:
            fault = SettingsError(
                f"is nested more than {DEEPEST} levels deep",
                file=file,
                line=deep,
                remedy="Look for brackets that are not closed.",
            )
            return document, [fault]
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        return document, [_syntax(error, file)]
    except yaml.YAMLError:
        return document, [
            SettingsError(
                "holds characters that YAML does not allow",
                file=file,
                remedy="Save the file as UTF-8 text.",
            )
        ]
    reader = _Reader(document)
    if isinstance(root, yaml.MappingNode):
        document.data = reader.mapping(root, ())
    elif root is not None:
        reader.fault("is not a mapping", root, (), "Write sections: vault, clients, credentials.")
    return document, reader.faults


def _too_deep(text: str) -> int | None:
    """The line in which nesting passes ``DEEPEST``; None when it does not."""
    # Each level takes a bracket, or a column before the text of some line.
    if text.count("[") + text.count("{") <= DEEPEST and not _INDENTED.search(text):
        return None
    level = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
            if level > DEEPEST:
                return event.start_mark.line + 1 if event.start_mark else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
    return None


def _syntax(error: yaml.MarkedYAMLError, file: str) -> SettingsError:
    mark = error.problem_mark or error.context_mark
    # What stands in quotes may be the text of the file; single characters are harmless.
    words = re.sub(r"(['\"]).{2,}\1", "(not shown)", error.problem or "cannot be understood")
    return SettingsError(
        f"is not YAML: {words}",
        file=file,
        line=mark.line + 1 if mark else None,
        remedy="Look for a missing colon, wrong indentation or an unquoted special character "
        "in this line or the one before.",
    )


class _Reader:
    """Turns nodes into data; collects faults instead of stopping at the first."""

    def __init__(self, document: Document) -> None:
        self.faults: list[SettingsError] = []
        self._document = document
        self._open: set[int] = set()
        self._nodes = 0

    def fault(self, message: str, node: yaml.Node, path: Path, remedy: str) -> None:
        self.faults.append(
            SettingsError(
                message,
                file=self._document.file,
                line=node.start_mark.line + 1,
                key=dotted(path),
                remedy=remedy,
            )
        )

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            if self._nodes == MAX_NODES + 1:
                self.fault("has too many values", node, path, "Use fewer anchors and aliases.")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self.fault("contains itself", node, path, "Remove the alias to what is around it.")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            return [self._item(item, (*path, str(n))) for n, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        own: dict[str, int] = {}
        merged: list[Mapping[str, Any]] = []
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged += self._merged(value_node, path)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.fault("has a key that is no text", key_node, path, "Write a plain key.")
                continue
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in own:
                self.fault(
                    f"is written twice, first in line {own[key]}",
                    key_node,
                    (*path, key),
                    "Keep one of the two.",
                )
                continue
            own[key] = line
            self._document.places[(*path, key)] = Place(self._document.file, line)
            result[key] = self.value(value_node, (*path, key))
        for other in merged:  # what stands here wins over what is merged in
            for key, value in other.items():
                result.setdefault(key, value)
        return result

    def _merged(self, node: yaml.Node, path: Path) -> Iterator[Mapping[str, Any]]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            value = self.value(source, path) if isinstance(source, yaml.MappingNode) else None
            if isinstance(value, dict):
                yield value
            else:
                self.fault("merges something that is no mapping", source, path, "Merge mappings.")

    def _item(self, node: yaml.Node, path: Path) -> Any:
        self._document.places[path] = Place(self._document.file, node.start_mark.line + 1)
        return self.value(node, path)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = str(node.value)
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" if re.fullmatch(_INT, text):
                return int(text)
            case "float" | "int" if re.fullmatch(_FLOAT, text):
                return float(text)
            case "str":
                return text
        self.fault("has a tag that is not used here", node, path, "Remove the '!' and its word.")
        return None
