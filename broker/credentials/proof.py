"""The port for proving that a value works upstream.

Duty: say what a proof is. Not its duty: any provider; implementations stand above.
Rule: a proof never changes anything upstream and never prints the value.
"""

from __future__ import annotations

from typing import Protocol

from broker.credentials.model import Snapshot


class Proof(Protocol):
    """Asks the upstream whether it accepts a value."""

    async def prove(self, snapshot: Snapshot) -> None:
        """Return when the upstream accepts the value.

        Raises:
            ProofFailed: it does not accept the value.
        """
        ...
