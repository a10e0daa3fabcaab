"""The audit log under full pipes, full disks and rotation."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import sinks
from broker.audit.chain import BEGINNING, Chain, chain_of
from broker.audit.log import GROUP, AuditLog, Settle
from broker.clock import SystemClock
from broker.errors import AuditUnavailable
from tests.simulators.sink import SinkSimulator
from tests.support.patience import PATIENCE

FULL = OSError(errno.ENOSPC, "No space left on device")
AGAIN = BlockingIOError(errno.EAGAIN, "again")


class Counts(dict[str, int]):
    """The recorder: how often each result was recorded."""

    def audit_record(self, result: str) -> None:
        self[result] = self.get(result, 0) + 1


def make(sink: SinkSimulator, **options: object) -> tuple[AuditLog, Counts]:
    counts = Counts()
    log = AuditLog(lambda: sink, clock=SystemClock(), metrics=counts, **options)  # type: ignore[arg-type]
    return log, counts


def line(number: int) -> bytes:
    return b'{"n":%d}\n' % number


def test_a_line_is_one_write() -> None:
    """A record that the target takes is one write(2) and counted as written."""
    sink = SinkSimulator()
    log, counts = make(sink)
    log.append(line(1))
    assert (sink.taken, sink.writes, counts) == (line(1), 1, {"written": 1})


def test_another_way_to_fail_counts_at_the_next_failure() -> None:
    """A changed ``audit.on_failure`` needs no restart."""
    sink = SinkSimulator(FULL, FULL)
    log, counts = make(sink, on_failure="allow")
    log.append(line(1))
    log.configure("refuse")
    with pytest.raises(AuditUnavailable):
        log.append(line(2))
    assert counts == {"lost": 1, "refused": 1}


def test_a_line_taken_in_pieces_is_finished() -> None:
    """A short write is followed by the rest at once."""
    sink = SinkSimulator(3, 2)
    log, counts = make(sink)
    log.append(line(1))
    assert (sink.taken, counts) == (line(1), {"written": 1})


def test_a_disk_that_fills_in_mid_line_refuses_and_lines_never_merge() -> None:
    """What a full disk cut off is closed by a newline before the next line."""
    sink = SinkSimulator(3, FULL)
    log, counts = make(sink)
    with pytest.raises(AuditUnavailable, match="No space left"):
        log.append(line(1))
    log.append(line(2))
    log.append(line(3))
    piece, gap, *written = sink.taken.splitlines(keepends=True)
    assert (piece, written) == (line(1)[:3] + b"\n", [line(2), line(3)])
    assert {**json.loads(gap), "time": ""} == {"time": "", "kind": "gap", "lost": 0}
    assert counts == {"refused": 1, "written": 2}


def test_a_newline_that_cannot_be_written_yet_still_comes_first() -> None:
    """The repair waits with its line: a second failure does not forget it."""
    sink = SinkSimulator(3, FULL, FULL, AGAIN)
    log, counts = make(sink)
    for number in (1, 2):
        with pytest.raises(AuditUnavailable):
            log.append(line(number))
    log.append(line(3))
    log.append(line(4))
    piece, gap, *written = sink.taken.splitlines(keepends=True)
    assert (piece, written) == (line(1)[:3] + b"\n", [line(3), line(4)])
    assert json.loads(gap)["lost"] == 0
    assert counts == {"refused": 2, "buffered": 1, "written": 1}


def test_allowed_failures_are_counted_and_leave_a_gap_record() -> None:
    """With ``allow`` the next line that is written follows a record of how many were lost."""
    sink = SinkSimulator(FULL, FULL)
    log, counts = make(sink, on_failure="allow")
    for number in (1, 2, 3):
        log.append(line(number))
    *gaps, written = sink.taken.splitlines(keepends=True)
    assert written == line(3)
    assert {json.loads(gap)["kind"] for gap in gaps} == {"gap"}
    assert sum(json.loads(gap)["lost"] for gap in gaps) == 2
    assert counts == {"lost": 2, "written": 1}


def test_a_gap_record_may_wait_too() -> None:
    """A pipe that is full when the target works again: the gap record keeps its place."""
    sink = SinkSimulator(FULL, 5, AGAIN)
    log, counts = make(sink, on_failure="allow")
    for number in (1, 2, 3):
        log.append(line(number))
    gap, *written = sink.taken.splitlines(keepends=True)
    assert json.loads(gap)["lost"] == 1
    assert written == [line(2), line(3)]
    assert counts == {"lost": 1, "buffered": 1, "written": 1}


def test_a_full_pipe_fills_the_buffer_and_a_full_buffer_refuses() -> None:
    """Lines wait in order while a pipe is full; beyond the bound they are refused."""
    sink = SinkSimulator(*[AGAIN] * 4)
    log, counts = make(sink, buffer=2 * len(line(1)))
    log.append(line(1))
    log.append(line(2))
    with pytest.raises(AuditUnavailable, match="nobody reads"):
        log.append(line(3))
    assert not log.flush()
    assert log.flush()
    log.append(line(4))
    assert sink.taken == line(1) + line(2) + line(4)
    assert counts == {"buffered": 2, "refused": 1, "written": 1}


def test_a_line_begun_in_a_full_pipe_is_finished_before_all_others() -> None:
    """A piece that a pipe took is continued, not repeated."""
    sink = SinkSimulator(4, AGAIN, 2, AGAIN)
    log, counts = make(sink)
    log.append(line(1))
    log.append(line(2))
    log.append(line(3))
    assert sink.taken == line(1) + line(2) + line(3)
    assert counts == {"buffered": 2, "written": 1}


def test_a_long_buffer_empties_in_bounded_goes() -> None:
    """One go makes few writes, so that the loop is not held."""
    sink = SinkSimulator(AGAIN)
    log, _ = make(sink)
    log.append(line(0))
    sink.then(AGAIN)
    for number in range(1, 100):
        sink.then(AGAIN)
        log.append(line(number))
    sink.then()
    before = sink.writes
    goes = 1
    while not log.flush():
        goes += 1
    assert sink.taken == b"".join(line(n) for n in range(100))
    assert (sink.writes - before, goes) == (100, 4)


def test_failure_and_recovery_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A disk that stays full is one line in the log, its end another."""
    sink = SinkSimulator(FULL, FULL, FULL)
    log, _ = make(sink)
    with caplog.at_level(logging.WARNING, "broker.audit"):
        for number in range(3):
            with pytest.raises(AuditUnavailable):
                log.append(line(number))
        log.append(line(3))
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_reopening_repeats_whole_lines_in_the_new_target() -> None:
    """A line of which the old target holds a piece is whole in the new one."""
    old, new = SinkSimulator(4, AGAIN), SinkSimulator()
    opened = iter([old, new])
    log = AuditLog(lambda: next(opened), clock=SystemClock(), metrics=Counts())
    log.append(line(1))
    log.reopen()
    assert (old.closed, new.taken) == (True, line(1))


