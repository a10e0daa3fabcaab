"""One connection: bytes in pieces, answers in order, an end in time.

Duty: bound what a peer can make us hold, wait for or compute; identify the peer; refuse.
Not its duty: what a request says (``protocol``), opening sockets (``listeners``).
Rules (each has a test in ``tests/unit/test_api_protocol.py``):

* bytes are parsed in pieces of 1 KiB, one piece a loop turn, so that a peer who sends
  thousands of requests at once does not hold the loop (promise 10);
* nothing more is parsed while answers wait to be read or pipelined requests to be answered;
* answers leave in the order of their requests, refusals included, one to a request;
* after a refusal our side of the connection is closed and what still comes is thrown away,
  so that the peer can read the refusal before the connection is reset;
* a request that takes longer than 10 s to arrive gets 408; an answer that is left unread, or
  a connection left idle, ends; both sooner when the listener fills.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import abstractmethod
from math import inf
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from broker.api.door import Asked, Door, Peer
from broker.errors import (
    BrokerBusy,
    BrokerError,
    HeadersTooLarge,
    RequestMalformed,
    RequestTooLarge,
    RequestTooSlow,
)

PIECE: Final = 1024
"""Bytes parsed in one loop turn: some twenty of the smallest requests. A refusal with its
record takes 30 to 80 microseconds, so that these stay under 1 ms; a usual request is one piece."""

CHUNK_OVERHEAD: Final = 8
"""Raw bytes allowed per byte of body: the framing of one-byte chunks is six."""

READ: Final = 16 * 1024
"""Bytes read at once: bounds what a peer makes us hold. asyncio's own 256 KiB can also cost
30 microseconds a read, when the C library maps and unmaps so large a buffer each time."""

LINGER: Final = 2.0
"""Seconds a peer has to read a refusal before the connection is reset."""

IDLE, HEAD, BODY = range(3)
"""What is being received: nothing, a head, a body."""


class Connection(HttpToolsProtocol):
    """One connection to one listener; ``protocol.BrokerProtocol`` knows the requests.

    Args:
        door: what the connections of the listener share.
        config: uvicorn's, loaded, with the application.
        server_state: uvicorn's; connections, tasks and the ``Date`` field of one listener.
        loop: the running one.
    """

    def __init__(
        self,
        door: Door,
        config: Config,
        server_state: ServerState,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state={}, _loop=loop)
        self._door = door
        self._peer = Peer(client=door.client)
        self._stage = IDLE
        self._served = 0
        self._answered = False
        """The hot path answered the request being parsed."""
        self._received = 0
        """Raw bytes of the request being parsed, in earlier pieces."""
        self._body = 0
        self._asked: Asked | None = None
        """What the hot path read last."""
        self._known = b""
        """The bytes it was read from, when they were one whole request."""
        self._rest = b""
        """Bytes that came but wait for their turn."""
        self._deaf = False
        """Whatever still comes is thrown away."""
        self._verdict = b""
        """A refusal that waits for the answers before it."""
        self._last = False
        """The listener stops: the request being received is the last."""
        self._seen: tuple[object, ...] = ()
        self._since = 0.0

    # --- the connection ---------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Identify the peer, or refuse it when the listener is full."""
        if len(self.connections) >= self._door.limits.connections:
            self.transport = transport
            self._deaf = True
            transport.write(self._refusal(BrokerBusy()))
            transport.close()
            return
        super().connection_made(transport)
        cast("Any", transport).max_size = READ
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            # struct ucred of unix(7): pid, uid, gid.
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
            self._peer = Peer(client=self._door.client, uid=struct.unpack("iII", raw)[1])
        elif self.client is not None:
            self._peer = Peer(client=self._door.client, address=self.client[0])

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; requests still running learn of it by ``http.disconnect``."""
        self._deaf = True
        self._rest = b""
        self._forget()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse at most one piece now; the rest waits for later loop turns."""
        if self._deaf:
            return
        if self._rest or self._held():
            self._rest += data
            self.flow.pause_reading()
        elif data == self._known and self._answer_again():
            return
        elif len(data) <= PIECE:
            self._parse(data)
        else:
            self._rest = data
            self._parse_rest()

    def resume_writing(self) -> None:
        """Go on parsing: the peer reads again."""
        super().resume_writing()
        self._parse_rest_soon()

    def _held(self) -> bool:
        return bool(self.pipeline) or self.flow.write_paused

    def _answering(self) -> bool:
        """Whether the application still has a request of this connection."""
        # uvicorn's annotation leaves out that there is none at first.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not (cycle.response_complete or cycle.disconnected)

    def _parse_rest_soon(self) -> None:
        if self._rest and not self._deaf and not self._held():
            self.loop.call_soon(self._parse_rest)

    def _parse_rest(self) -> None:
        if self._deaf or self._held():
            return
        piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
        if piece:
            self._parse(piece)
        if self._rest:
            self.flow.pause_reading()
            self._parse_rest_soon()
        else:
            self.flow.resume_reading()

    def _parse(self, piece: bytes) -> None:
        before = self._served if self._stage == IDLE else -1
        self._forget()
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # We know no other protocol: RFC 9110 section 7.8 lets us ignore the wish.
            pass
        except httptools.HttpParserCallbackError as error:
            fault = BrokerError(f"a fault while reading a request on {self._door.name}")
            fault.__cause__ = error
            self._refuse(fault)
        except httptools.HttpParserError:
            self._refuse(RequestMalformed("This is not HTTP/1.1."))
        # One whole request, begun and ended here, answered on the hot path.
        if self._asked is not None and self._served == before + 1 and self._stage == IDLE:
            self._known = piece
        if self._stage != IDLE and not self._deaf:
            self._received += len(piece)
            limits = self._door.limits
            # The first piece may begin with the end of another request: one piece of grace.
            if self._stage == HEAD:
                if self._received > limits.head_bytes + PIECE:
                    self._refuse(HeadersTooLarge())
            elif self._received > limits.head_bytes + limits.body_bytes * CHUNK_OVERHEAD:
                self._refuse(RequestTooLarge())

    def _forget(self) -> None:
        self._asked, self._known = None, b""

    @abstractmethod
    def _answer_again(self) -> bool:
        """Answer a request that came in the same bytes as the one before, unparsed."""

    # --- answers --------------------------------------------------------------------

    def _send(self, answer: bytes) -> None:
        """Write a whole answer of the hot path, unless the peer is gone."""
        if not self.transport.is_closing():
            self.transport.write(answer)

    def _send_what_waits(self) -> None:
        """Answers of the hot path that wait for the end of this turn go before what follows."""
        if self._door.fast is not None:
            self._door.fast.commit()

    def on_response_complete(self) -> None:
        """Go on after an answer of the application: next request, refusal, or more bytes."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._verdict:
            self._say(self._verdict)
        elif not self._rest:
            self.flow.resume_reading()
        # The rest of a body may be among what waits, also of the request just started.
        self._parse_rest_soon()

    def _refuse(self, error: BrokerError) -> None:
        """Answer the request being parsed with ``error``, after those before it."""
        if self._deaf:
            return
        self._deaf = True
        self._rest = b""
        answer = self._refusal(error)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or self._stage != BODY or cycle.scope["headers"] is not self.headers:
            # The application does not know this request; earlier ones it may still answer.
            if self._answering():
                self._verdict = answer
            else:
                self._say(answer)
        elif self.pipeline and self.pipeline[0][0] is cycle:
            # It waits in the queue: take it back.
            self.pipeline.popleft()
            cycle.disconnected = True
            self._verdict = answer
        elif cycle.response_started:
            # There is one answer to a request.
            self.transport.close()
        else:
            # The application has begun with it: to the application the peer is gone.
            cycle.disconnected = True
            cycle.message_event.set()
            self._say(answer)

    def _refusal(self, error: BrokerError) -> bytes:
        head_only = self._stage == BODY and self.parser.get_method() == b"HEAD"
        return self._door.refusals.refusal(error, self._door.tail_close, head_only=head_only)

    def _say(self, answer: bytes) -> None:
        self._send_what_waits()
        if self.transport.is_closing():
            return
        self._verdict = b""
        self.transport.write(answer)
        if self._last:
            self.transport.close()
            return
        # Closing with unread bytes would reset the connection under the peer's eyes.
        self.transport.write_eof()
        self.flow.resume_reading()

    def shutdown(self) -> None:
        """Close when idle; else let what is being received or answered be the last."""
        self._send_what_waits()
        if self._answering():
            self.cycle.keep_alive = False
        elif not self._verdict and (self._deaf or (self._stage == IDLE and not self._rest)):
            self.transport.close()
        self._last = True

    # --- time -----------------------------------------------------------------------

    def tend(self, now: float) -> None:
        """Look at the connection once a second and end what takes too long.

        Args:
            now: reading of ``Clock.now()``.
        """
        state = (self._served, self._stage, self._deaf, self.flow.write_paused)
        closing = self.transport.is_closing() or self._deaf
        if state != self._seen:
            self._seen, self._since = state, now
            return
        waited = now - self._since
        limits = self._door.limits
        crowded = 2 * len(self.connections) > limits.connections
        patience = limits.crowded_seconds if crowded else inf
        if self.flow.write_paused:
            if waited >= limits.send_seconds:
                self.transport.abort()
        elif closing:
            if not self._verdict and waited >= LINGER:
                self.transport.abort()
        elif self._stage != IDLE:
            if waited >= min(limits.receive_seconds, patience):
                self._refuse(RequestTooSlow())
        elif self._answering():
            self._since = now
        elif waited >= min(limits.idle_seconds, patience):
            self.transport.close()
