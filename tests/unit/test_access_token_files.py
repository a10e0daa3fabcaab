"""Client tokens as files."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from broker.access.caller import Callers, ClientSpec
from broker.access.token_files import TokenFiles
from broker.errors import CallerUnauthenticated, SettingsError
from tests.simulators.clock import ManualClock

SEARCH = ClientSpec("search", group=os.getgid())


class Broker:
    """One start of the broker over the pod's directory."""

    def __init__(self, directory: Path, *, seed: int = 1, own_uid: int | None = None) -> None:
        uid = os.geteuid() if own_uid is None else own_uid
        self.clock = ManualClock()
        self.callers = Callers(self.clock, [SEARCH], own_uid=uid)
        self.files = TokenFiles(
            directory, self.callers, own_uid=uid, random_bytes=random.Random(seed).randbytes
        )

    def knows(self, token: str) -> bool:
        try:
            return self.callers.authenticate(token, None, None).name == "search"
        except CallerUnauthenticated:
            return False


def token_of(directory: Path) -> str:
    return (directory / "search" / "client-token").read_text().strip()


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_the_client_gets_a_private_file_with_256_bits(tmp_path: Path) -> None:
    """Readable by owner and group alone, base64url, and nothing else in the directory."""
    broker = Broker(tmp_path)
    broker.files.provide(SEARCH)
    path = tmp_path / "search" / "client-token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert path.stat().st_gid == SEARCH.group
    assert len(token_of(tmp_path)) == 43
    assert broker.knows(token_of(tmp_path))
    assert names(path.parent) == ["client-token"]


def test_a_broker_that_starts_again_keeps_the_token(tmp_path: Path) -> None:
    """The token lives with the pod: a restart of the container locks nobody out."""
    Broker(tmp_path, seed=1).files.provide(SEARCH)
    token = token_of(tmp_path)
    again = Broker(tmp_path, seed=2)
    again.files.provide(SEARCH)
    assert token_of(tmp_path) == token
    assert again.knows(token)


def _wider(path: Path) -> None:
    path.chmod(0o444)


def _linked(path: Path) -> None:
    os.link(path, path.with_name("other"))


def _symbolic(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def _short(path: Path) -> None:
    path.unlink()
    path.write_text("short\n")
    path.chmod(0o440)


def _longer(path: Path) -> None:
    text = path.read_text().strip()
    path.unlink()
    path.write_text(text + "AAAA\n")
    path.chmod(0o440)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o440)


@pytest.mark.parametrize("tamper", [_wider, _linked, _symbolic, _short, _longer, _fifo])
def test_a_file_that_may_not_be_ours_is_replaced(tmp_path: Path, tamper: object) -> None:
    """Another mode, a link, another form or kind: a new token takes its place."""
    Broker(tmp_path, seed=1).files.provide(SEARCH)
    token = token_of(tmp_path)
    path = tmp_path / "search" / "client-token"
    tamper(path)  # type: ignore[operator]
    again = Broker(tmp_path, seed=2)
    again.files.provide(SEARCH)
    assert token_of(tmp_path) != token
    assert again.knows(token_of(tmp_path))
    assert not again.knows(token)
    assert path.is_file()
    assert not path.is_symlink()


def test_a_file_of_another_owner_is_replaced(tmp_path: Path) -> None:
    """Only what the broker's own uid wrote is kept."""
    Broker(tmp_path, seed=1).files.provide(SEARCH)
    token = token_of(tmp_path)
    other = Broker(tmp_path, seed=2, own_uid=os.geteuid() + 1)
    other.files.provide(SEARCH)
    assert token_of(tmp_path) != token


def test_replacing_overlaps(tmp_path: Path) -> None:
    """The old token is good until the client had time to read the file again."""
    broker = Broker(tmp_path)
    broker.files.provide(SEARCH)
    old = token_of(tmp_path)
    broker.files.replace(SEARCH, overlap=60.0)
    new = token_of(tmp_path)
    assert (new != old, broker.knows(old), broker.knows(new)) == (True, True, True)
    broker.clock.advance(60.0)
    assert (broker.knows(old), broker.knows(new)) == (False, True)


def test_a_client_proved_by_uid_gets_no_token(tmp_path: Path) -> None:
    """What is not needed cannot leak."""
    spec = ClientSpec("search", proof="uid", uid=os.geteuid() + 1)
    Broker(tmp_path).files.provide(spec)
    assert not (tmp_path / "search").exists()


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Whoever swaps the directory gets no token written elsewhere; the error says what to do."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "search").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="cannot be written") as refusal:
        Broker(tmp_path).files.provide(SEARCH)
    assert refusal.value.key == "clients.search"
    assert names(tmp_path / "elsewhere") == []


def test_a_failed_replacement_keeps_the_old_token_and_leaves_nothing(tmp_path: Path) -> None:
    """A target that cannot be renamed over: the old token stays good, no piece is left."""
    broker = Broker(tmp_path)
    broker.files.provide(SEARCH)
    old = token_of(tmp_path)
    path = tmp_path / "search" / "client-token"
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingsError):
        broker.files.replace(SEARCH, overlap=0.0)
    assert broker.knows(old)
    assert names(path.parent) == ["client-token"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory to any group")
def test_a_directory_made_for_a_client_is_its_groups(tmp_path: Path) -> None:
    """Without a socket in it, nobody else would let the client in."""
    spec = ClientSpec("one", group=4242)
    callers = Callers(ManualClock(), [spec], own_uid=os.geteuid())
    TokenFiles(tmp_path, callers, own_uid=os.geteuid()).provide(spec)
    assert (tmp_path / "one").stat().st_gid == 4242
    assert (tmp_path / "one" / "client-token").stat().st_gid == 4242
