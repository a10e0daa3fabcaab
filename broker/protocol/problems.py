"""What an error looks like on the wire: RFC 9457 problem documents [pure].

Duty: one table from the code of an error to its stable ``type``, status and title;
write a problem document, and read one.
Not its duty: deciding that something is an error; sending.
Rules:

* a ``type`` never changes its meaning; clients compare ``code`` or ``type``, not ``title``;
* no internals: an error outside the table says nothing but its request id, and where the
  reason would tell a stranger something (who may have what) the text is a fixed one;
* a problem that may pass by itself says when to ask again, in whole seconds. After a 429 that
  is the exact moment at which the limit allows the next request, rounded up: whoever waits so
  long is never too early, and less than a second late.

Source: RFC 9457 (problem details), RFC 6750 section 3 (challenge), RFC 9110 (Retry-After, Allow).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NotRequired, TypedDict

from broker import errors
from broker.protocol.models import format_time, parse_time
from broker.protocol.names import REALM

TYPE_PREFIX: Final = "urn:mcp-secrets-broker:problem:"

DEFAULT_RETRY_AFTER: Final = 5
"""Seconds, when the next attempt is not known."""
LONGEST_RETRY_AFTER: Final = 3600
"""Seconds: a value that came from elsewhere never sends a client to sleep for a day."""


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One line of the table."""

    code: str
    status: int
    title: str
    tells: bool = True
    """Whether the error's own sentence may be shown; else the title stands for it."""

    @property
    def type(self) -> str:
        """The stable URI of the type."""
        return TYPE_PREFIX + self.code


TABLE: Final[Mapping[str, ProblemType]] = {
    kind.code: kind
    for kind in (
        ProblemType("request_malformed", 400, "The request cannot be understood"),
        ProblemType("request_error", 400, "The request is wrong"),
        ProblemType("caller_unauthenticated", 401, "The caller is not identified", tells=False),
        ProblemType("caller_forbidden", 403, "The caller may not do this", tells=False),
        ProblemType("insufficient_scope", 403, "The scoped token does not cover this"),
        ProblemType("subject_token_refused", 403, "The scoped token is not good", tells=False),
        ProblemType("route_unknown", 404, "No such resource", tells=False),
        ProblemType("credential_unknown", 404, "No such credential for this caller", tells=False),
        ProblemType("token_unknown", 404, "No such scoped token of this caller", tells=False),
        ProblemType("rotation_unknown", 404, "No rotation is configured for this credential"),
        ProblemType("method_not_allowed", 405, "This resource does not know this method"),
        ProblemType("request_too_slow", 408, "The request did not arrive in time"),
        ProblemType("report_conflict", 409, "Nothing newer than the reported version is known"),
        ProblemType("rotation_frozen", 409, "The rotation is frozen or pinned"),
        ProblemType("request_too_large", 413, "The body is too large"),
        ProblemType("request_misdirected", 421, "The Host header does not name this listener"),
        ProblemType("too_many_requests", 429, "Asked more often than allowed", tells=False),
        ProblemType("too_many_failures", 429, "Too many authentications failed", tells=False),
        ProblemType("headers_too_large", 431, "The request's headers are too large"),
        ProblemType("internal", 500, "The broker failed", tells=False),
        ProblemType("vault_refused", 502, "Vault refused", tells=False),
        ProblemType("rotation_error", 502, "The rotation cannot go on now"),
        ProblemType("rotation_rolled_back", 502, "The new key failed its proof; the old one stays"),
        ProblemType("upstream_error", 502, "The provider of keys failed", tells=False),
        ProblemType("broker_busy", 503, "Too many connections or requests are open"),
        ProblemType("broker_stopping", 503, "The broker is stopping"),
        ProblemType("credential_error", 503, "The credential cannot be handed out", tells=False),
        ProblemType("credential_unavailable", 503, "The credential has no usable value now"),
        ProblemType("audit_unavailable", 503, "The audit record cannot be written", tells=False),
        ProblemType("tokens_unavailable", 503, "Scoped tokens cannot be checked now"),
        ProblemType("token_error", 503, "Scoped tokens cannot be had now", tells=False),
        ProblemType("tokens_exhausted", 503, "The caller has too many scoped tokens alive"),
        ProblemType("revocation_failed", 503, "The revocation is not confirmed"),
        ProblemType("vault_error", 503, "Vault could not do what was asked", tells=False),
        ProblemType("vault_unavailable", 503, "Vault cannot answer now", tells=False),
        ProblemType("kubernetes_error", 503, "The Kubernetes API cannot help now", tells=False),
        ProblemType("login_error", 503, "The broker has no usable Vault token", tells=False),
    )
}
"""Errors that are not in it take the line of their nearest ancestor."""


