"""Reading a request's body and answering in ASGI.

Duty: bytes. Not its duty: what they mean.
Rules: a body is read whole and once, within a size and a time, and given on as it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from broker.client.mcp.challenge import Refusal
from broker.client.mcp.message import LARGEST
from broker.clock import Clock
from broker.errors import RequestTooLarge, RequestTooSlow

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


async def read(
    headers: Iterable[tuple[str, str]],
    receive: Receive,
    largest: int,
    beginning: bytearray,
    clock: Clock,
    deadline: float,
) -> bytes | None:
    """The whole body; None when the peer went before its end.

    Args:
        headers: with lower-case names.
        receive: of ASGI.
        largest: bytes.
        beginning: gets what was read, whatever comes of it; of a body that is larger, the first
            ``largest`` bytes.
        clock: time.
        deadline: on ``clock``.

    Raises:
        RequestTooLarge: it is larger, or says that it is too large for anybody.
        RequestTooSlow: its end did not come by ``deadline``.
    """
    declared = dict(headers).get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > LARGEST:
        raise RequestTooLarge
    try:
        async with asyncio.timeout(None) as bound:
            ending = asyncio.create_task(_end(bound, clock, deadline), name="time for a body")
            try:
                return await _collect(receive, largest, beginning)
            finally:
                ending.cancel()
    except TimeoutError as error:
        if bound.expired():
            raise RequestTooSlow from error
        raise


async def _collect(receive: Receive, largest: int, beginning: bytearray) -> bytes | None:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        beginning += message.get("body", b"")
        if len(beginning) > largest:
            del beginning[largest:]
            raise RequestTooLarge
        if not message.get("more_body", False):
            return bytes(beginning)


async def _end(bound: asyncio.Timeout, clock: Clock, deadline: float) -> None:
    await clock.sleep_until(deadline)
    bound.reschedule(0.0)  # long past: now


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
