"""``broker run``: the broker itself; ``broker rotator``: the part that rotates, by itself.

Duty: settings in, the application called, its exit code out.
Not its duty: anything that goes on after the start (``app``).
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command, add_config

if TYPE_CHECKING:
    from broker.cli.parsing import Commands


def add(commands: Commands) -> None:
    """Declare the commands."""
    for name, process, about in (
        ("run", "broker", "run the broker until it is told to stop"),
        ("rotator", "rotator", "rotate upstream keys, without any caller, until told to stop"),
    ):
        command = add_command(commands, name, about=about)
        add_config(command)
        command.set_defaults(call=call, process=process)


def call(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT.

    Raises:
        BrokerError: the start failed.
    """
    with _signals_heard():
        from broker.settings.load import load

        loaded = load(arguments.config, os.environ, uid=os.geteuid())
        from broker.app.policies import remarks
        from broker.app.run import run  # a wrong file is told before the server is loaded

        return run(
            loaded.settings,
            arguments.config,
            digest=loaded.digest,
            advice=(*loaded.advice, *remarks(loaded.settings, loaded.place)),
            process=arguments.process,
        )


@contextmanager
def _signals_heard() -> Iterator[None]:
    """End at once when told so before ``app`` takes the signals over: nothing has begun.

    The kernel throws away signals to process 1 of a container that have no handler; loading
    takes a second, and the broker would go on until it is killed, its Vault token left behind.
    """

    def end(*_: object) -> None:
        os._exit(ExitCode.OK)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
