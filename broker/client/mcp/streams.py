"""Answers that stay open: cut when the bearer that opened them is good no more.

Duty: know the open streams; ask again about their bearers; end those whose bearer ended.
Not its duty: judging a bearer (``introspection``); which requests open streams (``guard``).
Rules:

* a stream lives no longer than a request with its bearer would be let in: it ends with the
  token's life, at once by a revocation that is heard, and else when the last verdict about its
  bearer is as old as the cache may be. It is asked about before that, so that a token which is
  used for nothing but listening still counts as used at the broker;
* while nobody can say, the last verdict holds for its time and no longer;
* the app hears that its peer went, as it would if the peer had, and is cancelled when it does
  not end within ``GRACE``; of what it sends after the cut nothing leaves, and the answer is
  brought to its end, so that a client sees no broken connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final

from broker.client.mcp.agent import Agent
from broker.client.mcp.exchange import App, Receive, Scope, Send
from broker.client.mcp.introspection import KEPT, Introspection
from broker.client.tool import Subject
from broker.clock import SLICE, Clock
from broker.errors import BearerRefused, BrokerError

log = logging.getLogger("broker.client.mcp")

GRACE: Final = 1.0
"""Seconds in which an app ends by itself once it heard that its peer went."""
ASK: Final = KEPT - 1.0
"""Seconds after which a bearer is asked about again, before its verdict is too old."""
PAUSE: Final = 0.5
"""Seconds between questions that nobody answered."""
EXPIRED: Final = "its bearer expired"
EMPTY: Final = [(b"content-length", b"0")]


class Streams:
    """The open streams of one guard.

    Args:
        introspection: asked again about scoped tokens.
        clock: time.
    """

    def __init__(self, introspection: Introspection, clock: Clock) -> None:
        self._introspection = introspection
        self._clock = clock
        self._open: set[_Stream] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def run(self, agent: Agent, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Have ``app`` answer a request of ``agent``, for as long as its bearer is good."""
        stream = _Stream(receive, send)
        self._open.add(stream)
        try:
            async with asyncio.timeout(None) as bound:
                watch = asyncio.create_task(
                    self._watch(stream, agent, bound), name="guard watches a stream"
                )
                try:
                    await app(scope, stream.receive, stream.send)
                finally:
                    watch.cancel()
        except TimeoutError:
            if not bound.expired():
                raise
        finally:
            self._open.discard(stream)
        if stream.cut.is_set():
            # A peer that reads nothing may not hold it up: the server closes what is not ended.
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await stream.finish()

    async def _watch(self, stream: _Stream, agent: Agent, bound: asyncio.Timeout) -> None:
        try:
            if agent.acting is None:
                why = await self._expiry(agent)
            else:
                why = await self._end(agent, agent.acting)
        except Exception:
            log.exception("a stream could not be watched")
            why = "it could not be watched"
        log.info("cut a stream of %r: %s", agent.subject, why)
        stream.cut.set()
        await self._clock.sleep(GRACE)
        bound.reschedule(0.0)  # long past: now

    async def _expiry(self, agent: Agent) -> str:
        """Wait until a JWT ends; why that is an end."""
        while (left := agent.ends_at - self._clock.wall()) > 0:
            # In slices, since somebody may set the wall clock.
            await self._clock.sleep(min(left, SLICE))
        return EXPIRED

    async def _end(self, agent: Agent, acting: Subject) -> str:
        """Wait until a scoped token is good no more; why."""
        believed_until = self._introspection.asked_at(acting) + KEPT
        while (left := agent.ends_at - self._clock.wall()) > 0:
            now = self._clock.now()
            # Before the question, so that a revocation while it is under way is seen after it.
            news = self._introspection.news
            try:
                async with asyncio.timeout(max(PAUSE, believed_until - now)):
                    asked_at = await self._introspection.verdict(acting, ASK)
            except BearerRefused:
                return "its bearer is good no more"
            except (BrokerError, TimeoutError):
                if self._clock.now() + PAUSE > believed_until:
                    return "nobody can say whether its bearer is good"
                await self._clock.sleep(PAUSE)
                continue
            believed_until = asked_at + KEPT
            await self._clock.wait(news, min(now + left, asked_at + ASK))
        return EXPIRED


class _Stream:
    """One answer that is under way."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._started = self._ended = False
        self.cut = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        """See ASGI; tells of the cut as of a peer that went."""
        if self.cut.is_set():
            return {"type": "http.disconnect"}
        said = asyncio.ensure_future(self._receive())
        cut = asyncio.ensure_future(self.cut.wait())
        try:
            await asyncio.wait((said, cut), return_when=asyncio.FIRST_COMPLETED)
            return {"type": "http.disconnect"} if self.cut.is_set() else said.result()
        finally:
            said.cancel()
            cut.cancel()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """See ASGI; of what comes after the cut nothing leaves."""
        if self.cut.is_set():
            return
        if message["type"] == "http.response.start":
            self._started = True
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._ended = True
        await self._send(message)

    async def finish(self) -> None:
        """Bring the answer to its end."""
        if not self._started:
            await self._send({"type": "http.response.start", "status": 401, "headers": EMPTY})
        if not self._ended:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