def test_a_reopen_that_fails_keeps_the_old_target() -> None:
    """After log rotation went wrong the old file is still written."""
    sink = SinkSimulator()
    answers = iter([sink])

    def open_once() -> SinkSimulator:
        for answer in answers:
            return answer
        raise FULL

    log = AuditLog(open_once, clock=SystemClock(), metrics=Counts())
    with pytest.raises(AuditUnavailable, match="cannot be opened"):
        log.reopen()
    log.append(line(1))
    assert sink.taken == line(1)


# --- lines of one turn, and the chain ----------------------------------------------------


class Told(list[tuple[int, bool]]):
    """Which staged lines were settled, in which order, and whether they were accepted."""

    def of(self, number: int) -> Settle:
        return lambda refusal: self.append((number, refusal is None))


async def test_a_crowd_of_one_turn_is_written_in_groups() -> None:
    """However many ask in one turn of the loop, no single step of it pays for all of them."""
    sink, told, steps = SinkSimulator(), Told(), [0]
    log, _ = make(sink)
    for number in range(1000):
        before = len(told)
        log.stage(line(number), told.of(number))
        steps.append(len(told) - before)
    before = len(told)
    await asyncio.sleep(0)
    steps.append(len(told) - before)
    assert told == [(number, True) for number in range(1000)]
    assert sink.taken == b"".join(map(line, range(1000)))
    assert max(steps) <= GROUP


