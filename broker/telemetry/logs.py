"""The broker's log: standard library loggers, masked lines on standard error.

Duty: set logging up for the process; write lines without ever holding up the loop.
Not its duty: what a line looks like (``lines``), the audit (``audit``: other rules).
Rules:

* lines are formatted and masked by whoever logs and written by a thread of its own. A
  non-blocking standard error would do without a thread, but that flag belongs to the open
  file, which other processes and standard output may share;
* the buffer between is bounded in bytes. While nobody reads standard error lines are dropped,
  counted, and the first line after says how many; nothing waits;
* whatever would print by itself goes through the log, hence through the mask: warnings,
  exceptions nobody caught in main, threads and finalizers, and the event loop's own;
* other libraries speak from WARNING on, the noisy ones from ERROR on; uvicorn's access log is
  off, because the audit tells of each request and URLs are callers' words.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal

from broker.protocol.redaction import Redactor
from broker.telemetry.lines import FORMATS, LIMIT

BUFFER: Final = 1 << 20
"""Bytes held while standard error takes nothing."""
PARTING: Final = 1.0
"""Seconds that the end of the process waits for the last lines."""

_LEVELS: Final = logging.getLevelNamesMapping()
_QUIET: Final = {
    "uvicorn.access": logging.CRITICAL + 1,
    "uvicorn": logging.WARNING,
    "urllib3": logging.ERROR,
    "requests": logging.ERROR,
    "hvac": logging.ERROR,
}

log = logging.getLogger("broker")


def configure(
    level: Literal["debug", "info", "warning", "error"],
    format: Literal["json", "console"],  # noqa: A002 - the configuration's own word
    redactor: Redactor,
    *,
    dropped: Callable[[], object] = lambda: None,
    descriptor: int = 2,
) -> Logs:
    """Set logging up; a second call takes the place of the first.

    Args:
        level: from which on the broker's own loggers speak.
        format: shape of the lines.
        redactor: knows the live values.
        dropped: called once for each line that was dropped.
        descriptor: where lines go; standard error unless told otherwise.

    Returns:
        What undoes it. Nothing needs to: the end of the process writes the last lines.
    """
    root = logging.getLogger()
    for former in [handler for handler in root.handlers if isinstance(handler, LineHandler)]:
        root.removeHandler(former)
        former.close()
    handler = LineHandler(descriptor, dropped=dropped)
    handler.setFormatter(FORMATS[format](partial(redactor.mask, limit=LIMIT)))
    return Logs(handler, {"": logging.WARNING, "broker": _LEVELS[level.upper()], **_QUIET})


class Logs:
    """The set-up in force: its handler, its levels, its hooks.

    Args:
        handler: takes what reaches the root logger.
        levels: by name of logger.
    """

    def __init__(self, handler: LineHandler, levels: Mapping[str, int]) -> None:
        self._handler = handler
        self._levels = {name: logging.getLogger(name).level for name in levels}
        self._hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
        logging.getLogger().addHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread
        sys.unraisablehook = _unraisable
        logging.captureWarnings(capture=True)

    def flush(self, timeout: float = PARTING) -> bool:
        """Wait for the lines so far; True when all are written within ``timeout`` seconds."""
        return self._handler.drain(timeout)

    def close(self) -> None:
        """Write what is left, at most ``PARTING`` seconds, and undo the set-up."""
        logging.captureWarnings(capture=False)
        sys.excepthook, threading.excepthook, sys.unraisablehook = self._hooks
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()


class LineHandler(logging.Handler):
    """Hands formatted lines to a thread that writes them.

    Args:
        descriptor: an open file; may block, may be a pipe that nobody reads.
        dropped: called once for each dropped line, by whoever logged it.
        capacity: bytes held at most.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        dropped: Callable[[], object] = lambda: None,
        capacity: int = BUFFER,
    ) -> None:
        super().__init__()
        self._descriptor, self._capacity, self._dropped = descriptor, capacity, dropped
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._missing = 0
        self._ending = False
        self._change = threading.Condition()
        # A daemon: a write that blocks for ever must not keep the process from ending.
        self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format, mask, queue; never waits, never raises."""
        try:
            line = self.format(record) + "\n"
        except Exception as error:
            self.handleError(record, type(error).__name__)
            return
        self._put(line.encode(errors="backslashreplace"))

    def handleError(self, record: logging.LogRecord, reason: str = "unknown") -> None:  # noqa: N802
        """Say that a line is missing; the record itself is not shown, being unmasked."""
        self._put(f"a log line of {record.name}:{record.lineno} failed: {reason}\n".encode())

    def drain(self, timeout: float) -> bool:
        """Wait until all lines are written; False when ``timeout`` seconds did not do."""
        with self._change:
            return self._change.wait_for(lambda: self._size == 0, timeout)

    def close(self) -> None:
        """Write what is left, at most ``PARTING`` seconds; the thread ends when it can."""
        with self._change:
            self._ending = True
            self._change.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(PARTING)
        super().close()

    def _put(self, line: bytes) -> None:
        with self._change:
            if self._ending:
                return
            if self._size + len(line) > self._capacity:
                self._missing += 1
                self._dropped()
                return
            if self._missing:
                note = b"%d log lines were dropped: standard error took none\n" % self._missing
                self._missing = 0
                self._lines.append(note)
                self._size += len(note)
            self._lines.append(line)
            self._size += len(line)
            self._change.notify_all()

    def _write(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._lines or self._ending)
                if not self._lines:
                    return
                line = self._lines.popleft()
            _write_all(self._descriptor, line)
            with self._change:
                self._size -= len(line)
                self._change.notify_all()


def _write_all(descriptor: int, line: bytes) -> None:
    """Write a whole line, however long it takes; a line that cannot be written is lost."""
    while line:
        try:
            line = line[os.write(descriptor, line) :]
        except BlockingIOError:
            # Somebody made the shared file non-blocking: wait for room, not for ever at once.
            select.select([], [descriptor], [], 1.0)
        except OSError:
            return


def _uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        log.warning("interrupted")
    else:
        log.critical("an exception that nobody caught", exc_info=(kind, error, where))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        log.critical(
            "an exception that nobody caught, in thread %s",
            args.thread.name if args.thread else "unknown",
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )


def _unraisable(args: Any) -> None:
    log.error(
        "an exception that could not be raised: %s",
        args.err_msg or "ignored",
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
    )
