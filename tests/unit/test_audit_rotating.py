"""Audit files that rotate, sync, and go on after a crash."""

from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path

import pytest

from broker.audit import sinks
from broker.audit.descriptors import File
from broker.audit.files import in_order, last_link, read_key
from broker.audit.links import link_of
from broker.audit.rotating import RotatingFile
from broker.audit.verify import Verifier
from broker.errors import SettingsError
from tests.support.auditing import KEY, chained, plain
from tests.support.patience import PATIENCE

LINES = list(chained(plain(400)))
SIZE = len(LINES[0])


def opened(path: Path, *, lines: int = 10, keep: int = 3, sync: bool = False) -> sinks.Sink:
    """A sink whose files hold about so many lines."""
    return sinks.open_file(str(path), max_bytes=lines * SIZE, keep=keep, sync=sync)


def write(sink: sinks.Sink, lines: list[bytes]) -> None:
    for line in lines:
        assert sink.write(line) == len(line)


def freed() -> None:
    """Wait for the threads that free old files."""
    for thread in threading.enumerate():
        if thread.name == "old audit file":
            thread.join(PATIENCE)


def faults(path: Path) -> list[str]:
    verifier = Verifier(KEY)
    for file in in_order([str(path)]):
        for number, line in enumerate(Path(file).read_bytes().splitlines(keepends=True), 1):
            verifier.line(file, number, line)
    verdict = verifier.end()
    assert verdict.records
    return [str(one) for one in verdict.findings if not one.note]


def records(path: Path) -> list[bytes]:
    """All records of a log, without the tops of its files."""
    text = b"".join(Path(file).read_bytes() for file in in_order([str(path)]))
    return [line for line in text.splitlines(keepends=True) if b'"kind":"head"' not in line]


def test_a_full_file_is_renamed_and_the_chain_goes_on(tmp_path: Path) -> None:
    """Lines go to a new file at a line's end; older ones move up, and all is one chain."""
    path = tmp_path / "audit.log"
    sink = opened(path)
    write(sink, LINES[:25])
    sink.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "audit.log",
        "audit.log.1",
        "audit.log.2",
    ]
    assert records(path) == LINES[:25]
    assert faults(path) == []
    for file in tmp_path.iterdir():
        assert file.stat().st_size <= 10 * SIZE
        assert file.read_bytes().endswith(b"\n")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_only_so_many_files_stay(tmp_path: Path) -> None:
    """The oldest is given up; what stays still verifies, from its first line on."""
    path = tmp_path / "audit.log"
    sink = opened(path, keep=2)
    write(sink, LINES[:100])
    sink.close()
    freed()
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "audit.log",
        "audit.log.1",
        "audit.log.2",
    ]
    kept = records(path)
    assert kept == LINES[100 - len(kept) : 100]
    assert faults(path) == []


def test_one_write_of_many_lines_stays_in_one_file(tmp_path: Path) -> None:
    """A group of records is one write, and no rotation stands within it."""
    path = tmp_path / "audit.log"
    sink = opened(path)
    for at in range(0, 100, 25):
        group = b"".join(LINES[at : at + 25])
        assert sink.write(group) == len(group)
    sink.close()
    assert records(path) == LINES[:100]
    assert faults(path) == []


def test_no_rotation_within_a_line(tmp_path: Path) -> None:
    """While a line is written in parts its file stays."""
    path = tmp_path / "audit.log"
    sink = opened(path, lines=2)
    write(sink, LINES[:2])
    for part in (LINES[2][:50], LINES[2][50:]):
        sink.write(part)
    assert records(path) == LINES[:3]
    sink.write(LINES[3][:10])
    sink.write(LINES[3][10:])
    sink.close()
    assert faults(path) == []


def test_a_file_that_was_full_at_the_start_is_rotated(tmp_path: Path) -> None:
    """A restart goes on with the file as it is, and its size counts."""
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(LINES[:10]))
    sink = opened(path)
    write(sink, LINES[10:12])
    sink.close()
    assert Path(f"{path}.1").read_bytes() == b"".join(LINES[:10])
    assert faults(path) == []


