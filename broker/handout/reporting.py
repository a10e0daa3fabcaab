"""A caller's word that the upstream refused a version.

Duty: check the report, set one floored re-read going, say what came of it.
Not its duty: re-reading and floors (``credentials.keeper``), who may report (``service``).
Rules (DESIGN section 4):

* a report never withdraws a value; only a newer version is an answer, never its value;
* a report about a version that is not current costs Vault nothing;
* only what the configuration counts as a refusal of the key (401, unless it says more: a 403
  may be about the account) sets anything going: any other status is answered;
* what a caller writes as ``detail`` may hold the key: masked before it goes anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from broker.clock import Clock
from broker.credentials.model import CredentialKey, Entry
from broker.credentials.store import CredentialStore
from broker.errors import ReportConflict, RequestMalformed
from broker.handout import overview
from broker.handout.ports import Reports
from broker.protocol.models import ReportDocument

LONGEST_VERSION: Final = 128
LONGEST_DETAIL: Final = 500
"""Characters kept of a detail."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report whose members have been checked."""

    version: str
    status: int
    detail: str

    @classmethod
    def read(cls, version: object, status: object, detail: object) -> Report:
        """Check the members as they came.

        Raises:
            RequestMalformed: one is of another kind or size.
        """
        if not isinstance(version, str) or not 0 < len(version) <= LONGEST_VERSION:
            raise RequestMalformed("version is the version that was handed out, as text.")
        if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 599:
            raise RequestMalformed("status is the upstream's HTTP status, a number.")
        if not isinstance(detail, str):
            raise RequestMalformed("detail is text.")
        return cls(version, status, detail)


class Reporting:
    """Takes reports."""

    def __init__(
        self, clock: Clock, store: CredentialStore, reports: Reports, mask: Callable[[str], str]
    ) -> None:
        self._clock = clock
        self._store = store
        self._reports = reports
        self._mask = mask

    async def take(
        self, key: CredentialKey, report: Report, counted: Collection[int], *, actor: str
    ) -> ReportDocument:
        """Carry out a report; the answer names the newer version.

        ``counted``: the statuses that speak about this credential's key. ``actor``: who reports.

        Raises:
            ReportConflict: nothing newer is known.
            CredentialUnavailable: there is no usable value at all.
        """
        entry = self._store.get(key)
        if report.status in counted and self._current(entry) == report.version:
            detail = self._mask(report.detail)[:LONGEST_DETAIL]
            entry = await self._reports.report(
                key, report.version, report.status, detail, actor=actor
            )
        current = self._current(entry)
        if entry is None or not current:
            raise overview.unavailable(key, entry, wall=self._clock.wall())
        if current == report.version:
            raise ReportConflict(
                "The reported version is still the newest."
                if report.status in counted
                else "Only a report of status "
                f"{' or '.join(str(each) for each in counted)} has the credential looked at again.",
                version=current,
                state=entry.state.value,
                next_attempt_at=entry.next_attempt_wall,
            )
        return {
            "name": key.name,
            "reported": report.version,
            "version": current,
            "state": entry.state.value,
        }

    def _current(self, entry: Entry | None) -> str:
        """The version that may be handed out now; empty when there is none."""
        if entry is None or entry.snapshot is None or not entry.usable(self._clock.now()):
            return ""
        return entry.snapshot.version
