"""One call to Vault from the event loop: slot, thread, deadline, late answer.

Duty: carry out blocking exchanges for async callers.
Not its duty: what is asked (``client``), retries.
Rules:

* the deadline stands above the socket: a server that trickles bytes cannot stretch it;
* who gives up a call (deadline, cancellation) leaves nothing behind: when the request
  may create a token or a lease its answer is awaited as long again, and what it brings
  is revoked; any other exchange is broken off;
* a slot of the limiter is held until the thread is free, not until the caller has gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from broker.clock import Clock
from broker.errors import VaultError, VaultRefused, VaultTimeout, VaultUnavailable
from broker.vault import responses
from broker.vault.interface import Priority
from broker.vault.limiter import Limiter
from broker.vault.refusals import refusal
from broker.vault.responses import Answer, Minted
from broker.vault.transport import Exchange, Transport
from broker.vault.workers import Workers

logger = logging.getLogger("broker.vault")

T = TypeVar("T")

_UNDO_DELAYS: Final = (0.0, 1.0, 5.0, 25.0)
"""Seconds before each try to revoke what a late answer brought."""

Flight: TypeAlias = "asyncio.Future[tuple[Answer, T | VaultError]]"


class RequestMetrics(Protocol):
    """What is told of each request that was sent."""

    def vault_request(self, operation: str, status: str, seconds: float) -> None:
        """``operation``: method of the port; ``status``: "ok" or an error's code."""
        ...


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """What to ask, and how to read the answer."""

    operation: str
    """Method of the port, for metrics."""
    request: str
    """For messages, such as ``read of secret/app``; holds no secret."""
    send: Callable[[Exchange], Answer]
    """Runs in a thread."""
    read: Callable[[Answer, float], T]
    """A good answer and ``sent_at`` → the result. Runs in the thread as well."""
    priority: Priority = Priority.READ
    also_good: frozenset[int] = frozenset()
    """Statuses besides 2xx that ``read`` reads."""
    undo: Callable[[Minted], Awaitable[None]] | None = None
    """Revokes what an answer nobody waits for has created; None: it creates nothing."""


class Calls:
    """Carries out calls, some at once. Owns threads and connections.

    Args:
        transport: HTTP.
        limiter: slots; as many threads are kept.
        clock: time; read in the event loop only.
        timeout: deadline of one request in seconds, from when it has its slot.
        close_timeout: longest ``aclose`` in seconds.
        metrics: told of each request.
    """

    def __init__(
        self,
        transport: Transport,
        limiter: Limiter,
        *,
        clock: Clock,
        timeout: float,
        close_timeout: float,
        metrics: RequestMetrics | None,
    ) -> None:
        self._transport = transport
        self._limiter = limiter
        self._clock = clock
        self._timeout = timeout
        self._close_timeout = close_timeout
        self._metrics = metrics
        self._workers = Workers(limiter.concurrency, name="vault")
        self._under_way: set[Exchange] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ask(self, call: Call[T]) -> T:
        """Wait for a slot, send, wait for the answer.

        Raises:
            VaultError: and nothing else.
        """
        if self._closed:
            raise VaultUnavailable("The broker is stopping.")
        await self._limiter.acquire(call.priority)
        sent_at, wall = self._clock.now(), self._clock.wall()
        exchange = self._transport.exchange(sent_at)
        try:
            flight = self._workers.submit(partial(_carry_out, call, exchange, sent_at, wall))
        except VaultUnavailable:
            self._limiter.release(call.priority)
            raise
        done = asyncio.Event()
        self._under_way.add(exchange)
        flight.add_done_callback(partial(self._landed, call, exchange, done))
        status = ""
        try:
            if not await self._clock.wait(done, sent_at + self._timeout):
                raise VaultTimeout(f"{call.request}: no answer within {self._timeout:g} s.")
            answer, result = flight.result()
            if isinstance(result, VaultError):
                self._undo_later(call, answer)
                raise result
            status = "ok"
            return result
        except VaultError as error:
            status = error.code
            if not flight.done():
                self._abandon(call, exchange, flight, done, sent_at)
            raise
        except asyncio.CancelledError:
            self._abandon(call, exchange, flight, done, sent_at)
            raise
        finally:
            if status:
                self._tell(call.operation, status, self._clock.now() - sent_at)

    async def aclose(self) -> None:
        """Await and revoke what abandoned calls bring, within ``close_timeout``; end the rest."""
        deadline = self._clock.now() + self._close_timeout
        while self._late and self._clock.now() < deadline:
            ended = asyncio.Event()
            waker = partial(_set, ended)
            for task in self._late:
                task.add_done_callback(waker)
            await self._clock.wait(ended, deadline)
        self._closed = True
        for exchange in self._under_way:
            exchange.abort()
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        self._workers.close()
        self._transport.close()

    def _tell(self, operation: str, status: str, seconds: float) -> None:
        logger.debug("%s: %s in %.3f s", operation, status, seconds)
        if self._metrics is not None:
            self._metrics.vault_request(operation, status, seconds)

    def _landed(
        self, call: Call[T], exchange: Exchange, done: asyncio.Event, flight: Flight[T]
    ) -> None:
        """The thread is free again, whether or not somebody still waits."""
        flight.exception()  # looked at here, for nobody else may
        self._under_way.discard(exchange)
        self._limiter.release(call.priority)
        done.set()

    def _abandon(
        self,
        call: Call[T],
        exchange: Exchange,
        flight: Flight[T],
        done: asyncio.Event,
        sent_at: float,
    ) -> None:
        """Nobody waits for this answer any more."""
        if call.undo is None:
            exchange.abort()
        else:
            self._later(call, self._await_late(call, exchange, flight, done, sent_at))

    async def _await_late(
        self,
        call: Call[T],
        exchange: Exchange,
        flight: Flight[T],
        done: asyncio.Event,
        sent_at: float,
    ) -> None:
        if not await self._clock.wait(done, sent_at + 2 * self._timeout):
            exchange.abort()
        elif flight.exception() is None:
            answer, _ = flight.result()
            await self._undo(call, responses.minted(answer))

    def _undo_later(self, call: Call[T], answer: Answer) -> None:
        """An answer that cannot be used may have created something all the same."""
        if call.undo is not None and (brought := responses.minted(answer)):
            self._later(call, self._undo(call, brought))

    async def _undo(self, call: Call[T], brought: Minted) -> None:
        if call.undo is None or not brought:
            return
        for delay in _UNDO_DELAYS:
            await self._clock.sleep(delay)
            try:
                await call.undo(brought)
            except VaultRefused as error:
                logger.warning(
                    "what %s brought too late may not be revoked: %s", call.request, error
                )
                return
            except VaultError:
                continue
            logger.info("what %s brought too late is revoked", call.request)
            return
        logger.warning("what %s brought too late is left to expire", call.request)

    def _later(self, call: Call[T], work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"vault-late-{call.operation}")
        self._late.add(task)
        task.add_done_callback(self._late.discard)


def _carry_out(
    call: Call[T], exchange: Exchange, sent_at: float, wall: float
) -> tuple[Answer, T | VaultError]:
    """In the thread: send and read. An error in the answer is returned beside it, not raised."""
    answer = call.send(exchange)
    if not answer.ok and answer.status not in call.also_good:
        return answer, refusal(answer, call.request, wall=wall)
    try:
        return answer, call.read(answer, sent_at)
    except VaultError as error:
        return answer, error


def _set(event: asyncio.Event, _: object) -> None:
    event.set()