class ProblemDocument(TypedDict):
    """A problem document; members beyond RFC 9457's are ours."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    remedy: str
    retryable: bool
    reason: NotRequired[str]
    """Code of the error behind it."""
    since: NotRequired[str | None]
    next_attempt_at: NotRequired[str | None]
    version: NotRequired[str]
    state: NotRequired[str]
    scope: NotRequired[str]
    """Scopes that would do (``insufficient_scope``)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. Times are Unix seconds; ``retry_after`` is in seconds from now."""

    kind: ProblemType
    detail: str
    request_id: str
    remedy: str
    retryable: bool
    reason: str = ""
    since: float | None = None
    next_attempt_at: float | None = None
    retry_after: int | None = None
    version: str = ""
    state: str = ""
    scope: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """``Retry-After``, ``WWW-Authenticate``, ``Allow``: what the status asks for."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    def document(self) -> ProblemDocument:
        """The document as a mapping."""
        document: ProblemDocument = {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.kind.code,
            "request_id": self.request_id,
            "remedy": self.remedy,
            "retryable": self.retryable,
        }
        if self.kind.code == errors.CredentialUnavailable.code:
            document["since"] = None if self.since is None else format_time(self.since)
        if self.kind.code in {errors.CredentialUnavailable.code, errors.ReportConflict.code}:
            at = self.next_attempt_at
            document["next_attempt_at"] = None if at is None else format_time(at)
        if self.reason:
            document["reason"] = self.reason
        if self.version:
            document["version"] = self.version
        if self.state:
            document["state"] = self.state
        if self.scope:
            document["scope"] = self.scope
        return document

    def body(self) -> bytes:
        """The document as JSON."""
        return json.dumps(self.document(), separators=(",", ":")).encode()


def problem_type(error: type[BaseException]) -> ProblemType:
    """The line of the table for a class of errors, or of its nearest ancestor there."""
    for ancestor in error.__mro__:
        if issubclass(ancestor, errors.BrokerError) and ancestor.code in TABLE:
            return TABLE[ancestor.code]
    return TABLE["internal"]


def problem_for(error: BaseException, *, request_id: str, wall: float) -> Problem:
    """Say ``error`` to a client.

    Args:
        error: any; what is no ``BrokerError`` becomes ``internal``.
        request_id: stands in the answer's header and in the audit record too.
        wall: Unix time now, from which ``Retry-After`` counts.
    """
    kind = problem_type(type(error))
    known = isinstance(error, errors.BrokerError) and kind.code != "internal"
    shown: errors.BrokerError = error if known else errors.BrokerError()  # type: ignore[assignment]
    next_attempt_at: float | None = getattr(shown, "next_attempt_at", None)
    retry_after = _retry_after(kind, shown, wall)
    headers: list[tuple[str, str]] = []
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    if isinstance(shown, errors.CallerUnauthenticated):
        challenge = f'Bearer realm="{REALM}"'
        headers.append(
            ("WWW-Authenticate", challenge + ', error="invalid_token"' * shown.presented)
        )
    if isinstance(shown, errors.InsufficientScope):
        scope = f', scope="{shown.scope}"' if shown.scope else ""
        headers.append(
            ("WWW-Authenticate", f'Bearer realm="{REALM}", error="insufficient_scope"{scope}')
        )
    if isinstance(shown, errors.MethodNotAllowed):
        headers.append(("Allow", ", ".join(shown.allow)))
    return Problem(
        kind=kind,
        detail=str(shown) if kind.tells else f"{kind.title}.",
        request_id=request_id,
        remedy=shown.remedy,
        retryable=shown.retryable,
        reason=shown.reason if isinstance(shown, errors.CredentialUnavailable) else "",
        since=shown.since if isinstance(shown, errors.CredentialUnavailable) else None,
        next_attempt_at=next_attempt_at,
        retry_after=retry_after,
        version=shown.version if isinstance(shown, errors.ReportConflict) else "",
        state=shown.state if isinstance(shown, errors.ReportConflict) else "",
        scope=shown.scope if isinstance(shown, errors.InsufficientScope) else "",
        headers=tuple(headers),
    )


def _retry_after(kind: ProblemType, error: errors.BrokerError, wall: float) -> int | None:
    if kind.status not in {429, 503} or not error.retryable:
        return None
    at: float | None = getattr(error, "next_attempt_at", None)
    asked: float | None = getattr(error, "retry_after", None)
    if at is not None:
        asked = at - wall
    if asked is None:
        return DEFAULT_RETRY_AFTER
    # A limit's own end is exact; any other moment came from elsewhere.
    longest = math.inf if kind.status == 429 else LONGEST_RETRY_AFTER
    return max(1, math.ceil(min(longest, asked)))


def read_problem(document: object, *, status: int, retry_after: str = "") -> Problem:
    """Read a problem document that came over the wire; never raises.

    Members that are missing or of another kind are taken as absent, since anything may sit
    between: a proxy's HTML is a problem without a code.

    Args:
        document: the parsed JSON, or None.
        status: the answer's HTTP status.
        retry_after: the answer's ``Retry-After`` header; only its form in seconds is read.
    """
    members: Mapping[str, object] = document if isinstance(document, dict) else {}

    def text(name: str) -> str:
        value = members.get(name)
        return value if isinstance(value, str) else ""

    def moment(name: str) -> float | None:
        try:
            return parse_time(text(name))
        except ValueError:
            return None

    code = text("code")
    return Problem(
        kind=TABLE.get(code) or ProblemType(code, status, text("title")),
        detail=text("detail"),
        request_id=text("request_id"),
        remedy=text("remedy"),
        retryable=members.get("retryable") is True,
        reason=text("reason"),
        since=moment("since"),
        next_attempt_at=moment("next_attempt_at"),
        retry_after=int(retry_after) if retry_after.isascii() and retry_after.isdigit() else None,
        version=text("version"),
        state=text("state"),
        scope=text("scope"),
    )
