"""What becomes of scoped tokens, written down: audit, events, counts.

Duty: one call for each thing that happens.
Not its duty: the form of a line (``audit``), who may subscribe (``api.events``).
Rules:

* a token is written down before it leaves; without its record it does not;
* an end stands even when its record cannot be written: what is revoked stays revoked;
* tokens that are none come in floods, for whoever reaches a guard can make them up: those of one
  caller share records (``audit.sharing``) and are answered all the same. A limit would let one
  hostile agent lock out the good ones of its server;
* names and ids only; a subject comes from outside and may hold a key by mistake: masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from broker.access.principal import Grant
from broker.access.tokens.model import Target
from broker.audit.lifecycle import TokenKind, token_line
from broker.audit.record import Stamp, refusal_line, who_fields
from broker.audit.sharing import Sharing
from broker.clock import Clock
from broker.errors import AuditUnavailable, BrokerError, SubjectTokenRefused
from broker.protocol.models import format_time
from broker.telemetry.events import Events

MANY: Final = "*"
"""In place of an id: every token that the revocation names, here or elsewhere."""


class Refused(NamedTuple):
    """Refusals that share their records."""

    caller: str
    token_id: str
    code: str
    reason: str


OTHERS: Final = Refused("", "", SubjectTokenRefused.code, "others")


class Audit(Protocol):
    """The part of ``audit.log.AuditLog`` that is written to."""

    def append(self, line: bytes) -> None:
        """Write one record; ``AuditUnavailable`` when it cannot be written."""
        ...


class Recorder(Protocol):
    """The part of ``telemetry.tokens.TokenMetrics`` that is written to."""

    def scoped_token(self, event: str) -> None:
        """One token was ``minted``, ``revoked`` or ``expired``."""
        ...


class TokenLog:
    """Implements ``TokenRecords``.

    Args:
        clock: dates the records.
        audit: takes the records.
        metrics: takes the counts.
        events: tells the caller's streams of revocations.
        mask: hides live values in a text from outside.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        audit: Audit,
        metrics: Recorder,
        events: Events,
        mask: Callable[[str], str],
    ) -> None:
        self._clock, self._audit, self._metrics = clock, audit, metrics
        self._events, self._mask = events, mask
        self._stamp = Stamp()
        self._shared = Sharing[Refused](clock, others=OTHERS)

    def minted(self, grant: Grant, *, actor: str, request_id: str) -> None:
        """See ``TokenRecords.minted``."""
        self._audit.append(
            self._line("token_minted", grant, actor=actor, reason="", request_id=request_id)
        )
        self._metrics.scoped_token("minted")

    def expired(self, grant: Grant) -> None:
        """See ``TokenWatch.expired``."""
        self._metrics.scoped_token("expired")
        self._append(self._line("token_expired", grant, actor="expiry", reason="", request_id=""))

    def revoked(self, grant: Grant) -> None:
        """See ``TokenWatch.revoked``: the replica that revoked it has the record of who did."""
        self._ended(grant)
        self._append(
            self._line("token_revoked", grant, actor="replica", reason="learned", request_id="")
        )

    def revoked_by(self, grant: Grant, target: Target, *, actor: str, request_id: str) -> None:
        """See ``TokenRecords.revoked_by``."""
        self._ended(grant)
        own = target.by == "id" and target.value == grant.id
        reason = "by id" if own else "with its ancestor" if target.by == "id" else _reason(target)
        self._append(
            self._line(
                "token_revoked",
                grant,
                actor=actor,
                reason=self._mask(reason),
                request_id=request_id,
            )
        )

    def revoked_unseen(self, target: Target, *, actor: str, request_id: str) -> None:
        """See ``TokenRecords.revoked_unseen``."""
        self._append(
            token_line(
                self._stamp(self._clock.wall()),
                "token_revoked",
                token_id=target.value if target.by == "id" else MANY,
                subject=self._mask(target.value) if target.by == "subject" else "",
                client=target.value if target.by == "caller" else "",
                parent=target.value if target.by == "parent" else "",
                actor=actor,
                reason=self._mask(_reason(target)),
                expires_at="",
                request_id=request_id,
            )
        )

    def refused(self, error: Exception, *, caller: str, token_id: str, request_id: str) -> None:
        """See ``TokenRecords.refused``."""
        if isinstance(error, AuditUnavailable):
            return
        known = isinstance(error, BrokerError)
        told = getattr(error, "reason", "") if known else ""
        kind = Refused(
            caller,
            token_id,
            error.code if isinstance(error, BrokerError) else BrokerError.code,
            told or type(error).__name__,
        )
        if not isinstance(error, SubjectTokenRefused):
            self._refusal(kind, request_id, 1)
            return
        self._shared.count(kind)
        count = self._shared.due(kind)
        if count and not self._refusal(kind, request_id, count):
            self._shared.count(kind, count)

    def write_shared(self, *, everything: bool = False) -> Iterator[None]:
        """Write the records that stand for refusals of a period that is over, one a step."""
        for kind, count in self._shared.over(everything=everything):
            if not self._refusal(kind, "", count):
                self._shared.count(kind, count)
            yield

    def _refusal(self, kind: Refused, request_id: str, count: int) -> bool:
        return self._append(
            refusal_line(
                self._stamp(self._clock.wall()),
                request_id,
                kind.caller,
                who_fields(token_id=kind.token_id),
                "",
                kind.code,
                kind.reason,
                count=count,
            )
        )

    def _ended(self, grant: Grant) -> None:
        self._metrics.scoped_token("revoked")
        self._events.publish("revoked", client=grant.caller, token=grant.id)

    def _line(
        self, kind: TokenKind, grant: Grant, *, actor: str, reason: str, request_id: str
    ) -> bytes:
        return token_line(
            self._stamp(self._clock.wall()),
            kind,
            token_id=grant.id,
            subject=self._mask(grant.subject),
            client=grant.caller,
            parent=grant.parent,
            actor=actor,
            reason=reason,
            expires_at=format_time(grant.expires_at),
            request_id=request_id,
        )

    def _append(self, line: bytes) -> bool:
        try:
            self._audit.append(line)
        except AuditUnavailable:
            return False  # the log counts and tells
        return True


def _reason(target: Target) -> str:
    return "all" if target.by == "all" else f"by {target.by} {target.value}"
