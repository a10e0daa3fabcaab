"""The ``broker`` command: arguments to one function, errors to one exit code.

Duty: parse; call the group's function; say what went wrong without a traceback.
Not its duty: any work of its own.
Rules:

* a group's module imports at its top what parsing needs and nothing more: ``broker
  version`` must not load a server;
* standard output is for what was asked for, standard error for what went wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from broker.cli import audit, check, config, explain, policy, rotation, say, token, version
from broker.cli import run as run_command
from broker.cli.exit_codes import ExitCode, exit_code
from broker.errors import BrokerError

_GROUPS = (run_command, check, config, policy, rotation, token, audit, explain, version)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="broker",
        description="Secrets for MCP servers: a sidecar between Vault and the tools.",
        epilog="Exit codes: docs/configuration.md.",
        allow_abbrev=False,
    )
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in _GROUPS:
        group.add(commands)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; the process's own when missing.

    Returns:
        One of ``ExitCode``.
    """
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as end:  # --help, or wrong arguments: argparse has said so
        return ExitCode.OK if end.code in (0, None) else ExitCode.USAGE
    return guarded(lambda: arguments.call(arguments))


def guarded(work: Callable[[], int]) -> int:
    """Do ``work``; whatever it raises becomes words on standard error and an exit code."""
    try:
        code = work()
        sys.stdout.flush()
    except BrokerError as error:
        say.error(error)
        return exit_code(error)
    except BrokenPipeError:  # the reader of our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except KeyboardInterrupt:
        return 128 + 2  # as a shell reports SIGINT
    except Exception as error:
        say.fault(error)
        return ExitCode.FAULT
    return code


def run() -> None:
    """Entry point of the ``broker`` script."""
    sys.exit(main())
