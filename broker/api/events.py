"""Server-sent events: what happens to a caller's credentials, as it happens.

Duty: one stream a subscriber, with only what the caller may see; end it when the caller goes,
when the broker stops, or when it has lasted long enough.
Not its duty: queues and gaps (``telemetry.events``).
Rules:

* names, versions, ids of the caller's own tokens and the audit's head only; of credentials only
  those that the caller may have *now*: the list is asked at each event, so that a narrowed
  list counts at once;
* a stream that was opened with a scoped token ends with it, by time or revocation;
* a stream holds memory, so a client has a bounded number of them;
* a comment every 15 s shows both sides that the other lives.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, Final, Protocol

from fastapi import Response

from broker.access.principal import Principal
from broker.api.framework import NO_STORE, Receive, Send, gone
from broker.clock import Clock
from broker.errors import BrokerBusy, BrokerStopping
from broker.protocol.names import EVENT_STREAM
from broker.telemetry.events import Event, Events, Subscription

STREAMS: Final = 16
"""Open streams a client: one a worker process is usual."""
HEARTBEAT: Final = 15.0
"""Seconds between two comments on a quiet stream."""
FOR_ALL: Final = frozenset({"audit_head"})
"""Kinds without a credential, for each caller: one that keeps the head of the audit's chain is a
witness of it outside the broker."""
LONGEST: Final = 3600.0
"""Seconds after which a stream ends, so that its caller shows its proof again."""

_OPENING: Final = b"retry: 1000\n: open\n\n"
"""A client that loses the stream comes back after a second."""


class Visible(Protocol):
    """The part of ``HandoutService`` that says what a caller may see."""

    def sees(self, principal: Principal, name: str) -> bool:
        """Whether the caller may know of a credential."""
        ...


class EventStreams:
    """The open streams of one broker.

    Args:
        events: the bus.
        visible: says what a caller may see; ``HandoutService``.
        clock: the only source of time.
    """

    def __init__(self, events: Events, visible: Visible, clock: Clock) -> None:
        self._events = events
        self._visible = visible
        self._clock = clock
        self._open: Counter[str] = Counter()

    def open(self, principal: Principal) -> Response:
        """Begin a stream for ``principal``.

        Raises:
            BrokerBusy: the client has as many as it may.
            BrokerStopping: the broker stops.
        """
        if self._open[principal.caller.name] >= STREAMS:
            raise BrokerBusy("This client has as many event streams open as it may.")

        grant = principal.grant

        def wanted(event: Event) -> bool:
            if grant is not None and self._clock.wall() >= grant.expires_at:
                return False
            if event.client:
                mine = event.client == principal.caller.name
                return mine and (grant is None or event.fields.get("token") == grant.id)
            name = event.fields.get("credential")
            if name is None:
                return event.kind in FOR_ALL
            return self._visible.sees(principal, name)

        subscription = self._events.subscribe(wanted)
        if subscription.closed:
            raise BrokerStopping
        return EventStream(subscription, self._clock, self._open, principal)


class EventStream(Response):
    """One stream; made by ``EventStreams.open``."""

    def __init__(
        self, subscription: Subscription, clock: Clock, opened: Counter[str], principal: Principal
    ) -> None:
        super().__init__()
        self._subscription = subscription
        self._clock = clock
        self._opened = opened
        self._client = principal.caller.name
        self._grant = principal.grant

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Send events until the subscription ends."""
        del scope
        subscription = self._subscription
        leaving = asyncio.ensure_future(gone(receive))
        leaving.add_done_callback(lambda _: subscription.close())
        self._opened[self._client] += 1
        try:
            with subscription:
                await self._run(send)
        finally:
            self._opened[self._client] -= 1
            leaving.cancel()

    async def _run(self, send: Send) -> None:
        headers = [NO_STORE, (b"content-type", EVENT_STREAM.encode("ascii"))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send(send, _OPENING)
        subscription, clock = self._subscription, self._clock
        end = clock.now() + LONGEST
        if self._grant is not None:
            end = min(end, clock.now() + self._grant.expires_at - clock.wall())
        while not subscription.closed and (now := clock.now()) < end:
            if not await clock.wait(subscription.ready, min(now + HEARTBEAT, end)):
                await _send(send, b": \n\n")
                continue
            taken = subscription.take()
            if taken:
                await _send(send, b"".join(map(encode, taken)))
            if self._grant is not None and any(
                event.fields.get("token") == self._grant.id for event in taken
            ):
                break  # what it was opened with is revoked
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


def encode(event: Event) -> bytes:
    """One event in the stream's format; a JSON document has no line ends to escape."""
    said = json.dumps(dict(event.fields), separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.kind}\ndata: {said}\n\n".encode()