async def test_lines_of_one_turn_are_one_write() -> None:
    """Nobody is told before the write, and all are told after it, in order."""
    sink, told = SinkSimulator(), Told()
    log, counts = make(sink)
    for number in range(5):
        log.stage(line(number), told.of(number))
    assert (sink.writes, told) == (0, [])
    await asyncio.sleep(0)
    assert sink.taken == b"".join(map(line, range(5)))
    assert (sink.writes, counts) == (1, {"written": 5})
    assert told == [(number, True) for number in range(5)]


async def test_a_line_written_at_once_comes_after_those_that_are_staged() -> None:
    """The order of the file is the order in which things happened."""
    sink, told = SinkSimulator(), Told()
    log, _ = make(sink)
    log.stage(line(1), told.of(1))
    log.append(line(2))
    assert told == [(1, True)]
    assert sink.taken == line(1) + line(2)
    await asyncio.sleep(0)
    assert sink.taken == line(1) + line(2)


async def test_a_write_to_a_pipe_is_whole_lines() -> None:
    """However many are staged, each write holds whole lines and at most PIPE_BUF bytes."""
    sink, told = SinkSimulator(), Told()
    log, _ = make(sink)
    lines = [b'{"n":"%s"}\n' % (b"x" * 500) for _ in range(20)]
    for number, one in enumerate(lines):
        log.stage(one, told.of(number))
    log.commit()
    assert sink.taken == b"".join(lines)
    assert sink.writes == 3
    assert len(told) == 20


@pytest.mark.parametrize("on_failure", ["refuse", "allow"])
async def test_a_disk_that_fills_within_a_turn_refuses_the_rest(on_failure: str) -> None:
    """What is whole on the disk is accepted; a piece and what would have followed is not."""
    sink, told = SinkSimulator(len(line(0)) + 3, FULL), Told()
    log, _ = make(sink, on_failure=on_failure, chain=None)
    for number in range(3):
        log.stage(line(number), told.of(number))
    log.commit()
    allowed = on_failure == "allow"
    assert told == [(0, True), (1, allowed), (2, allowed)]
    log.append(line(3))
    written = sink.taken.splitlines(keepends=True)
    assert (written[0], written[1], written[-1]) == (line(0), line(1)[:3] + b"\n", line(3))
    assert sum(json.loads(one)["lost"] for one in written[2:-1]) == (2 if allowed else 0)


async def test_a_full_pipe_within_a_turn_keeps_the_rest() -> None:
    """A line of which the pipe has a piece is finished, the others wait, all are accepted."""
    sink, told = SinkSimulator(len(line(0)) + 3, AGAIN), Told()
    log, counts = make(sink)
    for number in range(3):
        log.stage(line(number), told.of(number))
    log.commit()
    assert told == [(0, True), (1, True), (2, True)]
    assert counts == {"written": 1, "buffered": 2}
    assert log.flush()
    assert sink.taken == line(0) + line(1) + line(2)


def chained(text: bytes, key: bytes) -> list[dict[str, Any]]:
    """The records of a file whose chain holds from its beginning."""
    link, records = BEGINNING, []
    for number, one in enumerate(text.splitlines(), 1):
        content, _, told = one.partition(b',"chain":"')
        link = chain_of(key, link, content)
        assert told == link.hex().encode() + b'"}'
        records.append(json.loads(one))
        assert records[-1]["seq"] == number
    return records


def test_each_line_is_numbered_and_linked_to_the_one_before() -> None:
    """The head is what the last line says."""
    sink = SinkSimulator()
    log, _ = make(sink, chain=Chain(b"key"))
    for number in range(3):
        log.append(line(number))
    records = chained(sink.taken, b"key")
    assert [one["n"] for one in records] == [0, 1, 2]
    assert log.head() == (3, records[-1]["chain"])


async def test_a_chain_goes_on_where_it_stood() -> None:
    """After a start the numbers and links continue."""
    first, second = SinkSimulator(), SinkSimulator()
    log, _ = make(first, chain=Chain(b"key"))
    log.append(line(0))
    sequence, link = log.head()
    again, _ = make(second, chain=Chain(b"key", sequence=sequence, link=bytes.fromhex(link)))
    again.append(line(1))
    assert len(chained(first.taken + second.taken, b"key")) == 2


