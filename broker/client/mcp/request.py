"""One HTTP request to an MCP server, taken apart as far as it was needed.

Duty: its fields, its bearer, its body as a message.
Not its duty: what becomes of it (``guard``).
"""

from __future__ import annotations

from broker.client.mcp.bearers import bearer_in
from broker.client.mcp.exchange import Receive, Scope, read
from broker.client.mcp.message import INVALID_REQUEST, Fault, Message, RequestId, read_message
from broker.errors import RequestTooLarge


class Request:
    """One HTTP request, taken apart as far as it was needed."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope, self.receive = scope, receive
        self.method: str = scope["method"]
        self.headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ]
        self.bearer = bearer_in(self.headers)
        client = scope.get("client")
        self.address: str = client[0] if client else ""
        self.body: bytes | None = None
        self.message: Message | Fault | None = None
        self.status = 400
        """Of a body that is none."""

    @property
    def id(self) -> RequestId:
        """Of the JSON-RPC message, as far as it is known."""
        return None if self.message is None else self.message.id

    def field(self, name: str) -> str:
        """A header field; empty without one."""
        said: str = dict(self.headers).get(name, "")
        return said.strip().lower()

    async def read(self, largest: int) -> Message | Fault | None:
        """Read the body; None when the peer went."""
        try:
            body = await read(self.headers, self.receive, largest)
        except RequestTooLarge:
            self.status = 413
            self.message = Fault(INVALID_REQUEST, "Request body too large")
            return self.message
        if body is None:
            return None
        self.body = body
        self.message = read_message(body)
        return self.message
