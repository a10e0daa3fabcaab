"""``broker explain``: one request, from the audit log, in sentences.

Duty: find the files; print what ``audit.explain`` tells.
Not its duty: whether the log is true (``broker audit verify``).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from broker.cli.audit import STDIN, lines
from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command, add_config
from broker.errors import AuditUnreadable, SettingsError

if TYPE_CHECKING:
    from broker.audit.explain import Describe
    from broker.cli.parsing import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    command = add_command(
        commands, "explain", about="tell who asked for what in a request, and what decided"
    )
    command.add_argument(
        "request_id", metavar="REQUEST_ID", help="as in Broker-Request-Id and in problem documents"
    )
    command.add_argument(
        "--file",
        dest="files",
        metavar="FILE",
        action="append",
        default=[],
        help="an audit file, several times for several; - for standard input "
        "(default: audit.file of the configuration, with its rotated files)",
    )
    add_config(command)
    command.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Tell; ``ExitCode.NO_INPUT`` when no record names the request.

    Raises:
        AuditUnreadable: a file cannot be read, or none is configured.
        SettingsError: the configuration that should name the file cannot be used.
    """
    from broker.audit.explain import explain
    from broker.audit.files import in_order

    files = in_order(arguments.files or [_configured(arguments.config)])
    describe = _describer(arguments.config)
    kept: dict[str, list[bytes]] = {}

    def every() -> Iterator[bytes]:
        for path in files:
            if path == STDIN:  # can be read only once
                if path not in kept:
                    kept[path] = list(lines(path))
                yield from kept[path]
            else:
                yield from lines(path)

    told = explain(every, arguments.request_id, describe)
    if not told:
        print(f"broker: no record of this request in {', '.join(files)}", file=sys.stderr)
        return ExitCode.NO_INPUT
    print("\n".join(told))
    return ExitCode.OK


def _describer(config: str) -> Describe:
    """Texts of policies by id, as the configuration has them now; empty without one."""
    known: list[Describe] = []

    def describe(policy: str) -> str:
        if not known:  # the first to ask loads Cedar
            from broker.access.policies import Policies
            from broker.app.policies import sources
            from broker.settings.load import load

            try:
                settings = load(config, os.environ).settings
                known.append(Policies(sources(settings, file=config)).describe)
            except SettingsError:  # the records tell what they can without it
                known.append(lambda _: "")
        return known[0](policy)

    return describe


def _configured(config: str) -> str:
    from broker.settings.load import load

    file = load(config, os.environ).settings.audit.file
    if not file:
        raise AuditUnreadable(
            "The audit goes to standard output.",
            remedy="Give the collected lines: kubectl logs POD -c broker | broker explain "
            "REQUEST_ID --file -",
        )
    return file
