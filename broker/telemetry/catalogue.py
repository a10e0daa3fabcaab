"""Every metric's name, type and meaning, and the closed sets its labels take words from.

Duty: the one list of what is exposed; ``docs/metrics.md`` explains it, a test compares.
Not its duty: counting (``metrics``), text (``exposition``).
Rules: a new metric gets a family here, a row in the document and a place in the scrape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.errors import BrokerError
from broker.telemetry.exposition import Family

OTHER: Final = "other"


def _codes(error: type[BrokerError]) -> Iterator[str]:
    yield error.code
    for below in error.__subclasses__():
        yield from _codes(below)


CODES: Final = frozenset(_codes(BrokerError))
"""The code of every error class; each result label is one of these or a word below."""

STATES: Final = (
    "pending",
    "fresh",
    "renewing",
    "replacing",
    "stale",
    "suspect",
    "refused",
    "expired",
    "withdrawn",
)
OPERATIONS: Final = frozenset(
    {
        "login_kubernetes",
        "lookup_self",
        "renew_self",
        "revoke_self",
        "kv_read",
        "lease",
        "renew_lease",
        "revoke_lease",
        "health",
    }
)
"""The methods of ``VaultPort``; a test compares them, since this layer cannot import it."""

REFRESH_RESULTS: Final = CODES | {"renewed", "replaced", "unchanged", "changed"}
HANDOUT_RESULTS: Final = CODES | {"ok", "not_modified"}
REPORT_RESULTS: Final = CODES | {"newer", "conflict"}
AUDIT_RESULTS: Final = ("written", "buffered", "refused", "lost")
STATUSES: Final = CODES | {"ok"}

PHASES: Final = (
    "idle",
    "withdrawing",
    "intended",
    "staged",
    "promoting",
    "overlap",
    "retiring",
    "reverting",
    "reverted",
    "discarding",
)
"""The phases of a rotation; a test compares them, since this layer cannot import them."""
STEPS: Final = frozenset(
    {
        "demanded",
        "intended",
        "created",
        "proved",
        "proof_failed",
        "rotated",
        "reverted",
        "rolled_back",
        "withdrawn",
        "retired",
        "discarded",
        "abandoned",
        "adopted",
        "swept",
        "orphan_seen",
        "key_missing",
        "restored",
        "suspected",
        "frozen",
        "unfrozen",
        "pinned",
        "failed",
    }
)
"""What may happen to a rotation; compared by a test as well."""
ROTATION_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Upper bounds in seconds: a few calls at best, settle time and retries at worst."""

