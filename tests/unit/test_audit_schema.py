"""The kinds of records, their schema, and the documents that quote both."""

from __future__ import annotations

import json
import select
from pathlib import Path

import jsonschema
import pytest

from broker.audit import lifecycle
from broker.audit.schema import COMMON, KINDS, MEMBERS, Kind, json_schema
from tests.support.auditing import TIME, bare, chained, full

DOCS = Path(__file__).parents[2] / "docs"
JUDGE = jsonschema.Draft202012Validator(json_schema())
HEAD = lifecycle.head_line(TIME, file="audit.log.1", sequence=7, chain="0" * 32)
FULL = [json.loads(line) for line in (*chained(full()), HEAD)]
BARE = [json.loads(line) for line in (*chained(bare()), HEAD)]


def test_the_schema_is_one() -> None:
    """It is valid by its own dialect."""
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("line", FULL + BARE, ids=lambda line: line["kind"])
def test_every_kind_of_line_fits_the_schema(line: dict[str, object]) -> None:
    """Lines of every kind, with all members and with few, are valid."""
    JUDGE.validate(line)


def test_the_set_of_kinds_is_closed() -> None:
    """There is a line of each kind in these tests, and no other kind is valid."""
    assert {line["kind"] for line in FULL} == {line["kind"] for line in BARE} == KINDS.keys()
    assert not JUDGE.is_valid({**BARE[0], "kind": "other"})


@pytest.mark.parametrize("line", FULL, ids=lambda line: line["kind"])
def test_the_full_line_has_every_member_that_is_listed(line: dict[str, object]) -> None:
    """What the schema allows is what can be written."""
    kind = KINDS[str(line["kind"])]
    assert line.keys() == {*COMMON, *kind.always, *kind.perhaps}


@pytest.mark.parametrize("line", BARE, ids=lambda line: line["kind"])
def test_the_bare_line_has_what_it_must_and_nothing_else(line: dict[str, object]) -> None:
    """A member that is missing, or one too many, is invalid."""
    kind = KINDS[str(line["kind"])]
    assert line.keys() == {*COMMON, *kind.always}
    for member in line:
        assert not JUDGE.is_valid({name: value for name, value in line.items() if name != member})
    assert not JUDGE.is_valid({**line, "value": "x"})


def test_lines_of_the_brokers_own_life_keep_their_bound() -> None:
    """Whatever the texts, one write to a pipe takes the line whole."""
    wide = "\u0001" * 500
    many = [wide] * 500
    held = {"version": wide, "source_version": wide, "lease_id": wide, "previous": wide}
    token = dict.fromkeys(
        (
            *("token_id", "subject", "client", "parent", "actor", "reason", "expires_at"),
            "request_id",
        ),
        wide,
    )
    step = dict.fromkeys(("rotation", "key_id", "reason", "detail", "source_version"), wide)
    lines = [
        lifecycle.refresh_line(TIME, wide, "vault_denied", **held),
        lifecycle.token_line(TIME, "token_minted", **token),
        lifecycle.rotation_line(TIME, wide, "rolled_back", wide, **step),
        lifecycle.configuration_line(
            TIME, "applied", digest="0" * 64, keys=many, restart=many, reason=wide
        ),
        lifecycle.start_line(TIME, process="broker", broker_version=wide, digest=wide, host=wide),
        lifecycle.stop_line(TIME, reason=wide, exit_code=70),
        lifecycle.head_line(TIME, file=wide, sequence=10**17, chain="0" * 32),
    ]
    for line in lines:
        assert line.count(b"\n") == 1
        assert json.loads(line)
        assert len(line) + 80 <= select.PIPE_BUF


def test_the_published_schema_is_what_the_program_prints() -> None:
    """docs/audit.schema.json is ``broker audit schema``."""
    published = (DOCS / "audit.schema.json").read_text()
    assert published == json.dumps(json_schema(), indent=2) + "\n"


def test_the_document_explains_every_kind_and_member() -> None:
    """docs/audit.md has the tables of the program, in its words and order."""
    text = (DOCS / "audit.md").read_text()
    kinds = text.partition("\n| `kind` | written | members |\n|---|---|---|\n")[2]
    assert kinds.partition("\n\n")[0].splitlines() == [
        f"| `{name}` | {kind.meaning} | {_members(kind)} |" for name, kind in KINDS.items()
    ]
    members = text.partition("\n| member | means |\n|---|---|\n")[2].partition("\n\n")[0]
    assert members.splitlines() == [
        f"| `{name}` | {meaning} |" for name, (_, meaning) in MEMBERS.items()
    ]


def _members(kind: Kind) -> str:
    perhaps = " ".join(f"`{member}`" for member in kind.perhaps)
    always = " ".join(f"`{member}`" for member in kind.always)
    return f"{always}; perhaps {perhaps}" if perhaps else always
