"""``broker version``.

Duty: say which broker this is. Rule: imports nothing that takes time.
"""

from __future__ import annotations

import argparse
import json
import platform
from typing import TYPE_CHECKING

from broker import __version__
from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command

if TYPE_CHECKING:
    from broker.cli.parsing import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    command = add_command(commands, "version", about="print the version")
    command.add_argument("--json", action="store_true", help="print it as JSON")
    command.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Print the version of the broker and of Python."""
    if arguments.json:
        print(json.dumps({"version": __version__, "python": platform.python_version()}))
    else:
        print(f"broker {__version__} (Python {platform.python_version()})")
    return ExitCode.OK
