"""The client for code without an event loop.

Duty: get, pin, report and place credentials, in any number of threads.
Not its duty: what is asked and decided (``core``); bytes (``link``).
Rules: the twin of ``aio``, word for word where it can be; threads that miss the cache
together make one request.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from broker.client import tool
from broker.client.auth import Auth, make_auth
from broker.client.core import Core
from broker.client.credential import UNAUTHORIZED, Credential
from broker.client.link import Transport, converse_sync
from broker.client.pinned import Pinned
from broker.client.setup import LOG, make_core
from broker.client.steps import Steps
from broker.clock import Clock

Result = TypeVar("Result")


class SyncBroker:
    """A client of the broker for threads. Arguments as for ``Broker``.

    Example::

        broker = SyncBroker()
        key = broker.get("search-api").value
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
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[Any]] = {}

    def get(self, name: str, *, wait: float = 0.0, lasting: float = 0.0) -> Credential:
        """See ``Broker.get``."""
        work = tool.current()
        held = self._core.cached(name, work, lasting)
        if held is not None:
            return held
        with tool.errors_told():
            place = ("get", name, work.tool, work.whose)
            return self._once(place, self._core.fetch(name, work, wait))

    @contextmanager
    def use(self, name: str, *, lasting: float = 0.0) -> Iterator[Pinned]:
        """See ``Broker.use``."""
        key = Pinned(self.get(name, lasting=lasting))
        try:
            yield key
        except BaseException as error:
            key.saw(error)
            raise
        finally:
            if key.refusal is not None:
                self.tell(key.credential, key.refusal, key.detail)

    def report(
        self, credential: Credential, *, status: int = UNAUTHORIZED, detail: str = ""
    ) -> Credential | None:
        """See ``Broker.report``."""
        work = tool.current()
        place = ("report", credential.name, credential.version, work.tool, work.whose)
        with tool.errors_told():
            return self._once(place, self._core.report(credential, work, status, detail))

    def tell(
        self, credential: Credential, status: int = UNAUTHORIZED, detail: str = ""
    ) -> Credential | None:
        """See ``Broker.tell``."""
        try:
            return self.report(credential, status=status, detail=detail)
        except Exception as error:
            LOG.warning("could not report a refusal of %s: %s", credential.name, error)
            return None

    def auth(self, name: str, *, follow_redirects: bool = False) -> Auth:
        """See ``Broker.auth``; for sync clients only."""
        return make_auth(name, None, self, follow_redirects=follow_redirects)

    def _once(self, place: Hashable, steps: Steps[Result]) -> Result:
        with self._lock:
            flight = self._flights.get(place)
            mine = flight is None
            if flight is None:
                flight = self._flights[place] = Future()
        if not mine:
            steps.close()
            shared: Result = flight.result()
            return shared
        try:
            result = converse_sync(self._core, steps, self._transport)
        except BaseException as error:
            self._land(place)
            flight.set_exception(error)
            raise
        self._land(place)
        flight.set_result(result)
        return result

    def _land(self, place: Hashable) -> None:
        with self._lock:
            del self._flights[place]
