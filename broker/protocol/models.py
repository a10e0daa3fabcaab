"""Shapes on the wire between the broker and its clients [pure].

Duty: the JSON documents of the data plane as types; their form of time.
Not its duty: problem documents (``problems``), names (``names``).
Rules:

* times are RFC 3339 in UTC with milliseconds; durations are seconds;
* rounding is always towards the caller's caution: an end is never stated later, nor a
  remaining life longer, than it is;
* a reader ignores members it does not know; a member once released keeps its meaning.

How to read the times of a hand-out on a clock of one's own: ``expires_in`` and
``use_until - issued_at`` both count from the moment *before* the request was sent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, NotRequired, TypedDict

LAST_MOMENT: Final = 253402300799.999
"""9999-12-31T23:59:59.999Z as Unix time, the last that RFC 3339 can write."""


def format_time(unix: float) -> str:
    """Write Unix time as ``2027-01-15T08:00:00.000Z``, rounded down to a millisecond."""
    unix = min(unix, LAST_MOMENT)
    milliseconds = round(unix * 1000)
    if milliseconds / 1000 > unix:
        milliseconds -= 1
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def parse_time(text: str) -> float:
    """Read RFC 3339 as Unix time.

    Raises:
        ValueError: no such form, or without an offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset from UTC, such as Z")
    return moment.timestamp()


UseDocument = TypedDict(
    "UseDocument",
    {
        "in": Literal["header", "cookie", "unsafe_query"],
        "name": str,
        "field": NotRequired[str],
        "prefix": NotRequired[str],
        "scheme": NotRequired[Literal["bearer", "basic"]],
        "username_field": NotRequired[str],
        "password_field": NotRequired[str],
        "origins": list[str],
    },
)
"""Where the value goes in an upstream request, in OpenAPI's words for security schemes.

Without ``scheme``: header, cookie or query parameter ``name`` gets ``prefix`` + the value of
``field``. ``bearer``: ``Authorization: Bearer <field>``. ``basic``: user and password from
``username_field`` and ``password_field``. Only for requests to ``origins``, such as
``https://api.example.com``; an empty list means nowhere by itself.
"""


class HandoutDocument(TypedDict):
    """``GET /v1/credentials/{name}``: a hand-out."""

    name: str
    version: str
    """Opaque, compared for equality only; also the ``ETag``, in quotes."""
    source_version: str | None
    """Vault's own number, for people."""
    data: dict[str, str]
    """Field to secret."""
    use: UseDocument | None
    state: str
    issued_at: str
    """At most a second before the answer left."""
    expires_at: str | None
    """Until when the broker vouches for the value (its effective expiry); None: no end known."""
    expires_in: float | None
    """Seconds until ``expires_at``."""
    use_until: str
    """Ask again before this: the value is not revoked earlier, and may be afterwards."""
    report_statuses: NotRequired[list[int]]
    """Statuses of the upstream that are worth a report; 401 alone when missing."""


class CredentialDocument(TypedDict):
    """One line of ``GET /v1/credentials``; never a value."""

    name: str
    state: str
    available: bool
    version: str | None
    source_version: str | None
    expires_at: str | None
    since: str | None
    """Since when there is no usable value; None while there is one."""
    next_attempt_at: str | None
    reason: str | None
    """Code of the newest error; None when all is well."""


class CredentialListDocument(TypedDict):
    """``GET /v1/credentials``: what the caller may have."""

    credentials: list[CredentialDocument]


class WhoamiDocument(TypedDict):
    """``GET /v1/whoami``."""

    client: str
    proof: Literal["token", "uid", "token_and_uid"]
    """How the caller was identified."""
    subject: str | None
    """On whose behalf, when a scoped token was shown."""
    credentials: list[str]
    tools: list[str] | None
    """The tools it may name; None: any."""


class ReportRequest(TypedDict):
    """Body of ``POST /v1/credentials/{name}/reports``."""

    version: str
    status: int
    """The upstream's HTTP status; 401 counts, others if the hand-out says so."""
    detail: NotRequired[str]


class ReportDocument(TypedDict):
    """Answer to a report: another version is current. Never a value: ask for it."""

    name: str
    reported: str
    version: str
    state: str


class AssertedSubject(TypedDict):
    """Who shows another issuer's token, as verified by the caller."""

    iss: str
    sub: str


class DecisionsRequest(TypedDict):
    """Body of ``POST /v1/decisions``: may the subject call these tools of the caller's?

    The subject is the one of ``Broker-Subject-Token``, or ``subject``, or nobody.
    """

    action: Literal["call_tool"]
    tools: list[str]
    """At most 256."""
    subject: NotRequired[AssertedSubject]
    address: NotRequired[str]
    """IP address that the subject's request came from."""
    arguments: NotRequired[dict[str, object]]
    """Of the call, for policies that look at them."""
    overview: NotRequired[bool]
    """Nothing is attempted: a list is made; refusals are not recorded."""


class DecisionDocument(TypedDict):
    """About one tool."""

    tool: str
    allowed: bool
    scope: str
    """What the scoped token lacks; empty when no scope would help."""
    policies: list[str]
    """Ids of the policies that permit it."""


class DecisionsDocument(TypedDict):
    """Answer to ``POST /v1/decisions``, in the order of the question."""

    decisions: list[DecisionDocument]
