"""The audit log: one line, one write(2), before the answer leaves.

Duty: append lines to a file or to standard output without ever blocking the loop.
Not its duty: what stands in a line (``record``), where it goes (``sinks``).
Rules:

* a line is written, or waits in a bounded buffer for a pipe that is full; else ``append``
  raises (``refuse``) or counts (``allow``), and then the next line that can be written
  follows a record of the gap;
* lines never merge: what a full disk cut off is closed by a newline before the next line;
* the kernel has the line when ``append`` returns, so it outlives this process, though not
  a machine that dies before its disk has it: there is no fsync.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, Protocol

from broker.audit.record import Stamp, gap_line
from broker.audit.sinks import Sink
from broker.clock import Clock
from broker.errors import AuditUnavailable

BUFFER: Final = 1 << 20
"""Bytes that may wait for a full pipe: some 3,000 lines."""
WRITES: Final = 32
"""Writes in one go while the buffer empties, to stay far below 1 ms on the loop."""
RETRY: Final = 0.01
"""Seconds between attempts to empty the buffer in ``close``."""

log = logging.getLogger("broker.audit")


class Recorder(Protocol):
    """The part of ``telemetry.metrics.Metrics`` that the log writes to."""

    def audit_record(self, result: str) -> None:
        """One record: ``written``, ``buffered``, ``refused`` or ``lost``."""
        ...


class AuditLog:
    """Appends records. All methods belong to the loop's thread.

    Args:
        open_sink: opens the target (``sinks.opener``); called again by ``reopen``.
        clock: for the time of gap records and the bound of ``close``.
        metrics: counts what became of each record.
        on_failure: ``refuse`` raises when a record cannot be written; ``allow`` counts it.
        buffer: bytes that may wait for a full pipe.

    Raises:
        AuditUnavailable: the target cannot be opened.
    """

    def __init__(
        self,
        open_sink: Callable[[], Sink],
        *,
        clock: Clock,
        metrics: Recorder,
        on_failure: Literal["refuse", "allow"] = "refuse",
        buffer: int = BUFFER,
    ) -> None:
        self._open = open_sink
        self._clock = clock
        self._metrics = metrics
        self._on_failure = on_failure
        self._limit = buffer
        self._stamp = Stamp()
        self._waiting: deque[bytes] = deque()
        """Accepted lines that a full pipe has not taken."""
        self._bytes = 0
        """Their size."""
        self._begun = 0
        """Bytes of the first one that the target already has."""
        self._torn = False
        """The target ends in a piece of a line that was not accepted."""
        self._lost = 0
        """Lines that went unwritten since the last gap record."""
        self._failing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop that watches for the pipe to be writable."""
        self._sink = self._opened()

    def configure(self, on_failure: Literal["refuse", "allow"]) -> None:
        """Take over a new configuration; the next record that fails goes by it."""
        self._on_failure = on_failure

    def append(self, line: bytes) -> None:
        r"""Write one record; ``line`` ends in ``\n`` and has no other.

        Raises:
            AuditUnavailable: it could not be written, and ``on_failure`` is ``refuse``.
        """
        try:
            if self._waiting or self._failing:
                self._catch_up()
            self._write(line)
        except BlockingIOError:
            self._hold(line)
        except OSError as error:
            self._failed(error)
        else:
            if self._failing:
                self._failing = False
                log.warning("audit records are written again")
            self._metrics.audit_record("written")

    def flush(self) -> bool:
        """Write some of what waits for a full pipe; True when nothing waits any more."""
        try:
            self._catch_up()
        except OSError:
            return False
        return True

    def reopen(self) -> None:
        """Open the target anew, after log rotation moved the file.

        Raises:
            AuditUnavailable: it cannot be opened; the old one stays in use.
        """
        sink = self._opened()
        self._unwatch()
        self._sink.close()
        self._sink = sink
        self._begun, self._torn = 0, False  # pieces stayed in the old target
        if not self.flush():
            self._watch()

    async def close(self, deadline: float) -> int:
        """Write what waits, until ``deadline`` (``Clock.now()``) at the latest, and close.

        Returns:
            How many records are lost because nobody read the pipe.
        """
        while not self.flush() and self._clock.now() < deadline:
            await self._clock.sleep(RETRY)
        self._unwatch()
        self._sink.close()
        if self._waiting:
            log.error("%d audit records were left in a full pipe", len(self._waiting))
        return len(self._waiting)

    def _opened(self) -> Sink:
        try:
            return self._open()
        except OSError as error:
            raise AuditUnavailable(f"The audit log cannot be opened: {error.strerror}.") from error

    def _write(self, line: bytes) -> None:
        """Write a whole line, with nothing waiting before it.

        Raises:
            BlockingIOError: not now; ``_begun`` bytes of it are written.
            OSError: not at all; the target may be ``_torn``.
        """
        written = self._sink.write(line)
        while written < len(line):
            try:
                written += self._sink.write(line[written:])
            except BlockingIOError:
                self._begun = written
                raise
            except OSError:
                self._torn = True
                raise

    def _catch_up(self) -> None:
        """Write what should have been written before: a newline, waiting lines, a gap record.

        Raises:
            BlockingIOError: some of it still waits.
            OSError: the target fails.
        """
        if self._torn:
            self._sink.write(b"\n")
            self._torn = False
        self._drain()
        if self._lost:
            gap = gap_line(self._stamp(self._clock.wall()), self._lost)
            try:
                self._write(gap)
            except BlockingIOError:
                self._keep(gap)
                self._lost = 0
                raise
            self._lost = 0

    def _drain(self) -> None:
        for _ in range(WRITES):
            if not self._waiting:
                self._unwatch()
                return
            line = self._waiting[0]
            self._begun += self._sink.write(line[self._begun :])
            if self._begun == len(line):
                self._waiting.popleft()
                self._bytes -= len(line)
                self._begun = 0
        if self._waiting:
            raise BlockingIOError

    def _hold(self, line: bytes) -> None:
        if self._waiting and self._bytes + len(line) > self._limit:
            self._failed(None)
            return
        self._keep(line)
        self._watch()
        self._metrics.audit_record("buffered")

    def _keep(self, line: bytes) -> None:
        self._waiting.append(line)
        self._bytes += len(line)

    def _failed(self, error: OSError | None) -> None:
        reason = "nobody reads the pipe" if error is None else error.strerror or "it failed"
        if not self._failing:
            self._failing = True
            log.error("audit records cannot be written: %s", reason)
        if self._on_failure == "allow":
            self._lost += 1
            self._metrics.audit_record("lost")
            return
        self._metrics.audit_record("refused")
        raise AuditUnavailable(f"The audit record cannot be written: {reason}.") from error

    def _watch(self) -> None:
        """Go on by ourselves once the pipe is read, when a loop runs."""
        if self._loop is not None:
            return
        try:
            loop = asyncio.get_running_loop()
            loop.add_writer(self._sink.fileno(), self._on_writable)
        except (RuntimeError, OSError):  # no loop, or nothing that can be waited on
            return
        self._loop = loop

    def _on_writable(self) -> None:
        try:
            self._catch_up()
        except BlockingIOError:
            return
        except OSError:  # a broken pipe is "writable" for ever: leave it to the next append
            self._unwatch()

    def _unwatch(self) -> None:
        if self._loop is not None:
            self._loop.remove_writer(self._sink.fileno())
            self._loop = None
