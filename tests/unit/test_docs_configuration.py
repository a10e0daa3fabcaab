"""docs/configuration.md says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.app.diagnosis import Layer
from broker.cli.exit_codes import MEANINGS
from broker.cli.main import main
from broker.settings.environment import AMBIENT, UNUSED
from broker.settings.load import parse_settings
from broker.settings.reference import markdown, tables

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
EXAMPLE = TEXT.partition("```yaml\n")[2].partition("```")[0]


def rows(heading: str) -> list[list[str]]:
    """Cells of the tables below a heading of the second level, without the head rows."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return [row for row in cells if row[0] not in {"variable", "code"} and "---" not in row[0]]


def test_the_keys_are_those_of_the_schema() -> None:
    """The tables are what ``broker config reference`` prints."""
    documented = TEXT.partition("compared in a test -->\n")[2].partition("<!-- end keys -->")[0]

    assert documented == markdown()


def test_the_whole_file_is_usable() -> None:
    """The commented example has neither faults nor advice."""
    loaded = parse_settings(EXAMPLE, file="broker.yaml", environ={})

    # ca_path stands in a comment, for it contradicts ca_file.
    assert loaded.advice == ()
    assert set(loaded.settings.credentials) == {
        *("search-api", "search-admin", "orders-db", "tickets", "reports-db", "billing")
    }


@pytest.mark.parametrize(
    "key", sorted({row.key for table in tables() for row in table.rows if table.section})
)
def test_the_whole_file_shows_every_key(key: str) -> None:
    """No key is missing from the example, in use or in a comment."""
    assert re.search(rf"\b{key}\b:?", EXAMPLE)


def test_every_variable_is_listed() -> None:
    """Both tables of variables are those the program goes by."""
    expected = [
        [f"`VAULT_{suffix}`, `BAO_{suffix}`", f"`{'.'.join(path)}`"]
        for suffix, path in AMBIENT.items()
    ]
    expected += [[f"`VAULT_{suffix}`, `BAO_{suffix}`", how] for suffix, how in UNUSED.items()]

    assert rows("Environment") == expected


def test_every_exit_code_is_listed() -> None:
    """The table of exit codes is the program's."""
    assert rows("Exit codes") == [
        [str(int(code)), meaning] for code, meaning in sorted(MEANINGS.items())
    ]


@pytest.mark.parametrize("layer", [layer for layer in Layer if layer is not Layer.BROKER])
def test_every_layer_is_named(layer: Layer) -> None:
    """Each layer that ``broker check`` can name is in its section."""
    section = TEXT.partition("\n## `broker check`\n")[2].partition("\n## ")[0]
    assert f"`{layer}`" in section


def test_the_faults_that_are_shown_are_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of faults is real output."""
    monkeypatch.chdir(tmp_path)
    Path("broker.yaml").write_text(
        "vault:\n  address: https://vault.example\n  timeout: 10\n  auth:\n    role: tools\n\n"
        "credentials:\n  search-api:\n"
        "    source: {kind: kv, mount: secret, path: search, pol: 5s}\n"
        "\n    # the old one:\n    password: correct-horse\n"
    )

    main(["config", "check", "broker.yaml"])

    assert capsys.readouterr().err == TEXT.partition("```text\n")[2].partition("```")[0]
