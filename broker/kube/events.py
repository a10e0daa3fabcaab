"""Rotation outcomes as Events on the broker's pod, for ``kubectl describe``.

Duty: choose what is worth an Event, word it, pace it.
Not its duty: the API (``client``), the audit log, which has every step (``audit``).
Rules:

* an Event is a courtesy: one that cannot be written is dropped and said in the log once;
* no more than ``BURST`` at once and one every ``REFILL`` seconds after that, as client-go's
  own recorder does for one object: a bad night must not fill the cluster's store;
* names, key ids and codes of errors; never a value.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, Literal

from broker.clock import Clock
from broker.errors import KubernetesError
from broker.kube.ports import EventPort, Note
from broker.rotation.ports import Standing, StepKind, StepTaken

log = logging.getLogger("broker.kube")

BURST: Final = 25
REFILL: Final = 300.0
"""Seconds; with ``BURST`` the limits of client-go's event correlator."""

_WORTH: Final[dict[StepKind, tuple[Literal["Normal", "Warning"], str, str]]] = {
    "rotated": ("Normal", "CredentialRotated", "The key of {0} was replaced."),
    "rolled_back": (
        "Warning",
        "RotationRolledBack",
        "The new key of {0} was given up, the old one stays ({1}).",
    ),
    "withdrawn": ("Warning", "CredentialWithdrawn", "The key of {0} was withdrawn ({1})."),
    "abandoned": ("Warning", "RotationAbandoned", "A rotation of {0} was abandoned ({1})."),
    "failed": ("Warning", "RotationFailed", "The rotation of {0} cannot go on now ({1})."),
    "key_missing": ("Warning", "RotatedKeyMissing", "The provider no longer lists the key of {0}."),
    "restored": (
        "Warning",
        "RotationStateOlder",
        "Vault knows an older rotation of {0} now.",
    ),
    "orphan_seen": ("Warning", "OrphanKeySeen", "A key of {0} that nobody uses was seen."),
    "swept": ("Normal", "OrphanKeySwept", "A key of {0} that nobody used was retired."),
}


class PodEvents:
    """Observes rotations. Implements ``rotation.ports.Observer``.

    Args:
        port: where Events are written.
        clock: the only source of time.
    """

    def __init__(self, port: EventPort, *, clock: Clock) -> None:
        self._port, self._clock = port, clock
        self._waiting: deque[tuple[float, Note]] = deque(maxlen=BURST)
        self._ready = asyncio.Event()
        self._tokens, self._counted_at = float(BURST), clock.now()
        self._quiet = False

    def took(self, step: StepTaken) -> None:
        """Lay an Event ready if the step is worth one and the pace allows it."""
        if step.kind not in _WORTH or not self._may():
            return
        kind, reason, text = _WORTH[step.kind]
        message = text.format(step.credential, step.detail or step.reason or "no reason given")
        self._waiting.append((step.at_wall, Note(kind, reason, "Rotate", message[:1024])))
        self._ready.set()

    def stands(self, standing: Standing) -> None:
        """Nothing: metrics tell how things stand."""

    async def run(self) -> None:
        """Write what lies ready, for ever; meant to be a named task of ``app``."""
        while True:
            await self._clock.wait(self._ready, float("inf"))
            self._ready.clear()
            while self._waiting:
                wall, note = self._waiting.popleft()
                try:
                    await self._port.write(note, wall=wall)
                    self._quiet = False
                except KubernetesError as error:
                    if not self._quiet:
                        log.warning("an Event was not written: %s %s", error, error.remedy)
                    self._quiet = True

    def _may(self) -> bool:
        now = self._clock.now()
        self._tokens = min(BURST, self._tokens + (now - self._counted_at) / REFILL)
        self._counted_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
