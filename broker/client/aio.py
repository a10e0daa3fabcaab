"""The client for ``async`` code.

Duty: get, pin, report and place credentials, on asyncio.
Not its duty: what is asked and decided (``core``); bytes (``link``).
Rules:

* a cached value is given at once, without a turn of the event loop;
* tasks that miss the cache together make one request; cancelling one does not cancel it;
* nothing is bound to an event loop, so one ``Broker`` may be a module's global.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import httpx2

from broker.client import tool
from broker.client.auth import Auth, make_auth
from broker.client.core import Core
from broker.client.credential import UNAUTHORIZED, Credential
from broker.client.link import AsyncTransport, Transport, converse, kept_open, streaming
from broker.client.pinned import Pinned
from broker.client.setup import LOG, make_core
from broker.client.steps import Reply, Steps
from broker.client.sync import SyncBroker
from broker.clock import Clock

Result = TypeVar("Result")


class Broker:
    """A client of the broker for asyncio.

    Args:
        url: ``unix:///run/broker/<client>/broker.sock`` or ``http://127.0.0.1:8210``;
            None takes ``BROKER_URL`` at the first request.
        token_file: path of the client token; None takes ``BROKER_TOKEN_FILE``, and without
            it the file beside the socket.
        start_wait: seconds to wait for a broker that was never met: it may start later.
        clock: time.
        transport: in place of a socket, such as ``testing.FakeBroker``.
        core: shared with another client, cache and all.

    Example::

        broker = Broker()
        key = (await broker.get("search-api")).value
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token_file: str | None = None,
        start_wait: float = 30.0,
        clock: Clock | None = None,
        transport: Transport | None = None,
        core: Core | None = None,
    ) -> None:
        self._core = core or make_core(url, token_file, start_wait=start_wait, clock=clock)
        self._transport = transport
        self._flights: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[Hashable, asyncio.Task[Any]]
        ] = WeakKeyDictionary()
        self.sync = SyncBroker(transport=transport, core=self._core)
        """The same client for threads: same cache, same broker."""
        self._line: tuple[asyncio.AbstractEventLoop, AsyncTransport] | None = None

    async def get(self, name: str, *, wait: float = 0.0, lasting: float = 0.0) -> Credential:
        """The current credential; from the cache until its ``use_until``.

        Args:
            name: as configured in the broker.
            wait: seconds to wait for a first value, at the start of the pod.
            lasting: seconds for which the value will be used; a cached one that may be used
                for less is confirmed first, if the broker can be reached.

        Raises:
            CredentialUnknown: no such credential for this caller.
            CredentialUnavailable: no usable value now; says since when and until when.
            CallerUnauthenticated, CallerForbidden: the broker refuses this caller.
            BrokerUnreachable: no answer, and no cached value that may still be used.
            BrokerAnswerInvalid: what answers is no broker, or a much newer one.
            SettingsError: ``BROKER_URL`` is missing or of no use.
        """
        work = tool.current()
        held = self._core.cached(name, work, lasting)
        if held is not None:
            return held
        with tool.errors_told():
            place = ("get", name, work.tool, work.whose)
            return await self._once(place, self._core.fetch(name, work, wait))

    @asynccontextmanager
    async def use(self, name: str, *, lasting: float = 0.0) -> AsyncIterator[Pinned]:
        """Pin one version for a piece of work; a refusal that ends it is reported.

        A refusal is an ``HTTPStatusError`` (or what has such a ``response``) with status 401,
        or another that the hand-out counts (``report_statuses``), that leaves the block, from a
        listed origin if any is listed, or ``key.refused()``.
        The exception itself passes unchanged.

        Args:
            name: as configured in the broker.
            lasting: seconds that the work will take, see ``get``.

        Raises:
            Like ``get``.
        """
        key = Pinned(await self.get(name, lasting=lasting))
        try:
            yield key
        except BaseException as error:
            key.saw(error)
            raise
        finally:
            if key.refusal is not None:
                await self.tell(key.credential, key.refusal, key.detail)

    async def report(
        self, credential: Credential, *, status: int = UNAUTHORIZED, detail: str = ""
    ) -> Credential | None:
        """Say that the upstream refused ``credential``.

        Args:
            credential: as it was given out.
            status: the upstream's; the broker counts 401, others only if told to.
            detail: a few words for the operator; never the key.

        Returns:
            The newer version; None when there is none, and ``credential`` stays the best.

        Raises:
            Like ``get``.
        """
        work = tool.current()
        place = ("report", credential.name, credential.version, work.tool, work.whose)
        with tool.errors_told():
            return await self._once(place, self._core.report(credential, work, status, detail))

    async def tell(
        self, credential: Credential, status: int = UNAUTHORIZED, detail: str = ""
    ) -> Credential | None:
        """``report`` for where another error is on its way already: logs instead of raising."""
        try:
            return await self.report(credential, status=status, detail=detail)
        except Exception as error:
            LOG.warning("could not report a refusal of %s: %s", credential.name, error)
            return None

    def auth(self, name: str, *, follow_redirects: bool = False) -> Auth:
        """An ``auth=`` for clients of httpx2 and httpx, async and sync.

        Puts the key where the credential's ``use`` says, on every hop to one of its origins
        and on no other; on a 401, or what else the hand-out counts, reports the version and
        tries once with the newer.
        For httpx, import httpx before calling this.

        Args:
            name: as configured in the broker; must have a ``use`` with origins.
            follow_redirects: follow redirects here, each hop with its key from the start. A
                client's own ``follow_redirects`` is as safe but sends a hop that needs the
                key twice, first without.
        """
        return make_auth(name, self, self.sync, follow_redirects=follow_redirects)

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        work: tool.Work = tool.Work(),  # noqa: B008 - a Work is frozen
        within: float,
    ) -> Reply:
        """Ask the broker anything else; for the guard. Raises like ``Core.exchange``."""
        steps = self._core.exchange(
            method, path, headers=headers, body=body, work=work, within=within
        )
        transport: AsyncTransport | None = self._transport
        if transport is None and self._line is not None:
            loop, line = self._line
            transport = line if loop is asyncio.get_running_loop() else None
        return await converse(self._core, steps, transport)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keep connections for ``exchange`` open meanwhile, on this event loop.

        Raises:
            SettingsError: ``BROKER_URL`` is missing or of no use.
        """
        async with kept_open(self._core.endpoint) as line:
            before = self._line
            self._line = (asyncio.get_running_loop(), line)
            try:
                yield
            finally:
                self._line = before

    def stream(self, path: str, *, silence: float) -> AbstractAsyncContextManager[httpx2.Response]:
        """Open a stream of the broker; ``silence`` is the longest in seconds. For the guard."""
        call = replace(self._core.stream(path), within=silence)
        return streaming(self._core, call, self._transport)

    def reread(self) -> bool:
        """Read the client token again; whether it changed."""
        return self._core.reread()

    def forget_subjects(self) -> None:
        """Drop every value held for the subject of a scoped token: one was revoked."""
        self._core.forget_subjects()

    @property
    def clock(self) -> Clock:
        """Its time."""
        return self._core.clock

    async def _once(self, place: Hashable, steps: Steps[Result]) -> Result:
        loop = asyncio.get_running_loop()
        flights = self._flights.setdefault(loop, {})
        flight: asyncio.Task[Result] | None = flights.get(place)
        if flight is None:
            flight = loop.create_task(
                converse(self._core, steps, self._transport), name=f"broker.client {place}"
            )
            flights[place] = flight

            def land(done: asyncio.Task[Result]) -> None:
                del flights[place]
                if not done.cancelled():
                    done.exception()  # seen, even if all who waited were cancelled

            flight.add_done_callback(land)
        else:
            steps.close()
        return await asyncio.shield(flight)
