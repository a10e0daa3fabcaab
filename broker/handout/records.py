"""What the service writes down about each request: audit record and metric together.

Duty: one call for each outcome.
Not its duty: the form of a line (``audit.record``), writing it (``audit.log``).
Rules:

* the line of a hand-out is made here and written by the service, before its answer leaves;
* a refusal or a report carries no value, so it stands even when its record cannot be written;
* refusals of one caller by one limit share records (``audit.sharing``): the limit bounds what a
  flood costs, so its records must too;
* what a caller claims or asks for by name may hold a key or a scoped token by mistake: masked
  before it is written down. Claims repeat, so they are masked once and remembered until a value
  changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from broker.access.principal import Principal
from broker.audit.record import (
    Stamp,
    argument_fields,
    handout_line,
    handout_rest,
    refusal_line,
    report_line,
    who_fields,
)
from broker.audit.sharing import Sharing
from broker.clock import Clock
from broker.errors import (
    AuditUnavailable,
    BrokerError,
    ReportConflict,
    TooManyFailures,
    TooManyRequests,
)
from broker.handout.passes import Pass
from broker.handout.ports import Audit, Recorder
from broker.handout.request import Request
from broker.protocol.token_format import mask_tokens


class Limited(NamedTuple):
    """Refusals by a limit that share their records."""

    client: str
    credential: str
    reason: str
    """Name of the rule."""
    token_id: str
    subject: str


NOT_CONFIRMED: Final = "record_not_confirmed"
"""Reason of a refusal after the record of its hand-out."""
OTHERS: Final = Limited("", "", "others", "", "")
REMEMBERED: Final = 1024
"""Tool names remembered as masked; more are a caller's play and are masked anew."""


def outcome(error: Exception) -> str:
    """The word for an error in metrics and audit."""
    if isinstance(error, ReportConflict):
        return "conflict"
    return error.code if isinstance(error, BrokerError) else BrokerError.code


