"""Waiting until the disk has a record (``audit.sync``).

Duty: one fdatasync(2) at a time, in a thread, for all who wait for one.
Not its duty: writing (``log``); which descriptor is synced (``sinks``).
Rules:

* whoever waits is woken by a sync that began after his record was written;
* a sync that fails wakes everybody with the failure, and the next one begins anew: nothing
  is taken for durable that no sync has confirmed;
* the loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from broker.errors import AuditUnavailable


class Syncable(Protocol):
    """The part of ``audit.log.AuditLog`` that this needs."""

    def head(self) -> tuple[int, str]:
        """Number of the last accepted record, and its link."""
        ...

    def sync(self) -> None:
        """Wait for the disk; for a thread. Raises ``OSError``."""
        ...


class Durable:
    """Waits for one log. All methods belong to the loop's thread."""

    def __init__(self, log: Syncable) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit-sync")
        self._running: asyncio.Future[None] | None = None
        self._durable = log.head()[0]
        """Number of the last record that a sync has confirmed."""

    async def wait(self) -> None:
        """Return when the disk has all that was accepted before this call.

        Raises:
            AuditUnavailable: it has not, and perhaps never will.
        """
        wanted = self._log.head()[0]
        while self._durable < wanted:
            if self._running is None:
                self._running = asyncio.ensure_future(self._sync())
            await asyncio.shield(self._running)

    async def _sync(self) -> None:
        written = self._log.head()[0]
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._log.sync)
        except OSError as error:
            raise AuditUnavailable(
                f"The audit record cannot be brought to the disk: {error.strerror}."
            ) from error
        finally:
            self._running = None
        self._durable = max(self._durable, written)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False)