def test_a_rename_that_fails_loses_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that cannot move: the file is written on, told once, tried again, then told again."""
    path = tmp_path / "audit.log"
    blocked = tmp_path / "audit.log.1"
    blocked.mkdir()
    (blocked / "full").touch()  # neither replaced nor moved over audit.log.2
    (tmp_path / "audit.log.2").mkdir()
    (tmp_path / "audit.log.2" / "full").touch()
    sink = opened(path, keep=2)
    with caplog.at_level(logging.WARNING, "broker.audit"):
        write(sink, LINES[:40])
        assert path.read_bytes() == b"".join(LINES[:40])
        assert [one.levelname for one in caplog.records] == ["ERROR"]
        assert "cannot be rotated" in caplog.text
        for directory in (blocked, tmp_path / "audit.log.2"):
            (directory / "full").unlink()
            directory.rmdir()
        write(sink, LINES[40:48])
        assert [one.levelname for one in caplog.records] == ["ERROR", "WARNING"]
    sink.close()
    assert records(path) == LINES[:48]
    assert faults(path) == []
    assert not (tmp_path / "audit.log.new").exists()


def test_a_directory_that_takes_no_file_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The new file cannot be made: the old one is written on."""
    path = tmp_path / "audit.log"
    (tmp_path / "audit.log.new").mkdir()
    sink = opened(path)
    write(sink, LINES[:30])
    assert path.read_bytes() == b"".join(LINES[:30])
    assert "cannot be rotated" in caplog.text
    sink.close()


class FullDisk(RotatingFile):
    """The disk has no room for the first line of another file."""

    def _head(self) -> bytes:
        raise OSError(28, "No space left on device")


def test_a_full_disk_while_rotating_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no room for a new file's first line: no name moves, no record is lost."""
    path = tmp_path / "audit.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    sink = FullDisk(str(path), descriptor, max_bytes=10 * SIZE, keep=2)
    write(sink, LINES[:30])
    sink.close()
    assert records(path) == LINES[:30]
    assert [one.name for one in tmp_path.iterdir()] == ["audit.log"]
    assert "No space left on device" in caplog.text


def test_lines_without_a_chain_rotate_too(tmp_path: Path) -> None:
    """A file whose last line has no link has nothing to repeat."""
    path = tmp_path / "audit.log"
    sink = sinks.open_file(str(path), max_bytes=30)
    for _ in range(4):
        sink.write(b'{"n":"0123456789"}\n')
    sink.close()
    assert Path(f"{path}.1").read_bytes() == b'{"n":"0123456789"}\n'


def test_what_is_no_file_never_rotates(tmp_path: Path) -> None:
    """A FIFO has no size, and nothing to wait for."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = opened(path, lines=1)
    write(sink, LINES[:5])
    sink.sync()
    sink.close()
    os.close(reader)
    assert [one.name for one in tmp_path.iterdir()] == ["fifo"]


# --- sync -----------------------------------------------------------------------------


def open_files() -> int:
    freed()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_sync_covers_files_that_were_left(tmp_path: Path) -> None:
    """What rotation left unsynced is synced too, and no descriptor stays open."""
    before = open_files()
    sink = opened(tmp_path / "audit.log", sync=True)
    write(sink, LINES[:35])
    assert open_files() > before + 1
    sink.sync()
    assert open_files() == before + 1
    sink.sync()
    write(sink, LINES[35:60])
    sink.close()
    assert open_files() == before


def test_sync_runs_beside_writes_and_the_end(tmp_path: Path) -> None:
    """A thread syncs while the loop writes, rotates and closes: nothing breaks."""
    before = open_files()
    path = tmp_path / "audit.log"
    sink = opened(path, lines=10, keep=90, sync=True)
    errors: list[BaseException] = []
    done = threading.Event()

    def syncing() -> None:
        try:
            while not done.is_set():
                sink.sync()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=syncing) for _ in range(3)]
    for thread in threads:
        thread.start()
    write(sink, LINES)
    sink.close()
    done.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    assert records(path) == LINES
    assert open_files() == before


def test_a_sync_that_fails_raises_and_is_owed(tmp_path: Path) -> None:
    """The disk's error reaches the caller, and the next sync does not pass it over."""
    path = tmp_path / "audit.log"
    sink = sinks.open_file(str(path))
    assert isinstance(sink, File)
    sink.write(LINES[0])
    spare = os.dup(sink.fileno())
    read, pipe = os.pipe()
    os.dup2(pipe, sink.fileno())  # a pipe refuses fdatasync(2)
    for _ in range(2):
        with pytest.raises(OSError, match="Invalid argument"):
            sink.sync()
    os.dup2(spare, sink.fileno())
    sink.sync()
    for descriptor in (spare, read, pipe):
        os.close(descriptor)
    sink.close()


