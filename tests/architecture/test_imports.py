"""Who may import whom: the contracts of ``pyproject.toml``, and what Python really loads."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[2]
BROKER = ROOT / "broker"
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_marked_pure() -> set[str]:
    """Modules whose first docstring line says ``[pure]``; a package stands for its modules."""
    marked = set()
    for path in sorted(BROKER.rglob("*.py")):
        first, _, _ = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")
        if "[pure]" in first:
            marked.add(module_name(path))
    return marked


def loaded_by(statement: str) -> set[str]:
    """Top-level and dotted names in ``sys.modules`` after ``statement`` in a fresh Python."""
    program = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    # Coverage follows into child processes, and brings its own machinery along.
    unmeasured = {name: text for name, text in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        env=unmeasured,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_contracts_hold() -> None:
    """import-linter finds every contract of pyproject.toml kept."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(CONTRACTS)} kept, 0 broken" in done.stdout


def test_modules_that_call_themselves_pure_are_held_to_it() -> None:
    """The mark in a docstring and the list of the contract are the same."""
    listed = set(CONTRACTS["pure"]["source_modules"])
    marked = modules_marked_pure()
    assert {name for name in marked if name.rpartition(".")[0] not in listed} == listed
    inside = {
        module_name(path)
        for package in listed
        if (BROKER / package.split(".")[1]).is_dir() and package.count(".") == 1
        for path in (ROOT / package.replace(".", "/")).glob("*.py")
    }
    assert inside <= marked


@pytest.mark.parametrize(
    "name",
    # Not those of settings, where pydantic loads machinery for itself, nor of the client, whose
    # package brings the HTTP library along.
    sorted(
        name
        for name in modules_marked_pure()
        if not name.startswith(("broker.settings.", "broker.client."))
    ),
)
def test_a_pure_module_loads_no_machinery(name: str) -> None:
    """Python itself agrees: importing the module alone brings no event loop and no HTTP."""
    machinery = {"asyncio", "concurrent.futures", "http.client", "ssl", "subprocess", "threading"}
    machinery |= {"urllib.request", "hvac", "fastapi", "httpx2", "urllib3"}
    assert loaded_by(f"import {name}") & machinery == set()


def test_the_client_loads_nothing_of_the_server() -> None:
    """An MCP server that imports the client pays for the client alone."""
    loaded = loaded_by("import broker.client")
    ours = {name for name in loaded if name.startswith("broker.")}
    allowed = ("broker.client", "broker.protocol", "broker.secret", "broker.clock", "broker.errors")
    assert {name for name in ours if not name.startswith(allowed)} == set()
    tops = {name.partition(".")[0] for name in loaded}
    server = {"hvac", "urllib3", "requests", "fastapi", "starlette", "uvicorn", "httptools"}
    server |= {"pydantic", "yaml", "tenacity", "mcp", "kubernetes", "httpx"}
    assert tops & server == set()


def test_every_foreign_import_is_a_declared_requirement() -> None:
    """What broker/ imports is the standard library, itself, or a line of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    # Parts of a declared library that it lets its users import.
    parts = {"pydantic_core": "pydantic", "starlette": "fastapi", "cryptography": "pyjwt"}
    owners = packages_distributions()
    foreign = {
        name
        for path in BROKER.rglob("*.py")
        for name in imported_by(ast.parse(path.read_text()))
        if name not in sys.stdlib_module_names and name != "broker"
    }
    assert "hvac" in foreign
    undeclared = {
        name
        for name in foreign
        if not declared & {canonicalize_name(owner) for owner in owners.get(name, [])}
        and parts.get(name) not in declared
    }
    assert undeclared == set()


def imported_by(tree: ast.Module) -> Iterator[str]:
    """Top-level names that a module imports, at its top or within."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_running_loads_no_mcp_no_demo_no_developer_tools() -> None:
    """What 'broker run' loads is what the image holds and memory pays for."""
    loaded = loaded_by("import broker.app.run, broker.cli.run")
    tops = {name.partition(".")[0] for name in loaded}
    assert {"uvicorn", "hvac", "fastapi"} <= tops
    unwanted = {"mcp", "kubernetes", "rich", "httpx", "httpx2", "psycopg", "jwt", "cryptography"}
    unwanted |= {"pytest", "hypothesis", "importlinter", "testcontainers", "prometheus_client"}
    assert tops & unwanted == set()
    assert {name for name in loaded if name.startswith(("broker.demo", "broker.client"))} == set()
