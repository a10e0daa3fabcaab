"""What election and events ask of the Kubernetes API, as small ports.

Duty: name it. Not its duty: HTTP (``client``).
Rule: a call ends by a deadline of its own and raises ``errors.KubernetesError`` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from broker.kube.plan import Record


@dataclass(frozen=True, slots=True)
class Held:
    """A Lease in the API."""

    record: Record
    version: str
    """``metadata.resourceVersion``."""
    bell: bool = False
    """Somebody who does not lead has something for who does."""


class LeasePort(Protocol):
    """One Lease object."""

    async def get(self) -> Held | None:
        """The Lease now; None when there is none.

        Raises:
            KubernetesUnavailable: the API cannot answer now.
            KubernetesRefused: it may not be read.
        """
        ...

    async def create(self, record: Record) -> Held:
        """Make the Lease.

        Raises:
            KubernetesConflict: somebody else made it first.
            KubernetesUnavailable, KubernetesRefused: as for ``get``.
        """
        ...

    async def update(self, record: Record, version: str, *, bell: bool = False) -> Held:
        """Write ``record`` and ``bell`` if the Lease still is at ``version``.

        Raises:
            KubernetesConflict: it is not, or it is gone.
            KubernetesUnavailable, KubernetesRefused: as for ``get``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Note:
    """One Event about the broker's pod (``core/v1``). Holds no secret."""

    kind: Literal["Normal", "Warning"]
    reason: str
    """One word for machines, in CamelCase."""
    action: str
    """What was being done, in CamelCase."""
    message: str
    """One sentence for people, 1024 characters at most."""


class EventPort(Protocol):
    """Where Events are written."""

    async def write(self, note: Note, *, wall: float) -> None:
        """Write one Event about the pod; ``wall`` is the Unix time at which it happened.

        Raises:
            KubernetesUnavailable: the API cannot answer now.
            KubernetesRefused: it may not be written.
        """
        ...
