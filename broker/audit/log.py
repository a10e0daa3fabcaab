"""The audit log: each line is written, by write(2), before its answer leaves.

Duty: append lines to a file or to standard output without ever blocking the loop.
Not its duty: what stands in a line (``record``), the chain (``chain``), where it goes (``sinks``),
what one write takes (``group``), lines that a full pipe has not taken (``waiting``).
Rules:

* a line is written, or waits in a bounded buffer for a pipe that is full; else it is refused
  (``refuse``) or counted (``allow``), and then the next line that can be written follows a
  record of the gap;
* lines that are staged in one turn of the loop are written together at its end, and then each
  of them is told what became of it: one write(2) for the answers of a turn. A crowd is written
  in groups as it comes, so that no end of a turn holds the loop (promise 10);
* lines never merge: what a full disk cut off is closed by a newline and a record of a gap;
* the chain holds what was accepted and nothing else: a line that is refused has no number;
* the kernel has the line when it is accepted, so it outlives this process. A machine that dies
  may lose it, unless ``synced`` is awaited.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol, TypeAlias

from broker.audit.chain import Chain
from broker.audit.durable import Durable
from broker.audit.group import Group
from broker.audit.record import Stamp, gap_line
from broker.audit.sinks import Sink
from broker.audit.waiting import BUFFER, Waiting, Watch
from broker.clock import Clock
from broker.errors import AuditUnavailable

GROUP: Final = 16
"""Staged lines written together at most. They fill one write to a pipe, so that more would save
nothing; with its answer a line takes 20 to 40 microseconds."""
RETRY: Final = 0.01
"""Seconds between attempts to empty the buffer in ``close``."""

Settle: TypeAlias = Callable[[AuditUnavailable | None], None]
"""Told what became of a staged line: None when its answer may leave."""

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
        chain: numbers and links the lines; None leaves them as they are.
        sync: ``synced`` waits for the disk.

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
        chain: Chain | None = None,
        sync: bool = False,
    ) -> None:
        self._open = open_sink
        self._clock = clock
        self._metrics = metrics
        self._on_failure = on_failure
        self._stamp = Stamp()
        self._chain = chain
        self._staged: list[tuple[bytes, Settle]] = []
        """Lines of this turn of the loop."""
        self._waiting = Waiting(buffer)
        """Accepted lines that a full pipe has not taken."""
        self._lost = 0
        """Lines that went unwritten since the last gap record."""
        self._losses = 0
        """Lines that went unwritten in all."""
        self._failing = False
        self._watch = Watch(self._on_writable)
        self._sink = self._opened()
        self._former: list[Sink] = []
        """Targets that were left and not synced yet."""
        self._durable = Durable(self) if sync else None

    def configure(self, on_failure: Literal["refuse", "allow"]) -> None:
        """Take over a new configuration; the next record that fails goes by it."""
        self._on_failure = on_failure

    def head(self) -> tuple[int, str]:
        """Number and link (hexadecimal) of the last record; to be kept elsewhere."""
        return (0, "") if self._chain is None else (self._chain.sequence, self._chain.link.hex())

    def append(self, line: bytes) -> None:
        r"""Write one record now, after those that are staged.

        Args:
            line: an object of JSON; ends in ``}\n`` and has no other line end.

        Raises:
            AuditUnavailable: it could not be written, and ``on_failure`` is ``refuse``.
        """
        self.commit()
        refusal = self._take((line,))[0]
        if refusal is not None:
            raise refusal

    def note(self, line: bytes) -> bool:
        """Write one record of what has happened already: nothing can be refused any more.

        Returns:
            False when it cannot be written: it counts as lost, whatever ``on_failure`` says,
            and a record of the gap follows.
        """
        self.commit()
        configured, self._on_failure = self._on_failure, "allow"
        losses = self._losses
        try:
            self._take((line,))
        finally:
            self._on_failure = configured
        return self._losses == losses

    def stage(self, line: bytes, settle: Settle) -> None:
        """Write one record at the end of this turn of the loop, and then tell ``settle``.

        Of a crowd sooner, even before this returns.
        """
        if not self._staged:
            asyncio.get_running_loop().call_soon(self.commit)
        self._staged.append((line, settle))
        if len(self._staged) >= GROUP:
            self.commit()

    def commit(self) -> None:
        """Write what is staged now, and settle it in order."""
        if not self._staged:
            return
        staged, self._staged = self._staged, []
        refusals: list[AuditUnavailable | None]
        try:
            refusals = self._take([line for line, _ in staged])
        except Exception:  # a fault of ours: nobody knows what was written, so nothing leaves
            log.exception("audit records could not be written")
            refusals = [AuditUnavailable() for _ in staged]
        for (_, settle), refusal in zip(staged, refusals, strict=True):
            try:
                settle(refusal)
            except Exception:  # one peer's trouble must not keep the others waiting
                log.exception("an answer could not be sent")

    def _take(self, lines: Iterable[bytes]) -> list[AuditUnavailable | None]:
        """Accept lines in order, several to a write; what each one met."""
        outcomes: list[AuditUnavailable | None] = []
        waiting = deque(lines)
        trouble: OSError | None = None
        try:
            if self._waiting or self._lost:
                self._catch_up()
            while waiting:
                self._write_some(waiting, outcomes)
        except OSError as error:
            trouble = error
        outcomes += [self._put_off(line, trouble) for line in waiting]
        return outcomes

    def _write_some(self, waiting: deque[bytes], outcomes: list[AuditUnavailable | None]) -> None:
        """Write the first lines of ``waiting`` that fit into one write to a pipe.

        What is accepted leaves ``waiting`` and has its outcome.

        Raises:
            OSError: not all of them; also ``BlockingIOError``.
        """
        group = Group(waiting, self._chain)
        group.write(self._sink)
        trouble, begun, accepted = group.trouble, group.begun, group.whole
        for _ in range(accepted):
            waiting.popleft()
            outcomes.append(None)
            self._count_written()
        if trouble is None:
            return
        if begun and (piece := self._kept_piece(group, trouble)):
            waiting.popleft()
            outcomes.append(None)
            accepted += 1
        group.give_back(accepted)
        if begun and not piece:
            self._close_piece()
        raise trouble

    def _kept_piece(self, group: Group, trouble: OSError) -> bool:
        """Accept a line of which the target has a piece, if it can get the rest."""
        line = group.sealed[group.whole]
        if isinstance(trouble, BlockingIOError):
            self._waiting.keep(line, begun=group.begun)
            self._count_buffered()
            return True
        if group.begun == len(line) - 1:
            # All but its line end is there: whoever reads it takes it for whole, and so do we.
            self._waiting.keep(b"\n")
            self._count_written()
            return True
        return False

    def _close_piece(self) -> None:
        """The target ends in a piece of a refused line: before all else, end it and say so."""
        self._waiting.keep(b"\n" + self._sealed(gap_line(self._stamp(self._clock.wall()), 0)))

    def _sealed(self, line: bytes) -> bytes:
        return line if self._chain is None else self._chain.seal(line)

    def _count_written(self) -> None:
        if self._failing:
            self._failing = False
            log.warning("audit records are written again")
        self._metrics.audit_record("written")

    def _put_off(self, line: bytes, trouble: OSError | None) -> AuditUnavailable | None:
        """What becomes of a line that cannot be written now."""
        if not isinstance(trouble, BlockingIOError):
            return self._failed(trouble)
        mark = None if self._chain is None else self._chain.mark()
        sealed = self._sealed(line)
        if not self._waiting.has_room(len(sealed)):
            if self._chain is not None and mark is not None:
                self._chain.back_to(mark)
            return self._failed(None)
        self._waiting.keep(sealed)
        self._count_buffered()
        return None

    def _count_buffered(self) -> None:
        self._watch.begin(self._sink)
        self._metrics.audit_record("buffered")

    @property
    def durable(self) -> bool:
        """Whether ``synced`` waits for the disk."""
        return self._durable is not None

    async def synced(self) -> None:
        """Return when the disk has what was accepted so far; at once without ``sync``.

        Raises:
            AuditUnavailable: it has not, and ``on_failure`` is ``refuse``.
        """
        if self._durable is None:
            return
        self.commit()
        try:
            await self._durable.wait()
        except AuditUnavailable as refusal:
            log.error("%s", refusal)
            if self._on_failure == "refuse":
                raise

    def sync(self) -> None:
        """For the thread of ``durable``."""
        while self._former:
            self._former[0].sync()
            self._former.pop(0).close()
        self._sink.sync()

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
        self._watch.end()
        if self._durable is None:
            self._sink.close()
        else:
            self._former.append(self._sink)
        self._sink = sink
        self._waiting.begin_anew()
        if not self.flush():
            self._watch.begin(self._sink)

    async def close(self, deadline: float) -> int:
        """Write what waits, until ``deadline`` (``Clock.now()``) at the latest, and close.

        Returns:
            How many records are lost because nobody read the pipe.
        """
        self.commit()
        while not self.flush() and self._clock.now() < deadline:
            await self._clock.sleep(RETRY)
        if self._durable is not None:
            self._durable.close()
        self._watch.end()
        for sink in (*self._former, self._sink):
            sink.close()
        if self._waiting:
            log.error("%d audit records were left in a full pipe", len(self._waiting))
        return len(self._waiting)

    def _opened(self) -> Sink:
        try:
            return self._open()
        except OSError as error:
            raise AuditUnavailable(f"The audit log cannot be opened: {error.strerror}.") from error

    def _catch_up(self) -> None:
        """Write what should have been written before: waiting lines, a gap record.

        Raises:
            BlockingIOError: some of it still waits.
            OSError: the target fails.
        """
        self._waiting.write(self._sink)
        if self._lost:
            self._waiting.keep(self._sealed(gap_line(self._stamp(self._clock.wall()), self._lost)))
            self._lost = 0
            self._waiting.write(self._sink)
        self._watch.end()

    def _failed(self, error: OSError | None) -> AuditUnavailable | None:
        reason = "nobody reads the pipe" if error is None else error.strerror or "it failed"
        if not self._failing:
            self._failing = True
            log.error("audit records cannot be written: %s", reason)
        if self._on_failure == "allow":
            self._lost += 1
            self._losses += 1
            self._metrics.audit_record("lost")
            return None
        self._metrics.audit_record("refused")
        refusal = AuditUnavailable(f"The audit record cannot be written: {reason}.")
        refusal.__cause__ = error
        return refusal

    def _on_writable(self) -> None:
        try:
            self._catch_up()
        except BlockingIOError:
            return
        except OSError:  # a broken pipe is "writable" for ever: leave it to the next append
            self._watch.end()
