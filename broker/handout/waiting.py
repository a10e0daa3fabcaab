"""Waiting for something to say: ``Prefer: wait`` and revalidation.

Duty: suspend a request until its answer would be another one, its time is up, or we stop.
Not its duty: the answer (``service``).
Rules:

* a waiter costs one future and one timer; a thousand of them wake at a change, not before;
* whatever wakes a waiter, his caller is authorized anew before anything leaves.
"""

from __future__ import annotations

import asyncio

from broker.clock import Clock
from broker.credentials.model import CredentialKey, Entry, State
from broker.credentials.store import CredentialStore
from broker.handout.conditions import matches


class Waits:
    """Everybody who waits."""

    def __init__(self, clock: Clock, store: CredentialStore) -> None:
        self._clock = clock
        self._store = store
        self._open: set[asyncio.Timeout] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    async def until_told(
        self, key: CredentialKey, if_none_match: str | None, seconds: float, *, asked: bool
    ) -> None:
        """Return when there is something to say, after ``seconds``, or at the stop.

        Args:
            key: the credential.
            if_none_match: the version the caller has, as a header's text.
            seconds: the longest wait.
            asked: the caller wants to wait; else only a revalidation is waited for.
        """
        deadline = self._clock.now() + seconds
        while not self._ended and (now := self._clock.now()) < deadline:
            self._store.observe(now, self._clock.wall())
            entry = self._store.get(key)
            if entry is None or not worth_waiting(entry, if_none_match, now, asked=asked):
                return
            await self._change(key, entry.revision, deadline)

    async def _change(self, key: CredentialKey, revision: int, deadline: float) -> None:
        try:
            async with asyncio.timeout(None) as end:
                self._open.add(end)
                try:
                    await self._store.wait_change(key, revision, deadline)
                finally:
                    self._open.discard(end)
        except TimeoutError:
            return  # only ``end`` brings that about

    def end(self) -> None:
        """The broker stops: all waits end now, and none begins any more."""
        self._ended = True
        now = asyncio.get_running_loop().time()
        for wait in self._open:
            wait.reschedule(now)


def worth_waiting(entry: Entry, if_none_match: str | None, now: float, *, asked: bool) -> bool:
    """Whether a later answer may be better than the one ``entry`` gives at ``now``."""
    if not entry.usable(now):
        if entry.revalidating:
            return True
        # Who has a version learns at once that it was withdrawn on purpose.
        told = if_none_match is not None and entry.state is State.WITHDRAWN
        return asked and not told
    if not asked or if_none_match is None or entry.snapshot is None:
        return False
    return matches(if_none_match, f'"{entry.snapshot.version}"')
