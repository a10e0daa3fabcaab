"""The port for proving that a value works upstream.

Duty: say what a proof is. Not its duty: any provider; implementations stand above.
Rules: a proof never changes anything upstream and never prints the value; it tells "refused"
(``ProofFailed``) from "nobody can tell now" (``UpstreamError``): only the first speaks about
the value.
"""

from __future__ import annotations

from typing import Protocol

from broker.credentials.model import Snapshot


class Proof(Protocol):
    """Asks the upstream whether it accepts a value."""

    async def prove(self, snapshot: Snapshot, *, suspect: bool) -> None:
        """Return when the upstream accepts the value.

        Args:
            snapshot: the value.
            suspect: somebody was refused with it: a verdict from before will not do.

        Raises:
            ProofFailed: it does not accept the value.
            UpstreamError: nobody can tell now.
        """
        ...
