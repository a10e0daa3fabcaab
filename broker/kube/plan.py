"""What a candidate does with the Lease it sees [pure].

Duty: decide between creating, taking, renewing and leaving a Lease alone.
Not its duty: asking the API (``client``), when to ask again (``election``).
Rules, as in client-go's ``tools/leaderelection`` (the election of Kubernetes' own components):

* a Lease ends for a candidate when it has not *changed* for its duration, counted on the
  candidate's own clock from when it saw the change. The times written in the Lease are for
  people: clocks of other machines are never compared, so that no skew matters;
* who holds the Lease renews it, however old it is, unless somebody else took it;
* a Lease that names nobody was released: it may be taken at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

RETRY_JITTER: Final = 1.2
"""A candidate waits up to this part of the retry period longer (client-go's JitterFactor)."""
RELEASED_DURATION: Final = 1
"""Seconds written when a Lease is released, as client-go does."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. The defaults are those of Kubernetes' own components.

    Raises:
        ValueError: two could lead at once, or one late attempt would end a lead.
    """

    lease_duration: float = 15.0
    """Others leave a Lease alone for so long after it last changed; whole seconds in the API."""
    renew_deadline: float = 10.0
    """Who could not renew for so long leads no more."""
    retry_period: float = 2.0
    """Between two attempts."""

    def __post_init__(self) -> None:
        if not self.lease_duration > self.renew_deadline > RETRY_JITTER * self.retry_period > 0:
            raise ValueError("lease_duration > renew_deadline > 1.2 * retry_period > 0 must hold")


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says (``coordination.k8s.io/v1``, ``LeaseSpec``)."""

    holder: str
    """Identity of who leads; empty when it was released."""
    duration: float
    """Seconds; what the holder promised."""
    acquired_wall: float | None
    renewed_wall: float | None
    transitions: int = 0
    """How often the holder has changed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease as it was last seen."""

    record: Record
    version: str
    """The object's ``resourceVersion``: what an update must still find."""
    changed_at: float
    """Own ``Clock.now()`` when the record was first seen so."""


@dataclass(frozen=True, slots=True)
class Create:
    """There is no Lease: make one."""

    record: Record


@dataclass(frozen=True, slots=True)
class Update:
    """Write ``record`` over the version that was seen."""

    record: Record
    version: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Somebody else leads, at least until ``until`` (own ``now``)."""

    until: float


Step: TypeAlias = Create | Update | Leave


def look(before: Seen | None, record: Record, version: str, now: float) -> Seen:
    """What is known after a look at the Lease; an unchanged record keeps its age."""
    if before is not None and before.record == record:
        return replace(before, version=version)
    return Seen(record, version, now)


def decide(seen: Seen | None, identity: str, times: Times, *, now: float, wall: float) -> Step:
    """What ``identity`` does next.

    Args:
        seen: the Lease, just looked at; None when there is none.
        identity: of this candidate, unique among all.
        times: of this candidate.
        now: own ``Clock.now()``.
        wall: Unix time, for people who read the Lease.
    """
    mine = Record(identity, times.lease_duration, wall, wall)
    if seen is None:
        return Create(mine)
    record = seen.record
    if record.holder == identity:
        return Update(
            replace(mine, acquired_wall=record.acquired_wall, transitions=record.transitions),
            seen.version,
        )
    ends = seen.changed_at + record.duration
    if record.holder and now < ends:
        return Leave(ends)
    return Update(replace(mine, transitions=record.transitions + 1), seen.version)


def released(record: Record, *, wall: float) -> Record:
    """What the holder writes when it stops, so that nobody waits for the end of the Lease."""
    return Record("", RELEASED_DURATION, wall, wall, record.transitions)
