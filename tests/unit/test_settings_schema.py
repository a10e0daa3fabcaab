"""The JSON Schema that ``broker config schema`` prints agrees with the program."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from broker.settings.document import parse
from broker.settings.reference import Row, tables
from broker.settings.schema import json_schema
from tests.unit.test_docs_configuration import EXAMPLE as WHOLE
from tests.unit.test_settings_faults import SHAPES
from tests.unit.test_settings_load import EXAMPLE, HEAD
from tests.unit.test_settings_rules import ALLOWED

VALIDATOR = jsonschema.Draft202012Validator(json_schema())

# What the program refuses for reasons that a schema of shapes does not know.
BEYOND = {
    "expiry without place",
    "expiry with two places",
    "origin with a path",
    "secret parameter",
}


def document(text: str) -> Any:
    return parse(text, file="f")[0].data


@pytest.mark.parametrize(
    "text",
    [EXAMPLE.read_text(), WHOLE, HEAD, *ALLOWED.values()],
    ids=["example", "whole", "least", *ALLOWED],
)
def test_good_files_fit(text: str) -> None:
    """What the program takes, the schema takes."""
    VALIDATOR.validate(document(text))


@pytest.mark.parametrize("name", sorted(SHAPES.keys() - BEYOND))
def test_bad_shapes_do_not_fit(name: str) -> None:
    """What the program refuses for its shape, the schema refuses."""
    assert not VALIDATOR.is_valid(document(HEAD + SHAPES[name][0] + "\n"))


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_the_exceptions_are_exact(name: str) -> None:
    """What is said to be beyond a schema of shapes really is."""
    assert VALIDATOR.is_valid(document(HEAD + SHAPES[name][0] + "\n"))


@pytest.mark.parametrize("text", ["{}", "vault: {}", "vault: {address: 5}"])
def test_files_that_are_no_configuration(text: str) -> None:
    """Needed keys are needed in the schema too."""
    assert not VALIDATOR.is_valid(document(text))


def objects(node: Any) -> list[dict[str, Any]]:
    """Every schema of a mapping within a schema."""
    if isinstance(node, list):
        return [found for item in node for found in objects(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("type") == "object" else []
    return own + [found for value in node.values() for found in objects(value)]


def test_the_schema_is_closed() -> None:
    """Every mapping refuses unknown keys, but what is Vault's or a provider's business."""
    open_ones = [
        one for one in objects(json_schema()) if one.get("additionalProperties") is not False
    ]

    assert {one["description"] for one in open_ones} == {
        "Parameters of the request; never a secret.",
        "Body as a mapping; its texts are templates. Never a secret.",
    }


@pytest.mark.parametrize(
    ("section", "row"), [(table.section, row) for table in tables() for row in table.rows]
)
def test_every_key_is_described(section: str, row: Row) -> None:
    """A key has a kind and a meaning that ends like a sentence."""
    assert row.kind, section
    assert row.meaning.endswith(".")
    assert "|" not in row.meaning
