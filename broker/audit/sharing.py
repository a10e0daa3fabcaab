"""Refusals that come in floods: one record stands for many, and says for how many.

Duty: count what is alike; say when a record is due, and for how many.
Not its duty: what is alike (whoever refuses), writing the record.
Rules:

* the first is due at once, those that follow share one record a period: a flood cannot fill the
  audit, and by count every refusal is in it;
* memory is bounded: of more kinds than ``most`` the one seen longest ago is told as ``others``;
* a record that could not be written is due again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from broker.clock import Clock

K = TypeVar("K")

PERIOD: Final = 60.0
"""Seconds for which one record stands."""
MOST: Final = 1024
"""Kinds told apart at once."""


@dataclass(slots=True)
class _Flood:
    unrecorded: int = 0
    next_record_at: float = 0.0


class Sharing(Generic[K]):
    """Counts by kind. All methods belong to the loop's thread.

    Args:
        clock: the only source of time.
        others: the kind of those that were not recorded before theirs was forgotten.
        period: seconds for which one record stands.
        most: kinds told apart at once.
    """

    def __init__(
        self, clock: Clock, *, others: K, period: float = PERIOD, most: int = MOST
    ) -> None:
        self._clock, self._most = clock, most
        self.period = period
        self._kinds: OrderedDict[K, _Flood] = OrderedDict()
        self._others, self._rest = others, 0

    def count(self, kind: K, number: int = 1) -> None:
        """Some more that have no record yet."""
        flood = self._kinds.get(kind)
        if flood is None:
            if len(self._kinds) >= self._most:
                _, oldest = self._kinds.popitem(last=False)
                self._rest += oldest.unrecorded
            flood = self._kinds[kind] = _Flood()
        else:
            self._kinds.move_to_end(kind)
        flood.unrecorded += number

    def due(self, kind: K) -> int:
        """For how many a record is to be written now; 0: a later one will stand for them."""
        flood, now = self._kinds.get(kind), self._clock.now()
        if flood is None or now < flood.next_record_at:
            return 0
        flood.next_record_at = now + self.period
        count, flood.unrecorded = flood.unrecorded, 0
        return count

    def over(self, *, everything: bool = False) -> list[tuple[K, int]]:
        """Kinds whose period is over, and for how many of each a record is due.

        To be asked now and then, about once a period, and with ``everything`` at the stop.
        """
        now = self._clock.now()
        over = [
            (kind, flood)
            for kind, flood in self._kinds.items()
            if everything or flood.next_record_at <= now
        ]
        for kind, _ in over:
            del self._kinds[kind]
        found = [(kind, flood.unrecorded) for kind, flood in over if flood.unrecorded]
        if self._rest:
            found.append((self._others, self._rest))
            self._rest = 0
        return found
