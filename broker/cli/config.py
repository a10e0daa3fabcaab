"""``broker config``: about the configuration file, without Vault.

Duty: print its JSON Schema or its keys; check one file.
Not its duty: what Vault thinks of it (``broker check``).
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from broker.cli import say
from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command

if TYPE_CHECKING:
    from broker.cli.parsing import Commands


def add(commands: Commands) -> None:
    """Declare the commands."""
    group = add_command(commands, "config", about="about the configuration file")
    inner = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    schema = add_command(inner, "schema", about="print its JSON Schema (2020-12)")
    schema.set_defaults(call=print_schema)
    reference = add_command(inner, "reference", about="print every key as Markdown tables")
    reference.set_defaults(call=print_reference)
    check = add_command(inner, "check", about="check a file without asking Vault")
    check.add_argument("file", metavar="FILE", help="the configuration file")
    check.set_defaults(call=check_file)


def print_schema(_: argparse.Namespace) -> int:
    """Print the JSON Schema."""
    from broker.settings.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return ExitCode.OK


def print_reference(_: argparse.Namespace) -> int:
    """Print the tables of docs/configuration.md."""
    from broker.settings.reference import markdown

    print(markdown(), end="")
    return ExitCode.OK


def check_file(arguments: argparse.Namespace) -> int:
    """Check one file by itself, without this shell's environment.

    Raises:
        SettingsErrors: with every fault.
    """
    from broker.app.policies import compiled, remarks
    from broker.settings.load import load

    loaded = load(arguments.file, environ={})
    say.advice((*loaded.advice, *remarks(loaded.settings, loaded.place)))
    compiled(loaded.settings, file=arguments.file)
    print(f"{arguments.file}: can be used")
    return ExitCode.OK
