"""Errors as answers: the bytes of a problem document, on every way out.

Duty: turn any error into status, headers and body, for the routes, for the hot path and for
requests that never reached either; number requests.
Not its duty: the table of errors (``protocol.problems``).
Rules:

* one function makes the headers, so that all ways out answer alike;
* an error outside the table is logged with its traceback and says nothing to the client but
  its request id;
* request ids are the broker's own: what stands in the audit is not chosen by the audited.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from http import HTTPStatus
from itertools import count
from typing import Final

from broker.clock import Clock
from broker.errors import BrokerError
from broker.protocol.names import PROBLEM_JSON, REQUEST_ID
from broker.protocol.problems import problem_for

log = logging.getLogger("broker.api")

Headers = tuple[tuple[bytes, bytes], ...]

REQUEST_ID_FIELD: Final = REQUEST_ID.lower().encode("ascii")

_ALWAYS: Final[Headers] = (
    (b"cache-control", b"no-store"),
    (b"content-type", PROBLEM_JSON.encode()),
)

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii")
    for status in HTTPStatus
}


class RequestIds:
    """Numbers requests: a random start for each process, then counting.

    Args:
        rng: where the start comes from.
    """

    def __init__(self, rng: random.Random) -> None:
        self._prefix = f"{rng.getrandbits(40):010x}-"
        self._numbers = count(1)

    def next(self) -> str:
        """A new id, such as ``5f3a0c9e1b-2a``."""
        return f"{self._prefix}{next(self._numbers):x}"


def head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Status line and header lines, each ended; the empty line is left to the sender."""
    lines = [_STATUS_LINES[status]]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    return b"".join(lines)


class Problems:
    """Makes answers of errors.

    Args:
        clock: for ``Retry-After``, which counts from now.
        ids: numbers the requests that never got an id elsewhere.
    """

    def __init__(self, clock: Clock, ids: RequestIds) -> None:
        self._clock = clock
        self.ids = ids

    def answer(self, error: BaseException, request_id: str) -> tuple[int, Headers, bytes]:
        """Status, headers (``content-length`` included, request id not) and body."""
        problem = problem_for(error, request_id=request_id, wall=self._clock.wall())
        if problem.status == 500:
            log.error("request %s failed", request_id, exc_info=error)
        body = problem.body()
        headers = (
            *_ALWAYS,
            *(
                (name.lower().encode("ascii"), value.encode("latin-1"))
                for name, value in problem.headers
            ),
            (b"content-length", str(len(body)).encode("ascii")),
        )
        return problem.status, headers, body

    def raw(self, error: BaseException, request_id: str, tail: bytes) -> bytes:
        """The whole answer in bytes.

        Args:
            error: any.
            request_id: of the request.
            tail: header lines the connection adds, each ended.
        """
        status, headers, body = self.answer(error, request_id)
        identified = (*headers, (REQUEST_ID_FIELD, request_id.encode("ascii")))
        return b"".join((head(status, identified), tail, b"\r\n", body))

    def refusal(self, error: BrokerError, tail: bytes, *, head_only: bool) -> bytes:
        """As ``raw``, for a request that got no id; ``head_only`` when it was a HEAD."""
        answer = self.raw(error, self.ids.next(), tail)
        if head_only:
            return answer[: answer.index(b"\r\n\r\n") + 4]
        return answer