OUTCOMES = st.one_of(
    st.integers(min_value=0, max_value=300),
    st.just(AGAIN),
    st.just(FULL),
)


@given(
    steps=st.lists(OUTCOMES, max_size=30),
    turns=st.lists(st.integers(min_value=1, max_value=5), min_size=1, max_size=12),
    on_failure=st.sampled_from(["refuse", "allow"]),
)
def test_whatever_the_target_does_the_chain_holds(
    steps: list[int | OSError], turns: list[int], on_failure: str
) -> None:
    """Accepted lines are in the file once, whole, in order and chained; refused ones are not."""
    sink, accepted, refused = SinkSimulator(*steps), [], set[int]()
    log, _ = make(sink, chain=Chain(b"k"), on_failure=on_failure)
    number = 0
    staged: list[tuple[bytes, Settle]] = []
    for size in turns:
        staged.clear()
        outcomes: list[AuditUnavailable | None] = []
        numbers = range(number, number + size)
        log._staged = [(line(one), outcomes.append) for one in numbers]
        log.commit()
        number += size
        accepted += [n for n, one in zip(numbers, outcomes, strict=True) if one is None]
        refused |= {n for n, one in zip(numbers, outcomes, strict=True) if one is not None}
    sink.then()
    log.append(b'{"n":-1}\n')
    whole = [one for one in sink.taken.splitlines() if one.endswith(b'"}') and b'"chain"' in one]
    records = chained(b"\n".join(whole), b"k")
    there = [one["n"] for one in records if "n" in one and one["n"] >= 0]
    lost = sum(one["lost"] for one in records if "lost" in one)
    assert sorted(set(there)) == there
    assert not refused & set(there)
    assert set(there) <= set(accepted)
    assert len(accepted) == len(there) + lost


# --- waiting for the disk ------------------------------------------------------------------


class Disk(SinkSimulator):
    """A target whose disk is as slow as a test wants, and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.free = threading.Semaphore(0), threading.Semaphore(0)
        self.synced: list[bytes] = []
        self.broken = False

    def sync(self) -> None:
        """See ``Sink.sync``: what was written when it began is what it brings to the disk."""
        written = self.taken
        self.begun.release()
        assert self.free.acquire(timeout=PATIENCE)
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        self.synced.append(written)


async def test_an_answer_waits_for_a_sync_that_began_after_its_record() -> None:
    """One that runs already is not enough; those who come meanwhile share the next."""
    disk = Disk()
    log, _ = make(disk, sync=True, chain=Chain())
    assert log.durable
    log.append(line(1))
    first = asyncio.ensure_future(log.synced())
    assert await asyncio.to_thread(disk.begun.acquire, timeout=PATIENCE)
    log.append(line(2))
    later = [asyncio.ensure_future(log.synced()) for _ in range(3)]
    disk.free.release()
    await first
    assert not any(one.done() for one in later)
    disk.free.release()
    await asyncio.gather(*later)
    assert len(disk.synced) == 2
    assert disk.synced[1].count(b"\n") == 2
    await log.synced()  # nothing new: no sync
    assert await log.close(0.0) == 0


@pytest.mark.parametrize("on_failure", ["refuse", "allow"])
async def test_a_disk_that_fails_refuses_or_tells(
    on_failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And what it did not confirm is not taken for durable by the next."""
    disk = Disk()
    log, _ = make(disk, sync=True, chain=Chain(), on_failure=on_failure)
    disk.broken = True
    disk.free.release()
    log.append(line(1))
    if on_failure == "refuse":
        with pytest.raises(AuditUnavailable, match="Input/output"):
            await log.synced()
    else:
        await log.synced()
    assert "Input/output" in caplog.text
    disk.broken = False
    disk.free.release()
    await log.synced()
    assert len(disk.synced) == 1
    await log.close(0.0)


