"""What is known of each credential now, for everyone who reads.

Duty: hold the newest ``Entry`` a credential; wake those who wait for a change;
remember the latest ``use_until`` given out for each version; distrust all
lives when the wall clock ran ahead of the boot clock.
Not its duty: fetching (``keeper``), deciding (``plan``), who may read (``access``).
Rules:

* only keepers publish; readers get the immutable entry and ask ``entry.usable(now)``;
* ``get``, ``promise`` and ``observe`` stand on the hot path: a few dictionary
  operations, no allocation that grows;
* a promise is kept until it has passed, so memory is bounded by the versions
  that somebody may still be using.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Final

from broker.clock import Clock
from broker.credentials.model import CredentialKey, Entry

JUMP: Final = 5.0
"""Seconds by which wall time may outrun boot time before lives are distrusted: more than
NTP ever steps at once on a healthy machine, less than any life worth leasing."""

Subscriber = Callable[[Entry | None, Entry], None]


class CredentialStore:
    """The published truth about every credential."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[CredentialKey, Entry] = {}
        self._changed: dict[CredentialKey, asyncio.Event] = {}
        self._promises: dict[CredentialKey, dict[str, float]] = {}
        self._subscribers: list[Subscriber] = []
        self._offset = clock.wall() - clock.now()
        self._revision = 0

    def get(self, key: CredentialKey) -> Entry | None:
        """The newest entry, or None for a credential nobody keeps."""
        return self._entries.get(key)

    def keys(self) -> tuple[CredentialKey, ...]:
        """All credentials that have an entry."""
        return tuple(self._entries)

    def publish(self, entry: Entry) -> Entry:
        """Make ``entry`` the newest one; returns it with its revision.

        Publishing what is already known changes nothing and wakes nobody.
        """
        before = self._entries.get(entry.key)
        if before is not None and replace(entry, revision=before.revision) == before:
            return before
        self._revision += 1
        after = replace(entry, revision=self._revision)
        self._entries[entry.key] = after
        event = self._changed.pop(entry.key, None)
        if event is not None:
            event.set()
        for subscriber in self._subscribers:
            subscriber(before, after)
        return after

    def forget(self, key: CredentialKey) -> None:
        """The credential is no longer configured; waiters wake and find nothing."""
        self._entries.pop(key, None)
        self._promises.pop(key, None)
        event = self._changed.pop(key, None)
        if event is not None:
            event.set()

    async def wait_change(self, key: CredentialKey, revision: int, deadline: float) -> Entry | None:
        """Wait until the entry's revision differs from ``revision``.

        Args:
            key: the credential.
            revision: the one the caller knows.
            deadline: reading of ``Clock.now()`` at which to give up.

        Returns:
            The newest entry, changed or (at the deadline) not; None when it is not kept.
        """
        while (entry := self._entries.get(key)) is not None and entry.revision == revision:
            event = self._changed.setdefault(key, asyncio.Event())
            if not await self._clock.wait(event, deadline):
                break
        return self._entries.get(key)

    def subscribe(self, callback: Subscriber) -> None:
        """Call ``callback(before, after)`` on the loop after each change; it must be quick."""
        self._subscribers.append(callback)

    def promise(self, key: CredentialKey, version: str, use_until: float) -> None:
        """Somebody was told to use ``version`` until ``use_until`` (``Clock.now()``)."""
        promises = self._promises.get(key)
        if promises is None:
            promises = self._promises[key] = {}
        if promises.get(version, -inf) < use_until:
            promises[version] = use_until
            if len(promises) > 2:  # one current, one just replaced: anything more is old
                self._drop_passed(promises, version)

    def _drop_passed(self, promises: dict[str, float], keep: str) -> None:
        now = self._clock.now()
        for version in [v for v, until in promises.items() if until <= now and v != keep]:
            del promises[version]

    def promised_until(self, key: CredentialKey, version: str) -> float:
        """The latest ``use_until`` given out for ``version``; ``-inf`` when none was."""
        return self._promises.get(key, {}).get(version, -inf)

    def observe(self, now: float, wall: float) -> None:
        """Compare the clocks; called before each hand-out (DESIGN promise 1).

        When wall time ran ahead of boot time by more than ``JUMP``, the machine may have
        been paused with its boot clock: every life counted on it is in doubt, so each
        value must be confirmed by Vault before it is handed out again.
        """
        offset = wall - now
        ahead = offset - self._offset
        if -JUMP <= ahead <= JUMP:
            return  # the base stays: many small steps add up to a jump
        self._offset = offset
        if ahead > 0:
            self.distrust()

    def distrust(self) -> None:
        """No value is handed out before its keeper has had it confirmed."""
        for entry in tuple(self._entries.values()):
            if entry.snapshot is not None and entry.expires_at > -inf:
                self.publish(
                    replace(entry, expires_at=-inf, revalidating=True, reason="clock_jumped")
                )
