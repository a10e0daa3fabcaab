"""urllib3's connections, which tell the call that uses them.

Duty: let the call under way in this thread know its connection, so that it can be broken off.
Not its duty: the call (``transport``).
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class User(Protocol):
    """A call that uses a connection."""

    def attach(self, connection: HTTPConnection) -> None:
        """The request is about to go out on this connection."""
        ...


class _Running(threading.local):
    user: User


running = _Running()
"""The call this thread carries out."""


class _PlainConnection(HTTPConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        running.user.attach(self)
        super().request(*args, **kwargs)


class _TlsConnection(HTTPSConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        running.user.attach(self)
        super().request(*args, **kwargs)


class PlainPool(HTTPConnectionPool):
    """Connections to one http origin."""

    ConnectionCls = _PlainConnection


class TlsPool(HTTPSConnectionPool):
    """Connections to one https origin."""

    ConnectionCls = _TlsConnection
