"""What was proved and decided once, kept for the next same request.

Duty: hold the outcome of authentication and authorization for requests in the same bytes on
the same connection, say whether it still stands, and the parts of answer and record that stay
the same with it.
Not its duty: proving, deciding (``access``), recording (``records``), answering (``service``).
Rules:

* a pass stands only while nothing it rests on has moved: client tokens, scoped tokens,
  policies, limits, configuration, live values; each of them counts its own changes, and one
  number that differs ends the pass (a reload or a revocation is felt by the next request);
* what rests on time (a scoped token's end, the overlap of a replaced client token, a policy
  that reads the clock or the arguments) is compared or never kept. A scoped token ends by either
  clock, and what is known of revocations grows old: so it is looked at again after ``LOOK``;
* it lives and dies with its connection.
"""

from __future__ import annotations

from typing import Final, Protocol

from broker.access.authorizer import Decision
from broker.access.principal import Principal
from broker.handout.answer import Answer, Prepared
from broker.handout.request import Request

LOOK: Final = 1.0
"""Seconds for which a scoped token is believed without being verified again: what a date that
was set back, or a machine that slept, may add to its life."""


class Counter(Protocol):
    """Counts what one caller, tool and credential use up (``access.limits``)."""

    def hit(self) -> float:
        """Count one; 0.0 when it is allowed, else the seconds until the next one is."""
        ...

    def refusal(self, seconds: float) -> Exception:
        """The error for one that is not."""
        ...


class Limits(Protocol):
    """Says what is counted. See ``access.limits``."""

    @property
    def generation(self) -> int:
        """Moves when counters given before no longer count."""
        ...

    def counter(self, caller: str, tool: str, credential: str) -> Counter | None:
        """The counter of a combination; None when nothing limits it."""
        ...


class NoLimits:
    """Nothing is limited."""

    generation = 0

    def counter(self, caller: str, tool: str, credential: str) -> Counter | None:
        """See ``Limits.counter``."""
        del caller, tool, credential
        return None


class Pass:
    """One request that may be asked again.

    Args:
        principal: who asks.
        request: with its claims; the id is that of the first request.
        decision: what it may have.
        counter: what each hand-out is counted by.
        standing: numbers that all stay the same while the pass stands; None: it is good
            for one request.
        ends_at: Unix time at which it ends in any case.
        look_at: ``Clock.now()`` from which it does not stand any more.
        if_none_match: condition of the request.
    """

    __slots__ = (
        "answer",
        "counter",
        "decision",
        "ends_at",
        "if_none_match",
        "look_at",
        "prepared",
        "principal",
        "request",
        "rest",
        "result",
        "seen",
        "standing",
    )

    def __init__(
        self,
        principal: Principal,
        request: Request,
        decision: Decision,
        counter: Counter | None,
        standing: tuple[int, ...] | None,
        ends_at: float,
        look_at: float,
        if_none_match: str | None,
    ) -> None:
        self.principal = principal
        self.request = request
        self.decision = decision
        self.counter = counter
        self.standing = standing
        self.ends_at = ends_at
        self.look_at = look_at
        self.if_none_match = if_none_match
        # What the newest prepared answers make of it:
        self.prepared: Prepared | None = None
        self.answer: Answer | None = None
        self.result = ""
        self.rest = ""
        self.seen = -1
        """Generation of the service when they were made."""
