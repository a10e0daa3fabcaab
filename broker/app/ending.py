"""Why the process ends.

Duty: the wish to stop, with the first reason that was given.
Not its duty: stopping (``run``).
"""

from __future__ import annotations

import asyncio


class Ending:
    """Told to stop, once; later reasons do not count."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.reason = ""
        """``SIGTERM``, ``SIGINT``, ``quit``, or the code of an error."""
        self.exit_code: int | None = None
        """None when an error ends it: the command makes the code of it."""

    def ask(self, reason: str) -> None:
        """Stop in order, because of ``reason``."""
        self.note(reason, 0)
        self.asked.set()

    def note(self, reason: str, exit_code: int | None) -> None:
        """It ends by itself because of ``reason``."""
        if not self.reason:
            self.reason, self.exit_code = reason, exit_code
