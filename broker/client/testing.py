"""A broker in memory, for the tests of MCP servers.

Duty: answer a client as the broker does, without sockets, Vault or waiting.
Not its duty: policy, refreshing, proof: what a test wants to happen it says.
Rules: the wire is the real one (``protocol``): bodies, ETags, problem documents, reports.

Example::

    fake = FakeBroker()
    fake.put("search-api", {"api_key": "k-1"}, use=header("x-api-key", "https://api.example.com"))
    broker = fake.broker()
    assert (await broker.get("search-api")).value == "k-1"
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast
from urllib.parse import unquote

import httpx2

from broker.client.aio import Broker
from broker.client.sync import SyncBroker
from broker.clock import Clock, SystemClock
from broker.errors import (
    BrokerError,
    CallerUnauthenticated,
    CredentialUnavailable,
    CredentialUnknown,
    ReportConflict,
    RequestMalformed,
    RouteUnknown,
)
from broker.protocol import names
from broker.protocol.models import HandoutDocument, ReportDocument, UseDocument, format_time
from broker.protocol.problems import problem_for


def header(name: str, *origins: str, field: str = "", prefix: str = "") -> UseDocument:
    """A ``use`` that puts the value of ``field`` (or the only one) in a header."""
    return UseDocument(
        {"in": "header", "name": name, "field": field, "prefix": prefix, "origins": list(origins)}
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""

    @property
    def tool(self) -> str:
        """The tool it was made for."""
        return self.headers.get(names.TOOL.lower(), "")


@dataclass(frozen=True, slots=True)
class Reported:
    """One report that came."""

    name: str
    version: str
    status: int
    detail: str


@dataclass(slots=True)
class _Kept:
    version: str
    data: Mapping[str, str] = field(repr=False)
    use: UseDocument | None
    hold: float
    expires_in: float | None
    statuses: Sequence[int] = (401,)
    error: BrokerError | None = None
    successor: Mapping[str, str] | None = field(default=None, repr=False)


class FakeBroker(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A broker in memory; give ``broker()`` or ``sync()`` to the code under test.

    Args:
        clock: time, also of the clients it makes.
        token: the client token it wants; empty wants none.
    """

    def __init__(self, *, clock: Clock | None = None, token: str = "") -> None:
        self.clock = clock or SystemClock()
        self.token = token
        self.down = False
        """Whether connections fail."""
        self.asked: list[Asked] = []
        self.reported: list[Reported] = []
        self._kept: dict[str, _Kept] = {}
        self._numbers = count(1)

    # --- what happens -------------------------------------------------------------------

    def put(
        self,
        name: str,
        data: Mapping[str, str],
        *,
        use: UseDocument | None = None,
        hold: float = 30.0,
        expires_in: float | None = None,
        report_statuses: Sequence[int] = (401,),
    ) -> str:
        """Set a credential, or replace it by a newer version. Returns the version.

        Args:
            name: the credential.
            data: field to secret.
            use: where it goes; None keeps what was.
            hold: seconds from an answer to its ``use_until``.
            expires_in: seconds from an answer to its ``expires_at``; None: no end.
            report_statuses: with which the upstream refuses it.
        """
        before = self._kept.get(name)
        version = f"v{next(self._numbers)}"
        kept_use = before.use if use is None and before is not None else use
        self._kept[name] = _Kept(
            version, dict(data), kept_use, hold, expires_in, tuple(report_statuses)
        )
        return version

    def put_on_report(self, name: str, data: Mapping[str, str]) -> None:
        """Change the credential behind the broker's back: a report finds it."""
        self._kept[name].successor = dict(data)

    def fail(
        self, name: str, *, reason: str = "vault_sealed", next_attempt_in: float = 30.0
    ) -> None:
        """Let the credential be unavailable, from now on and until ``put``."""
        wall = self.clock.wall()
        self._kept.setdefault(name, _Kept("", {}, None, 0.0, None)).error = CredentialUnavailable(
            f"{name} has no usable value now.",
            name=name,
            reason=reason,
            since=wall,
            next_attempt_at=wall + next_attempt_in,
        )

    # --- clients ------------------------------------------------------------------------

    def broker(self, *, token_file: str = "", start_wait: float = 30.0) -> Broker:
        """An async client of this broker; its ``sync`` is the twin for threads."""
        return Broker(
            "http://localhost",
            token_file=token_file,
            start_wait=start_wait,
            clock=self.clock,
            transport=self,
        )

    def sync(self) -> SyncBroker:
        """A client for threads."""
        return self.broker().sync

    # --- the wire -----------------------------------------------------------------------

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a sync client."""
        if self.down:
            raise httpx2.ConnectError("All connection attempts failed", request=request)
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.asked.append(Asked(request.method, request.url.path, headers))
        try:
            return self._answer(request, headers)
        except BrokerError as error:
            problem = problem_for(error, request_id="test", wall=self.clock.wall())
            return httpx2.Response(
                problem.status,
                headers=[("Content-Type", names.PROBLEM_JSON), *problem.headers],
                content=problem.body(),
            )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer an async client."""
        return self.handle_request(request)

    def _answer(self, request: httpx2.Request, headers: Mapping[str, str]) -> httpx2.Response:
        bearer = headers.get("authorization", "")
        if self.token and bearer != f"Bearer {self.token}":
            raise CallerUnauthenticated(presented=bool(bearer))
        path = request.url.raw_path.decode().removeprefix(names.CREDENTIALS_PATH + "/")
        name = unquote(path.removesuffix(names.REPORTS_SUFFIX))
        kept = self._kept.get(name)
        if kept is None:
            raise CredentialUnknown
        match request.method, path.endswith(names.REPORTS_SUFFIX):
            case "GET", False:
                return self._hand_out(name, kept, headers.get("if-none-match", ""))
            case "POST", True:
                return self._take_report(name, request.read())
        raise RouteUnknown

    def _hand_out(self, name: str, kept: _Kept, if_none_match: str) -> httpx2.Response:
        if kept.error is not None:
            raise kept.error
        wall = self.clock.wall()
        ends = None if kept.expires_in is None else wall + kept.expires_in
        use_until = min(wall + kept.hold, ends if ends is not None else wall + kept.hold)
        times = {
            names.ISSUED_AT: format_time(wall),
            names.USE_UNTIL: format_time(use_until),
            names.STATE: "fresh",
        } | ({} if ends is None else {names.EXPIRES_AT: format_time(ends)})
        etag = f'"{kept.version}"'
        if if_none_match == etag:
            return httpx2.Response(304, headers={"ETag": etag, **times})
        document: HandoutDocument = {
            "name": name,
            "version": kept.version,
            "source_version": None,
            "data": dict(kept.data),
            "use": kept.use,
            "state": "fresh",
            "issued_at": times[names.ISSUED_AT],
            "expires_at": None if ends is None else format_time(ends),
            "expires_in": kept.expires_in,
            "use_until": times[names.USE_UNTIL],
        }
        if kept.statuses != (401,):
            document["report_statuses"] = list(kept.statuses)
        return httpx2.Response(
            200, headers={"ETag": etag, "Cache-Control": "no-store"}, json=document
        )

    def _take_report(self, name: str, body: bytes) -> httpx2.Response:
        try:
            said: dict[str, Any] = json.loads(body)
            report = Reported(name, said["version"], said["status"], said.get("detail", ""))
        except (ValueError, KeyError, TypeError) as error:
            raise RequestMalformed("This is no report.") from error
        self.reported.append(report)
        kept = self._kept[name]
        if kept.successor is not None and report.version == kept.version:
            self.put(
                name,
                kept.successor,
                hold=kept.hold,
                expires_in=kept.expires_in,
                report_statuses=kept.statuses,
            )
            kept = self._kept[name]
        if report.version == kept.version:
            raise ReportConflict(version=kept.version, state="suspect")
        document: ReportDocument = {
            "name": name,
            "reported": report.version,
            "version": kept.version,
            "state": "fresh",
        }
        return httpx2.Response(200, json=cast("dict[str, Any]", document))
