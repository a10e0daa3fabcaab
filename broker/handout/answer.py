"""The bytes of a hand-out, prepared before anyone asks.

Duty: turn an entry into the answers 200 and 304 that hold for a moment (a *tick*).
Not its duty: deciding who gets them, and recording it (``service``).
Rules:

* this is where secrets are revealed, and nowhere else on the way out;
* what an answer states is true to the last instant of its tick: no end is later, no life
  longer, than it is when the answer leaves;
* an answer holds secrets: it does not print them, and lives no longer than its entry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import floor, inf
from typing import Final

from broker.audit.record import value_fields
from broker.credentials.model import CredentialSpec, Entry, Use
from broker.protocol import names
from broker.protocol.models import HandoutDocument, UseDocument, format_time
from broker.vault.generation import Generation

TICK: Final = 1.0
"""Longest time in seconds for which one answer is repeated."""
SHARE: Final = 20
"""A tick is at most this part of a life or a hold, so that rounding costs at most 5 %."""
DRIFT: Final = 0.005
"""Seconds by which wall time may move against ``now()`` within a tick: above the noise of
reading two clocks, below anything that matters in a date."""

Headers = tuple[tuple[bytes, bytes], ...]

_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode() for status in (200, 304)
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, ready to be sent."""

    status: int
    headers: Headers
    """Lower-case names, as ASGI wants them; ``content-length`` included, except for a 304."""
    body: bytes = field(repr=False)
    head: bytes
    """The same status and headers as HTTP/1.1 bytes, each line ended, the empty line after
    them left to the sender, who may add his own (request id, connection)."""
    version: str
    use_until: float
    """As stated, on ``Clock.now()``: whatever holds the answer up, it does not leave after it."""

    def with_header(self, name: bytes, value: bytes) -> Answer:
        """The same answer with one more header."""
        line = b"%b: %b\r\n" % (name, value)
        return replace(self, headers=(*self.headers, (name, value)), head=self.head + line)


@dataclass(frozen=True, slots=True)
class Times:
    """The ends an answer states, on ``Clock.now()``."""

    use_until: float
    promised: float
    """What the store must keep: ``use_until`` for a caller who counts it from the moment he
    sent his request, which may be as late as the end of the tick."""
    tick_ends: float
    """The answer may be given before this."""


def times(expires_at: float, *, now: float, hold: float, margin: float) -> Times:
    """What may be stated of a value that lives until ``expires_at`` (DESIGN promise 2).

    ``use_until`` is ``min(expires_at - margin, now + hold)``. Within the last ``margin``, which
    is reached only when a refresh has failed, it is the expiry itself: such a value is still
    handed out (promise 5), and a ``use_until`` already past would take that back.
    """
    use_until = min(expires_at - margin, now + hold)
    if use_until <= now:
        use_until = min(expires_at, now + hold)
    tick_ends = min(now + min(TICK, hold / SHARE, (expires_at - now) / SHARE), use_until)
    return Times(use_until, min(expires_at, use_until + (tick_ends - now)), tick_ends)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The answers for one entry during one tick."""

    entry: Entry
    times: Times
    etag: str
    ok: Answer
    not_modified: Answer
    audit: str
    """The members of the audit record that stay the same (``audit.record.value_fields``)."""
    _offset: float
    _generation: Generation | None

    def holds(self, entry: Entry | None, now: float, wall: float) -> bool:
        """Whether these are still the answers: same entry, same tick, same wall clock."""
        return (
            entry is self.entry
            and now < self.times.tick_ends
            and -DRIFT < wall - now - self._offset < DRIFT
            and (self._generation is None or not self._generation.ended)
        )


def prepare(entry: Entry, spec: CredentialSpec, *, now: float, wall: float) -> Prepared | None:
    """The answers for ``entry`` from ``now`` on; None when its value may not be handed out.

    The keeper computed the expiry some time ago: what can have cut it since (its Vault token
    ended, the wall clock moved towards a provider's date) is looked at again.
    """
    snapshot = entry.snapshot
    if snapshot is None or not entry.usable(now):
        return None
    expires_at = min(entry.expires_at, snapshot.expires_at(now=now, wall=wall))
    if expires_at <= now:
        return None
    ends = times(expires_at, now=now, hold=spec.hold, margin=spec.margin)
    lasting = expires_at < inf
    document: HandoutDocument = {
        "name": entry.key.name,
        "version": snapshot.version,
        "source_version": snapshot.source_version or None,
        "data": {name: value.reveal() for name, value in snapshot.data.items()},
        "use": None if spec.use is None else use_document(spec.use),
        "state": entry.state.value,
        "issued_at": format_time(wall),
        "expires_at": format_time(wall + (expires_at - now)) if lasting else None,
        "expires_in": floor((expires_at - ends.tick_ends) * 1000) / 1000 if lasting else None,
        "use_until": format_time(wall + (ends.use_until - now)),
    }
    if spec.report_statuses != (401,):
        document["report_statuses"] = list(spec.report_statuses)
    etag = f'"{snapshot.version}"'
    lease = snapshot.lease
    return Prepared(
        entry=entry,
        times=ends,
        etag=etag,
        ok=_ok(document, etag, ends.use_until),
        not_modified=_not_modified(document, etag, ends.use_until),
        audit=value_fields(
            entry.key.name,
            snapshot.version,
            source_version=snapshot.source_version,
            lease_id="" if lease is None else lease.lease_id,
            use_until=document["use_until"],
        ),
        _offset=wall - now,
        _generation=None if lease is None else lease.generation,
    )


def use_document(use: Use) -> UseDocument:
    """``Use`` on the wire; members that do not apply are left out."""
    document: UseDocument = {"in": use.place, "name": use.name, "origins": list(use.origins)}
    if use.field:
        document["field"] = use.field
    if use.prefix:
        document["prefix"] = use.prefix
    if use.scheme:
        document["scheme"] = use.scheme
    if use.username_field:
        document["username_field"] = use.username_field
    if use.password_field:
        document["password_field"] = use.password_field
    return document


def _ok(document: HandoutDocument, etag: str, use_until: float) -> Answer:
    body = json.dumps(document, separators=(",", ":")).encode("ascii")
    headers = (
        (b"content-type", names.JSON.encode()),
        (b"cache-control", b"no-store"),
        (b"etag", etag.encode()),
        (b"content-length", b"%d" % len(body)),
    )
    return _answer(200, headers, body, document["version"], use_until)


def _not_modified(document: HandoutDocument, etag: str, use_until: float) -> Answer:
    """What changed while the version stayed the same travels in headers (RFC 9110, 304)."""
    told = {
        names.STATE: document["state"],
        names.ISSUED_AT: document["issued_at"],
        names.EXPIRES_AT: document["expires_at"],
        names.EXPIRES_IN: document["expires_in"],
        names.USE_UNTIL: document["use_until"],
    }
    headers = (
        (b"cache-control", b"no-store"),
        (b"etag", etag.encode()),
        *((name.lower().encode(), f"{v}".encode()) for name, v in told.items() if v is not None),
    )
    return _answer(304, headers, b"", document["version"], use_until)


def _answer(status: int, headers: Headers, body: bytes, version: str, use_until: float) -> Answer:
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return Answer(status, headers, body, _STATUS_LINES[status] + lines, version, use_until)
