"""What a caller may know beside values: who it is, how its credentials stand.

Duty: build these documents. Not its duty: values (``answer``), deciding (``access``).
"""

from __future__ import annotations

from broker.credentials.model import CredentialKey, Entry, State
from broker.errors import CredentialUnavailable
from broker.protocol.models import CredentialDocument, format_time


def line(key: CredentialKey, entry: Entry | None, *, now: float) -> CredentialDocument:
    """How one credential stands; without an entry nobody has begun to fetch it."""
    if entry is None:
        entry = Entry(key, State.PENDING)
    usable = entry.usable(now)
    snapshot = entry.snapshot if usable else None
    return {
        "name": key.name,
        "state": entry.state.value,
        "available": usable,
        "version": None if snapshot is None else snapshot.version,
        "source_version": None if snapshot is None else snapshot.source_version or None,
        "expires_at": _time(entry.expires_wall) if usable else None,
        "since": None if usable else _time(unusable_since(entry)),
        "next_attempt_at": _time(entry.next_attempt_wall),
        "reason": entry.reason or None,
    }


def unusable_since(entry: Entry) -> float | None:
    """Unix time since when there is no usable value; None when it is not known."""
    if entry.since_wall is not None or entry.revalidating:
        return entry.since_wall
    return entry.expires_wall  # it ran out this instant; its keeper has not said so yet


def unavailable(key: CredentialKey, entry: Entry | None) -> CredentialUnavailable:
    """The refusal for a credential without a usable value."""
    if entry is None:
        entry = Entry(key, State.PENDING)
    state = State.EXPIRED if entry.state is State.FRESH else entry.state
    reason = entry.reason or state.value
    return CredentialUnavailable(
        f"{key.name} has no usable value: {state.value} ({reason}).",
        name=key.name,
        reason=reason,
        since=unusable_since(entry),
        next_attempt_at=entry.next_attempt_wall,
    )


def _time(wall: float | None) -> str | None:
    return None if wall is None else format_time(wall)
