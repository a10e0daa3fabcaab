"""Sockets of the local API, bound by ourselves (DESIGN section 6).

Duty: bind and listen, with the modes, owners and addresses that are safe.
Not its duty: what is spoken on them (``protocol``), when they open and close (``listeners``).
Rules:

* a Unix socket gets its mode and group before anybody can connect, and appears under its
  name in one step, so that a client sees the old socket, the new one or none;
* a stale socket is replaced, one that a living process answers on is not;
* data is served on loopback only, whatever the configuration says;
* ``[::]`` is dual-stack; on a host without IPv6 it becomes ``0.0.0.0``;
* every failure is a ``ListenerUnusable`` that names address or path and remedy.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.errors import ListenerUnusable

BACKLOG: Final = 1024
"""Connections the kernel holds until accepted; a burst of 1,000 readers fits."""

PATH_LIMIT: Final = 107
"""Longest socket path in bytes (``sun_path`` of unix(7), less its ending zero)."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket path, its mode and the group that may connect (None: the process's)."""

    path: Path
    mode: int = 0o660
    group: int | None = None
    directory_mode: int = 0o750
    """Mode of the socket's own directory, where it has to be made."""

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address and port; port 0 lets the kernel choose."""

    host: str
    port: int
    loopback_only: bool = True

    @classmethod
    def parse(cls, text: str, *, loopback_only: bool = True) -> TcpAddress:
        """Read ``127.0.0.1:8210``, ``[::1]:8210`` or ``localhost:8210``.

        Raises:
            ListenerUnusable: no address with a port, or not loopback where it must be.
        """
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        host = "127.0.0.1" if host == "localhost" else host
        try:
            address = ipaddress.ip_address(host)
            number = int(port)
        except ValueError:
            raise ListenerUnusable(
                f"{text!r} is no address with a port",
                remedy="Write it as 127.0.0.1:8210 or [::1]:8210.",
            ) from None
        if not 0 <= number <= 0xFFFF:
            raise ListenerUnusable(f"{text!r}: {number} is no port")
        if loopback_only and not address.is_loopback:
            raise ListenerUnusable(
                f"{text!r} is not loopback; credentials are handed out inside the pod only",
                remedy="Use 127.0.0.1, [::1] or a Unix socket.",
            )
        return cls(host, number, loopback_only)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: UnixAddress | TcpAddress) -> socket.socket:
    """Bind ``address`` and listen on it.

    Returns:
        A listening, non-blocking socket, not inherited by children.

    Raises:
        ListenerUnusable: the address cannot be had.
    """
    try:
        if isinstance(address, UnixAddress):
            return _listen_unix(address)
        return _listen_tcp(address)
    except OSError as error:
        raise ListenerUnusable(f"{address}: {error.strerror or error}") from error


def _listen_tcp(address: TcpAddress) -> socket.socket:
    if address.host == "::" and not _has_ipv6():
        address = TcpAddress("0.0.0.0", address.port, address.loopback_only)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # Named TCP outright: asyncio turns Nagle's delay (40 ms) off only where it sees that.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with _closing_on_error(made) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # One socket for both families; for ::1 the option changes nothing.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return sock


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _listen_unix(address: UnixAddress) -> socket.socket:
    path = address.path
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if len(os.fsencode(temporary)) > PATH_LIMIT:
        raise ListenerUnusable(
            f"{address}: the path is too long for a Unix socket",
            remedy="Use a shorter listeners.socket_directory.",
        )
    _make_directory(path.parent, address)
    _refuse_living(path)
    # Left by a process that died here; in a container pids repeat.
    temporary.unlink(missing_ok=True)
    with _closing_on_error(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        try:
            sock.bind(os.fspath(temporary))
            # Nobody can connect yet: there is no listen() so far.
            temporary.chmod(address.mode)
            if address.group is not None:
                os.chown(temporary, -1, address.group)
            sock.listen(BACKLOG)
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sock.setblocking(False)
        return sock


def _make_directory(directory: Path, address: UnixAddress) -> None:
    """Make the socket's directory where it is missing; a mounted one is left as it is."""
    directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        if address.group is not None:
            os.chown(directory, -1, address.group)
        directory.chmod(address.directory_mode)


def _refuse_living(path: Path) -> None:
    """Raise when ``path`` is something we must not replace."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenerUnusable(
            f"unix:{path} exists and is no socket", remedy="Remove it, or choose another directory."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # EAGAIN is a full backlog: somebody owns it all the same.
        if probe.connect_ex(os.fspath(path)) in {0, errno.EAGAIN, errno.EINPROGRESS}:
            raise ListenerUnusable(
                f"unix:{path}: another process answers there",
                remedy="Stop the other broker, or give each its own listeners.socket_directory.",
            )


def remove(address: UnixAddress, sock: socket.socket, identity: tuple[int, int]) -> None:
    """Remove the socket's file, unless another process has put its own there.

    Args:
        address: what was bound.
        sock: the socket; closed here.
        identity: device and inode of the file, from ``identify``.
    """
    sock.close()
    with contextlib.suppress(OSError):
        if identify(address.path) == identity:
            address.path.unlink()


def identify(path: Path) -> tuple[int, int]:
    """Device and inode of a file."""
    status = path.lstat()
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[socket.socket]:
    try:
        yield sock
    except BaseException:
        sock.close()
        raise
