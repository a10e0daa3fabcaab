"""``broker check``: is everything there that a start needs?

Duty: build the client, run the check, one line each on standard output.
Not its duty: checking (``app.check``).
Rules: standard output has one line for each thing checked and no value; remedies go to
standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from broker.cli import say
from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command, add_config

if TYPE_CHECKING:
    from broker.app.check import Line, Outcome
    from broker.cli.parsing import Commands
    from broker.settings.domain import Settings


def add(commands: Commands) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "check",
        about="log in to Vault, read each credential once, name the layer that fails",
    )
    add_config(command)
    command.add_argument(
        "--process",
        choices=("broker", "rotator"),
        default="broker",
        help="whose start: 'broker run' or 'broker rotator' (default: %(default)s)",
    )
    command.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Check the configuration and everything behind it.

    Raises:
        SettingsErrors: with every fault of the configuration.
        SettingsError: there is nothing in it for a rotator.
    """
    import asyncio

    from broker.app.narrowing import narrowed
    from broker.app.policies import compiled, remarks
    from broker.settings.load import load

    loaded = load(arguments.config, os.environ, uid=os.geteuid())
    say.advice((*loaded.advice, *remarks(loaded.settings, loaded.place)))
    compiled(loaded.settings, file=arguments.config)
    # As the process would: a sidecar beside a rotator may not read what only drivers use.
    settings = narrowed(loaded.settings, arguments.process)
    what = {"credential": len(settings.credentials), "client": len(settings.clients)}
    counted = ", ".join(f"{n} {noun}{'' if n == 1 else 's'}" for noun, n in what.items())
    _print("ok", "configuration", f"{arguments.config}: {counted}")
    outcome = asyncio.run(_check(settings))
    return ExitCode[outcome.name]


async def _check(settings: Settings) -> Outcome:
    from broker.app.check import Check
    from broker.app.vault import vault_client
    from broker.clock import SystemClock

    clock = SystemClock()
    port = vault_client(settings.vault, clock=clock)
    try:
        return await Check(settings, port, clock=clock, emit=_emit).run()
    finally:
        await port.aclose()


def _emit(line: Line) -> None:
    if line.broken is None:
        _print("ok", line.subject, line.text)
    else:
        _print("FAILED", line.subject, f"{line.broken.layer}: {line.text}")
        print(f"        {line.broken.remedy}", file=sys.stderr, flush=True)


def _print(verdict: str, subject: str, text: str) -> None:
    print(f"{verdict:<7} {subject}: {text}", flush=True)
