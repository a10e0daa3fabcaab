"""What the service writes down about each request: audit record and metric together.

Duty: one call for each outcome.
Not its duty: the form of a line (``audit.record``), writing it (``audit.log``).
Rules:

* a hand-out is written first and counted afterwards; without its record it does not happen;
* a refusal or a report carries no value, so it stands even when its record cannot be written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from broker.access.caller import Caller
from broker.audit.record import Stamp, claim_fields, handout_line, refusal_line, report_line
from broker.clock import Clock
from broker.errors import AuditUnavailable, BrokerError, ReportConflict
from broker.handout.ports import Audit, Recorder
from broker.handout.request import Request


def outcome(error: Exception) -> str:
    """The word for an error in metrics and audit."""
    if isinstance(error, ReportConflict):
        return "conflict"
    return error.code if isinstance(error, BrokerError) else BrokerError.code


class Records:
    """Writes to audit and metrics."""

    def __init__(self, clock: Clock, audit: Audit, metrics: Recorder) -> None:
        self._clock = clock
        self._audit = audit
        self._metrics = metrics
        self._stamp = Stamp()

    def handout(
        self, wall: float, caller: Caller, request: Request, name: str, value: str, result: str
    ) -> None:
        """A value is about to leave; ``value`` is ``Prepared.audit``.

        Raises:
            AuditUnavailable: it must not leave.
        """
        claims = claim_fields(request.peer_uid, request.tool, request.mcp_request_id)
        self._audit.append(
            handout_line(self._stamp(wall), request.id, caller.name, claims, value, result)
        )
        self._metrics.handout(name, caller.name, result)

    def refusal(
        self, error: Exception, request: Request, *, caller: Caller | None, name: str
    ) -> None:
        """Nothing leaves, because of ``error``."""
        client = "" if caller is None else caller.name
        code = outcome(error)
        if name:
            self._metrics.handout(name, client, code)
        if isinstance(error, AuditUnavailable):
            return
        # A foreign exception's own words may hold anything: its class must do.
        told = getattr(error, "reason", "") if isinstance(error, BrokerError) else ""
        reason = told or type(error).__name__
        self._append(
            refusal_line(
                self._stamp(self._clock.wall()),
                request.id,
                client,
                claim_fields(request.peer_uid, request.tool, request.mcp_request_id),
                name,
                code,
                reason,
            )
        )

    @contextmanager
    def refusals(self, request: Request, *, caller: Caller, name: str) -> Iterator[None]:
        """Any error inside is recorded as a refusal on its way out."""
        try:
            yield
        except Exception as error:
            self.refusal(error, request, caller=caller, name=name)
            raise

    def report(
        self,
        request: Request,
        *,
        caller: Caller,
        name: str,
        version: str,
        status: int,
        result: str,
    ) -> None:
        """A report was taken; ``result`` is ``newer``, ``conflict`` or the code of an error."""
        self._metrics.report(name, result)
        self._append(
            report_line(
                self._stamp(self._clock.wall()),
                request.id,
                caller.name,
                claim_fields(request.peer_uid, request.tool, request.mcp_request_id),
                name,
                version,
                status,
                result,
            )
        )

    def _append(self, line: bytes) -> None:
        try:
            self._audit.append(line)
        except AuditUnavailable:
            return  # the log counts and tells
