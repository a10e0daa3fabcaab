"""``client.sse``: events of a stream, however its bytes are cut."""

from __future__ import annotations

import pytest

from broker.client.sse import LARGEST, EventReader, ServerEvent
from broker.errors import BrokerAnswerInvalid

STREAM = (
    b"retry: 1000\n: open\n\n: \n\n"
    b'id: 1\nevent: revoked\ndata: {"token":"t"}\n\n'
    b"data:two\r\ndata: lines\r\n\r\nevent: nothing\n\ndata: late\n\n"
)
EVENTS = [
    ServerEvent("revoked", '{"token":"t"}'),
    ServerEvent("message", "two\nlines"),
    ServerEvent("message", "late"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_do_not_depend_on_how_bytes_arrive(size: int) -> None:
    """Comments and unknown fields are skipped, data of several lines is one."""
    reader = EventReader()
    chunks = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [event for chunk in chunks for event in reader.feed(chunk)] == EVENTS


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 1024, b"data: x\n" * 128])
def test_an_event_without_end_is_refused(chunk: bytes) -> None:
    """Memory is bounded."""
    reader = EventReader()
    with pytest.raises(BrokerAnswerInvalid):
        for _ in range(LARGEST):
            list(reader.feed(chunk))
