"""The one use case: a caller asks for a credential.

Duty: authorize, limit, record, answer; take reports.
Not its duty: HTTP (``api``), fetching (``credentials``), who asks (``authentication``), what the
answer of this moment is (``current``) and how it is written (``answer``).
Rules (DESIGN promises 1, 2, 6 and 8):

* nothing leaves that was not authorized now, is not usable now, and is not recorded;
* the store knows the latest ``use_until`` before the caller does;
* an error of any kind while deciding is a refusal, recorded and counted;
* while a valid value exists nobody waits, unless he asked to;
* who asks the same again is answered by what was proved and decided before (``passes``),
  as long as nothing of it has moved; value, clock, limit and record are looked at each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from math import inf
from typing import Final

from broker.access.authorizer import Action, Authorizer, Decision
from broker.access.caller import Callers
from broker.access.failed_authentications import FailedAuthentications
from broker.access.principal import NoSubjectTokens, Principal, SubjectTokens, narrow
from broker.clock import Clock
from broker.credentials.model import CredentialKey, CredentialSpec
from broker.credentials.store import CredentialStore
from broker.errors import (
    AuditUnavailable,
    CallerForbidden,
    CredentialUnknown,
)
from broker.handout import overview
from broker.handout.answer import Answer
from broker.handout.authentication import Authentication
from broker.handout.current import CurrentAnswers
from broker.handout.passes import LOOK, Limits, NoLimits, Pass
from broker.handout.ports import Audit, Failures, Recorder, Reports, Settle
from broker.handout.records import Records, outcome
from broker.handout.reporting import Report, Reporting
from broker.handout.request import Request
from broker.handout.waiting import Waits
from broker.protocol.models import (
    CredentialDocument,
    CredentialListDocument,
    ReportDocument,
    WhoamiDocument,
)

REVALIDATION: Final = 2.0
"""Seconds a hand-out waits for a value that must be confirmed first."""
SLICE: Final = 100
"""Lines of a list built in one loop turn."""


class HandoutService:
    """Hands out credentials; no framework, no I/O but the audit's write(2).

    All methods belong to the loop's thread.

    Args:
        clock: both clocks.
        store: what is known of each credential.
        callers: identifies who asks.
        authorizer: decides what he may have.
        tokens: verifies scoped tokens.
        limits: how often a caller may have what.
        failures: bounds what failed authentications cost.
        audit: takes the records.
        metrics: takes the counts.
        reports: what a report of a refused key sets going.
        specs: every configured credential by name.
        mask: hides live values in a text from outside (``protocol.redaction``).
        max_wait: longest wait in seconds.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        store: CredentialStore,
        callers: Callers,
        authorizer: Authorizer,
        audit: Audit,
        metrics: Recorder,
        reports: Reports,
        specs: Mapping[str, CredentialSpec],
        mask: Callable[[str], str],
        tokens: SubjectTokens | None = None,
        limits: Limits | None = None,
        failures: Failures | None = None,
        max_wait: float = 60.0,
    ) -> None:
        self._tokens = tokens or NoSubjectTokens()
        self._limits = limits or NoLimits()
        self._clock = clock
        self._store = store
        self._callers = callers
        self._authorizer = authorizer
        self._metrics = metrics
        self._audit = audit
        self._records = Records(clock, audit, metrics, mask)
        self._authentication = Authentication(
            callers,
            self._tokens,
            failures or FailedAuthentications(clock, None),
            self._records,
            metrics,
        )
        self._answers = CurrentAnswers(store, self._records, specs)
        self._reporting = Reporting(clock, store, reports, mask)
        self._specs = specs
        self._waits = Waits(clock, store)
        self._max_wait = max_wait

    def reconfigure(self, specs: Mapping[str, CredentialSpec]) -> None:
        """Take over a new configuration; the next request is decided by it."""
        self._specs = specs
        self._answers.reconfigure(specs)

    # --- hand-outs --------------------------------------------------------------

    def authenticate(
        self,
        bearer: str | bytes | None,
        peer_uid: int | None,
        socket_client: str | None,
        request: Request,
        subject_token: bytes | None = None,
    ) -> Principal:
        """Say who asks: ``Callers.authenticate`` and its scoped token; a refusal is recorded.

        Raises:
            CallerUnauthenticated: no proof, or a wrong one.
            SubjectTokenRefused, TokensUnavailable: the scoped token is not good.
            TooManyFailures: no proof, and too often.
        """
        return self._authentication.authenticate(
            bearer, peer_uid, socket_client, request, subject_token
        )

    def record_flood(self, peer: str, count: int) -> None:
        """Record failures over the limit that have no record yet."""
        self._records.flood(peer, count)

    def write_shared(self, *, everything: bool = False) -> Iterator[None]:
        """Record refusals that share a record and have none yet; see ``Records``."""
        return self._records.write_shared(everything=everything)

    def handout(
        self,
        principal: Principal,
        name: str,
        request: Request,
        *,
        if_none_match: str | None = None,
    ) -> Answer | None:
        """Answer at once, or None when only ``handout_waiting`` can answer.

        Raises:
            CredentialUnknown, CredentialUnavailable, CallerForbidden, TooManyRequests,
            RequestMalformed, AuditUnavailable: nothing is handed out; the refusal is
                recorded and counted.
        """
        started = self._clock.now()
        try:
            answer = self._answer(self._admit(principal, name, request, if_none_match), request.id)
        except Exception as error:
            self._records.refusal(error, request, principal=principal, name=name)
            raise
        if answer is not None:
            self._metrics.handout_seconds(self._clock.now() - started)
        return answer

    # --- the hot path: the same request again ---------------------------------------

    def admit(
        self,
        principal: Principal,
        name: str,
        request: Request,
        *,
        if_none_match: str | None = None,
    ) -> Pass:
        """Decide once for requests that will come again; hand out by ``stage``.

        Raises:
            As ``handout``.
        """
        try:
            return self._admit(principal, name, request, if_none_match)
        except Exception as error:
            self._records.refusal(error, request, principal=principal, name=name)
            raise

    def stands(self, held: Pass, now: float, wall: float) -> bool:
        """Whether what was proved and decided for ``held`` is so still."""
        return held.standing == self._standing() and wall < held.ends_at and now < held.look_at

    def ready(self, held: Pass, request_id: str, now: float, wall: float) -> Answer | None:
        """The answer as things stand now; it may leave once ``stage`` has settled.

        Returns:
            None when only ``handout_waiting`` can answer.

        Raises:
            As ``handout``.
        """
        try:
            return held.answer if self._answers.ready(held, now, wall) else None
        except Exception as error:
            request = held.request._replace(id=request_id)
            name = held.decision.key.name
            self._records.refusal(error, request, principal=held.principal, name=name)
            raise

    def stage(self, held: Pass, request_id: str, wall: float, settle: Settle) -> None:
        """Have the record of a ready answer written at the end of this turn of the loop.

        Args:
            held: for which ``ready`` gave the answer.
            request_id: of this request.
            wall: Unix time now.
            settle: told None when the answer may leave.
        """
        self._audit.stage(self._records.handout_line(held, wall, request_id), settle)

    def commit(self) -> None:
        """Do now what waits for the end of the turn."""
        self._audit.commit()

    @property
    def durable(self) -> bool:
        """Whether an answer waits for the disk: then the hot path has none."""
        return self._audit.durable

    async def synced(
        self, answer: Answer, principal: Principal, name: str, request: Request
    ) -> None:
        """Return when the record of ``answer`` is where it must be; counts what became of it.

        The record of the hand-out is written by then: when nothing may leave after all, a second
        one with the same request id says so, as far as it can be written.

        Raises:
            AuditUnavailable: it is not, or only now that the value may not be used any more;
                nothing may leave.
        """
        if not self._audit.durable:
            return
        try:
            await self._confirmed(answer)
        except AuditUnavailable as refusal:
            self._records.taken_back(refusal, request, principal=principal, name=name)
            raise
        result = "not_modified" if answer.status == HTTPStatus.NOT_MODIFIED else "ok"
        self._metrics.handout(name, principal.caller.name, result)

    async def _confirmed(self, answer: Answer) -> None:
        await self._audit.synced()
        if self._clock.now() >= answer.use_until:
            raise AuditUnavailable("The audit record was written too late for its value.")

    def settled(self, held: Pass, started: float, refusal: Exception | None) -> None:
        """Count what became of a staged hand-out."""
        result = held.result if refusal is None else outcome(refusal)
        self._metrics.handout(held.decision.key.name, held.principal.caller.name, result)
        if refusal is None:
            self._metrics.handout_seconds(self._clock.now() - started)

    def _standing(self) -> tuple[int, ...]:
        return (
            self._callers.generation,
            self._tokens.generation,
            self._authorizer.generation,
            self._limits.generation,
            self._answers.generation,
        )

    def _admit(
        self, principal: Principal, name: str, request: Request, if_none_match: str | None
    ) -> Pass:
        decision = self._authorized(principal, name, request)
        lasting = decision.lasting and self._callers.settled
        return Pass(
            principal,
            request,
            decision,
            self._limits.counter(principal.caller.name, request.tool, name),
            self._standing() if lasting else None,
            inf if principal.grant is None else principal.grant.expires_at,
            inf if principal.grant is None else self._clock.now() + LOOK,
            if_none_match,
        )

    async def handout_waiting(
        self,
        principal: Principal,
        name: str,
        request: Request,
        *,
        if_none_match: str | None = None,
        wait: float | None = None,
    ) -> Answer:
        """Answer when there is something to say, at the latest after ``wait`` seconds.

        With ``if_none_match`` that is another version, or the withdrawal of this one; without
        it, a first value. At the end a value that did not change is a 304.

        Args:
            principal: from ``authenticate``.
            name: the credential.
            request: for the audit.
            if_none_match: the header's text; a version that matches is waited past.
            wait: from ``Prefer: wait``; None waits only for a revalidation (2 s at most).

        Raises:
            As ``handout``.
        """
        bound = REVALIDATION if wait is None else min(wait, self._max_wait)
        with self._records.refusals(request, principal=principal, name=name):
            key = self._authorized(principal, name, request).key
            await self._waits.until_told(key, if_none_match, bound, asked=wait is not None)
            # Time has passed: decided anew.
            if principal.grant is not None:
                self._tokens.recheck(principal.grant)
            answer = self._answer(self._admit(principal, name, request, if_none_match), request.id)
            if answer is None:
                raise overview.unavailable(key, self._store.get(key), wall=self._clock.wall())
        if wait is None:
            return answer
        return answer.with_header(b"preference-applied", b"wait=%d" % bound)

    def end_waits(self) -> None:
        """The broker stops: whoever waits gets an answer now, and nobody waits any more."""
        self._waits.end()

    def _authorized(
        self, principal: Principal, name: str, request: Request, action: Action = "handout"
    ) -> Decision:
        if request.tool or request.mcp_request_id:
            request.check()
        narrow(principal.grant, name, request.tool)
        return self._authorizer.authorize(
            principal, name, tool=request.tool, action=action, address=request.address
        )

    def _answer(self, held: Pass, request_id: str) -> Answer | None:
        """The answer as things stand, recorded; None when a moment's wait may give one."""
        now, wall = self._clock.now(), self._clock.wall()
        if not self._answers.ready(held, now, wall):
            return None
        self._audit.append(self._records.handout_line(held, wall, request_id))
        if not self._audit.durable:  # else it is not known yet whether it leaves
            key, caller = held.decision.key, held.principal.caller
            self._metrics.handout(key.name, caller.name, held.result)
        return held.answer

    # --- reports and overviews ----------------------------------------------------

    async def report(
        self,
        principal: Principal,
        name: str,
        request: Request,
        *,
        version: object,
        status: object,
        detail: object = "",
    ) -> ReportDocument:
        """A caller says the upstream refused ``version``; returns which one is newer.

        Args:
            principal: from ``authenticate``.
            name: the credential.
            request: for the audit.
            version: the version that was handed out; checked here, as are the next two.
            status: the upstream's; those of ``report_statuses`` have the credential looked at.
            detail: the caller's own words, for the log.

        Raises:
            RequestMalformed: members of a wrong kind.
            CredentialUnknown, CallerForbidden: as for a hand-out.
            CredentialUnavailable: there is no usable value at all.
            ReportConflict: nothing newer is known.
        """
        with self._records.refusals(request, principal=principal, name=name):
            key = self._authorized(principal, name, request, "report").key
            report = Report.read(version, status, detail)
        result = "cancelled"
        try:
            spec = self._specs.get(key.name)
            counted = () if spec is None else spec.report_statuses
            actor = principal.actor
            document = await self._reporting.take(key, report, counted, actor=actor)
            result = "newer"
        except Exception as error:
            result = outcome(error)
            raise
        finally:
            self._records.report(
                request,
                principal=principal,
                name=name,
                version=report.version,
                status=report.status,
                result=result,
            )
        return document

    async def credentials(self, principal: Principal) -> CredentialListDocument:
        """What the caller may have and how it stands; never a value."""
        lines: list[CredentialDocument] = []
        for number, key in enumerate(await self._visible(principal), 1):
            now, wall = self._clock.now(), self._clock.wall()
            lines.append(overview.line(key, self._store.get(key), now=now, wall=wall))
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return {"credentials": lines}

    async def _visible(self, principal: Principal) -> tuple[CredentialKey, ...]:
        keys = await self._authorizer.credentials(principal)
        grant = principal.grant
        return keys if grant is None else tuple(k for k in keys if k.name in grant.credentials)

    def sees(self, principal: Principal, name: str) -> bool:
        """Whether the caller may know of a credential; for event streams, so it is quick."""
        if principal.grant is not None and name not in principal.grant.credentials:
            return False
        try:
            self._authorizer.authorize(principal, name, tool="", action="read_status")
        except CredentialUnknown:
            return False
        except CallerForbidden:
            return True  # it may list it, but not use it so
        return True

    async def whoami(self, principal: Principal) -> WhoamiDocument:
        """Who the caller is and what it may have."""
        caller, grant = principal.caller, principal.grant
        tools = self._authorizer.tools(principal) if grant is None else grant.tools
        return {
            "client": caller.name,
            "proof": caller.proof,
            "subject": None if grant is None else grant.subject,
            "credentials": [key.name for key in await self._visible(principal)],
            "tools": None if tools is None else list(tools),
        }
