"""The story on the terminal: one line a thing that happened.

Duty: time, who, what, in colours; the final table; the lines to try by hand.
Not its duty: knowing what happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from broker.clock import Clock
from broker.demo.facts import BROKER, ENVIRONMENT
from broker.demo.judge import Counters

STYLES: Final = {
    "stage": "dim",
    "story": "bold",
    "vault": "yellow",
    "broker": "cyan",
    "broker's server": "green",
    "env's server": "red",
    "search api": "magenta",
    "postgres": "blue",
    "stranger": "bold red",
    "operator": "bold",
    "kubelet": "dim",
}
"""Who speaks, and in which colour."""


class Timeline:
    """Prints lines as they are told. Call it on one thread only."""

    def __init__(self, clock: Clock, console: Console | None = None) -> None:
        self._clock = clock
        self._console = console or Console(highlight=False)
        self._began = clock.now()

    def begin(self) -> None:
        """Time zero is now."""
        self._began = self._clock.now()

    def tell(self, who: str, what: str, *, strong: bool = False) -> None:
        """One line."""
        style = STYLES.get(who, "")
        line = Text(f"{self._clock.now() - self._began:6.1f}s ", style="dim")
        line.append(f"{who:>16}  ", style=style)
        line.append(what, style=f"bold {style}" if strong else style)
        # Long lines are for the terminal to wrap: a pipe gets them whole.
        self._console.print(line, soft_wrap=True)

    def chapter(self, title: str) -> None:
        """A new part of the story."""
        self._console.print()
        self._console.print(Text(title, style="bold underline"))

    def table(self, counters: Mapping[str, Counters], events: Mapping[str, int]) -> None:
        """What it came to."""
        table = Table(title="One minute later", title_style="bold")
        table.add_column("")
        for edition, title in ((ENVIRONMENT, "from the environment"), (BROKER, "with the broker")):
            table.add_column(title, justify="right", style="red" if edition != BROKER else "green")
        rows = (
            ("tool calls", "calls"),
            ("failed tool calls", "failed_calls"),
            ("upstream calls with a dead key", "dead_keys"),
            ("values handed out past their end", "expired_handouts"),
        )
        for title, name in rows:
            cells = [str(getattr(counters[edition], name)) for edition in (ENVIRONMENT, BROKER)]
            table.add_row(title, *cells)
        self._console.print()
        self._console.print(table)
        happened = ", ".join(
            f"{name.replace('_', ' ')} ({count})" for name, count in events.items()
        )
        self._console.print(Padding(Text(f"What happened meanwhile: {happened}."), (1, 0)))

    def verdict(self, faults: Sequence[str]) -> None:
        """The last word."""
        for fault in faults:
            self._console.print(Text(f"FAILED: {fault}", style="bold red"))
        if not faults:
            self._console.print(Text("The broker kept its promises.", style="bold green"))

    def lines(self, title: str, lines: Sequence[str]) -> None:
        """Lines to copy; never wrapped, never coloured within."""
        self.chapter(title)
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)
