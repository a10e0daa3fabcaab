"""``api.fast``: each request gets one answer, whatever goes wrong beside it."""

from __future__ import annotations

import json
import logging
import random

import pytest

from broker.api.door import Peer
from broker.api.fast import FastHandout
from broker.api.problems import Problems, RequestIds
from broker.audit.log import AuditLog
from broker.handout.service import HandoutService
from broker.protocol.names import credential_path
from tests.simulators.clock import ManualClock
from tests.simulators.desk import Desk, RecorderSimulator
from tests.simulators.sink import SinkSimulator


class Uncounted:
    """A recorder of the log that nobody reads."""

    def audit_record(self, result: str) -> None:
        del result


class Faulty(RecorderSimulator):
    """A recorder with a fault of its own."""

    def handout(self, name: str, client: str, result: str) -> None:
        raise RuntimeError("a fault while counting")


async def test_a_fault_while_counting_keeps_no_answer_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a connection that is kept, the next answer would be taken for the one that is missing."""
    clock, sink = ManualClock(), SinkSimulator()
    desk = Desk(clock)
    desk.trust("search", "key")
    log = AuditLog(lambda: sink, clock=clock, metrics=Uncounted())
    service = HandoutService(
        clock=clock,
        store=desk.store,
        callers=desk.callers,
        authorizer=desk.lists,
        audit=log,
        metrics=Faulty(),
        reports=desk.reports,
        specs=desk.specs,
        mask=str,
    )
    desk.kv("v1")
    fast = FastHandout(service, Problems(clock, RequestIds(random.Random(7))), ["web"], clock=clock)
    asked = fast.read(
        credential_path("web").encode(), {b"authorization": b"Bearer key", b"host": b"localhost"}
    )
    assert asked is not None
    sent: list[bytes] = []
    with caplog.at_level(logging.ERROR, "broker.audit"):
        for _ in range(2):
            assert fast.answer(asked, Peer(), b"", sent.append)
        fast.commit()
    assert [answer[:12] for answer in sent] == [b"HTTP/1.1 200"] * 2
    recorded = [json.loads(line)["request_id"] for line in sink.taken.splitlines()]
    assert [one.encode() in answer for one, answer in zip(recorded, sent, strict=True)] == [
        True
    ] * 2