class Meanwhile(File):
    """A file that a thread syncs just before each write reaches it."""

    def _put(self, data: bytes) -> int:
        self.sync()
        return super()._put(data)


def test_a_write_during_a_sync_is_owed_to_the_next(tmp_path: Path) -> None:
    """The one that ran may have missed it."""
    path = tmp_path / "audit.log"
    sink = Meanwhile(str(path), os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND))
    sink.write(LINES[0])
    read, pipe = os.pipe()
    os.dup2(pipe, sink.fileno())  # a pipe refuses fdatasync(2)
    with pytest.raises(OSError, match="Invalid argument"):
        sink.sync()
    for descriptor in (read, pipe):
        os.close(descriptor)
    sink.close()


# --- going on -------------------------------------------------------------------------


def test_a_piece_left_behind_is_closed_before_the_first_line(tmp_path: Path) -> None:
    """A machine that died within a line: the next one stands on a line of its own."""
    path = tmp_path / "audit.log"
    for max_bytes in (0, 1 << 20):
        path.write_bytes(LINES[0] + LINES[1][:40])
        sink = sinks.open_file(str(path), max_bytes=max_bytes)
        sink.write(LINES[1])
        sink.close()
        assert path.read_bytes() == LINES[0] + LINES[1][:40] + b"\n" + LINES[1]


def test_where_a_chain_stands(tmp_path: Path) -> None:
    """The last record's link, in the newest file that has one; pieces do not count."""
    path = tmp_path / "audit.log"
    assert last_link(str(path)) is None
    path.write_bytes(b"".join(LINES[:300]))
    assert last_link(str(path)) == link_of(LINES[299])
    path.write_bytes(b"".join(LINES[:3]) + LINES[3][:50])
    assert last_link(str(path)) == link_of(LINES[2])
    path.write_bytes(b"".join(LINES[:3]) + LINES[3][:50] + b"\n")
    assert last_link(str(path)) == link_of(LINES[2])
    path.rename(f"{path}.1")
    path.touch()
    assert last_link(str(path)) == link_of(LINES[2])
    path.write_bytes(LINES[0] + b'{"foreign":1}\n')
    assert last_link(str(path)) is None
    path.write_bytes(LINES[0][:50])
    assert last_link(str(path)) == link_of(LINES[2])


def test_where_a_chain_stands_right_after_a_rotation(tmp_path: Path) -> None:
    """A new file has only its top: the chain goes on from there."""
    path = tmp_path / "audit.log"
    sink = opened(path)
    write(sink, LINES[:11])
    sink.close()
    top = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(top)
    assert last_link(str(path)) == link_of(LINES[9 if records(path)[-1] == LINES[9] else 8])


def test_files_are_read_oldest_first(tmp_path: Path) -> None:
    """However they are named: alone, by a shell's pattern, or in any order."""
    log = tmp_path / "audit.log"
    names = [str(log), *(f"{log}.{number}" for number in (1, 2, 10))]
    for name in (*names, f"{log}.new", f"{log}.gz"):
        Path(name).touch()
    oldest_first = names[::-1]
    assert in_order([str(log)]) == oldest_first
    assert in_order(sorted(names)) == oldest_first
    assert in_order([names[1]]) == [names[1]]
    assert in_order(["-"]) == ["-"]
    assert in_order([str(tmp_path / "missing" / "x")]) == [str(tmp_path / "missing" / "x")]


@pytest.mark.parametrize("size", [0, 31, 65, 500])
def test_a_key_of_a_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    """Too short could be guessed, too long is not taken; the key itself is never shown."""
    path = tmp_path / "key"
    path.write_bytes(b"s" * size)
    with pytest.raises(SettingsError, match="32 to 64 bytes") as refusal:
        read_key(str(path))
    assert "sss" not in str(refusal.value)


def test_a_key_is_the_file_without_its_line_end(tmp_path: Path) -> None:
    """Editors add a line end; it is no part of the key."""
    path = tmp_path / "key"
    for size in (32, 64):
        path.write_bytes(b"k" * size + b"\n")
        assert read_key(str(path)) == b"k" * size
    with pytest.raises(SettingsError, match="cannot be read"):
        read_key(str(tmp_path / "missing"))
