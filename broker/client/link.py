"""One request to the broker over its socket: the only network code of the client.

Duty: send a ``Call``, return a ``Reply`` or ``Lost``; run a conversation, async and sync.
Not its duty: what is said (``core``).
Rules:

* a transport of httpx2 is used directly, without a client around it: no redirect is
  followed, no proxy or ``.netrc`` of the environment is believed, nothing is logged;
* a connection serves one request: they are seldom (a value lasts for its ``use_until``), and
  so nothing hangs on an event loop, a restart of the broker or a fork. Only who asks at each
  of its own requests keeps connections, for as long as it says (``kept_open``);
* the whole exchange has a deadline, not each read; without an event loop it is looked at
  between the pieces of the body only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import httpx2

from broker.client.core import Core
from broker.client.endpoint import Endpoint
from broker.client.steps import Call, Lost, Pause, Reply, Steps

Result = TypeVar("Result")

_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used, as the address is ``http`` on loopback; spares reading the CA bundle."""
_OPTIONS: Final[Any] = {
    "verify": _NO_TLS,
    "trust_env": False,
    "limits": httpx2.Limits(max_connections=1, max_keepalive_connections=0),
}
KEPT: Final = httpx2.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30)
"""The broker closes what is idle for 75 s: no connection is used when that is near."""
LARGEST_ANSWER: Final = 4 * 1024 * 1024
"""Bytes: more than any set of keys, less than what hurts."""


class AsyncTransport(Protocol):
    """An httpx2 transport for an event loop."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer an async client."""
        ...


class Transport(AsyncTransport, Protocol):
    """An httpx2 transport of both kinds, such as ``testing.FakeBroker``."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a sync client."""
        ...


async def converse(
    core: Core, steps: Steps[Result], transport: AsyncTransport | None = None
) -> Result:
    """Carry a conversation to its end, on the event loop."""
    try:
        step = next(steps)
        while True:
            if isinstance(step, Pause):
                await core.clock.sleep(step.seconds)
                step = steps.send(None)
            else:
                step = steps.send(await _send(core.endpoint, step, transport))
    except StopIteration as end:
        result: Result = end.value
        return result


def converse_sync(core: Core, steps: Steps[Result], transport: Transport | None = None) -> Result:
    """Carry a conversation to its end, in a thread."""
    try:
        step = next(steps)
        while True:
            if isinstance(step, Pause):
                core.clock.block(step.seconds)
                step = steps.send(None)
            else:
                step = steps.send(_send_sync(core, step, transport))
    except StopIteration as end:
        result: Result = end.value
        return result


async def _send(endpoint: Endpoint, call: Call, transport: AsyncTransport | None) -> Reply | Lost:
    body = bytearray()
    try:
        async with asyncio.timeout(call.within), AsyncExitStack() as stack:
            carrier: AsyncTransport | httpx2.AsyncHTTPTransport | None = transport
            if carrier is None:
                if _is_missing(endpoint):
                    return Lost(f"there is no socket {endpoint.socket}")
                own = httpx2.AsyncHTTPTransport(uds=endpoint.socket or None, **_OPTIONS)
                carrier = await stack.enter_async_context(own)
            response = await carrier.handle_async_request(_request(endpoint, call))
            stack.push_async_callback(response.aclose)
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    return Lost("the answer is too large")
    except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as error:
        return Lost(_why(error))
    return _reply(response, bytes(body))


@asynccontextmanager
async def streaming(
    core: Core, call: Call, transport: Transport | None = None
) -> AsyncIterator[httpx2.Response]:
    """Open an answer whose body goes on; ``call.within`` bounds each silence, not the whole.

    Raises:
        httpx2.TransportError: there is no connection, or it ended.
    """
    endpoint = core.endpoint
    async with AsyncExitStack() as stack:
        carrier: Transport | httpx2.AsyncHTTPTransport | None = transport
        if carrier is None:
            if _is_missing(endpoint):
                raise httpx2.ConnectError(f"there is no socket {endpoint.socket}")
            own = httpx2.AsyncHTTPTransport(uds=endpoint.socket or None, **_OPTIONS)
            carrier = await stack.enter_async_context(own)
        response = await carrier.handle_async_request(_request(endpoint, call))
        stack.push_async_callback(response.aclose)
        yield response


def kept_open(endpoint: Endpoint) -> httpx2.AsyncHTTPTransport:
    """A transport that keeps connections, for one event loop; whoever made it closes it."""
    options = {**_OPTIONS, "limits": KEPT}
    return httpx2.AsyncHTTPTransport(uds=endpoint.socket or None, **options)


def _send_sync(core: Core, call: Call, transport: Transport | None) -> Reply | Lost:
    endpoint, until, body = core.endpoint, core.clock.now() + call.within, bytearray()
    try:
        with ExitStack() as stack:
            carrier: Transport | httpx2.HTTPTransport | None = transport
            if carrier is None:
                if _is_missing(endpoint):
                    return Lost(f"there is no socket {endpoint.socket}")
                own = httpx2.HTTPTransport(uds=endpoint.socket or None, **_OPTIONS)
                carrier = stack.enter_context(own)
            response = carrier.handle_request(_request(endpoint, call))
            stack.callback(response.close)
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    return Lost("the answer is too large")
                if core.clock.now() > until:
                    return Lost("the answer took too long")
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        return Lost(_why(error))
    return _reply(response, bytes(body))


def _is_missing(endpoint: Endpoint) -> bool:
    # The usual state before the broker starts; trying to connect would leave a socket of
    # httpcore's sync backend to the garbage collector, which warns.
    return bool(endpoint.socket) and not Path(endpoint.socket).is_socket()


def _request(endpoint: Endpoint, call: Call) -> httpx2.Request:
    # Connecting on one machine succeeds or fails at once.
    timeout = httpx2.Timeout(call.within, connect=min(call.within, 2.0))
    return httpx2.Request(
        call.method,
        endpoint.base + call.path,
        headers=call.headers,
        content=call.body,
        extensions={"timeout": timeout.as_dict()},
    )


def _reply(response: httpx2.Response, body: bytes) -> Reply:
    return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, body)


def _why(error: Exception) -> str:
    # The kind and the system's words, such as "ConnectError: [Errno 111] Connection refused";
    # an illegal header would be quoted, so a LocalProtocolError keeps its words to itself.
    words = "" if isinstance(error, httpx2.LocalProtocolError) else str(error)
    return ": ".join(part for part in (type(error).__name__, words) if part)
