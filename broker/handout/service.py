"""The one use case: a caller asks for a credential.

Duty: authenticate, authorize, look up, record, answer; take reports.
Not its duty: HTTP (``api``), fetching (``credentials``), how an answer is written (``answer``).
Rules (DESIGN promises 1, 2, 6 and 8):

* nothing leaves that was not authorized now, is not usable now, and is not recorded;
* the store knows the latest ``use_until`` before the caller does;
* an error of any kind while deciding is a refusal, recorded and counted;
* while a valid value exists nobody waits, unless he asked to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from broker.access.authorizer import Authorizer
from broker.access.caller import Caller, Callers
from broker.clock import Clock
from broker.credentials.model import CredentialKey, CredentialSpec, Entry
from broker.credentials.store import CredentialStore
from broker.errors import CallerForbidden, CredentialUnknown
from broker.handout import overview
from broker.handout.answer import Answer, Prepared, prepare
from broker.handout.conditions import matches
from broker.handout.ports import Audit, Recorder, Reports
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
        max_wait: float = 60.0,
    ) -> None:
        self._clock = clock
        self._store = store
        self._callers = callers
        self._authorizer = authorizer
        self._metrics = metrics
        self._records = Records(clock, audit, metrics, mask)
        self._reporting = Reporting(clock, store, reports, mask)
        self._specs = specs
        self._waits = Waits(clock, store)
        self._max_wait = max_wait
        self._prepared: dict[CredentialKey, Prepared] = {}
        store.subscribe(self._changed)

    def reconfigure(self, specs: Mapping[str, CredentialSpec]) -> None:
        """Take over a new configuration; the next request is decided by it."""
        self._specs = specs
        self._prepared.clear()

    def _changed(self, before: Entry | None, after: Entry) -> None:
        """Drop the bytes of a value that is no longer the newest."""
        del before
        self._prepared.pop(after.key, None)
        self._records.values_changed()

    # --- hand-outs --------------------------------------------------------------

    def authenticate(
        self,
        bearer: str | bytes | None,
        peer_uid: int | None,
        socket_client: str | None,
        request: Request,
    ) -> Caller:
        """See ``Callers.authenticate``; a refusal is recorded.

        Raises:
            CallerUnauthenticated: no proof, or a wrong one.
        """
        try:  # not ``refusals``: this is the hot path, and a context manager costs a microsecond
            return self._callers.authenticate(bearer, peer_uid, socket_client)
        except Exception as error:
            self._records.refusal(error, request, caller=None, name="")
            raise

    def handout(
        self, caller: Caller, name: str, request: Request, *, if_none_match: str | None = None
    ) -> Answer | None:
        """The hot path: answer at once, or None when only ``handout_waiting`` can answer.

        Raises:
            CredentialUnknown, CredentialUnavailable, CallerForbidden, RequestMalformed,
            AuditUnavailable: nothing is handed out; the refusal is recorded and counted.
        """
        started = self._clock.now()
        try:
            key = self._authorized(caller, name, request)
            answer = self._answer(caller, key, request, if_none_match)
        except Exception as error:
            self._records.refusal(error, request, caller=caller, name=name)
            raise
        if answer is not None:
            self._metrics.handout_seconds(self._clock.now() - started)
        return answer

    async def handout_waiting(
        self,
        caller: Caller,
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
            caller: from ``authenticate``.
            name: the credential.
            request: for the audit.
            if_none_match: the header's text; a version that matches is waited past.
            wait: from ``Prefer: wait``; None waits only for a revalidation (2 s at most).

        Raises:
            As ``handout``.
        """
        bound = REVALIDATION if wait is None else min(wait, self._max_wait)
        with self._records.refusals(request, caller=caller, name=name):
            key = self._authorized(caller, name, request)
            await self._waits.until_told(key, if_none_match, bound, asked=wait is not None)
            key = self._authorized(caller, name, request)  # time has passed
            answer = self._answer(caller, key, request, if_none_match)
            if answer is None:
                raise overview.unavailable(key, self._store.get(key), wall=self._clock.wall())
        if wait is None:
            return answer
        return answer.with_header(b"preference-applied", b"wait=%d" % bound)

    def end_waits(self) -> None:
        """The broker stops: whoever waits gets an answer now, and nobody waits any more."""
        self._waits.end()

    def _authorized(self, caller: Caller, name: str, request: Request) -> CredentialKey:
        if request.tool or request.mcp_request_id:
            request.check()
        return self._authorizer.authorize(caller, name, tool=request.tool)

    def _answer(
        self, caller: Caller, key: CredentialKey, request: Request, if_none_match: str | None
    ) -> Answer | None:
        """The answer as things stand, recorded; None when a moment's wait may give one."""
        clock = self._clock
        now, wall = clock.now(), clock.wall()
        self._store.observe(now, wall)
        entry = self._store.get(key)
        prepared = self._prepared.get(key)
        if prepared is None or not prepared.holds(entry, now, wall):
            prepared = self._prepare(key, entry, now, wall)
            if prepared is None:
                if entry is not None and entry.revalidating:
                    return None
                raise overview.unavailable(key, entry, wall=wall)
        if if_none_match is not None and matches(if_none_match, prepared.etag):
            answer, result = prepared.not_modified, "not_modified"
        else:
            answer, result = prepared.ok, "ok"
        self._records.handout(wall, caller, request, key.name, prepared.audit, result)
        return answer

    def _prepare(
        self, key: CredentialKey, entry: Entry | None, now: float, wall: float
    ) -> Prepared | None:
        spec = self._specs.get(key.name)
        if spec is None:
            raise CredentialUnknown(reason="not_configured")
        prepared = None if entry is None else prepare(entry, spec, now=now, wall=wall)
        if prepared is None:
            self._prepared.pop(key, None)
            return None
        # Once a tick is enough: every answer of the tick states the same use_until.
        self._store.promise(key, prepared.ok.version, prepared.times.promised)
        self._prepared[key] = prepared
        return prepared

    # --- reports and overviews ----------------------------------------------------

    async def report(
        self,
        caller: Caller,
        name: str,
        request: Request,
        *,
        version: object,
        status: object,
        detail: object = "",
    ) -> ReportDocument:
        """A caller says the upstream refused ``version``; returns which one is newer.

        Args:
            caller: from ``authenticate``.
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
        with self._records.refusals(request, caller=caller, name=name):
            key = self._authorized(caller, name, request)
            report = Report.read(version, status, detail)
        result = "cancelled"
        try:
            spec = self._specs.get(key.name)
            counted = () if spec is None else spec.report_statuses
            document = await self._reporting.take(key, report, counted)
            result = "newer"
        except Exception as error:
            result = outcome(error)
            raise
        finally:
            self._records.report(
                request,
                caller=caller,
                name=name,
                version=report.version,
                status=report.status,
                result=result,
            )
        return document

    async def credentials(self, caller: Caller) -> CredentialListDocument:
        """What the caller may have and how it stands; never a value."""
        lines: list[CredentialDocument] = []
        for number, key in enumerate(self._authorizer.credentials(caller), 1):
            now, wall = self._clock.now(), self._clock.wall()
            lines.append(overview.line(key, self._store.get(key), now=now, wall=wall))
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return {"credentials": lines}

    def sees(self, caller: Caller, name: str) -> bool:
        """Whether the caller may know of a credential; for event streams, so it is quick."""
        try:
            self._authorizer.authorize(caller, name, tool="")
        except CredentialUnknown:
            return False
        except CallerForbidden:
            return True  # it may list it, but not use it so
        return True

    def whoami(self, caller: Caller) -> WhoamiDocument:
        """Who the caller is and what it may have."""
        return {
            "client": caller.name,
            "proof": caller.proof,
            "credentials": [key.name for key in self._authorizer.credentials(caller)],
            "tools": None,
        }
