"""The one use case: a caller asks for a credential.

Duty: authenticate, authorize, look up, record, answer.
Not its duty: HTTP (``api``), fetching (``credentials``), how an answer is written (``answer``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from broker.access.authorizer import Authorizer
from broker.access.caller import Caller, Callers
from broker.clock import Clock
from broker.credentials.model import CredentialSpec
from broker.credentials.store import CredentialStore
from broker.handout.answer import Answer
from broker.handout.ports import Audit, Recorder, Reports
from broker.protocol.models import CredentialListDocument, ReportDocument, WhoamiDocument


class Request(NamedTuple):
    """What is known of a request beside the caller and the credential; all for the audit."""

    id: str
    """The broker's own id of the request."""
    peer_uid: int | None = None
    """``SO_PEERCRED``; None on TCP."""
    tool: str = ""
    """The MCP tool, as claimed by the caller."""
    mcp_request_id: str = ""
    """Id of the MCP request behind it, as claimed by the caller."""


class HandoutService:
    """Hands out credentials; no framework, no I/O but the audit's write(2)."""

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
        raise NotImplementedError

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
        raise NotImplementedError

    def handout(
        self, caller: Caller, name: str, request: Request, *, if_none_match: str | None = None
    ) -> Answer | None:
        """The hot path: answer at once, or None when only ``handout_waiting`` can answer.

        Raises:
            CredentialUnknown, CredentialUnavailable, CallerForbidden, RequestMalformed,
            AuditUnavailable: nothing is handed out; the refusal is recorded and counted.
        """
        raise NotImplementedError

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

        Args:
            caller: from ``authenticate``.
            name: the credential.
            request: for the audit.
            if_none_match: the header's text; a version that matches is waited past.
            wait: from ``Prefer: wait``; None waits only for a revalidation (2 s at most).
        """
        raise NotImplementedError

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
        """A caller says the upstream refused ``version``; returns what is newer.

        Raises:
            RequestMalformed: members of a wrong kind.
            ReportConflict: nothing newer is known.
        """
        raise NotImplementedError

    async def credentials(self, caller: Caller) -> CredentialListDocument:
        """What the caller may have and how it stands; never a value."""
        raise NotImplementedError

    def whoami(self, caller: Caller) -> WhoamiDocument:
        """Who the caller is and what it may have."""
        raise NotImplementedError

    def end_waits(self) -> None:
        """The broker stops: whoever waits gets an answer now, and nobody waits any more."""
        raise NotImplementedError
