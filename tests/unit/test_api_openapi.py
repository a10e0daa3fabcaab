"""``api.openapi``: the document is complete, is the one in ``docs``, and holds no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypedDict

import pytest

from broker.api.openapi import describe, schema_of
from broker.protocol.problems import TABLE
from tests.support.broker import SECRET, TOKEN, Assembly

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    """A broker."""
    return Assembly(tmp_path)


def test_document_is_the_one_in_docs(assembly: Assembly) -> None:
    """The file is what the routes declare; ``python -m tests.support.openapi`` writes it anew."""
    assert json.loads(DOCUMENT.read_text()) == describe(assembly.data)


def test_every_route_is_described(assembly: Assembly) -> None:
    """Each operation has an id, a summary, its answers, and nothing of the framework's own."""
    told = describe(assembly.data)
    operations = [one for methods in told["paths"].values() for one in methods.values()]
    assert len(operations) == 11
    assert len({one["operationId"] for one in operations}) == 11
    for one in operations:
        assert one["summary"]
        assert "422" not in one["responses"]
        assert one["responses"]["401"]["content"].keys() == {"application/problem+json"}


def test_every_reference_leads_somewhere(assembly: Assembly) -> None:
    """No ``$ref`` is broken, and no shape is described that nothing refers to."""
    text = json.dumps(told := describe(assembly.data))
    schemas = told["components"]["schemas"]
    for name in schemas:
        assert f'"#/components/schemas/{name}"' in text
    assert text.count("$ref") >= len(schemas)
    for part in text.split('"$ref": "#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas


def test_statuses_are_of_the_table(assembly: Assembly) -> None:
    """Only statuses that the table of problems has are promised."""
    known = {str(kind.status) for kind in TABLE.values()} | {"200", "201", "204", "304"}
    for methods in describe(assembly.data)["paths"].values():
        for one in methods.values():
            assert one["responses"].keys() <= known


def test_nothing_of_a_configuration_gets_in(assembly: Assembly) -> None:
    """The document is the same for every configuration."""
    text = json.dumps(describe(assembly.data))
    for word in ("search-api", "orders-db", "search-mcp", "api.example.com", SECRET, TOKEN):
        assert word not in text


def test_unknown_hints_are_refused() -> None:
    """A shape that cannot be described is a fault seen at once, not an empty schema."""

    class Inner(TypedDict):
        name: str

    assert schema_of(Inner) == {"$ref": "#/components/schemas/Inner"}
    assert schema_of(Literal["a", "b"]) == {"type": "string", "enum": ["a", "b"]}
    assert schema_of(Literal[True]) == {"type": "boolean", "const": True}
    assert schema_of(list[str | None])["items"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert schema_of(dict[str, int])["additionalProperties"] == {"type": "integer"}
    with pytest.raises(TypeError, match="no schema"):
        schema_of(set[str])
