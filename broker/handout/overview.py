"""What a caller may know beside values: who it is, how its credentials stand.

Duty: build these documents. Not its duty: values (``answer``), deciding (``access``).
"""

from __future__ import annotations

from math import inf

from broker.credentials.model import CredentialKey, Entry, State
from broker.errors import CredentialUnavailable
from broker.protocol.models import CredentialDocument, format_time


def line(key: CredentialKey, entry: Entry | None, *, now: float, wall: float) -> CredentialDocument:
    """How one credential stands; without an entry nobody has begun to fetch it."""
    if entry is None:
        entry = Entry(key, State.PENDING)
    usable = entry.usable(now)
    snapshot = entry.snapshot if usable else None
    lasting = usable and entry.expires_at < inf
    return {
        "name": key.name,
        "state": entry.state.value,
        "available": usable,
        "version": None if snapshot is None else snapshot.version,
        "source_version": None if snapshot is None else snapshot.source_version or None,
        "expires_at": _time(wall + (entry.expires_at - now)) if lasting else None,
        "since": None if usable else _time(_since(entry, wall)),
        "next_attempt_at": _time(entry.next_attempt_wall),
        "reason": entry.reason or None,
    }


def unavailable(key: CredentialKey, entry: Entry | None, *, wall: float) -> CredentialUnavailable:
    """The refusal for a credential without a usable value."""
    if entry is None:
        entry = Entry(key, State.PENDING)
    state: str = entry.state
    if entry.revalidating:
        state = "not confirmed since the clock jumped"
    elif entry.snapshot is not None:  # it ended this instant: its keeper has not said so yet
        state = State.EXPIRED
    reason = entry.reason or entry.state.value
    return CredentialUnavailable(
        f"{key.name} has no usable value: {state} ({reason}).",
        name=key.name,
        reason=reason,
        since=_since(entry, wall),
        next_attempt_at=entry.next_attempt_wall,
    )


def _since(entry: Entry, wall: float) -> float | None:
    """Unix time since when there is no usable value; None when it is not known."""
    if entry.since_wall is None and entry.snapshot is not None:
        return wall if entry.expires_wall is None else min(entry.expires_wall, wall)
    return entry.since_wall


def _time(unix: float | None) -> str | None:
    return None if unix is None else format_time(unix)
