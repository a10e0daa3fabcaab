"""Whatever befalls disk and process, what stands in the audit's files verifies."""

from __future__ import annotations

import asyncio
import errno
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.chain import Chain
from broker.audit.files import in_order, last_link, numbered
from broker.audit.lifecycle import start_line
from broker.audit.links import Head
from broker.audit.log import AuditLog
from broker.audit.sinks import Sink, open_file
from broker.audit.verify import Verdict, Verifier
from broker.clock import SystemClock
from broker.errors import AuditUnavailable
from tests.support.auditing import KEY, TIME, plain, settled

LINES = plain(400)
SIZE = len(Chain(KEY).seal(LINES[0]))
START = start_line(TIME, process="broker", broker_version="1.0", digest="", host="pod-1")

Step: TypeAlias = tuple[Literal["append", "turn", "room", "reopen", "rename", "restart"], int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3)),
        st.tuples(st.just("turn"), st.integers(1, 30)),
        # Around the ends of lines, where a cut means most; -1: there is room for all.
        st.tuples(
            st.just("room"),
            st.just(-1)
            | st.integers(0, 3 * SIZE)
            | st.builds(
                lambda lines, more: max(0, lines * SIZE + more),
                st.integers(0, 3),
                st.integers(-3, 3),
            ),
        ),
        st.tuples(st.sampled_from(["reopen", "rename", "restart"]), st.just(0)),
    ),
    max_size=25,
)


class World:
    """One log, its files, and the disk below them."""

    def __init__(self, path: Path, max_bytes: int, on_failure: Literal["refuse", "allow"]) -> None:
        self.path, self._max, self._on_failure = path, max_bytes, on_failure
        self.room = -1
        self.accepted = 0
        self._next = iter(LINES)
        self.log = self._begin()

    def open(self) -> Sink:
        return _Sink(self, open_file(str(self.path), max_bytes=self._max, keep=99))

    def _begin(self) -> AuditLog:
        head = last_link(str(self.path))
        chain = Chain(KEY)
        if head is not None:
            chain = Chain(KEY, sequence=head.sequence, link=bytes.fromhex(head.chain))
        log = AuditLog(
            self.open,
            clock=SystemClock(),
            metrics=Uncounted(),
            on_failure=self._on_failure,
            chain=chain,
        )
        log.note(START)
        return log

    async def take(self, step: Step) -> None:
        what, much = step
        match what:
            case "append":
                for _ in range(much):
                    try:
                        self.log.append(next(self._next))
                        self.accepted += 1
                    except AuditUnavailable:
                        pass
            case "turn":
                for _ in range(much):
                    self.log.stage(next(self._next), self._settle)
                await asyncio.sleep(0)
            case "room":
                self.room = much
            case "reopen":
                self.log.reopen()
            case "rename":
                settled()  # who moves files itself does not do so while the broker does
                files = in_order([str(self.path)])
                for number, file in enumerate(files):
                    Path(file).rename(numbered(str(self.path), len(files) - number))
                self.log.reopen()
            case "restart":
                settled()  # the threads of a process end with it
                self.log = self._begin()

    def _settle(self, refusal: AuditUnavailable | None) -> None:
        self.accepted += refusal is None


class _Sink:
    """Implements ``Sink``: a file on the disk of a world."""

    def __init__(self, world: World, sink: Sink) -> None:
        self._world, self._write = world, sink.write
        self.fileno, self.sync, self.close = sink.fileno, sink.sync, sink.close

    def write(self, data: bytes) -> int:
        room = self._world.room
        if room < 0:
            return self._write(data)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(data[:room])
        self._world.room = room - written
        return written


class Uncounted:
    """A recorder that nobody reads."""

    def audit_record(self, result: str) -> None:
        del result


@contextmanager
def quiet() -> Iterator[None]:
    logger = logging.getLogger("broker.audit")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def judged(path: Path, head: Head) -> Verdict:
    verifier = Verifier(KEY, head if head.sequence else None)
    for file in in_order([str(path)]):
        for number, line in enumerate(Path(file).read_bytes().splitlines(keepends=True), 1):
            verifier.line(file, number, line)
    return verifier.end()


@given(STEPS, st.sampled_from([0, 5 * SIZE]), st.sampled_from(["refuse", "allow"]))
@settings(max_examples=150)
def test_what_the_log_wrote_verifies(
    steps: list[Step], max_bytes: int, on_failure: Literal["refuse", "allow"]
) -> None:
    """Full disks, reopened, renamed and rotated files, ends in the middle: never a fault.

    And what was accepted is there, where a failure refuses.
    """
    with tempfile.TemporaryDirectory() as directory, quiet():

        async def story() -> World:
            world = World(Path(directory) / "audit.log", max_bytes, on_failure)
            for step in steps:
                await world.take(step)
            world.room = -1
            while not world.log.flush():
                pass
            settled()
            return world

        world = asyncio.run(story())
        verdict = judged(world.path, Head(*world.log.head()))
    assert [str(one) for one in verdict.findings if not one.note] == []
    if on_failure == "refuse":
        assert verdict.records >= world.accepted
