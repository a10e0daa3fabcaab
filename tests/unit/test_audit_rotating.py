"""Audit files that rotate, sync, and go on after a crash."""

from __future__ import annotations

import logging
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from broker.audit import older, sinks
from broker.audit.descriptors import File
from broker.audit.files import in_order, last_link, read_key
from broker.audit.lifecycle import head_line
from broker.audit.links import link_of
from broker.audit.rotating import RotatingFile
from broker.audit.verify import Verifier
from broker.errors import SettingsError
from tests.support.auditing import KEY, TIME, chained, plain, settled
from tests.support.patience import PATIENCE

LINES = list(chained(plain(400)))
SIZE = len(LINES[0])


def opened(path: Path, *, lines: int = 20, keep: int = 3, sync: bool = False) -> sinks.Sink:
    """A sink whose files hold about so many lines."""
    return sinks.open_file(str(path), max_bytes=lines * SIZE, keep=keep, sync=sync)


def write(sink: sinks.Sink, lines: list[bytes]) -> None:
    """Slowly enough for the thread that makes room."""
    for line in lines:
        assert sink.write(line) == len(line)
        settled()


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
    write(sink, LINES[:50])
    sink.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "audit.log",
        "audit.log.1",
        "audit.log.2",
    ]
    assert records(path) == LINES[:50]
    assert faults(path) == []
    for file in tmp_path.iterdir():
        assert file.stat().st_size <= 20 * SIZE
        assert file.read_bytes().endswith(b"\n")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_only_so_many_files_stay(tmp_path: Path) -> None:
    """The oldest is given up; what stays still verifies, from its first line on."""
    path = tmp_path / "audit.log"
    sink = opened(path, keep=2)
    write(sink, LINES[:100])
    sink.close()
    settled()
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
        settled()
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
        settled()
    assert records(path) == LINES[:3]
    sink.write(LINES[3][:10])
    sink.write(LINES[3][10:])
    settled()
    sink.close()
    assert faults(path) == []


def test_a_file_that_was_full_at_the_start_is_rotated(tmp_path: Path) -> None:
    """A restart goes on with the file as it is, and its size counts."""
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(LINES[:20]))
    sink = opened(path)
    settled()
    write(sink, LINES[20:22])
    sink.close()
    assert Path(f"{path}.1").read_bytes() == b"".join(LINES[:20])
    assert faults(path) == []


