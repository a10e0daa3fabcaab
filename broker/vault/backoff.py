"""How long to wait after a failure [pure].

Duty: one rule for the Vault token, credentials and what is to be revoked.
Not its duty: what is tried again (``vault.plan``, ``credentials.plan``).
Rules (DESIGN promise 4):

* a ceiling that doubles with each failure of a row, and full jitter below it: many that failed
  together do not come again together;
* never less than a floor, so that nothing becomes a storm;
* the ceiling stays below a third of what is left of a life, so that at least two more attempts
  fit, unless Vault itself asked for a longer wait (``Retry-After``).

Source: "full jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

from math import inf
from typing import Final

FLOOR: Final = 1.0
"""Least seconds between two attempts of one thing."""
CAP: Final = 60.0
"""Most seconds between two attempts that fail, unless Vault asks for more."""
RETRY_AFTER_CAP: Final = 300.0
"""Most seconds of ``Retry-After`` believed: nothing Vault says may stop the broker for good."""


def backoff(
    failures: int,
    jitter: float,
    *,
    left: float = inf,
    retry_after: float | None = None,
    least: float = FLOOR,
) -> float:
    """Seconds to wait.

    Args:
        failures: attempts that failed in a row, the newest included.
        jitter: in [0, 1), fresh for each failure.
        left: seconds of life that are left; none or less bounds nothing any more.
        retry_after: seconds Vault asked to wait.
        least: seconds to wait at least, the floor or more.
    """
    ceiling = min(CAP, FLOOR * 2.0 ** min(failures, 16))
    if left > 0:
        ceiling = min(ceiling, left / 3)
    return max(least, ceiling * jitter, min(retry_after or 0.0, RETRY_AFTER_CAP))
