"""What the commands say to a person.

Duty: errors and advice in words, on standard error; tables, on standard output.
Not its duty: the log of a running broker (``telemetry.logs``).
Rules: no traceback of foreign messages: they may quote what a library was working on.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from broker.errors import BrokerError, SettingsErrors

if TYPE_CHECKING:
    from broker.settings.environment import Advice


def error(problem: BrokerError) -> None:
    """One error of the tree, with its remedy; every fault of a configuration."""
    if isinstance(problem, SettingsErrors):
        number = len(problem.faults)
        _line(f"broker: the configuration has {number} fault{'s' if number > 1 else ''}")
        for fault in problem.faults:
            _line(str(fault))
            _line(f"    {fault.remedy}")
        return
    _line(f"broker: {problem}")
    _line(f"    {problem.remedy}")


def advice(found: Iterable[Advice]) -> None:
    """What is worth saying about a configuration that can be used."""
    for one in found:
        _line(f"warning: {one}")
        _line(f"    {one.remedy}")


def fault(problem: Exception) -> None:
    """An error that is none of ours: where it happened, not what it says."""
    _line(f"broker: a fault of the broker itself: {type(problem).__name__}")
    for line in traceback.format_tb(problem.__traceback__):
        _line(line.rstrip())
    _line("    Report this with the lines above; its message is left out, it may hold a secret.")


def _line(text: str) -> None:
    print(text, file=sys.stderr)


def table(head: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    """Lines in columns on standard output, which is what was asked for."""
    cells = [head, *([text or "-" for text in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip())