async def test_a_target_that_was_left_is_synced_too() -> None:
    """What was written to a file before it was moved away is not durable by a sync of the next."""
    old, new = Disk(), Disk()
    opened = iter([old, new])
    log = AuditLog(
        lambda: next(opened), clock=SystemClock(), metrics=Counts(), sync=True, chain=Chain()
    )
    log.append(line(1))
    log.reopen()
    closed = [old.closed]
    for disk in (old, new):
        disk.free.release()
    await log.synced()
    assert old.synced == [old.taken]
    assert [*closed, old.closed] == [False, True]
    await log.close(0.0)
    assert new.closed


async def test_without_sync_nobody_waits() -> None:
    """The usual case costs nothing."""
    disk = Disk()
    log, _ = make(disk, chain=Chain())
    log.append(line(1))
    await log.synced()
    assert not log.durable
    assert disk.synced == []


# --- real targets ---------------------------------------------------------------------


def real(path: Path | str, **options: object) -> tuple[AuditLog, Counts]:
    counts = Counts()
    log = AuditLog(sinks.opener(str(path)), clock=SystemClock(), metrics=counts, **options)  # type: ignore[arg-type]
    return log, counts


async def test_a_file_is_private_appended_to_and_reopened(tmp_path: Path) -> None:
    """Lines go to the end of a 0600 file; after rotation and reopen, to a new one."""
    path = tmp_path / "audit.log"
    log, _ = real(path)
    log.append(line(1))
    rotated = path.rename(tmp_path / "audit.log.1")
    log.append(line(2))
    log.reopen()
    log.append(line(3))
    assert await log.close(0.0) == 0
    assert rotated.read_bytes() == line(1) + line(2)
    assert path.read_bytes() == line(3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_path_that_cannot_be_opened_is_refused_at_the_start(tmp_path: Path) -> None:
    """A missing directory is found before anything is handed out."""
    with pytest.raises(AuditUnavailable, match="No such file"):
        real(tmp_path / "missing" / "audit.log")


async def test_a_full_device_refuses() -> None:
    """``/dev/full`` answers ENOSPC to every write."""
    log, counts = real("/dev/full")
    with pytest.raises(AuditUnavailable, match="No space left"):
        log.append(line(1))
    assert counts == {"refused": 1}
    await log.close(0.0)


async def test_a_reader_that_stalls_never_blocks_and_later_gets_every_line(tmp_path: Path) -> None:
    """The loop goes on while a FIFO is full; once it is read the buffer empties by itself."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log, counts = real(path)
    record = b"x" * 299 + b"\n"
    for _ in range(1000):  # 300 KB into a pipe of 64 KiB
        log.append(record)  # a blocked write would never come back
    assert counts["written"] > 0 < counts["buffered"]
    got = b""
    async with asyncio.timeout(PATIENCE):
        while len(got) < 1000 * len(record):
            await asyncio.sleep(0)
            try:
                got += os.read(reader, 65536)
            except BlockingIOError:
                continue
    assert got == record * 1000
    assert await log.close(0.0) == 0
    os.close(reader)


async def test_a_reader_that_goes_away_refuses_without_spinning(tmp_path: Path) -> None:
    """A broken pipe is an error for each record, and none of the loop's business."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log, counts = real(path)
    for _ in range(1000):
        log.append(b"x" * 299 + b"\n")
    os.close(reader)
    await asyncio.sleep(0.01)
    with pytest.raises(AuditUnavailable, match="Broken pipe"):
        log.append(line(1))
    assert counts["refused"] == 1
    assert await log.close(0.0) == counts["buffered"]


async def test_closing_waits_for_a_slow_reader_until_its_deadline(tmp_path: Path) -> None:
    """At the stop what waits is written while somebody reads; the rest is counted and told."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    clock = SystemClock()
    record = b"x" * 999 + b"\n"
    log, _ = real(path)
    for _ in range(100):  # 100 KB into a pipe of 64 KiB
        log.append(record)
    asyncio.get_running_loop().call_later(0.05, os.read, reader, 1 << 20)
    assert await log.close(clock.now() + PATIENCE) == 0
    stalled, _ = real(path)
    for _ in range(200):
        stalled.append(record)
    assert await stalled.close(clock.now() + 0.05) > 0
    os.close(reader)


async def test_a_socket_that_stalls_is_waited_for(tmp_path: Path) -> None:
    """Standard output may be a socket; the loop is told when it takes more."""
    near, far = socket.socketpair()
    counts = Counts()
    log = AuditLog(lambda: sinks.open_inherited(near.fileno()), clock=SystemClock(), metrics=counts)
    record = b"x" * 999 + b"\n"
    for _ in range(1000):
        log.append(record)
    assert counts["buffered"] > 0
    far.setblocking(False)
    got = 0
    async with asyncio.timeout(PATIENCE):
        while got < 1000 * len(record):
            await asyncio.sleep(0)
            try:
                got += len(far.recv(1 << 20))
            except BlockingIOError:
                continue
    assert await log.close(0.0) == 0
    near.close()
    far.close()


def test_what_cannot_be_opened_anew_is_asked_before_each_write() -> None:
    """A target without a name in /proc: the inherited description is used, and never blocks."""
    descriptor = os.eventfd(0)  # takes eight bytes a time, and nothing more once it is full
    sink = sinks.open_inherited(descriptor)
    assert isinstance(sink, sinks.SharedPipe)
    assert sink.write((2**64 - 2).to_bytes(8, sys.byteorder)) == 8
    with pytest.raises(BlockingIOError):
        sink.write((1).to_bytes(8, sys.byteorder))
    sink.close()
    os.close(descriptor)


@pytest.mark.parametrize("kind", ["pipe", "shared pipe", "socket", "file"])
def test_standard_output_is_taken_as_what_it_is(kind: str, tmp_path: Path) -> None:
    """A sink for an inherited descriptor writes there and leaves its flags alone."""
    if kind == "socket":
        near, far = socket.socketpair()
        descriptor, read = near.detach(), far.detach()
    elif kind == "file":
        descriptor = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
        read = os.open(tmp_path / "out", os.O_RDONLY)
    else:
        read, descriptor = os.pipe()
    flags = os.get_blocking(descriptor)
    sink: sinks.Sink
    sink = (
        sinks.SharedPipe(os.dup(descriptor))
        if kind == "shared pipe"
        else sinks.open_inherited(descriptor)
    )
    assert sink.write(line(1)) == len(line(1))
    assert os.read(read, 100) == line(1)
    if kind != "file":
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                sink.write(b"x" * 4096)
    assert os.get_blocking(descriptor) == flags is True
    sink.close()
    os.close(descriptor)
    os.close(read)


def test_the_log_of_a_whole_process_goes_to_its_standard_output() -> None:
    """Lines written to standard output reach whoever started the process."""
    program = (
        "from broker.audit import sinks; from broker.audit.log import AuditLog\n"
        "from broker.clock import SystemClock\n"
        "class M:\n    def audit_record(self, result): pass\n"
        "log = AuditLog(sinks.opener(''), clock=SystemClock(), metrics=M())\n"
        "log.append(b'one\\n'); log.append(b'two\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=PATIENCE
    )
    assert (done.stdout, done.stderr) == (b"one\ntwo\n", b"")


def test_what_has_happened_is_noted_or_counted_as_lost() -> None:
    """Nothing is refused for it; a gap record says that it is missing."""
    sink = SinkSimulator(FULL)
    log, counts = make(sink)
    assert not log.note(line(1))
    assert log.note(line(2))
    gap, written = sink.taken.splitlines(keepends=True)
    assert (json.loads(gap)["lost"], written) == (1, line(2))
    assert counts == {"lost": 1, "written": 1}
    sink.then(FULL)
    with pytest.raises(AuditUnavailable):
        log.append(line(3))


def test_a_closed_log_writes_to_nobody(tmp_path: Path) -> None:
    """The number of its descriptor may be a peer's by then: a late record is refused."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    theirs, ours = os.pipe()
    os.set_blocking(theirs, False)
    log = AuditLog(sinks.opener(str(fifo)), clock=SystemClock(), metrics=Counts())
    log.append(line(1))
    asyncio.run(log.close(0.0))
    peer = os.dup(ours)
    try:
        with pytest.raises(AuditUnavailable):
            log.append(line(2))
        with pytest.raises(BlockingIOError):
            os.read(theirs, 100)
    finally:
        for descriptor in (reader, theirs, ours, peer):
            os.close(descriptor)
