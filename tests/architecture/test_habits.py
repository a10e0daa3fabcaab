"""Habits of the code that no linter knows: time, chance, and what texts must be there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLOCK = ROOT / "broker" / "clock.py"
PRODUCT = [path for path in sorted((ROOT / "broker").rglob("*.py")) if "demo" not in path.parts]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


# Where a secret's text is needed, and why. A new place is a decision: it comes with its reason.
REVEALS = {
    "broker/access/tokens/documents.py": "the revocations' document, which is no secret",
    "broker/access/tokens/minting.py": "a new token, into the one answer that shows it",
    "broker/access/tokens/signing.py": "the signing key, into the keys that are derived from it",
    "broker/app/diagnosis_login.py": "reads the claims of the service-account token for 'check'",
    "broker/client/core.py": "the client token and a subject's token, into their headers",
    "broker/client/credential.py": "the author's own call for the text",
    "broker/client/keyed.py": "the key, into the upstream request",
    "broker/client/mcp/introspection.py": "an agent's token, into the question about it",
    "broker/client/redaction.py": "digests of agents' tokens, so that each is learned once",
    "broker/credentials/reserved.py": "the note beside the fields, which is no secret",
    "broker/credentials/sources.py": "fields that are assembled, and expiry read from a field",
    "broker/handout/answer.py": "the answer itself",
    "broker/protocol/redaction.py": "learns what to mask",
    "broker/rotation/document.py": "the state's own document, which is no secret",
    "broker/rotation/drivers/generated.py": "a new key is made, and its digest",
    "broker/rotation/drivers/http.py": "an id that holds the key is refused",
    "broker/vault/changes.py": "a value, into the body of its write",
    "broker/vault/client.py": "the service-account token, into the login",
    "broker/vault/login.py": "checks the shape of a token read from a file",
    "broker/vault/wire.py": "the Vault token, into its header",
}
ENVIRONMENT = {
    "broker/app/run.py": "handed to reload, which lays it over the file",
    "broker/cli/check.py": "handed to settings",
    "broker/cli/explain.py": "handed to settings",
    "broker/cli/policy.py": "handed to settings",
    "broker/cli/policy_check.py": "handed to settings",
    "broker/cli/policy_explain.py": "handed to settings",
    "broker/cli/run.py": "handed to settings",
    "broker/client/setup.py": "BROKER_URL and BROKER_TOKEN_FILE",
    "broker/settings/load.py": "BROKER__… and VAULT_…",
}


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


def test_secrets_are_revealed_in_known_places_only() -> None:
    """A call of reveal() stands in a file of REVEALS, and every file there has one."""
    found = {name(path) for path in PRODUCT if ".reveal()" in path.read_text()}
    assert found == REVEALS.keys()


def test_the_environment_is_read_in_known_places_only() -> None:
    """Nothing else looks there: what a library would take silently is not ours to take."""
    found = set()
    for path in PRODUCT:
        tree = ast.parse(path.read_text())
        used = {*attributes(tree), *imports(tree)}
        if used & {"os.environ", "os.getenv", "os.environb"}:
            found.add(name(path))
    assert found == ENVIRONMENT.keys()


@pytest.mark.parametrize(
    "path", [path for path in PRODUCT if "__all__" in path.read_text()], ids=name
)
def test_public_names_exist_and_are_told_in_order(path: Path) -> None:
    """What __all__ promises can be imported."""
    module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    promised = list(module.__all__)
    assert sorted(set(promised)) == sorted(promised)
    assert [each for each in promised if not hasattr(module, each)] == []
