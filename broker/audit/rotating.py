"""An audit file that makes room: full, it is renamed, and a new one goes on.

Duty: rename ``audit.log`` to ``audit.log.1``, that to ``audit.log.2`` and so on; begin the
new file with the head of the chain so far.
Not its duty: lines and chain (``log``), opening what is no file (``sinks``), moving the names of
older files (``older``).
Rules:

* rotation stands between two lines, never within one;
* the loop waits for two names, however many files stay: shortly before a file is full a thread
  frees ``audit.log.1`` and opens the next file. While it has not, the full one is written on;
* the new file has its first line before the names move, so most of what can fail has failed by
  then. Whatever fails all the same, the old file is written on: no record is lost for a name.
  It is told once, and tried again after some more bytes;
* a process that ends in between leaves files in order, at most with a number left out.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.audit.descriptors import File, read_end
from broker.audit.files import numbered
from broker.audit.lifecycle import head_line
from broker.audit.links import link_of
from broker.audit.older import Room

LAST: Final = 8 << 10
"""Bytes read at the end of a full file: the last line is in them."""
PARTS: Final = 16
"""Room is made when this part of a file is left, and when one that could not be rotated has
grown by it."""

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
        self._max, self._syncs = max_bytes, sync
        self._limit = max_bytes
        self._boundary = not self._torn
        """The file ends with a whole line."""
        self._left: list[int] = []
        """Files that are full and not synced."""
        self._failing = False
        self._room = Room(path, keep)
        if self._size > self._limit - self._max // PARTS:
            self._room.make()

    def write(self, data: bytes) -> int:
        """See ``Sink.write``."""
        after = self._size + len(data)
        if after > self._limit - self._max // PARTS:
            self._room.make()
            if self._boundary and self._size and after > self._limit:
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
        self._room.close()
        super().close()

    def _take(self) -> list[int]:
        left, self._left = self._left, []
        return left + super()._take()

    # --- making room ----------------------------------------------------------------------

    def _rotate(self) -> None:
        try:
            with self._room.taken() as descriptor:
                if descriptor is None:
                    return  # a thread is at it
                size = self._change_to(descriptor)
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
        self._room.tidy()
        if self._failing:
            self._failing = False
            log.warning("the audit file is rotated again")

    def _change_to(self, descriptor: int) -> int:
        """Give the new file its first line and its name; returns its size.

        Raises:
            OSError: it has neither.
        """
        try:
            head = self._head()
            _write_all(descriptor, head)
            self._rename()
        except OSError:
            self._room.give_back(descriptor)
            raise
        return len(head)

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

    def _rename(self) -> None:
        """Give the new file its name.

        Raises:
            OSError: it has not got it; the file that is written has its name again.
        """
        full = Path(self._path).replace(numbered(self._path, 1))
        try:
            self._room.new.replace(self._path)
        except OSError:
            with suppress(OSError):
                full.replace(self._path)
            raise

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
