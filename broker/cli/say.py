"""What the commands say on standard error.

Duty: errors and advice in words for a person.
Not its duty: the log of a running broker (``telemetry.logs``).
Rules: no traceback of foreign messages: they may quote what a library was working on.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
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
