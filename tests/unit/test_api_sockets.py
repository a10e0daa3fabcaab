"""``api.sockets``: modes, owners, addresses, stale and living sockets."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.api import sockets
from broker.api.sockets import PATH_LIMIT, TcpAddress, UnixAddress
from broker.errors import ListenerUnusable
from tests.support.patience import PATIENCE


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what a test opened."""
    with ExitStack() as stack:
        yield stack


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(os.fspath(path)) == 0


def test_unix_socket_modes(tmp_path: Path, opened: ExitStack) -> None:
    """A socket is 0660, its directory 0750 and its parents 0755, under any umask."""
    path = tmp_path / "run" / "search-mcp" / "broker.sock"
    before = os.umask(0)
    try:
        opened.enter_context(sockets.listen(UnixAddress(path)))
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent, path.parent.parent)]
    assert modes == [0o660, 0o750, 0o755]
    assert [path] == list(path.parent.iterdir())
    assert connects(path)


def test_admin_modes(tmp_path: Path, opened: ExitStack) -> None:
    """An address says the mode of its socket and directory, as the admin socket's does."""
    path = tmp_path / "admin" / "admin.sock"
    opened.enter_context(sockets.listen(UnixAddress(path, mode=0o600, directory_mode=0o700)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_unix_socket_group(tmp_path: Path, opened: ExitStack) -> None:
    """The configured group owns the socket and the directory made for it."""
    path = tmp_path / "client" / "broker.sock"
    opened.enter_context(sockets.listen(UnixAddress(path, group=4242)))
    assert (path.stat().st_gid, path.parent.stat().st_gid) == (4242, 4242)


def test_mounted_directory_is_left_alone(tmp_path: Path, opened: ExitStack) -> None:
    """A directory that exists keeps its mode: it is a mounted volume."""
    tmp_path.chmod(0o777)
    opened.enter_context(sockets.listen(UnixAddress(tmp_path / "broker.sock")))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o777


def test_stale_socket_is_replaced(tmp_path: Path, opened: ExitStack) -> None:
    """A socket that a dead process left is replaced by one that works."""
    path = tmp_path / "broker.sock"
    sockets.listen(UnixAddress(path)).close()
    assert path.exists()
    assert not connects(path)
    opened.enter_context(sockets.listen(UnixAddress(path)))
    assert connects(path)


def test_living_socket_is_refused(tmp_path: Path, opened: ExitStack) -> None:
    """A socket somebody answers on is not taken away from him."""
    path = tmp_path / "broker.sock"
    opened.enter_context(sockets.listen(UnixAddress(path)))
    identity = sockets.identify(path)
    with pytest.raises(ListenerUnusable, match="another process answers"):
        sockets.listen(UnixAddress(path))
    assert sockets.identify(path) == identity
    assert connects(path)


def test_other_file_is_refused(tmp_path: Path) -> None:
    """A file that is no socket is not overwritten."""
    path = tmp_path / "broker.sock"
    path.write_text("precious")
    with pytest.raises(ListenerUnusable, match="no socket"):
        sockets.listen(UnixAddress(path))
    assert path.read_text() == "precious"


def test_too_long_path(tmp_path: Path) -> None:
    """A path that does not fit a socket address says so, with a remedy."""
    path = tmp_path / ("x" * PATH_LIMIT) / "broker.sock"
    with pytest.raises(ListenerUnusable, match="too long") as caught:
        sockets.listen(UnixAddress(path))
    assert "socket_directory" in caught.value.remedy


def test_unwritable_directory(tmp_path: Path) -> None:
    """A directory that cannot be made is an error with the address in it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenerUnusable, match=r"unix:.*file/broker.sock: "):
        sockets.listen(UnixAddress(tmp_path / "file" / "broker.sock"))


def test_remove_only_our_own(tmp_path: Path) -> None:
    """At the end the socket's file goes, unless another process has put its own there."""
    path = tmp_path / "broker.sock"
    first = sockets.listen(UnixAddress(path))
    identity = sockets.identify(path)
    first.close()
    second = sockets.listen(UnixAddress(path))
    sockets.remove(UnixAddress(path), first, identity)
    assert path.exists()
    sockets.remove(UnixAddress(path), second, sockets.identify(path))
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8210", TcpAddress("127.0.0.1", 8210)),
        ("127.8.0.1:1", TcpAddress("127.8.0.1", 1)),
        ("[::1]:8210", TcpAddress("::1", 8210)),
        ("localhost:0", TcpAddress("127.0.0.1", 0)),
    ],
)
def test_loopback_addresses(text: str, expected: TcpAddress) -> None:
    """Loopback addresses are taken in both families."""
    assert expected == TcpAddress.parse(text)


@pytest.mark.parametrize(
    "text", ["0.0.0.0:8210", "[::]:8210", "10.0.0.1:1", "192.168.0.1:80", "[::ffff:10.0.0.1]:1"]
)
def test_other_addresses_are_refused_for_data(text: str) -> None:
    """Data is served on loopback only, whatever is configured."""
    with pytest.raises(ListenerUnusable, match="not loopback"):
        TcpAddress.parse(text)
    assert TcpAddress.parse(text, loopback_only=False).port >= 1


@pytest.mark.parametrize(
    "text", ["", "8210", "localhost", "example.org:80", "127.0.0.1:x", "[::1]"]
)
def test_no_address(text: str) -> None:
    """What is no address with a port is refused with an example."""
    with pytest.raises(ListenerUnusable, match="no address"):
        TcpAddress.parse(text)


def test_port_out_of_range() -> None:
    """A number over 65535 is no port."""
    with pytest.raises(ListenerUnusable, match="70000 is no port"):
        TcpAddress.parse("127.0.0.1:70000")


def test_taken_port(opened: ExitStack) -> None:
    """A port in use is an error that names it."""
    first = opened.enter_context(sockets.listen(TcpAddress("127.0.0.1", 0)))
    port = first.getsockname()[1]
    with pytest.raises(ListenerUnusable, match=f"127.0.0.1:{port}: .*in use"):
        sockets.listen(TcpAddress("127.0.0.1", port))


def test_operations_is_dual_stack(opened: ExitStack) -> None:
    """``[::]`` takes IPv4 as well, with or without IPv6 on the host."""
    sock = opened.enter_context(sockets.listen(TcpAddress("::", 0, loopback_only=False)))
    port = sock.getsockname()[1]
    opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
    if sock.family == socket.AF_INET6:
        opened.enter_context(socket.create_connection(("::1", port), timeout=PATIENCE))
