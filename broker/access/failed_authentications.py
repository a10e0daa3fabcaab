"""Failed authentications: how many of them are answered and recorded one by one.

Duty: count the failures of each peer; say when they are too many, and what to record then.
Not its duty: authenticating (``caller``), writing records (``handout``, ``audit``).
Rules:

* only failures count, and only failures are refused: a right token is taken however often
  a wrong one came before, for every container of a pod shares loopback, and a hostile one must
  not lock its neighbours out;
* up to the limit a failure is an ordinary 401 with its own record. Over it the answer is a 429,
  and one record stands for all of a peer and window, so that a flood cannot fill the audit;
* a peer is what cannot be chosen: client and uid on a socket; on TCP all of 127/8 is one
  address, since who connects from loopback may choose any of its sixteen million.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from broker.access.limit_windows import Windows
from broker.audit.sharing import Sharing
from broker.clock import Clock

PEERS: Final = 1024
"""Peers told apart at once; of more, the one seen longest ago is forgotten."""
OTHERS: Final = "others"
"""Whose failures they are that were not recorded before their peer was forgotten."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many within so many seconds."""

    amount: int
    seconds: int


def peer(client: str | None, uid: int | None, address: str = "") -> str:
    """Who failed, as counted and recorded.

    Args:
        client: whose socket it is; None on TCP.
        uid: at the other end of the socket; None on TCP.
        address: of the other end on TCP.
    """
    if client is not None:
        return f"{client} uid {'unknown' if uid is None else uid}"
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(known, IPv6Address):
        known = known.ipv4_mapped or known
    return "loopback" if known.is_loopback else known.compressed


class FailedAuthentications:
    """Counts failures by peer. All methods belong to the loop's thread.

    Args:
        clock: the only source of time.
        rate: failures of one peer that are answered one by one; None: all are.
    """

    def __init__(self, clock: Clock, rate: Rate | None) -> None:
        self._rate = rate
        self._windows = Windows(clock, counters=PEERS)
        self._floods = Sharing[str](clock, others=OTHERS, most=PEERS)
        self._share(rate)

    def configure(self, rate: Rate | None) -> None:
        """Take over another rate; what was counted by the old one is forgotten."""
        if rate != self._rate:
            self._rate = rate
            self._windows.clear()
            self._share(rate)

    def _share(self, rate: Rate | None) -> None:
        if rate is not None:
            self._floods.period = rate.seconds

    def failed(self, peer: str) -> float:
        """Count a failure.

        Returns:
            0.0 under the limit: answer 401 and record it. Else the seconds until the next
            failure is under it again: answer 429 and record what ``to_record`` says.
        """
        rate = self._rate
        if rate is None or self._windows.take(peer, rate.amount, rate.seconds):
            return 0.0
        self._floods.count(peer)
        return self._windows.wait(peer, rate.amount, rate.seconds)

    def to_record(self, peer: str) -> int:
        """After a failure over the limit: for how many one record now stands; 0: write none.

        The first over the limit is recorded at once, further ones of the same window together.
        """
        return 0 if self._rate is None else self._floods.due(peer)

    def ended(self, *, everything: bool = False) -> list[tuple[str, int]]:
        """Peers and counts still to be recorded, of those whose window is over.

        To be asked now and then, about once a window, and with ``everything`` at the stop.
        """
        return self._floods.over(everything=everything)
