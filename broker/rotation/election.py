"""Who carries rotations out, as a port.

Duty: tell whether this process leads; tell the one that does of a wish.
Not its duty: electing (``kube``).
Rules: leading saves work and calls at the provider; safety never depends on it, for a
leader may be paused and go on after another was elected (DESIGN section 8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Election(Protocol):
    """Tells who leads."""

    @property
    def leading(self) -> bool:
        """Whether this process leads now, as far as it knows."""
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop whenever ``leading`` changes, or somebody rang."""
        ...

    async def ring(self) -> None:
        """Tell who leads that there is a wish; never raises, and may get lost."""
        ...


class Always:
    """Leads: the only rotator there is, or one of several without an election."""

    leading = True

    def on_change(self, callback: Callable[[], None]) -> None:
        """Nothing ever changes."""

    async def ring(self) -> None:
        """It is this process that leads."""
