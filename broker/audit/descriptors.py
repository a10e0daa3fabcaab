"""Audit sinks that are one descriptor: anything non-blocking, and regular files.

Duty: write; for a file also sync, from a thread, while the loop writes.
Not its duty: which target gets which sink (``sinks``), making room (``rotating``).
Rules:

* ``sync`` returns when all that was written before its call is on the disk, or raises; it
  holds descriptors of its own, so ``write`` and ``close`` need not wait for it;
* a piece of a line that a former process left at the end of a file is closed by a newline
  before the first line: lines never merge. The log may bring that newline itself.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""``O_APPEND`` makes each write land at the end whoever else writes; ``O_NONBLOCK`` matters
when the path names a FIFO or a terminal."""
READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
MODE: Final = 0o600


class Descriptor:
    """Anything opened by us with ``O_NONBLOCK``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> int:
        """See ``Sink.write``."""
        return os.write(self._descriptor, data)

    def fileno(self) -> int:
        """See ``Sink.fileno``."""
        return self._descriptor

    def sync(self) -> None:
        """See ``Sink.sync``: what has no disk has nothing to wait for."""

    def close(self) -> None:
        """See ``Sink.close``: its number may soon be a peer's, so it is forgotten."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class File(Descriptor):
    """A regular file.

    Args:
        path: created when missing.
        descriptor: of it, opened with ``FLAGS``.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        super().__init__(descriptor)
        self._path = path
        self._size = os.fstat(descriptor).st_size
        self._torn = not ends_a_line(path, self._size)
        """It ends in a piece of a line."""
        self._lock = threading.Lock()
        """Around what a thread that syncs takes over."""
        self._syncing = threading.Lock()
        """A second ``sync`` waits for the first, which may be about its records too."""
        self._written = False
        """There is something to sync."""
        self._named = True
        """Names in the directory changed, so that it has to be synced as well."""

    def write(self, data: bytes) -> int:
        """See ``Sink.write``."""
        if self._torn and not data.startswith(b"\n"):
            self._put(b"\n")
            self._torn = False
        written = self._put(data)
        self._torn = False
        return written

    def _put(self, data: bytes) -> int:
        written = os.write(self._descriptor, data)
        # After it: a sync that began in between may have missed it.
        self._written = True
        return written

    def sync(self) -> None:
        """See ``Sink.sync``."""
        with self._syncing:
            with self._lock:
                taken = self._take()
                named, self._named = self._named and bool(taken), False
            try:
                for descriptor in taken:
                    os.fdatasync(descriptor)
                if named:
                    _sync_directory(Path(self._path).parent)
            except OSError:
                self._written = self._named = True
                raise
            finally:
                for descriptor in taken:
                    os.close(descriptor)

    def close(self) -> None:
        """See ``Sink.close``."""
        with self._lock:
            super().close()

    def _take(self) -> list[int]:
        """Descriptors to sync and to close; the lock is held."""
        written, self._written = self._written, False
        return [os.dup(self._descriptor)] if written and self._descriptor >= 0 else []


def ends_a_line(path: str, size: int) -> bool:
    """Whether a file of ``size`` bytes is empty or ends in a newline; True when unreadable."""
    if size == 0:
        return True
    with suppress(OSError):
        return read_end(path, size, 1) == b"\n"
    return True


def read_end(path: str, size: int, length: int) -> bytes:
    """The last bytes of a file of ``size`` bytes.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, READ)
    try:
        return os.pread(descriptor, length, max(0, size - length))
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, READ | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system whose directories need none
            raise
    finally:
        os.close(descriptor)
