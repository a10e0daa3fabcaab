"""YAML to plain data that remembers its lines."""

from __future__ import annotations

import pytest

from broker.errors import SettingsError
from broker.settings.document import DEEPEST, MAX_BYTES, Document, parse
from broker.settings.places import Place


def read(text: str) -> Document:
    document, faults = parse(text, file="f")
    assert faults == []
    return document


def fault(text: str) -> SettingsError:
    _, faults = parse(text, file="f")
    assert len(faults) == 1
    return faults[0]


def test_scalars_follow_yaml_1_2() -> None:
    """Words, times and dates stay texts; numbers are decimal."""
    document = read(
        "a: no\nb: 010\nc: 12:30:00\nd: 2026-01-01\ne: true\nf: ~\ng: 1.5\nh: '1'\ni: 0x1F\n"
        "j: [1, {k: 2e3}]\nk: 1_000\n"
    )

    assert document.data == {
        "a": "no",
        "b": 10,
        "c": "12:30:00",
        "d": "2026-01-01",
        "e": True,
        "f": None,
        "g": 1.5,
        "h": "1",
        "i": "0x1F",
        "j": [1, {"k": 2000.0}],
        "k": "1_000",
    }


def test_every_key_and_item_knows_its_line() -> None:
    """Lines are those of the keys, and of the items of lists."""
    document = read("a:\n  b: 1\n  c:\n    - x\n    - y: 2\n")

    assert document.place(("a", "b")) == Place("f", 2)
    assert document.place(("a", "c", "1")) == Place("f", 5)
    assert document.place(("a", "c", "1", "y")) == Place("f", 5)


def test_an_unwritten_key_has_the_line_around_it() -> None:
    """A missing key is reported where it should be added."""
    document = read("a:\n  b: 1\n")

    assert document.place(("a", "zz", "y")) == Place("f", 1)
    assert document.place(("zz",)) == Place("f", None)


def test_anchors_and_merges() -> None:
    """Aliases repeat a value; what stands beside a merge wins over it."""
    document = read("x: &x {a: 1, b: 2}\ny: *x\nz: {<<: *x, b: 3}\nw:\n  <<: [*x, {c: 4}]\n")

    assert document.data["y"] == {"a": 1, "b": 2}
    assert document.data["z"] == {"a": 1, "b": 3}
    assert document.data["w"] == {"a": 1, "b": 2, "c": 4}


def test_an_empty_file_is_an_empty_document() -> None:
    """Nothing but comments is a mapping without keys."""
    assert read("# nothing\n").data == {}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "written twice, first in line 1"),
        ("a:\n  b: 1\n  b: 2\n", 3, "written twice"),
        ("a: [1\nb: 2\n", 2, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("a: *x\n", 1, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("- a\n", 1, "not a mapping"),
        ("{a: 1}: 2\n", 1, "key that is no text"),
        ("a: !secret x\n", 1, "tag"),
        ("a: !!int x\n", 1, "tag"),
        ("a: &a [*a]\n", 1, "contains itself"),
        ("a: {<<: x}\n", 1, "merges something"),
        ("a: \x01\n", None, "characters that YAML does not allow"),
        ("#" * (MAX_BYTES + 1), None, "larger than"),
    ],
)
def test_faults(text: str, line: int | None, words: str) -> None:
    """Each fault of the text is told once, with its line."""
    found = fault(text)

    assert words in str(found)
    assert found.line == line
    assert found.remedy


def test_a_bomb_of_aliases_is_refused() -> None:
    """Aliases of aliases end at a number of values, not in memory."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
        for a, b in zip("abcdef", "bcdefg", strict=True)
    )

    assert "too many values" in str(fault(bomb))


@pytest.mark.parametrize(
    "text", ["a: *hunter2hunter2", "a: 'hunter2hunter2", 'a: "hunter2\\q"', "a: !hunter2 x\n"]
)
def test_no_fault_repeats_the_text(text: str) -> None:
    """An unquoted password that is no YAML does not come out again."""
    found = fault(text)

    assert "hunter2" not in str(found) + found.remedy


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 30_000 + "]" * 30_000,
        "a: " + "{b: " * 3_000 + "1" + "}" * 3_000,
        "a:\n" + "- " * 30_000 + "1",
        "\n".join(" " * level + "a:" for level in range(200)),
    ],
    ids=["lists", "mappings", "list in list", "indentation"],
)
def test_nesting_without_end_is_a_fault(text: str) -> None:
    """It does not take the process with it, as the parser's own recursion would."""
    error = fault(text)
    assert str(error).endswith(f"is nested more than {DEEPEST} levels deep")
    assert error.line is not None


def test_brackets_beside_each_other_are_no_nesting() -> None:
    """As many as one likes."""
    assert len(read("a: [" + "[], " * 5 * DEEPEST + "]").data["a"]) == 5 * DEEPEST
    assert read("a: >\n" + " " * 3 * DEEPEST + "x\n").data["a"].strip() == "x"
