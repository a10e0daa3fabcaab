"""Listeners: when the local API's sockets open, what tends them, how they close.

Duty: bind, accept, tend once a second, stop within a bound.
Not its duty: which listeners exist and in which order they start (``app``), signals
(``app``; uvicorn's own server would take them and end the process by them), HTTP (``protocol``).
Rules:

* a stop closes what is idle, then lets what is being answered end within its bound; what is
  still open then is cut. Waits and event streams were ended before (``HandoutService.end_waits``,
  ``Events.close``), so that they delay nothing;
* the ``Date`` field is made once a second, not once an answer;
* the file of a Unix socket is removed at the end, if it is still ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from email.utils import formatdate
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from broker.api import sockets
from broker.api.door import Door
from broker.api.protocol import BrokerProtocol
from broker.api.sockets import TcpAddress, UnixAddress
from broker.clock import Clock

log = logging.getLogger("broker.api")

TICK: Final = 1.0
"""Seconds between two looks at the connections; how exact their time caps are."""

SLICE: Final = 200
"""Connections looked at in one turn of the loop, at some 2 microseconds each."""

_DRAIN_STEP: Final = 0.02
"""Seconds between two looks at what is left to drain."""

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class Listener:
    """One address of the local API.

    Args:
        address: where to listen.
        door: limits, hosts, hot path; shared by the connections.
        app: the ASGI application for everything the hot path leaves.
        clock: the only source of time.
    """

    def __init__(
        self, address: UnixAddress | TcpAddress, door: Door, app: Asgi, clock: Clock
    ) -> None:
        self.address = address
        self.door = door
        self._clock = clock
        self._config = Config(
            cast("Any", _cuttable(app)),
            http=BrokerProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._socket: socket.socket | None = None
        self._identity = (0, 0)
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The TCP port in use, after ``bind``; 0 for a Unix socket."""
        if self._socket is None or isinstance(self.address, UnixAddress):
            return 0
        return int(self._socket.getsockname()[1])

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._state.connections)

    def bind(self) -> None:
        """Take the address, so that a conflict shows at once; nothing is accepted yet.

        Raises:
            ListenerUnusable: the address cannot be had.
        """
        if self._socket is None:
            self._socket = sockets.listen(self.address)
            if isinstance(self.address, UnixAddress):
                self._identity = sockets.identify(self.address.path)

    async def start(self) -> None:
        """Accept connections.

        Raises:
            ListenerUnusable: the address cannot be had.
        """
        self.bind()
        assert self._socket is not None
        self._set_date()
        loop = asyncio.get_running_loop()

        def connect() -> BrokerProtocol:
            return BrokerProtocol(self.door, self._config, self._state, loop)

        self._server = await loop.create_server(connect, sock=self._socket, backlog=sockets.BACKLOG)
        log.info("listening: %s on %s", self.door.name, self.address, extra={"port": self.port})

    def tend(self, now: float) -> None:
        """Renew the ``Date`` field and end connections that take too long.

        Args:
            now: reading of ``Clock.now()``.
        """
        for _ in self.tending(now):
            pass

    def tending(self, now: float) -> Iterator[None]:
        """``tend`` in slices, with room for a turn of the loop after each."""
        self._set_date()
        for number, connection in enumerate(list(self._state.connections), 1):
            cast("BrokerProtocol", connection).tend(now)
            if number % SLICE == 0:
                yield

    def _set_date(self) -> None:
        date = formatdate(self._clock.wall(), usegmt=True).encode("ascii")
        self._state.default_headers = [(b"date", date)]
        self.door.set_date(date)

    async def stop(self, deadline: float) -> None:
        """Accept nothing more, close what is idle, wait for the rest, cut what is left.

        Args:
            deadline: reading of ``Clock.now()`` by which all is closed.
        """
        if self._server is not None:
            self._server.close()
        if self._socket is not None and isinstance(self.address, UnixAddress):
            sockets.remove(self.address, self._socket, self._identity)
        elif self._socket is not None:
            self._socket.close()
        self._socket = None
        for connection in list(self._state.connections):
            cast("BrokerProtocol", connection).shutdown()
        while self._state.connections and self._clock.now() < deadline:
            await self._clock.sleep(_DRAIN_STEP)
        left = list(self._state.connections)
        if left:
            log.warning(
                "cut %d connections of %s at the end of the stop", len(left), self.door.name
            )
        for connection in left:
            cast("BrokerProtocol", connection).transport.abort()
        await asyncio.sleep(0)
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _cuttable(app: Asgi) -> Asgi:
    """Wrap ``app`` so that being cut at the end of a stop is no fault that uvicorn logs."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return run


async def tend(listeners: Iterable[Listener], clock: Clock) -> None:
    """Tend listeners for ever; meant to be a named task of ``app``.

    Args:
        listeners: all of them; may grow and shrink while this runs.
        clock: the only source of time.
    """
    while True:
        await clock.sleep(TICK)
        now = clock.now()
        for listener in listeners:
            for _ in listener.tending(now):
                await asyncio.sleep(0)
