"""Files that end in the middle of a line: what the log makes of them verifies."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from broker.audit.chain import Chain
from broker.audit.files import last_link
from broker.audit.lifecycle import start_line
from broker.audit.log import AuditLog
from broker.audit.sinks import Sink, open_file
from broker.audit.verify import Verdict, Verifier
from broker.clock import SystemClock
from broker.errors import AuditUnavailable
from tests.support.auditing import KEY, TIME, plain

LINES = plain(8)
START = start_line(TIME, process="broker", broker_version="1.0", digest="", host="pod-1")


class Disk:
    """A disk that has room for so many bytes of one file; None: for all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.room: int | None = None

    def open(self) -> Sink:
        return _OnDisk(self, open_file(str(self._path)))


class _OnDisk:
    """Implements ``Sink``."""

    def __init__(self, disk: Disk, sink: Sink) -> None:
        self._disk = disk
        self.fileno, self.sync, self.close = sink.fileno, sink.sync, sink.close
        self._write = sink.write

    def write(self, data: bytes) -> int:
        room = self._disk.room
        if room is None:
            return self._write(data)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(data[:room])
        self._disk.room = room - written
        return written


class Uncounted:
    """A recorder that nobody reads."""

    def audit_record(self, result: str) -> None:
        del result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def started(disk: Disk, path: Path) -> AuditLog:
    """A log as a process begins it: the chain goes on where the file ends."""
    head = last_link(str(path))
    chain = Chain(KEY)
    if head is not None:
        chain = Chain(KEY, sequence=head.sequence, link=bytes.fromhex(head.chain))
    return AuditLog(disk.open, clock=SystemClock(), metrics=Uncounted(), chain=chain)


def sealed(lines: list[bytes]) -> list[bytes]:
    chain = Chain(KEY)
    return [chain.seal(line) for line in lines]


def judged(path: Path) -> Verdict:
    verifier = Verifier(KEY)
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        verifier.line(path.name, number, line)
    return verifier.end()


def faults(path: Path) -> list[str]:
    return [str(one) for one in judged(path).findings if not one.note]


def test_a_reopen_after_a_full_disk_leaves_no_empty_line(path: Path) -> None:
    """The same file opened anew ends in a piece that two would close: one newline is enough."""
    disk = Disk(path)
    log = started(disk, path)
    log.append(LINES[0])
    disk.room = 10
    with pytest.raises(AuditUnavailable):
        log.append(LINES[1])
    disk.room = None
    log.reopen()
    log.append(LINES[2])
    assert faults(path) == []
    assert b"\n\n" not in path.read_bytes()


def test_a_record_that_lacks_its_newline_alone_is_accepted(path: Path) -> None:
    """Whoever reads the file finds it, so that it may not be refused and its number given away."""
    disk = Disk(path)
    log = started(disk, path)
    first, second, *_ = sealed(LINES)
    disk.room = len(first) + len(second) - 1
    log.append(LINES[0])
    log.append(LINES[1])
    with pytest.raises(AuditUnavailable):
        log.append(LINES[2])
    disk.room = None
    log.append(LINES[3])
    assert faults(path) == []
    assert judged(path).records == 3
    assert [one.message for one in judged(path).findings] == []


def test_a_reopen_gives_such_a_record_its_newline_once(path: Path) -> None:
    """In the same file; a new one begins with a line that is empty."""
    disk = Disk(path)
    log = started(disk, path)
    disk.room = len(sealed(LINES)[0]) - 1
    log.append(LINES[0])
    disk.room = None
    log.reopen()
    log.append(LINES[1])
    assert path.read_bytes() == b"".join(sealed(LINES[:2]))


def test_a_chain_goes_on_from_a_record_without_newline(path: Path) -> None:
    """A machine that ended there, and a new process: no number is given twice."""
    path.write_bytes(b"".join(sealed(LINES[:2]))[:-1])
    log = started(Disk(path), path)
    assert log.head()[0] == 2
    log.note(START)
    assert faults(path) == []
    assert judged(path).records == 3


def test_pieces_in_a_row_are_what_a_full_disk_leaves(path: Path) -> None:
    """Each process that tried to start while it was full may have left one."""
    first, second, *_ = sealed(LINES)
    path.write_bytes(first + second[:60] + b"\n" + second[:40] + b"\n" + second[:5])
    log = started(Disk(path), path)
    log.note(START)
    log.append(LINES[1])
    verdict = judged(path)
    assert faults(path) == []
    assert [one.line for one in verdict.findings] == [2, 3, 4]
    assert verdict.records == 3


def test_a_chain_goes_on_from_the_newest_file_that_has_a_record(path: Path) -> None:
    """Files moved twice without a record in between, and then a new process."""
    Path(f"{path}.2").write_bytes(b"".join(sealed(LINES[:2])))
    Path(f"{path}.1").touch()
    path.touch()
    assert started(Disk(path), path).head()[0] == 2


def test_a_file_of_nothing_but_pieces_ends_no_chain(path: Path) -> None:
    """The disk was full from its first line on."""
    Path(f"{path}.1").write_bytes(b"".join(sealed(LINES[:2])))
    path.write_bytes(LINES[2][:30])
    assert started(Disk(path), path).head()[0] == 2


def test_a_newline_that_closed_a_piece_is_not_written_again(path: Path) -> None:
    """The disk had room for it and for no more; then the file is opened anew."""
    disk = Disk(path)
    log = started(disk, path)
    for _ in range(2):
        disk.room = 1
        with pytest.raises(AuditUnavailable):
            log.append(LINES[0])
    disk.room = None
    log.reopen()
    log.append(LINES[1])
    assert faults(path) == []
    assert b"\n\n" not in path.read_bytes()
