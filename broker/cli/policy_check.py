"""``broker policy check`` and ``broker policy print``: the policies themselves.

Duty: load a configuration, compile its policies, print what they are.
Not its duty: compiling (``access.policies``), remarks on roles (``access.roles_analysis``).
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from broker.cli import say
from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command, add_config

if TYPE_CHECKING:
    from broker.cli.parsing import Commands
    from broker.settings.domain import Settings
    from broker.settings.domain_access import PolicyText


def add(commands: Commands) -> None:
    """Declare the commands."""
    check = add_command(
        commands, "check", about="check the configuration's policies, or files by its words"
    )
    check.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="policy files to check in the place of those that the configuration names",
    )
    add_config(check)
    check.set_defaults(call=check_policies)
    shown = add_command(commands, "print", about="print lists, roles and policy files as Cedar")
    add_config(shown)
    shown.add_argument(
        "--schema", action="store_true", help="print the Cedar schema: every word there is"
    )
    shown.set_defaults(call=print_policies)


def check_policies(arguments: argparse.Namespace) -> int:
    """Check policies.

    Raises:
        SettingsErrors: with every fault.
    """
    from broker.access.policies import Policies
    from broker.app.policies import remarks, sources
    from broker.settings.load import load

    loaded = load(arguments.config, os.environ)
    settings = loaded.settings
    if arguments.files:
        texts = tuple(map(_read, arguments.files))
        settings = replace(settings, policies=replace(settings.policies, texts=texts))
    say.advice(remarks(settings, loaded.place))
    policies = Policies(sources(settings, file=arguments.config))
    permits = sum(one.permits for one in policies.all.values())
    forbids = len(policies.all) - permits
    print(f"{arguments.config}: no fault; permits: {permits}, forbids: {forbids}")
    return ExitCode.OK


def print_policies(arguments: argparse.Namespace) -> int:
    """Print the policies, or the words they are written in.

    Raises:
        SettingsErrors: with every fault.
    """
    from broker.access.policies import Policies
    from broker.access.vocabulary import schema
    from broker.app.policies import sources
    from broker.settings.load import load

    loaded = load(arguments.config, os.environ)
    found = sources(loaded.settings, file=arguments.config)
    if arguments.schema:
        sys.stdout.write(schema(found.vocabulary))
        return ExitCode.OK
    policies = Policies(found)
    print("\n".join(_shown(policies, loaded.settings)), end="")
    return ExitCode.OK


def _shown(policies: object, settings: Settings) -> list[str]:
    from broker.access.policies import Policies

    assert isinstance(policies, Policies)
    own = [one.text for one in policies.all.values() if one.id.startswith(("clients.", "roles."))]
    granted = {one.id for one in policies.all.values()}
    nothing = [
        f"// roles.{name} grants nothing by itself\n"
        for name in settings.roles
        if f"roles.{name}" not in granted
    ]
    files = [f"// {one.path}\n{one.text.rstrip()}\n" for one in settings.policies.texts]
    return [*own, *nothing, *files]


def _read(path: str) -> PolicyText:
    from broker.errors import SettingsError, SettingsErrors
    from broker.settings.domain_access import PolicyText

    try:
        return PolicyText(path, Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        fault = SettingsError("cannot be read as text", file=path, remedy="Check the path.")
        raise SettingsErrors([fault]) from error
