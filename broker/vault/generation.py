"""One life of the broker's Vault token, and who depends on it [pure].

Duty: hold a token with its bounds; know which leases and promises hang on it.
Not its duty: logging in or revoking (``session``).
Rules (DESIGN promise 3):

* a lease belongs to the generation whose token took it and dies with it;
* an old token may be revoked only when nothing hangs on it: no unreplaced
  lease (``holds``) and no ``use_until`` given out that has not passed;
* a token that was given by file is never revoked.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from broker.secret import SecretValue


@dataclass(slots=True, eq=False)
class Generation:
    """One life of the Vault token. Compared by identity.

    Only ``session`` changes ``expires_at`` (renewal) and ``ended`` (revoked or refused).
    Times are readings of ``Clock.now()`` in seconds.
    """

    number: int
    token: SecretValue
    expires_at: float
    """``inf`` for a token that never expires."""
    renewable: bool
    kind: Literal["service", "batch"] = "service"
    own: bool = True
    """The broker logged in for it (so it may revoke it)."""
    ended: bool = False
    _holds: dict[Hashable, float] = field(default_factory=dict)

    def hold(self, holder: Hashable, until: float = inf) -> None:
        """Something depends on this token: a lease (``inf``) or a promise (``use_until``)."""
        self._holds[holder] = until

    def release(self, holder: Hashable, until: float = -inf) -> None:
        """The lease is replaced; its last promise stands ``until``."""
        if until == -inf:
            self._holds.pop(holder, None)
        elif holder in self._holds:
            self._holds[holder] = until

    def free_at(self) -> float:
        """When nothing hangs on it any more: ``-inf`` now already, ``inf`` not foreseen."""
        return max(self._holds.values(), default=-inf)

    def held(self) -> int:
        """How many leases and promises hang on it."""
        return len(self._holds)
