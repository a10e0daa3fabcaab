"""How the broker stands, as probes and operators see it.

Duty: started, stopping, ready; one line a credential.
Not its duty: routes (``operations``, ``admin``), alarms (``docs/metrics.md``).
Rules:

* readiness waits for every required credential and for nothing else: not for Vault, which
  may be away while all values are good;
* names, states and codes of errors; never a value, a version's content, or a message that
  might quote a path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from broker.clock import Clock
from broker.credentials.model import CredentialKey, Entry, State
from broker.credentials.store import CredentialStore
from broker.protocol.models import format_time

_SLICE: Final = 100
"""Credentials told of in one loop turn: well under a millisecond."""


class Health:
    """What probes ask.

    Args:
        clock: the only source of time.
        store: the truth about credentials.
        required: configured credentials by name; whether readiness waits for it.
    """

    def __init__(self, clock: Clock, store: CredentialStore, required: Mapping[str, bool]) -> None:
        self._clock = clock
        self._store = store
        self._required = dict(required)
        self._since = clock.now()
        self.started = False
        """Set by ``app`` once the data listeners are open."""
        self.stopping = False
        """Set by ``app`` first of all when it stops."""
        self.overdue: Callable[[], list[str]] = list
        """Credentials whose rotation is overdue: a note, no reason to send nobody here. Set by
        ``app`` where something rotates."""

    def configure(self, required: Mapping[str, bool]) -> None:
        """Take over a new configuration."""
        self._required = dict(required)

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self._clock.now() - self._since

    def ready(self) -> bool:
        """Whether callers should be sent here now."""
        now = self._clock.now()
        return (
            self.started
            and not self.stopping
            and all(
                (entry := self._store.get(CredentialKey(name))) is not None and entry.usable(now)
                for name, required in self._required.items()
                if required
            )
        )

    async def credentials(self) -> dict[str, dict[str, Any]]:
        """One document a configured credential, by name."""
        told: dict[str, dict[str, Any]] = {}
        for number, (name, required) in enumerate(list(self._required.items()), start=1):
            told[name] = self.credential(name, required=required)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        return told

    def credential(self, name: str, *, required: bool = True) -> dict[str, Any]:
        """How one credential stands; ``pending`` when nothing is known of it."""
        entry = self._store.get(CredentialKey(name)) or Entry(CredentialKey(name), State.PENDING)
        return {
            "state": str(entry.state),
            "usable": entry.usable(self._clock.now()),
            "required": required,
            "reason": entry.reason or None,
            "since": _moment(entry.since_wall),
            "next_attempt_at": _moment(entry.next_attempt_wall),
            "expires_at": _moment(entry.expires_wall),
        }


def _moment(wall: float | None) -> str | None:
    return None if wall is None else format_time(wall)
