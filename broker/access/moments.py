"""What clocks on the wall show in named time zones.

Duty: Unix time to minute of the day and weekday, for each zone that policies ask for.
Not its duty: reading the time (``Clock``), judging it (policies).
Rules: whole minutes: what depends on the time is decided once a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from broker.access.vocabulary import DAYS, Moment

MINUTE = 60
"""Seconds."""


class Moments:
    """The time in some zones.

    Args:
        zones: names of the tz database.

    Raises:
        KeyError: no such zone.
    """

    def __init__(self, zones: Iterable[str]) -> None:
        self._zones = {name: ZoneInfo(name) for name in zones}
        self._minute = -1
        self._moments: Mapping[str, Moment] = {}

    def at(self, wall: float) -> Mapping[str, Moment]:
        """The time in each zone at a Unix time."""
        minute = int(wall // MINUTE)
        if minute != self._minute:
            self._moments = {
                name: _moment(minute * MINUTE, zone) for name, zone in self._zones.items()
            }
            self._minute = minute
        return self._moments


def _moment(wall: int, zone: ZoneInfo) -> Moment:
    local = datetime.fromtimestamp(wall, zone)
    return Moment(local.hour * 60 + local.minute, DAYS[local.weekday()])
