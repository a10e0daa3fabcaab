"""One HTTP connection: uvicorn's protocol with the limits and the hot path it lacks.

Duty: bound what a peer can make us hold, wait for or compute; identify the peer; answer
hand-outs from the hot path; give everything else to the ASGI application.
Not its duty: deciding about credentials (``handout``), opening sockets (``listeners``).
Rules (each has a test in ``tests/unit/test_api_protocol.py``):

* heads over 16 KiB or 64 fields get 431, bodies over 16 KiB get 413, a request that takes
  longer than 10 s gets 408, garbage gets 400, a foreign Host gets 421: problem documents;
* bytes are parsed in pieces of 4 KiB, one piece a loop turn, so that a peer who sends
  thousands of requests at once does not hold the loop (promise 10);
* nothing more is parsed while answers wait to be read or pipelined requests to be answered;
* answers leave in the order of their requests, refusals included;
* after a refusal our side of the connection is closed and what still comes is thrown away,
  so that the peer can read the refusal before the connection is reset.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from broker.api.door import PEER, Asked, Door, Peer
from broker.errors import (
    BrokerBusy,
    BrokerError,
    HeadersTooLarge,
    RequestMalformed,
    RequestMisdirected,
    RequestTooLarge,
    RequestTooSlow,
)

log = logging.getLogger("broker.api")

PIECE: Final = 4096
"""Bytes parsed in one loop turn: some eighty of the smallest requests, under 1 ms."""

CHUNK_OVERHEAD: Final = 8
"""Raw bytes allowed per byte of body: the framing of one-byte chunks is six."""

LINGER: Final = 2.0
"""Seconds a peer has to read a refusal before the connection is reset."""

_IDLE, _HEAD, _BODY = range(3)

# A hand-out on the hot path has none of these: bodies, waits, upgrades.
_NOT_FAST: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"prefer")
)


class BrokerProtocol(HttpToolsProtocol):
    """One connection to one listener.

    Args:
        door: what the connections of the listener share.
        config: uvicorn's, loaded, with the application.
        server_state: uvicorn's; connections, tasks and the ``Date`` field of one listener.
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
        self._stage = _IDLE
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
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            # struct ucred of unix(7): pid, uid, gid.
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
            self._peer = Peer(client=self._door.client, uid=struct.unpack("iII", raw)[1])

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
        before = self._served if self._stage == _IDLE else -1
        self._forget()
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # We know no other protocol: RFC 9110 section 7.8 lets us ignore the wish.
            pass
        except httptools.HttpParserCallbackError as error:
            log.error("fault while reading a request on %s", self._door.name, exc_info=error)
            self._refuse(BrokerError("The broker failed to read the request."))
        except httptools.HttpParserError:
            self._refuse(RequestMalformed("This is not HTTP/1.1."))
        # One whole request, begun and ended here, answered on the hot path.
        if self._asked is not None and self._served == before + 1 and self._stage == _IDLE:
            self._known = piece
        if self._stage != _IDLE and not self._deaf:
            self._received += len(piece)
            limits = self._door.limits
            # The first piece may begin with the end of another request: one piece of grace.
            if self._stage == _HEAD:
                if self._received > limits.head_bytes + PIECE:
                    self._refuse(HeadersTooLarge())
            elif self._received > limits.head_bytes + limits.body_bytes * CHUNK_OVERHEAD:
                self._refuse(RequestTooLarge())

    # --- the parser's callbacks ---------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request; what only the application needs is made later."""
        self._stage = _HEAD
        self._received = self._body = 0
        self._answered = False
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; trailers of a chunked body are not among them."""
        if self._stage == _HEAD:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head, then answer on the hot path or start the application."""
        self._stage = _BODY
        if self._deaf:
            return
        headers = self.headers
        fields = dict(headers)
        if (
            self._door.fast is not None
            and not self._answering()
            and len(fields) == len(headers) <= self._door.limits.headers
            and self._received <= PIECE
            and fields.keys().isdisjoint(_NOT_FAST)
            and (host := fields.get(b"host")) is not None
            and self._door.admits(host)
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and self._answer_fast(fields)
        ):
            return
        error = self._objection(fields)
        if error is not None:
            self._refuse(error)
            return
        self._start(fields)

    def _answer_fast(self, fields: Mapping[bytes, bytes]) -> bool:
        """Answer the request being parsed on the hot path; False leaves it to the routes."""
        door = self._door
        assert door.fast is not None
        asked = door.fast.read(self.url, fields)
        if asked is None:
            return False
        keep_alive = self.parser.should_keep_alive() and not self._last
        tail = door.tail_open if keep_alive else door.tail_close
        answer = door.fast.answer(asked, self._peer, tail)
        if answer is None:
            return False
        self._answered = True
        self.transport.write(answer)
        if keep_alive:
            self._asked = asked
        else:
            self._deaf = True
            self.transport.close()
        return True

    def _forget(self) -> None:
        self._asked, self._known = None, b""

    def _answer_again(self) -> bool:
        """Answer a request that came in the same bytes as the one before, unparsed.

        Callers keep a connection and ask for the same thing; the same bytes at the start of
        a message are the same request. What is kept ends with the connection.
        """
        door = self._door
        if self._stage != _IDLE or self._last or self._answering() or door.fast is None:
            return False
        answer = door.fast.answer(self._asked, self._peer, door.tail_open)
        if answer is None:
            return False
        self._served += 1
        self.transport.write(answer)
        return True

    def _objection(self, fields: Mapping[bytes, bytes]) -> BrokerError | None:
        """Say what is wrong with the head of a request, in the order of cost."""
        limits = self._door.limits
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.headers) > limits.headers or size > limits.head_bytes:
            return HeadersTooLarge()
        version = self.parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            return RequestMalformed("This is not HTTP/1.1.")
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or version == "1.1"):
            # RFC 9112 section 3.2: none or several is a 400.
            return RequestMalformed("A request names its host once.")
        try:
            target = httptools.parse_url(self.url)
            target.path.decode("ascii")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError, AttributeError):
            return RequestMalformed("The request target is not a path.")
        # RFC 9112 section 3.2.2: the host of an absolute target overrides the field.
        named = target.host or (hosts[0] if hosts else b"")
        if not self._door.admits(named):
            return RequestMisdirected()
        if int(fields.get(b"content-length", b"0")) > limits.body_bytes:
            return RequestTooLarge()
        return None

    def _start(self, fields: Mapping[bytes, bytes]) -> None:
        """Hand the request to the application, or queue it behind those before it."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = fields.get(b"expect", b"").lower() == b"100-continue"
        scope = cast("dict[str, Any]", self.scope)
        scope["extensions"] = {PEER: self._peer}
        super().on_headers_complete()
        if self._last or self.parser.should_upgrade():
            # After an upgrade's head the parser takes nothing for a body.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of body, as long as all of it stays small."""
        if self._deaf or self._answered:
            return
        self._body += len(body)
        if self._body > self._door.limits.body_bytes:
            self._refuse(RequestTooLarge())
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        self._stage = _IDLE
        self._served += 1
        if not self._answered and not self._deaf:
            super().on_message_complete()

    # --- answers --------------------------------------------------------------------

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
        elif self._rest:
            self._parse_rest_soon()
        else:
            self.flow.resume_reading()

    def _refuse(self, error: BrokerError) -> None:
        """Answer the request being parsed with ``error``, after those before it."""
        if self._deaf:
            return
        self._deaf = True
        self._rest = b""
        answer = self._refusal(error)
        cycle = self.cycle
        if not self._answering():
            self._say(answer)
        elif cycle.scope["headers"] is not self.headers:
            # An earlier request is still being answered.
            self._verdict = answer
        elif self.pipeline and self.pipeline[0][0] is cycle:
            # This request waits in the queue: take it back.
            self.pipeline.popleft()
            cycle.disconnected = True
            self._verdict = answer
        else:
            # The application has begun with it: to the application the peer is gone.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            else:
                self._say(answer)

    def _refusal(self, error: BrokerError) -> bytes:
        head_only = self._stage == _BODY and self.parser.get_method() == b"HEAD"
        return self._door.refusals.refusal(error, self._door.tail_close, head_only=head_only)

    def _say(self, answer: bytes) -> None:
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
        if self._answering():
            self.cycle.keep_alive = False
        elif not self._verdict and (self._deaf or (self._stage == _IDLE and not self._rest)):
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
        if self.flow.write_paused:
            if waited >= limits.send_seconds:
                self.transport.abort()
        elif closing:
            if not self._verdict and waited >= LINGER:
                self.transport.abort()
        elif self._stage != _IDLE:
            if waited >= limits.receive_seconds:
                self._refuse(RequestTooSlow())
        elif self._answering():
            self._since = now
        elif waited >= limits.idle_seconds:
            self.transport.close()
