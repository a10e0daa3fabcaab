"""One HTTP request to an MCP server, taken apart as far as it was needed.

Duty: its fields, its bearer, its body as a message.
Not its duty: what becomes of it (``guard``).
"""

from __future__ import annotations

from typing import Final

from broker.client.mcp.bearers import bearer_in
from broker.client.mcp.exchange import Receive, Scope, read
from broker.client.mcp.message import (
    INVALID_REQUEST,
    LISTEN,
    Fault,
    Message,
    RequestId,
    read_message,
)
from broker.clock import Clock
from broker.errors import RequestTooLarge, RequestTooSlow

LARGE: Final = 413
SLOW: Final = 408
"""Statuses of a body that is none since it did not arrive whole."""


class Request:
    """One HTTP request, taken apart as far as it was needed.

    Args:
        scope: of ASGI.
        receive: of ASGI.
        clock: measures how long the body takes.
        patience: seconds that the body may take to arrive, from when it is asked for.
    """

    def __init__(self, scope: Scope, receive: Receive, clock: Clock, patience: float) -> None:
        self.scope, self.receive = scope, receive
        self._clock, self._patience = clock, patience
        self.method: str = scope["method"]
        self.headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ]
        self.bearer = bearer_in(self.headers)
        client = scope.get("client")
        self.address: str = client[0] if client else ""
        self.body: bytes | None = None
        """All of it; None while it was not read to its end."""
        self.beginning = b""
        """What was read of a body that is too large."""
        self.gone = False
        """The peer went before the end of the body."""
        self.message: Message | Fault | None = None
        self.status = 400
        """Of a body that is none."""

    @property
    def id(self) -> RequestId:
        """Of the JSON-RPC message, as far as it is known."""
        return None if self.message is None else self.message.id

    @property
    def http1(self) -> bool:
        """Whether a connection carries one request at a time."""
        return str(self.scope.get("http_version", "1.1")).startswith("1")

    @property
    def opens_stream(self) -> bool:
        """Whether the answer may stay open: to a GET, or to who listens in the newest era."""
        if isinstance(self.message, Message):
            return self.message.method == LISTEN
        return self.method == "GET"

    def field(self, name: str) -> str:
        """A header field; empty without one."""
        said: str = dict(self.headers).get(name, "")
        return said.strip().lower()

    async def read(self, largest: int) -> Message | Fault | None:
        """Read the body, once; None when the peer went.

        Args:
            largest: bytes; of a larger one so much is read and no more.
        """
        beginning, deadline = bytearray(), self._clock.now() + self._patience
        try:
            body = await read(self.headers, self.receive, largest, beginning, self._clock, deadline)
        except RequestTooLarge:
            self.status, self.beginning = LARGE, bytes(beginning)
            self.message = Fault(INVALID_REQUEST, "Request body too large")
            return self.message
        except RequestTooSlow:
            self.status = SLOW
            self.message = Fault(INVALID_REQUEST, "The request did not arrive in time.")
            return self.message
        if body is None:
            self.gone = True
            return None
        self.body = body
        self.message = read_message(body)
        return self.message
