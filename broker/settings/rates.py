"""The rates people write: ``60/minute`` [pure].

Duty: read one as the library ``limits`` does, or say in words what is wrong with it.
Not its duty: counting (``access.limits``); which key holds a rate (``schema_limits``).
Rules:

* the library is loaded by the first rate that somebody wrote, and the default is not read by
  it: a broker without limits does not pay for it;
* bounds are those of ``access.limit_windows``: as many moments are kept as a rate allows
  events, and a restart begins anew, so months are no rate.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.settings.units import Misfit

LARGEST: Final = 100_000
"""Events of one rate: 0.8 MB for each caller that uses it up."""
LONGEST: Final = 31 * 86400
"""Seconds of one rate's window."""


class Rate(NamedTuple):
    """So many within so many seconds."""

    amount: int
    seconds: int


FAILURES: Final = "30/minute"
FAILURES_RATE: Final = Rate(30, 60)
"""Failed authentications when nothing is written; both say the same."""
_CHARACTERS: Final = 100
_REMEDY: Final = "Write a number and a time: 10/second, 60/minute, 100 per 5 minutes, 1000/day."


def rate(text: str) -> Rate:
    """Read ``60/minute``, ``100 per 5 minutes``, ``1000/day``.

    Raises:
        Misfit: no rate, several, or one that cannot be counted.
    """
    from limits import parse_many

    try:
        # No rate is longer, and the library's expression takes its time with long ones.
        found = parse_many(text[:_CHARACTERS])
    except ValueError:
        raise Misfit("is not a rate", _REMEDY) from None
    if len(found) > 1:
        raise Misfit("holds several rates", "Write a rule for each: all that match must allow.")
    result = Rate(found[0].amount, found[0].get_expiry())
    if result.amount == 0:
        raise Misfit(
            "allows nothing", "Take the credential from the client instead of limiting it to 0."
        )
    if result.amount > LARGEST:
        raise Misfit(
            f"allows more than {LARGEST} at once", "Write it by a shorter time: 1000/second."
        )
    if result.seconds > LONGEST:
        raise Misfit("is over more than 31 days", "Write a shorter time: a restart begins anew.")
    return result
