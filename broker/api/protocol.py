"""One HTTP request: uvicorn's protocol with the checks and the hot path it lacks.

Duty: check the head of a request; answer hand-outs from the hot path; give everything else
to the ASGI application.
Not its duty: deciding about credentials (``handout``), bytes and time (``connection``).
Rules (each has a test in ``tests/unit/test_api_protocol.py``):

* heads over 16 KiB or 64 fields get 431, bodies over 16 KiB get 413, garbage gets 400, a
  foreign Host gets 421: problem documents, and the end of the connection;
* the hot path gets plain requests only: HTTP/1.1, GET, no body, no field twice, nothing
  to wait for; the application gets all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import httptools

from broker.api.connection import BODY, HEAD, IDLE, PIECE, Connection
from broker.api.door import PEER
from broker.errors import (
    BrokerError,
    HeadersTooLarge,
    RequestMalformed,
    RequestMisdirected,
    RequestTooLarge,
)

_NOT_FAST: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"prefer")
)
"""A hand-out on the hot path has none of these: bodies, waits, upgrades."""


class BrokerProtocol(Connection):
    """One connection, as the parser tells of it."""

    def on_message_begin(self) -> None:
        """Begin a request; what only the application needs is made later."""
        self._stage = HEAD
        self._received = self._body = 0
        self._answered = False
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; trailers of a chunked body are not among them."""
        if self._stage == HEAD:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head, then answer on the hot path or start the application."""
        self._stage = BODY
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
        if not door.fast.answer(asked, self._peer, tail, self._send):
            return False
        self._answered = True
        if keep_alive:
            self._asked = asked
        else:
            self._deaf = True
            door.fast.commit()
            self.transport.close()
        return True

    def _answer_again(self) -> bool:
        """Answer a request that came in the same bytes as the one before, unparsed.

        Callers keep a connection and ask for the same thing; the same bytes at the start of
        a message are the same request. What is kept ends with the connection.
        """
        door = self._door
        if self._stage != IDLE or self._last or self._answering() or door.fast is None:
            return False
        if not door.fast.answer(self._asked, self._peer, door.tail_open, self._send):
            return False
        self._served += 1
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
        self._stage = IDLE
        self._served += 1
        if not self._answered and not self._deaf:
            super().on_message_complete()