HANDOUT_BUCKETS: Final = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1.0,
)
"""Upper bounds in seconds: a hand-out is some 50 microseconds, a stalled disk a second."""
VAULT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds in seconds, up to the default deadline of a Vault request."""

BUILD = Family("broker_build_info", "gauge", "Always 1; the labels say what runs.")
START = Family(
    "broker_process_start_timestamp_seconds", "gauge", "When this process started, Unix time."
)
CREDENTIALS = Family("broker_credentials", "gauge", "Configured credentials by state.")
STATE = Family("broker_credential_state", "gauge", "1 for the state the credential is in.")
EXPIRY = Family(
    "broker_credential_expiry_timestamp_seconds",
    "gauge",
    "Effective expiry of the held value, Unix time; +Inf if it never expires.",
)
AGE = Family("broker_credential_age_seconds", "gauge", "Time since the held value was obtained.")
SUCCESS = Family(
    "broker_credential_last_success_timestamp_seconds",
    "gauge",
    "When Vault last gave or confirmed the value, Unix time.",
)
REFRESHES = Family("broker_credential_refreshes_total", "counter", "Refreshes by result.")
HANDOUTS = Family("broker_handouts_total", "counter", "Hand-outs and refusals by result.")
HANDOUT_SECONDS = Family(
    "broker_handout_seconds",
    "histogram",
    "Time to answer a hand-out, waits asked for by the caller left out.",
)
LIMITED = Family(
    "broker_limited_total", "counter", "Hand-outs refused because of a limit, by who asked."
)
LIMIT_COUNTERS = Family("broker_limit_counters", "gauge", "Counters of limits held in memory.")
LIMIT_DROPPED = Family(
    "broker_limit_counters_dropped_total",
    "counter",
    "Counters of limits forgotten before their time, for want of room.",
)
FAILURES_LIMITED = Family(
    "broker_failed_authentications_limited_total",
    "counter",
    "Failed authentications over the limit, which were answered 429.",
)
REPORTS = Family("broker_reports_total", "counter", "Reports of refused versions by result.")
VAULT_REQUESTS = Family("broker_vault_requests_total", "counter", "Requests to Vault by status.")
VAULT_SECONDS = Family("broker_vault_request_seconds", "histogram", "Time of requests to Vault.")
TOKEN_EXPIRY = Family(
    "broker_vault_token_expiry_timestamp_seconds",
    "gauge",
    "Expiry of the Vault token, Unix time; +Inf if it never expires.",
)
TOKEN_TTL = Family("broker_vault_token_ttl_seconds", "gauge", "Life left in the Vault token.")
GENERATION = Family("broker_vault_token_generation", "gauge", "Vault tokens logged in for so far.")
LOGINS = Family("broker_vault_logins_total", "counter", "Logins to Vault by result.")
AUDIT = Family("broker_audit_records_total", "counter", "Audit records by result.")
AUDIT_SEQUENCE = Family(
    "broker_audit_sequence", "gauge", "Number of the last audit record in its chain."
)
LOGS_DROPPED = Family(
    "broker_log_records_dropped_total", "counter", "Log lines dropped: stderr was not read."
)
EVENT_GAPS = Family(
    "broker_event_gaps_total", "counter", "Times a slow reader of events missed some."
)
SCOPED_TOKENS = Family(
    "broker_scoped_tokens", "gauge", "Scoped tokens alive that this process knows."
)
SCOPED_TOKEN_EVENTS = Family(
    "broker_scoped_token_events_total", "counter", "Scoped tokens minted, revoked and expired here."
)
REVOCATIONS_AGE = Family(
    "broker_scoped_token_revocations_age_seconds",
    "gauge",
    "Time since the shared revocations were last read, while scoped tokens are in use.",
)
PHASE = Family("broker_rotation_phase", "gauge", "1 for the phase the rotation is in.")
KEY_AGE = Family(
    "broker_rotation_key_age_seconds", "gauge", "Time since the readers' upstream key was made."
)
DUE = Family(
    "broker_rotation_due_timestamp_seconds", "gauge", "When the next rotation begins, Unix time."
)
OVERDUE = Family(
    "broker_rotation_overdue",
    "gauge",
    "1 if a rotation is due and has not begun or ended in the time that one takes.",
)
ROTATION_STEPS = Family(
    "broker_rotation_steps_total", "counter", "Steps of rotations taken by this process."
)
ROTATION_SECONDS = Family(
    "broker_rotation_seconds",
    "histogram",
    "Time from a rotation's intent until readers have the new key, or keep the old one.",
)
LEADING = Family(
    "broker_rotation_leading", "gauge", "1 if this process carries rotations out, 0 if it may not."
)

FAMILIES: Final = (
    BUILD,
    START,
    CREDENTIALS,
    STATE,
    EXPIRY,
    AGE,
    SUCCESS,
    REFRESHES,
    HANDOUTS,
    REPORTS,
    HANDOUT_SECONDS,
    VAULT_REQUESTS,
    VAULT_SECONDS,
    TOKEN_EXPIRY,
    TOKEN_TTL,
    GENERATION,
    LOGINS,
    AUDIT,
    AUDIT_SEQUENCE,
    LOGS_DROPPED,
    EVENT_GAPS,
    LIMITED,
    LIMIT_COUNTERS,
    LIMIT_DROPPED,
    FAILURES_LIMITED,
    SCOPED_TOKENS,
    SCOPED_TOKEN_EVENTS,
    REVOCATIONS_AGE,
    PHASE,
    KEY_AGE,
    DUE,
    OVERDUE,
    ROTATION_STEPS,
    ROTATION_SECONDS,
    LEADING,
)
"""In the order of a scrape."""
