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

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from broker.access.limit_windows import Windows
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


@dataclass(slots=True)
class _Flood:
    """A peer over its limit."""

    unrecorded: int = 0
    next_record_at: float = 0.0


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
        self._clock = clock
        self._rate = rate
        self._windows = Windows(clock, counters=PEERS)
        self._floods: OrderedDict[str, _Flood] = OrderedDict()
        self._others = 0

    def configure(self, rate: Rate | None) -> None:
        """Take over another rate; what was counted by the old one is forgotten."""
        if rate != self._rate:
            self._rate = rate
            self._windows.clear()

    def failed(self, peer: str) -> float:
        """Count a failure.

        Returns:
            0.0 under the limit: answer 401 and record it. Else the seconds until the next
            failure is under it again: answer 429 and record what ``to_record`` says.
        """
        rate = self._rate
        if rate is None or self._windows.take(peer, rate.amount, rate.seconds):
            return 0.0
        flood = self._floods.get(peer)
        if flood is None:
            if len(self._floods) >= PEERS:
                _, oldest = self._floods.popitem(last=False)
                self._others += oldest.unrecorded
            flood = self._floods[peer] = _Flood()
        else:
            self._floods.move_to_end(peer)
        flood.unrecorded += 1
        return self._windows.wait(peer, rate.amount, rate.seconds)

    def to_record(self, peer: str) -> int:
        """After a failure over the limit: for how many one record now stands; 0: write none.

        The first over the limit is recorded at once, further ones of the same window together.
        """
        flood, now = self._floods.get(peer), self._clock.now()
        if flood is None or self._rate is None or now < flood.next_record_at:
            return 0
        flood.next_record_at = now + self._rate.seconds
        count, flood.unrecorded = flood.unrecorded, 0
        return count

    def ended(self, *, everything: bool = False) -> list[tuple[str, int]]:
        """Peers and counts still to be recorded, of those whose window is over.

        To be asked now and then, about once a window, and with ``everything`` at the stop.
        """
        now = self._clock.now()
        over = [
            (peer, flood)
            for peer, flood in self._floods.items()
            if everything or flood.next_record_at <= now
        ]
        for peer, _ in over:
            del self._floods[peer]
        found = [(peer, flood.unrecorded) for peer, flood in over if flood.unrecorded]
        if self._others:
            found.append((OTHERS, self._others))
            self._others = 0
        return found