class Records:
    """Writes to audit and metrics.

    Args:
        clock: dates the records of refusals and reports.
        audit: takes the records.
        metrics: takes the counts.
        mask: hides live values in a text from outside.
        digest_key: of the digests of tools' arguments, 1 to 64 bytes; empty: none are made.
    """

    def __init__(
        self,
        clock: Clock,
        audit: Audit,
        metrics: Recorder,
        mask: Callable[[str], str],
        *,
        digest_key: bytes = b"",
    ) -> None:
        self._digest_key = digest_key
        self._clock = clock
        self._audit = audit
        self._metrics = metrics
        self._mask_values = mask
        self._masked: dict[str, str] = {}
        self._stamp = Stamp()
        self._limited = Sharing[Limited](clock, others=OTHERS)

    def values_changed(self) -> None:
        """A value came: what was harmless may hold it now."""
        self._masked.clear()

    def rest(self, held: Pass, value: str) -> str:
        """What stays the same in the records of a pass while its answer does.

        Args:
            held: the pass.
            value: ``Prepared.audit``.
        """
        claims = self._claims(held.request, held.principal, held.decision.policies)
        return handout_rest(held.principal.caller.name, claims, value)

    def handout_line(self, held: Pass, wall: float, request_id: str) -> bytes:
        """The record of a value that is about to leave."""
        return handout_line(self._stamp(wall), request_id, held.result, held.rest)

    def refusal(
        self,
        error: Exception,
        request: Request,
        *,
        principal: Principal | None,
        name: str,
        count: int = 1,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing leaves, because of ``error``; ``count`` requests alike share the record.

        Arguments of the tool that were part of the decision leave their digest and size.
        """
        client = "" if principal is None else principal.caller.name
        code = outcome(error)
        if name:
            self._metrics.handout(name, client, code)
            if isinstance(error, TooManyRequests):
                self._metrics.limited(client, name)
        if isinstance(error, AuditUnavailable):
            return
        if isinstance(error, TooManyRequests):
            self._over_the_limit(error, request, principal, name)
        else:
            self._refusal(error, request, principal, name, count, arguments)

    def _refusal(
        self,
        error: Exception,
        request: Request,
        principal: Principal | None,
        name: str,
        count: int = 1,
        arguments: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write the record; False when it cannot be."""
        # A foreign exception's own words may hold anything: its class must do.
        told = getattr(error, "reason", "") if isinstance(error, BrokerError) else ""
        told = told or (NOT_CONFIRMED if isinstance(error, AuditUnavailable) else "")
        return self._append(
            refusal_line(
                self._stamp(self._clock.wall()),
                request.id,
                "" if principal is None else principal.caller.name,
                self._claims(request, principal),
                self._mask(name),
                outcome(error),
                told or type(error).__name__,
                self._arguments(arguments),
                count,
            )
        )

    def taken_back(
        self, error: AuditUnavailable, request: Request, *, principal: Principal, name: str
    ) -> None:
        """A hand-out is on record, and nothing left after all: the disk has not confirmed it."""
        self._metrics.handout(name, principal.caller.name, outcome(error))
        self._refusal(error, request, principal, name)

    def _over_the_limit(
        self, error: TooManyRequests, request: Request, principal: Principal | None, name: str
    ) -> None:
        client, token_id, subject = "", "", ""
        if principal is not None:
            client, token_id = principal.caller.name, principal.token_id
            subject = principal.subject
        kind = Limited(client, name, error.reason, token_id, subject)
        self._limited.count(kind)
        count = self._limited.due(kind)
        if count and not self._refusal(error, request, principal, name, count):
            self._limited.count(kind, count)

    def write_shared(self, *, everything: bool = False) -> Iterator[None]:
        """Write the records that stand for refusals of a period that is over, one a step."""
        for kind, count in self._limited.over(everything=everything):
            subject = kind.subject and self._masked_once(kind.subject)
            line = refusal_line(
                self._stamp(self._clock.wall()),
                "",
                kind.client,
                who_fields(token_id=kind.token_id, subject=subject),
                self._mask(kind.credential),
                TooManyRequests.code,
                kind.reason,
                count=count,
            )
            if not self._append(line):
                self._limited.count(kind, count)
            yield

    def flood(self, peer: str, count: int) -> None:
        """So many failed authentications of a peer had no record of their own."""
        wall = self._stamp(self._clock.wall())
        who = who_fields(address=peer)
        code = TooManyFailures.code
        self._append(refusal_line(wall, "", "", who, "", code, "flood", count=count))

    @contextmanager
    def refusals(self, request: Request, *, principal: Principal, name: str) -> Iterator[None]:
        """Any error inside is recorded as a refusal on its way out."""
        try:
            yield
        except Exception as error:
            self.refusal(error, request, principal=principal, name=name)
            raise

    def report(
        self,
        request: Request,
        *,
        principal: Principal,
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
                principal.caller.name,
                self._claims(request, principal),
                name,
                self._mask(version),
                status,
                result,
            )
        )

    def _claims(
        self, request: Request, principal: Principal | None, policies: tuple[str, ...] = ()
    ) -> str:
        tool = request.tool and self._masked_once(request.tool)
        mcp_request_id = request.mcp_request_id and self._mask(request.mcp_request_id)
        token_id = "" if principal is None else principal.token_id
        subject = "" if principal is None else principal.subject
        return who_fields(
            uid=request.peer_uid,
            address=request.address,
            tool=tool,
            mcp_request_id=mcp_request_id,
            token_id=token_id,
            subject=subject and self._masked_once(subject),
            policies=policies,
        )

    def _arguments(self, arguments: Mapping[str, Any] | None) -> str:
        if arguments is None or not self._digest_key:
            return ""
        content = json.dumps(arguments, separators=(",", ":"), sort_keys=True)
        return argument_fields(self._digest_key, content.encode())

    def _mask(self, text: str) -> str:
        return mask_tokens(self._mask_values(text))

    def _masked_once(self, text: str) -> str:
        masked = self._masked.get(text)
        if masked is None:
            if len(self._masked) >= REMEMBERED:
                self._masked.clear()
            masked = self._masked[text] = self._mask(text)
        return masked

    def _append(self, line: bytes) -> bool:
        try:
            self._audit.append(line)
        except AuditUnavailable:
            return False  # the log counts and tells
        return True
