"""What the connections of one listener share.

Duty: limits, allowed hosts, the hot path and the peer, as plain values.
Not its duty: speaking HTTP (``protocol``), opening and closing (``listeners``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from broker.errors import BrokerError

PEER: Final = "broker.peer"
"""Key of the ``Peer`` in the ASGI scope's ``extensions``."""

LOOPBACK_HOSTS: Final = ("127.0.0.1", "[::1]", "localhost")

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
"""``uri-host [ ":" port ]`` of RFC 9110 section 7.2, as far as we can be named."""

_REMEMBERED = 64
"""Host values remembered as good, so that the hot path does no matching."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener takes before it refuses. Sizes in bytes, times in seconds."""

    head_bytes: int = 16 * 1024
    """Request line and headers together."""
    headers: int = 64
    """Number of header fields."""
    body_bytes: int = 16 * 1024
    receive_seconds: float = 10.0
    """From the first byte of a request to its last."""
    send_seconds: float = 30.0
    """How long a peer may leave an answer unread."""
    idle_seconds: float = 75.0
    """How long a connection may stay open between requests; longer than clients keep them."""
    connections: int = 4096
    crowded_seconds: float = 2.0
    """What ``receive_seconds`` and ``idle_seconds`` shrink to while more than half of the
    connections are taken, so that who says nothing cannot keep others out."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as far as the kernel vouches for it."""

    client: str | None = None
    """The client whose own socket this came through."""
    uid: int | None = None
    """Its uid when it connected (SO_PEERCRED of unix(7)); None on TCP."""
    address: str = ""
    """Its IP address; empty on a Unix socket."""


Asked: TypeAlias = object
"""What ``FastPath.read`` made of a request; only the hot path looks into it."""
Send: TypeAlias = Callable[[bytes], None]
"""Writes a whole answer to a connection."""


class FastPath(Protocol):
    """Answers what it can at once, in prepared bytes."""

    def read(self, target: bytes, fields: Mapping[bytes, bytes]) -> Asked | None:
        """Read ``GET target``; None leaves the request to the routes.

        What is returned may be answered again and again, on the connection it came from.

        Args:
            target: the request target as sent.
            fields: header fields by lower-case name, none of them sent twice.
        """

    def answer(self, asked: Asked, peer: Peer, tail: bytes, send: Send) -> bool:
        """Answer a request as things stand now; False leaves it to the routes.

        The answer is sent at the end of this turn of the loop at the latest, after those
        that were asked for before it.

        Args:
            asked: from ``read``.
            peer: who is connected.
            tail: header lines the connection adds, each ended.
            send: takes the whole answer, once.

        Raises:
            nothing: whatever goes wrong is an answer.
        """

    def commit(self) -> None:
        """Send now what waits for the end of the turn."""


class Refusals(Protocol):
    """Makes the whole answer to a request that never reached the routes."""

    def refusal(self, error: BrokerError, tail: bytes, *, head_only: bool) -> bytes:
        """Return status line, headers, ``tail`` and the problem document, if any."""
        ...


@dataclass(slots=True)
class Door:
    """One listener, as its connections see it."""

    name: str
    """For logs: ``data tcp``, ``data unix search-mcp``, ``admin``, ``operations``."""
    refusals: Refusals
    limits: Limits = field(default_factory=Limits)
    client: str | None = None
    hosts: frozenset[bytes] | None = None
    """Lower-case host names this listener may be called by; None: any."""
    fast: FastPath | None = None
    tail_open: bytes = b""
    """The ``Date`` line; what an answer adds on a connection that stays open."""
    tail_close: bytes = b""
    """The same and ``Connection: close``."""
    _good: set[bytes] = field(default_factory=set)

    def set_date(self, date: bytes) -> None:
        """Take the value of the ``Date`` field, once a second."""
        self.tail_open = b"date: %b\r\n" % date
        self.tail_close = b"date: %b\r\nconnection: close\r\n" % date

    def admits(self, host: bytes) -> bool:
        """Whether a Host field value names this listener (against DNS rebinding).

        The port is not compared: a port-forward changes it, a rebinding page cannot
        change the name.
        """
        if self.hosts is None or host in self._good:
            return True
        match = _HOST.fullmatch(host)
        if match is None or match[1].lower() not in self.hosts:
            return False
        if len(self._good) < _REMEMBERED:
            self._good.add(host)
        return True


def hosts(names: Iterable[str] = ()) -> frozenset[bytes]:
    """Hosts of a loopback listener: the loopback's own names and ``names``."""
    return frozenset(name.lower().encode("ascii") for name in (*LOOPBACK_HOSTS, *names))
