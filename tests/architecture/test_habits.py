"""Habits of the code that no linter knows: time, chance, and what texts must be there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLOCK = ROOT / "broker" / "clock.py"
PRODUCT = [path for path in sorted((ROOT / "broker").rglob("*.py")) if "demo" not in path.parts]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def attributes(tree: ast.Module) -> Iterator[str]:
    """Every ``module.attribute`` written in a file, as text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def imports(tree: ast.Module) -> Iterator[str]:
    """Every ``module.attribute`` imported by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_time_comes_from_the_clock(path: Path) -> None:
    """Only broker.clock reads the machine's clocks: all else is told the time."""
    tree = ast.parse(path.read_text())
    used = {*attributes(tree), *imports(tree)}
    clocks = {each for each in used if each.startswith("time.")}
    clocks |= used & {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
    assert clocks == set() or path == CLOCK


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_chance_is_injected(path: Path) -> None:
    """Nobody draws from the shared generator: a Random is given, or made to be given."""
    tree = ast.parse(path.read_text())
    used = {each for each in (*attributes(tree), *imports(tree)) if each.startswith("random.")}
    assert used <= {"random.Random", "random.SystemRandom"}


@pytest.mark.parametrize(
    "path",
    [path for path in PRODUCT if path.name not in {"__init__.py", "__main__.py"}],
    ids=name,
)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    """Its docstring tells its duty."""
    assert "Duty:" in (ast.get_docstring(ast.parse(path.read_text())) or "")


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_a_test_says_what_it_shows(path: Path) -> None:
    """Each test has a docstring: one sentence of behaviour."""
    silent = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []
