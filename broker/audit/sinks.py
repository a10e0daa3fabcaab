"""Where audit lines go: a file, a pipe, a terminal, a socket.

Duty: open the target so that a write never waits for whoever reads it.
Not its duty: buffering, partial writes, refusals (``log``); files that rotate (``rotating``).
Rules:

* a write either takes bytes, or raises ``BlockingIOError`` (not now) or ``OSError``;
* ``O_NONBLOCK`` belongs to the open file description, which standard output shares with
  every process that inherited it; so it is set only on descriptions of our own.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from broker.audit.descriptors import FLAGS, MODE, Descriptor, File
from broker.audit.rotating import RotatingFile

STDOUT: Final = 1
KEEP: Final = 5
"""Older files that stay when nobody says how many."""
PIPE_BUF: Final = select.PIPE_BUF
"""Bytes that a pipe takes whole or not at all (pipe(7))."""


class Sink(Protocol):
    """Takes bytes without waiting."""

    def write(self, data: bytes) -> int:
        """Take bytes, perhaps not all; ``BlockingIOError`` when none can be taken now."""
        ...

    def fileno(self) -> int:
        """To wait on until it is writable."""
        ...

    def sync(self) -> None:
        """Wait until the disk has all that was written before; for a thread beside the loop.

        Raises:
            OSError: it has not, and perhaps never will.
        """
        ...

    def close(self) -> None:
        """Give the descriptor back."""
        ...


class SharedPipe(Descriptor):
    """A pipe or terminal that cannot be opened anew and may block: asked before each write.

    At most ``PIPE_BUF`` bytes go at a time: a pipe that polls as writable takes these without
    waiting. Only another process that fills it in the same instant could make us wait.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, data: bytes) -> int:
        """See ``Sink.write``."""
        if not self._poll.poll(0):
            raise BlockingIOError
        return os.write(self._descriptor, data[:PIPE_BUF])


class SocketSink:
    """A socket, as under systemd: ``MSG_DONTWAIT`` is per call and touches nobody else."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def write(self, data: bytes) -> int:
        """See ``Sink.write``."""
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def fileno(self) -> int:
        """See ``Sink.fileno``."""
        return self._socket.fileno()

    def sync(self) -> None:
        """See ``Sink.sync``: a socket has no disk."""

    def close(self) -> None:
        """See ``Sink.close``."""
        self._socket.close()


def open_file(path: str, *, max_bytes: int = 0, keep: int = KEEP, sync: bool = False) -> Sink:
    """Open ``path`` for appending; created 0600.

    Args:
        path: of a file; of a FIFO or a terminal as well, which neither rotate nor sync.
        max_bytes: a larger file is rotated; 0 for never.
        keep: how many older files stay.
        sync: whether ``Sink.sync`` will be called.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, FLAGS, MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return Descriptor(descriptor)
    if not max_bytes:
        return File(path, descriptor)
    return RotatingFile(path, descriptor, max_bytes=max_bytes, keep=keep, sync=sync)


def open_inherited(descriptor: int) -> Sink:
    """A sink of our own to what ``descriptor`` (standard output) leads to.

    Raises:
        OSError: the descriptor is not open.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        return SocketSink(os.dup(descriptor))
    if stat.S_ISREG(mode):
        # Not opened anew: a second description would have its own offset and overwrite.
        return Descriptor(os.dup(descriptor))
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return Descriptor(os.open(f"/proc/self/fd/{descriptor}", flags))
    except OSError:  # no /proc, or the pipe belongs to another user
        return SharedPipe(os.dup(descriptor))


def opener(
    path: str, *, max_bytes: int = 0, keep: int = KEEP, sync: bool = False
) -> Callable[[], Sink]:
    """What opens ``path``, or standard output when it is empty; see ``open_file``."""
    if not path:
        return partial(open_inherited, STDOUT)
    return partial(open_file, path, max_bytes=max_bytes, keep=keep, sync=sync)
