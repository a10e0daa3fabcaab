"""An audit file that makes room: full, it is renamed, and a new one goes on.

Duty: rename ``audit.log`` to ``audit.log.1``, that to ``audit.log.2`` and so on; begin the
new file with the head of the chain so far.
Not its duty: lines and chain (``log``), opening what is no file (``sinks``).
Rules:

* rotation stands between two lines, never within one;
* the new file is open and has its first line before any name moves, so most of what can
  fail has failed by then. Whatever fails all the same, the old file is written on: no record
  is lost for a name. It is told once, and tried again after some more bytes;
* nothing on the loop waits for a disk longer than names need: the oldest file is freed
  by a thread.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.audit.descriptors import FLAGS, MODE, READ, File, read_end
from broker.audit.files import numbered
from broker.audit.lifecycle import head_line
from broker.audit.links import link_of

LAST: Final = 8 << 10
"""Bytes read at the end of a full file: the last line is in them."""
PARTS: Final = 16
"""A rotation that failed is tried again when the file has grown by this part of its size."""

_TIME: Final = re.compile(rb'^\{"time":"([0-9TZ:.-]{1,40})"')

log = logging.getLogger("broker.audit")


class RotatingFile(File):
    """A regular file of about ``max_bytes`` at most, and older ones beside it.

    Args:
        path: of the file.
        descriptor: of it.
        max_bytes: a write that would pass this goes to a new file.
        keep: how many older files stay.
        sync: whether somebody calls ``sync``: then files that are left stay open until it.
    """

    def __init__(
        self, path: str, descriptor: int, *, max_bytes: int, keep: int, sync: bool = False
    ) -> None:
        super().__init__(path, descriptor)
        self._max, self._keep, self._syncs = max_bytes, keep, sync
        self._limit = max_bytes
        self._boundary = not self._torn
        """The file ends with a whole line."""
        self._left: list[int] = []
        """Files that are full and not synced."""
        self._failing = False

    def write(self, data: bytes) -> int:
        """See ``Sink.write``."""
        if self._boundary and self._size and self._size + len(data) > self._limit:
            self._rotate()
        written = super().write(data)
        self._size += written
        if written:
            self._boundary = data[written - 1] == ord("\n")
        return written

    def close(self) -> None:
        """See ``Sink.close``."""
        with self._lock:
            for descriptor in self._left:
                os.close(descriptor)
            self._left = []
        super().close()

    def _take(self) -> list[int]:
        left, self._left = self._left, []
        return left + super()._take()

    # --- making room ----------------------------------------------------------------------

    def _rotate(self) -> None:
        new = Path(self._path + ".new")
        try:
            descriptor, size = self._begin(new)
            try:
                self._rename(new)
            except OSError:
                _abandon(descriptor, new)
                raise
        except OSError as error:
            self._put_off(error)
            return
        with self._lock:
            if self._syncs and self._written:
                self._left.append(self._descriptor)
            else:
                os.close(self._descriptor)
            self._descriptor, self._named = descriptor, True
        self._size, self._limit = size, self._max
        if self._failing:
            self._failing = False
            log.warning("the audit file is rotated again")

    def _begin(self, new: Path) -> tuple[int, int]:
        """Open the new file and write its first line; its descriptor and size.

        Raises:
            OSError: one of both is not possible.
        """
        head = self._head()
        new.unlink(missing_ok=True)  # of a process that ended in the middle
        descriptor = os.open(new, FLAGS | os.O_EXCL, MODE)
        try:
            _write_all(descriptor, head)
        except OSError:
            _abandon(descriptor, new)
            raise
        return descriptor, len(head)

    def _head(self) -> bytes:
        """The first line of the next file; empty when the last line here has no link.

        Raises:
            OSError: the file cannot be read.
        """
        tail = read_end(self._path, self._size, LAST)
        last = tail.removesuffix(b"\n").rpartition(b"\n")[2]
        link, time = link_of(last), _TIME.match(last)
        if link is None or time is None:
            return b""
        return head_line(
            time[1].decode("ascii"),
            file=Path(numbered(self._path, 1)).name,
            sequence=link.sequence,
            chain=link.chain,
        )

    def _rename(self, new: Path) -> None:
        """Move all names by one.

        Raises:
            OSError: some did not move; the file that is written has its name again.
        """
        held = None
        with suppress(OSError):
            held = os.open(numbered(self._path, self._keep), READ)
        try:
            for number in range(self._keep - 1, 0, -1):
                with suppress(FileNotFoundError):
                    Path(numbered(self._path, number)).replace(numbered(self._path, number + 1))
            full = Path(self._path).replace(numbered(self._path, 1))
            try:
                new.replace(self._path)
            except OSError:
                with suppress(OSError):
                    full.replace(self._path)
                raise
        finally:
            if held is not None:  # the last hold on a large file: freeing it takes a while
                threading.Thread(target=os.close, args=(held,), name="old audit file").start()

    def _put_off(self, error: OSError) -> None:
        self._limit = self._size + max(1, self._max // PARTS)
        if not self._failing:
            self._failing = True
            log.error(
                "the audit file cannot be rotated and is written on: %s",
                error.strerror or "it failed",
            )


def _write_all(descriptor: int, line: bytes) -> None:
    if line and os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _abandon(descriptor: int, path: Path) -> None:
    os.close(descriptor)
    with suppress(OSError):
        path.unlink()
