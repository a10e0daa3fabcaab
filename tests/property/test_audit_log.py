"""Whatever the disk or the pipe does, what the log wrote verifies."""

from __future__ import annotations

import errno
import logging
from typing import Literal

from hypothesis import example, given
from hypothesis import strategies as st

from broker.audit.chain import Chain
from broker.audit.links import Head
from broker.audit.log import AuditLog
from broker.audit.verify import Verifier
from broker.clock import SystemClock
from broker.errors import AuditUnavailable
from tests.simulators.sink import SinkSimulator
from tests.support.auditing import KEY, plain

LINES = plain(12)
STEPS = st.lists(
    st.one_of(
        st.integers(1, 600),
        st.builds(lambda: OSError(errno.ENOSPC, "No space left on device")),
        st.builds(lambda: BlockingIOError(errno.EAGAIN, "again")),
    ),
    max_size=20,
)


class Uncounted:
    """A recorder that nobody reads."""

    def audit_record(self, result: str) -> None:
        del result


@given(STEPS, st.sampled_from(["refuse", "allow"]))
@example([1, 218, 218, OSError(errno.ENOSPC, "No space left on device")], "refuse")
def test_a_log_under_trouble_verifies(
    steps: list[int | OSError], on_failure: Literal["refuse", "allow"]
) -> None:
    """Partial writes, full disks and full pipes leave pieces and gaps, never a fault."""
    logging.getLogger("broker.audit").disabled = True
    sink = SinkSimulator(*steps)
    log = AuditLog(
        lambda: sink,
        clock=SystemClock(),
        metrics=Uncounted(),
        on_failure=on_failure,
        chain=Chain(KEY),
    )
    accepted = 0
    for line in LINES:
        try:
            log.append(line)
            accepted += 1
        except AuditUnavailable:
            continue
    sink.then()
    for _ in range(len(LINES)):
        log.flush()
    logging.getLogger("broker.audit").disabled = False
    verifier = Verifier(KEY, Head(*log.head()) if log.head()[0] else None)
    for number, line in enumerate(sink.taken.splitlines(keepends=True), 1):
        verifier.line("audit.log", number, line)
    verdict = verifier.end()
    assert [str(one) for one in verdict.findings if not one.note] == []
    if on_failure == "refuse":
        assert verdict.records >= accepted
