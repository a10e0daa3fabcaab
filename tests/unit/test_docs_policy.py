"""docs/policy.md says what is true: its examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from broker.access.roles import DEFAULT_ACTIONS
from broker.access.vocabulary import ACTIONS, Vocabulary, schema
from broker.cli.exit_codes import ExitCode
from broker.cli.main import main

TEXT = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
Output = pytest.CaptureFixture[str]


def block(language: str, number: int = 0) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return found[number]


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the page's three files."""
    monkeypatch.chdir(tmp_path)
    Path("broker.yaml").write_text(block("yaml"))
    Path("team.cedar").write_text(block("cedar"))
    Path("tests.yaml").write_text(block("yaml", 1))
    return tmp_path


@pytest.mark.usefixtures("there")
def test_the_example_has_no_fault(capsys: Output) -> None:
    """Neither faults nor remarks."""
    assert main(["policy", "check", "--config", "broker.yaml"]) == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out == "broker.yaml: no fault; permits: 4, forbids: 3\n"
    assert captured.err == ""


@pytest.mark.usefixtures("there")
def test_the_explanation_is_what_is_printed(capsys: Output) -> None:
    """Word for word."""
    command, _, expected = block("console").partition("\n")
    arguments = shlex.split(command.removeprefix("$ broker "))
    assert main(arguments) == ExitCode.DENIED
    assert capsys.readouterr().out == expected


@pytest.mark.usefixtures("there")
def test_the_cases_hold(capsys: Output) -> None:
    """All of them; the page's configuration does what the page says."""
    assert main(["policy", "test", "tests.yaml", "--config", "broker.yaml"]) == ExitCode.OK
    assert capsys.readouterr().out.endswith("6 of 6 cases hold\n")


def test_every_word_is_told() -> None:
    """Each attribute of the context and each action."""
    context = re.findall(r"^\| `context\.(\w+)", TEXT, re.MULTILINE)
    words = schema(Vocabulary())
    known = re.findall(r"(\w+)\??: ", words.partition("context: {")[2].partition("}")[0])
    assert sorted(context) == sorted({*known, "arguments"})
    for action in ACTIONS:
        assert f"`{action}`" in TEXT
    assert "the first four when" in TEXT
    listed = [f"`{action}`" for action in DEFAULT_ACTIONS]
    assert all(one in TEXT.partition("the first four when")[0] for one in listed)


def test_every_command_is_told(capsys: Output) -> None:
    """The table is the group's help."""
    main(["policy", "--help"])
    told = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(re.findall(r"^\| `broker policy (\w+)", TEXT, re.MULTILINE)) == sorted(told)
