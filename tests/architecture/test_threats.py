"""The threat register: each threat names the tests that attack it, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()
REGISTER = DOCUMENT.partition("## Register")[2].partition("\n## ")[0]


def rows() -> list[tuple[str, str]]:
    """Id and last column of each line of the register."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in REGISTER.splitlines()
        if line.startswith("| ") and not line.startswith("| id ")
    ]
    assert all(len(row) == 4 for row in cells)
    return [(row[0], row[3]) for row in cells]


def functions(file: Path) -> set[str]:
    """Names of the tests in a file, those in classes too."""
    tree = ast.parse(file.read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_threats_are_numbered() -> None:
    """Ids run from T01 without a gap, so that none disappears unseen."""
    ids = [one for one, _ in rows()]
    assert len(ids) > 30
    assert ids == [f"T{number:02}" for number in range(1, len(ids) + 1)]


def test_each_threat_names_tests_that_exist() -> None:
    """No line without a test, no test that is not there."""
    missing = []
    for identity, column in rows():
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", column)
        rest = re.sub(r"`[^`]*`", "", column).strip()
        if not named or rest:
            missing.append(f"{identity}: names no test, or something else beside: {rest}")
        for path, name in named:
            file = ROOT / path
            if not file.exists() or name not in functions(file):
                missing.append(f"{identity}: {path}::{name}")
    assert missing == []
