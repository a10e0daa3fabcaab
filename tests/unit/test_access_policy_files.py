"""Policy files: what keeps a broker from starting, told with file, line and remedy."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access import cedar
from broker.access.policy_files import Sets, read_files
from broker.access.policy_sources import PolicyFile
from broker.access.statements import split
from broker.access.vocabulary import Vocabulary, pattern, quoted, schema

SCHEMA = cedar.Schema(schema(Vocabulary(arguments={"database": "text"})))
SETS = Sets({"search", "shop"}, {"web", "orders"}, {"staff"}, None)
HEAD = "permit (principal, action, resource)"


def faults(text: str, sets: Sets = SETS, *, taken: tuple[str, ...] = ()) -> list[str]:
    _, found = read_files([PolicyFile("team.cedar", text)], SCHEMA, sets, taken=taken)
    return [f"{one} | {one.remedy}" for one in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEAD + ' when { context.tol == "x" };',
            (
                "team.cedar:1: attribute `tol` not found | Did you mean tool? See docs/policy.md; "
                "'broker policy print --schema' shows every word there is."
            ),
        ),
        (
            HEAD + ' when { context.arguments.database == "x" };',
            (
                "team.cedar:1: attribute `arguments` not found | Declare the argument under "
                "policies.arguments, and ask for it in policies whose action is "
                'Action::"call_tool" alone.'
            ),
        ),
        (
            (
                'permit (principal, action == Action::"call_tool", resource) '
                'when { context.arguments.database == "x" };'
            ),
            (
                "team.cedar:1: unable to guarantee safety of access to optional attribute "
                "`arguments.database` | It may be missing: ask 'context.arguments has database &&' "
                "before it."
            ),
        ),
        (
            HEAD + ' when { context.address.isInRange(ip("10.0.0.0/8")) };',
            (
                "unable to guarantee safety of access to optional attribute `address` | "
                "It may be missing: ask 'context has address &&' before it."
            ),
        ),
        (
            'permit (principal, action == Action::"hndout", resource);',
            'team.cedar:1: unrecognized action `Action::"hndout"`',
        ),
        (HEAD + ' when { context.weekday == Weekday::"monday" };', '`"monday"` is not declared'),
        (HEAD + " when { context.tool == 5 };", "team.cedar:1: "),
        ('permit (principal == User::"x", action, resource);', "unrecognized entity type `User`"),
        (
            'permit (principal in Caller::"serch", action, resource);',
            'team.cedar:1: names Caller::"serch", which is not configured | Did you mean search?',
        ),
        (
            'permit (principal, action, resource == Credential::"mail");',
            (
                'names Credential::"mail", which is not configured | Add it under credentials, or '
                "correct the name."
            ),
        ),
        ('permit (principal in Role::"stuff", action, resource);', "Did you mean staff?"),
        (
            HEAD + ' when { [Caller::"none"].contains(context.caller) };',
            'names Caller::"none", which is not configured',
        ),
        (
            'forbid (principal == Caller::"shop", action, resource);',
            (
                'team.cedar:1: forbids to principal == Caller::"shop", who gets round it by any '
                'scoped token | Write principal in Caller::"shop"; where only requests without a '
                'scoped token are meant, principal is Caller in Caller::"shop".'
            ),
        ),
        (
            (
                "forbid (principal, action, resource) when { "
                'context.tool == "x" || Caller::"shop" == principal };'
            ),
            'forbids to principal == Caller::"shop"',
        ),
        (
            'forbid (principal, action, resource) when { [Caller::"shop"].contains(principal) };',
            'forbids to principal == Caller::"shop"',
        ),
        ("permit (principal == ?principal, action, resource);", "is a template"),
        (HEAD, "is no Cedar policy: unexpected end of input"),
        (HEAD + f"\n\n{HEAD};", "team.cedar:1: is no Cedar policy"),
        ('@id("roles.staff") ' + HEAD + ";", "which belongs to the lists and roles"),
    ],
)
def test_a_fault_names_line_and_remedy(text: str, expected: str) -> None:
    """Unknown words, missing guards, names that do not exist, other languages."""
    assert any(expected in told for told in faults(text))


def test_each_statement_is_judged_by_itself() -> None:
    """A fault hides no other, and lines are those of the file."""
    text = f"// one\n{HEAD};\n\npermit (principal, actoin, resource);\n// ;\n\n{HEAD}\n" + (
        'when { context.x == "y" };\n' + HEAD + ";\n"
    )
    found, told = read_files([PolicyFile("a.cedar", text)], SCHEMA, SETS)
    assert [one.place for one in found] == ["a.cedar:2", "a.cedar:9"]
    assert [one.line for one in told] == [4, 7]


def test_tools_are_any_or_those_that_are_declared() -> None:
    """A configuration that lists tools gets slips in policies told."""
    text = 'forbid (principal, action, resource == Tool::"dorp");'
    assert faults(text) == []
    (told,) = faults(text, Sets({"search"}, (), (), {"drop"}))
    assert told.endswith("Did you mean drop?")


def test_subjects_are_free() -> None:
    """They come with tokens; nobody configures them."""
    assert faults('permit (principal == Subject::"anybody@at.all", action, resource);') == []


def test_ids_are_unique() -> None:
    """Given twice is a fault; made ones get a number."""
    twice = f'@id("a") {HEAD};\n@id("a") {HEAD};'
    assert faults(twice) == [
        "team.cedar:2: has the id a, which belongs to team.cedar:1 | Give it another one."
    ]
    files = [PolicyFile("x/a.cedar", f"{HEAD}; {HEAD};"), PolicyFile("y/a.cedar", f"{HEAD};")]
    found, _ = read_files(files, SCHEMA, SETS)
    assert [one.id for one in found] == ["a.cedar:1", "a.cedar:1#2", "a.cedar:1#3"]


# --- cutting ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", []),
        ("// nothing; here\n", []),
        ('a "x;\\"y;" b; // c;\n d;', [('a "x;\\"y;" b;', 1), ("d;", 2)]),
        ("a // ;\n b;c", [("a // ;\n b;", 1), ("c", 2)]),
        ("a / b; c", [("a / b;", 1), ("c", 1)]),
        ('a; "never closed; ', [("a;", 1), ('"never closed;', 1)]),
        ("\n\n a\n\n;\r\n b;", [("a\n\n;", 3), ("b;", 6)]),
        (";", [(";", 1)]),
    ],
)
def test_statements(text: str, statements: list[tuple[str, int]]) -> None:
    """Strings and comments hold no end; what has none is a statement too."""
    assert [(one.text, one.line) for one in split(text)] == statements


WORDS = st.sampled_from(["permit", "(a)", '"x;y"', '"\\";//"', "// c; d\n", "\n", " ", "\r\n", "/"])


@given(st.lists(st.lists(WORDS, max_size=8).map("".join), min_size=1, max_size=6), st.booleans())
def test_each_statement_is_found_once_at_its_line(parts: list[str], closed: bool) -> None:
    """What is joined by ends is cut again there; nothing that Cedar reads is left out."""
    text = "\n;".join(parts) + ("\n;" if closed else "")
    expected, line = [], 1
    for number, part in enumerate(parts):
        piece = part + ("\n;" if closed or number < len(parts) - 1 else "")
        skipped = re.match(r"(?:\s|//[^\n\r]*)*", piece)
        assert skipped
        written = piece[skipped.end() :].rstrip()
        if written:
            expected.append((written, line + skipped[0].count("\n")))
        line += piece.count("\n")
    assert [(one.text, one.line) for one in split(text)] == expected


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_texts_stay_what_they_are(text: str) -> None:
    """A name in a policy is read back by Cedar as it was; nothing in it ends a string."""
    policy = f"permit (principal, action, resource) when {{ context.tool == {quoted(text)} }};"
    ((_, est),) = cedar.parse(policy)
    assert est["conditions"][0]["body"]["=="]["right"] == {"Value": text}
    policy = f"permit (principal, action, resource) when {{ context.tool like {pattern(text)} }};"
    ((_, est),) = cedar.parse(policy)
    read = "".join(
        "*" if one == "Wildcard" else one["Literal"]
        for one in est["conditions"][0]["body"]["like"]["pattern"]
    )
    assert read == text


DEEP = 30_000
WHEN = HEAD + " when { %s };"


@pytest.mark.parametrize(
    "condition",
    [
        "(" * DEEP + "true" + ")" * DEEP,
        "[" * DEEP + "]" * DEEP + ".isEmpty()",
        "{a: " * DEEP + "1" + "}" * DEEP + " == 1",
        "if true then " * DEEP + "true" + " else false" * DEEP,
        "context" + ".a" * DEEP + " == 1",
        "1" + " + 1" * DEEP + " == 1",
        " || ".join(["true"] * DEEP),
        # What Cedar itself can parse, but not read back.
        "if true then " * 90 + "true" + " else false" * 90,
        "if true then " * 900 + "true" + " else false" * 900,
        "[" * 90 + "]" * 90 + ".isEmpty()",
    ],
)
def test_nesting_without_end_is_a_fault(condition: str) -> None:
    """With its line and what to write instead; it does not end the process."""
    text = f"{HEAD};\n{WHEN % condition}\n{HEAD} when {{ context.tol == 1 }};\n"
    deep, other = faults(text)
    assert deep.startswith("team.cedar:2: is nested too deeply | Write several policies")
    assert other.startswith("team.cedar:3: attribute `tol` not found")


@pytest.mark.parametrize("operator", ["||", "&&"])
def test_a_long_row_is_a_policy(operator: str) -> None:
    """Cedar would not read its own form of some sixty operands."""
    row = f" {operator} ".join(f'context.tool like "t{number}*"' for number in range(300))
    assert faults(WHEN % row) == []
