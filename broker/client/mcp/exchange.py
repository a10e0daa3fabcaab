"""Reading a request's body and answering in ASGI.

Duty: bytes. Not its duty: what they mean.
Rules: a body is read whole and once, within a bound, and given on as it came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from broker.client.mcp.challenge import Refusal
from broker.errors import RequestTooLarge

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


async def read(headers: Iterable[tuple[str, str]], receive: Receive, largest: int) -> bytes | None:
    """The whole body; None when the peer went before its end.

    Raises:
        RequestTooLarge: it is larger, or says so.
    """
    declared = dict(headers).get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > largest:
        raise RequestTooLarge
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > largest:
            raise RequestTooLarge
        if not message.get("more_body", False):
            return bytes(body)


def replay(body: bytes | None, receive: Receive) -> Receive:
    """What gives ``body`` once and goes on with ``receive``; None: nothing was read."""
    if body is None:
        return receive
    waiting = [body]

    async def again() -> MutableMapping[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


async def answer(refusal: Refusal, send: Send) -> None:
    """Send an answer of the guard's own."""
    headers = [
        (name.lower().encode("ascii"), value.encode("latin-1")) for name, value in refusal.headers
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})