def test_a_rename_that_fails_loses_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that cannot move: the file is written on, told once, tried again, then told again."""
    path = tmp_path / "audit.log"
    blocked = [tmp_path / f"audit.log.{number}" for number in (1, 2, 3)]
    for directory in blocked:
        directory.mkdir()
        (directory / "full").touch()  # so that nothing is moved over it
    sink = opened(path, keep=2)
    with caplog.at_level(logging.WARNING, "broker.audit"):
        write(sink, LINES[:40])
        assert path.read_bytes() == b"".join(LINES[:40])
        assert [one.levelname for one in caplog.records] == ["ERROR"]
        assert "cannot be rotated" in caplog.text
        for directory in blocked:
            (directory / "full").unlink()
            directory.rmdir()
        write(sink, LINES[40:50])
        assert [one.levelname for one in caplog.records] == ["ERROR", "WARNING"]
    sink.close()
    assert records(path) == LINES[:50]
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


def test_the_loop_moves_two_names_and_opens_no_file(tmp_path: Path) -> None:
    """However many files stay, the older ones are moved by a thread, before this one is full."""
    path = tmp_path / "audit.log"
    sink = opened(path, keep=100)
    write(sink, LINES[:25])
    for number in range(2, 101):
        Path(f"{path}.{number}").write_bytes(LINES[0])
    rest = iter(LINES[25:])
    while not Path(f"{path}.new").exists():
        write(sink, [next(rest)])
    assert not Path(f"{path}.1").exists()
    assert Path(f"{path}.101").exists()
    assert Path(f"{path}.new").read_bytes() == b""
    moved = {one.name: one.stat().st_ino for one in tmp_path.iterdir()}
    calls: list[str] = []
    hearing = threading.get_ident()

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if threading.get_ident() == hearing and event in {"open", "os.rename", "os.remove"}:
            calls.append(event)

    sys.addaudithook(hear)
    sink.write(next(rest))
    sink.write(next(rest))
    hearing = 0
    # The end of the full file is read for the head of the next; the rest are names.
    assert calls == ["open", "os.rename", "os.rename"]
    settled()
    assert Path(f"{path}.1").stat().st_ino == moved["audit.log"]
    assert path.stat().st_ino == moved["audit.log.new"]
    assert not Path(f"{path}.101").exists()
    sink.close()


def test_while_names_are_moved_the_full_file_is_written_on(tmp_path: Path) -> None:
    """No write waits for a thread; the next file begins at the first line after it is done."""
    path = tmp_path / "audit.log"
    sink = opened(path)
    with older._moving:
        for line in LINES[:30]:
            sink.write(line)
        assert path.read_bytes() == b"".join(LINES[:30])
    settled()
    write(sink, LINES[30:32])
    sink.close()
    assert Path(f"{path}.1").read_bytes() == b"".join(LINES[:30])
    assert records(path) == LINES[:32]
    assert faults(path) == []


def test_who_ends_leaves_no_room_behind(tmp_path: Path) -> None:
    """Neither the name nor the descriptor of a file that was not needed; also from a thread."""
    before = open_files()
    path = tmp_path / "audit.log"
    sink = opened(path)
    write(sink, LINES[:19])
    assert Path(f"{path}.new").exists()
    sink.close()
    with older._moving:
        sink = opened(path)
        sink.close()
    settled()
    assert [one.name for one in tmp_path.iterdir()] == ["audit.log"]
    assert open_files() == before


def test_two_of_one_log_move_names_one_after_the_other(tmp_path: Path) -> None:
    """A log that is opened anew while a thread is at it: nothing is overwritten."""
    path = tmp_path / "audit.log"
    former = opened(path)
    write(former, LINES[:50])
    with older._moving:
        for line in LINES[50:60]:
            former.write(line)
        former.close()
        later = opened(path)
        later.write(LINES[60])
    settled()
    write(later, LINES[61:75])
    later.close()
    assert records(path) == LINES[:75]
    assert faults(path) == []


def test_a_new_file_that_another_log_replaced_is_not_written_to(tmp_path: Path) -> None:
    """Its records would have no name: the descriptor must be the file that gets the name."""
    path = tmp_path / "audit.log"
    sink = opened(path)
    write(sink, LINES[:19])
    new = Path(f"{path}.new")
    assert new.exists()
    new.unlink()  # as the thread of a second one would, and then make its own
    new.touch()
    write(sink, LINES[19:31])
    sink.close()
    assert Path(f"{path}.1").exists()
    assert records(path) == LINES[:31]
    assert faults(path) == []


@pytest.mark.parametrize("step", range(7))
def test_an_end_between_any_two_steps_leaves_one_chain(tmp_path: Path, step: int) -> None:
    """Each name that rotation moves may be the last thing a process does."""
    path = tmp_path / "audit.log"
    sink = opened(path)
    write(sink, LINES[:70])
    sink.close()
    # As a process would leave it that ended after so many of: 3 to 4, 2 to 3, 1 to 2, the new
    # file, its first line, the full file's name, the new one's.
    names = [(3, 4), (2, 3), (1, 2)]
    for one, other in names[:step]:
        if Path(f"{path}.{one}").exists():
            Path(f"{path}.{one}").rename(f"{path}.{other}")
    if step >= 4:
        Path(f"{path}.new").write_bytes(b"")
    if step >= 5:
        link = link_of(LINES[69])
        assert link is not None
        Path(f"{path}.new").write_bytes(
            head_line(TIME, file="audit.log.1", sequence=link.sequence, chain=link.chain)
        )
    if step >= 6:
        path.rename(f"{path}.1")
    assert last_link(str(path)) == link_of(LINES[69])
    sink = opened(path)
    settled()
    write(sink, LINES[70:150])
    sink.close()
    assert faults(path) == []
    kept = records(path)
    assert kept == LINES[150 - len(kept) : 150]
    assert len(kept) > 60
    assert len(list(tmp_path.iterdir())) == 4


def test_lines_without_a_chain_rotate_too(tmp_path: Path) -> None:
    """A file whose last line has no link has nothing to repeat."""
    path = tmp_path / "audit.log"
    sink = sinks.open_file(str(path), max_bytes=400)
    lines = [b'{"n":"%03d"}\n' % number for number in range(60)]
    write(sink, lines)
    sink.close()
    files = [Path(file).read_bytes() for file in in_order([str(path)])]
    assert len(files) == 2
    assert b"".join(files) == b"".join(lines)


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
    settled()
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
    write(sink, LINES[:21])
    sink.close()
    top = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(top)
    assert b'"kind":"head"' in top
    assert last_link(str(path)) == link_of(records(path)[-1])


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
