"""A service that accepts the keys it reads from Vault, as docs/rotation.md asks of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.demo.serving import ServedApp

Read = Callable[[], Mapping[str, str]]


class AcceptingService:
    """Answers ``GET /ping`` for a key in ``x-api-key`` that is accepted, 401 for any other.

    Args:
        read: the accepted keys, id to value, as they stand in Vault now.
        plain: whether the values are keys, not digests.
    """

    def __init__(self, read: Read, *, plain: bool = False) -> None:
        self._read, self._plain = read, plain
        self._served = ServedApp(Starlette(routes=[Route("/ping", self._ping)]))
        self.address = self._served.address

    def start(self) -> None:
        """Serve."""
        self._served.start()

    def stop(self) -> None:
        """End."""
        self._served.stop()

    def accepts(self, key: str) -> bool:
        """Whether it takes this key now."""
        shown = key if self._plain else hashlib.sha256(key.encode()).hexdigest()
        return shown in self._read().values()

    def _ping(self, request: Request) -> Response:  # on a thread of its own: reading may block
        good = self.accepts(request.headers.get("x-api-key", ""))
        return JSONResponse({}, status_code=200 if good else 401)
