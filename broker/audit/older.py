"""Room for one more audit file: a free name, and the file that goes on.

Duty: in a thread, move ``audit.log.1`` to ``audit.log.2`` and so on, and open
``audit.log.new``; give up the oldest file once it is one too many.
Not its duty: when (``rotating``), what stands in the files.
Rules:

* one at a time moves names, this thread or the loop, whichever log it is for: two would
  overwrite each other's;
* no file is given up before the one that takes its place is there: meanwhile one more stays;
* moved from the oldest on, so that files are in order after any step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from broker.audit.descriptors import FLAGS, MODE
from broker.audit.files import numbered

THREAD: Final = "older audit files"

_moving = threading.Lock()
"""Of all files of the process: a log that is opened anew has another ``Room``."""


class Room:
    """The next file of one log. ``make``, ``take`` and the rest belong to the loop's thread.

    Args:
        path: of the file that is written.
        keep: how many older ones stay.
    """

    def __init__(self, path: str, keep: int) -> None:
        self._path, self._keep = path, keep
        self.new = Path(path + ".new")
        self._lock = threading.Lock()
        """Around what the thread leaves for the loop."""
        self._running = self._closed = False
        self._descriptor: int | None = None
        self._trouble: OSError | None = None

    def make(self) -> None:
        """Begin, unless it was begun."""
        if self._running or self._descriptor is not None or self._trouble is not None:
            return
        self._running = True
        _start(self._make)

    @contextmanager
    def taken(self) -> Iterator[int | None]:
        """The descriptor of the new file, which is empty; no name moves meanwhile. None: not yet.

        Raises:
            OSError: it could not be had; ``make`` begins anew.
        """
        if not _moving.acquire(blocking=False):
            yield None
            return
        try:
            yield self._take()
        finally:
            _moving.release()

    def _take(self) -> int | None:
        with self._lock:
            trouble, self._trouble = self._trouble, None
            if trouble is not None:
                raise trouble
            if self._descriptor is not None and not self._stands(self._descriptor):
                self._abandon()
            descriptor, self._descriptor = self._descriptor, None
        return descriptor

    def _stands(self, descriptor: int) -> bool:
        """Whether nobody else moved files meanwhile, as another log of this name would."""
        try:
            named = self.new.stat()
        except OSError:
            return False
        free = not Path(numbered(self._path, 1)).exists()
        return free and os.path.samestat(os.fstat(descriptor), named)

    def give_back(self, descriptor: int) -> None:
        """What was taken could not be used; it is made anew."""
        os.close(descriptor)
        with suppress(OSError):
            self.new.unlink()

    def tidy(self) -> None:
        """The room was used: the oldest file is one too many."""
        _start(self._tidy)

    def close(self) -> None:
        """Leave nothing open."""
        with self._lock:
            self._closed = True
            self._abandon()

    def _abandon(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
            with suppress(OSError):
                self.new.unlink()

    # --- in the thread ------------------------------------------------------------------

    def _make(self) -> None:
        descriptor: int | None = None
        trouble: OSError | None = None
        try:
            with _moving:
                if self._closed:
                    return
                self._move()
                self.new.unlink(missing_ok=True)  # of a process that ended in the middle
                descriptor = os.open(self.new, FLAGS | os.O_EXCL, MODE)
        except OSError as error:
            trouble = error
        with self._lock:
            self._descriptor, self._trouble = descriptor, trouble
            if self._closed:
                self._abandon()
            self._running = False

    def _move(self) -> None:
        if not Path(numbered(self._path, 1)).exists():
            return  # the name is free already
        for number in range(self._keep, 0, -1):
            with suppress(FileNotFoundError):
                Path(numbered(self._path, number)).replace(numbered(self._path, number + 1))

    def _tidy(self) -> None:
        with _moving, suppress(OSError):
            Path(numbered(self._path, self._keep + 1)).unlink()


def _start(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name=THREAD).start()
