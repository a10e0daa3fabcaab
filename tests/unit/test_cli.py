"""The ``broker`` command: arguments, output, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from broker import __version__
from broker.cli import say
from broker.cli.exit_codes import MEANINGS, ExitCode, exit_code
from broker.cli.main import guarded, main
from broker.errors import (
    BrokerError,
    CredentialMalformed,
    ListenerUnusable,
    LoginFailed,
    SettingsError,
    SettingsErrors,
    VaultSealed,
    VaultUnreachable,
)
from tests.support.patience import PATIENCE

EXAMPLE = Path(__file__).parent.parent / "data" / "broker.yaml"

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of the person who runs the tests configure nothing."""
    for name in os.environ:
        if name.startswith(("BROKER__", "VAULT_", "BAO_")):
            monkeypatch.delenv(name)


def test_version(capsys: Output) -> None:
    """The version is one line."""
    assert main(["version"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith(f"broker {__version__} (Python 3.")


def test_version_as_json(capsys: Output) -> None:
    """For scripts the version is JSON."""
    assert main(["version", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["version"] == __version__


def test_version_imports_little() -> None:
    """``broker version`` loads no server, no schema and no Vault client."""
    program = (
        "import sys; from broker.cli.main import guarded, main; main(['version']);"
        "heavy = {'pydantic', 'yaml', 'fastapi', 'uvicorn', 'hvac', 'asyncio', 'httpx2', 'ssl'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout.splitlines()[1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["run", "--nothing"], ["config"], ["check", "--conf", "x"], ["version", "x"]],
)
def test_wrong_arguments(arguments: list[str], capsys: Output) -> None:
    """Wrong arguments show the usage on standard error."""
    assert main(arguments) == ExitCode.USAGE
    assert "usage: broker" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["config", "--help"]])
def test_help(arguments: list[str], capsys: Output) -> None:
    """Help is asked for, so it goes to standard output and is no error."""
    assert main(arguments) == ExitCode.OK
    assert "usage: broker" in capsys.readouterr().out


def test_config_schema(capsys: Output) -> None:
    """The printed schema is a valid schema of its dialect."""
    assert main(["config", "schema"]) == ExitCode.OK
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_config_reference(capsys: Output) -> None:
    """Every key is printed as tables."""
    assert main(["config", "reference"]) == ExitCode.OK
    assert "| `max_staleness` | duration | `1h` |" in capsys.readouterr().out


def test_config_check_of_a_good_file(capsys: Output) -> None:
    """A usable file is said to be."""
    assert main(["config", "check", str(EXAMPLE)]) == ExitCode.OK
    assert capsys.readouterr().out == f"{EXAMPLE}: can be used\n"


@pytest.mark.parametrize(
    "command", [["config", "check"], ["check", "--config"], ["run", "--config"]]
)
def test_a_bad_configuration_ends_every_command(
    command: list[str], tmp_path: Path, capsys: Output
) -> None:
    """All faults go to standard error with their remedies; no traceback, exit 78."""
    file = tmp_path / "broker.yaml"
    file.write_text("vault: {address: https://v.example, timeout: 5}\nlog: {levle: x}\n")

    assert main([*command, str(file)]) == ExitCode.SETTINGS
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == "broker: the configuration has 3 faults"
    assert f"{file}:1: vault.timeout: has the wrong unit" in said.err
    assert f"{file}:1: vault.auth.role: is missing" in said.err
    assert f"{file}:2: log.levle: is not a key\n    Did you mean level?" in said.err
    assert "Traceback" not in said.err


def test_advice_is_said_at_the_start(tmp_path: Path, capsys: Output) -> None:
    """Dangers that are allowed are said on standard error."""
    file = tmp_path / "broker.yaml"
    file.write_text(
        "vault:\n  address: https://v.example\n  auth: {role: r}\n"
        "  tls: {unsafe_skip_verify: true}\n"
    )

    assert main(["config", "check", str(file)]) == ExitCode.OK
    assert (
        f"warning: {file}:4: vault.tls.unsafe_skip_verify: lets anybody" in capsys.readouterr().err
    )


def test_the_default_file_is_where_the_image_has_it(capsys: Output) -> None:
    """Without --config the file of the image is read; here there is none."""
    assert main(["check"]) == ExitCode.SETTINGS
    assert "/etc/broker/broker.yaml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsErrors([SettingsError("x")]), ExitCode.SETTINGS),
        (VaultUnreachable(), ExitCode.VAULT),
        (VaultSealed(), ExitCode.VAULT),
        (LoginFailed(), ExitCode.LOGIN),
        (CredentialMalformed(), ExitCode.CREDENTIAL),
        (ListenerUnusable(), ExitCode.FAULT),
        (BrokerError(), ExitCode.FAULT),
        (ValueError(), ExitCode.FAULT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes_of_errors(error: Exception, code: ExitCode) -> None:
    """Each branch of the error tree has its exit code."""
    assert exit_code(error) == code


def test_every_exit_code_has_a_meaning() -> None:
    """The table is whole, and no code looks like a signal's."""
    assert set(MEANINGS) == set(ExitCode)
    assert max(ExitCode) < 128


def test_a_fault_of_ours_shows_where_but_not_what(capsys: Output) -> None:
    """A foreign message may hold a secret; the lines of code do not."""
    word = "".join(reversed("yranac"))
    with pytest.raises(ValueError, match=f"'{word}'") as caught:
        int(word)
    say.fault(caught.value)

    said = capsys.readouterr().err
    assert "ValueError" in said
    assert "test_cli.py" in said
    assert "canary" not in said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (VaultSealed(), ExitCode.VAULT, "broker: Vault is sealed."),
        (KeyError("canary"), ExitCode.FAULT, "a fault of the broker itself: KeyError"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_whatever_a_command_raises_is_an_exit_code(
    error: BaseException, code: int, said: str, capsys: Output
) -> None:
    """Errors of the tree, faults of ours and Ctrl-C end a command in order."""

    def work() -> int:
        raise error

    assert guarded(work) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert "canary" not in shown.err
    assert shown.out == ""


def test_an_error_of_the_tree_has_its_remedy(capsys: Output) -> None:
    """One line says what, the next what to do."""
    say.error(VaultSealed())

    assert capsys.readouterr().err == (
        "broker: Vault is sealed.\n    Unseal Vault; the broker goes on by itself.\n"
    )


def test_a_reader_that_goes_away_is_no_fault() -> None:
    """``broker config schema | head -1`` ends quietly."""
    done = subprocess.run(
        f"{sys.executable} -m broker config schema | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.stdout, done.stderr) == ("{\n", "")
