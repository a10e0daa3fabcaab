"""Audit lines for tests: one of each kind, and chains of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from broker.audit import lifecycle, record
from broker.audit.chain import BEGINNING, chain_of
from broker.audit.older import THREAD
from tests.support.patience import PATIENCE

TIME = "2027-01-15T08:00:00.250Z"
KEY = b"0123456789abcdef0123456789abcdef"


def handout(
    time: str, request_id: str, client: str, who: str, value: str, result: str, arguments: str = ""
) -> bytes:
    """The record of a hand-out, or with ``not_modified`` of a revalidation."""
    rest = record.handout_rest(client, who, value, arguments)
    return record.handout_line(time, request_id, result, rest)


WHO = record.who_fields(
    uid=10001,
    address="127.0.0.1",
    tool="list_orders",
    mcp_request_id="42",
    token_id="st-1",
    subject="alice",
    policies=("orders-by-day", "p2"),
)
VALUE = record.value_fields(
    "orders-db", "v-7f", source_version="3", lease_id="db/creds/x", use_until=TIME
)
BARE = record.value_fields("a", "v", source_version="", lease_id="", use_until=TIME)
TOKEN = {
    "token_id": "st-1",
    "subject": "alice",
    "client": "orders",
    "parent": "st-0",
    "actor": "orders",
    "reason": "left",
    "expires_at": TIME,
    "request_id": "r0",
}
BARE_TOKEN = dict.fromkeys(TOKEN, "") | {"token_id": "st-2"}


def full() -> list[bytes]:
    """One line of each kind with every member it may have."""
    arguments = record.argument_fields(KEY, b"{}")
    return [
        lifecycle.start_line(
            TIME, process="broker", broker_version="1.0", digest="0" * 64, host="pod-1"
        ),
        lifecycle.login_line(TIME, "ok", generation=1),
        lifecycle.refresh_line(
            TIME,
            "orders-db",
            "replaced",
            version="v-7f",
            source_version="3",
            lease_id="db/creds/x",
            previous="v-7e",
        ),
        lifecycle.token_line(TIME, "token_minted", **TOKEN),
        handout(TIME, "r1", "orders", WHO, VALUE, "ok", arguments),
        handout(TIME, "r2", "orders", WHO, VALUE, "not_modified", arguments),
        record.refusal_line(
            TIME,
            "r3",
            "orders",
            WHO,
            "orders-db",
            "credential_unknown",
            "not_allowed",
            arguments,
            7,
        ),
        record.report_line(TIME, "r4", "orders", WHO, "orders-db", "v-7f", 401, "newer"),
        lifecycle.token_line(TIME, "token_revoked", **TOKEN),
        lifecycle.token_line(TIME, "token_expired", **TOKEN),
        lifecycle.rotation_line(
            TIME,
            "orders-db",
            "rotated",
            "schedule",
            rotation="r-1",
            key_id="k",
            reason="max_age",
            detail="upstream_refused",
            source_version="7",
        ),
        lifecycle.configuration_line(
            TIME,
            "applied",
            digest="0" * 64,
            keys=["log.level"],
            restart=["vault.address"],
            reason="settings_faults",
        ),
        record.gap_line(TIME, 3),
        lifecycle.stop_line(TIME, reason="SIGTERM", exit_code=0),
    ]


def bare() -> list[bytes]:
    """One line of each kind with no member that it can do without."""
    nothing = {"rotation": "", "key_id": "", "reason": "", "detail": "", "source_version": ""}
    held = {"version": "", "source_version": "", "lease_id": "", "previous": ""}
    return [
        lifecycle.start_line(TIME, process="rotator", broker_version="1.0", digest="", host=""),
        lifecycle.login_line(TIME, "login_failed", generation=None),
        lifecycle.refresh_line(TIME, "a", "vault_denied", **held),
        lifecycle.token_line(TIME, "token_minted", **BARE_TOKEN),
        handout(TIME, "r1", "c", "", BARE, "ok"),
        handout(TIME, "r2", "c", "", BARE, "not_modified"),
        record.refusal_line(TIME, "r3", "", "", "", "caller_unauthenticated", "no_proof"),
        record.report_line(TIME, "r4", "c", "", "a", "v", 401, "conflict"),
        lifecycle.token_line(TIME, "token_revoked", **BARE_TOKEN),
        lifecycle.token_line(TIME, "token_expired", **BARE_TOKEN),
        lifecycle.rotation_line(TIME, "a", "frozen", "operator uid 0", **nothing),
        lifecycle.configuration_line(TIME, "refused", digest=""),
        record.gap_line(TIME, 1),
        lifecycle.stop_line(TIME, reason="quit", exit_code=None),
    ]


def chained(
    lines: Iterable[bytes], key: bytes = KEY, *, previous: bytes = BEGINNING, sequence: int = 1
) -> Iterator[bytes]:
    """The lines as the log writes them, from ``sequence`` on."""
    for line in lines:
        content = line.removesuffix(b"}\n") + b',"seq":%d' % sequence
        previous = chain_of(key, previous, content)
        yield content + b',"chain":"' + previous.hex().encode() + b'"}\n'
        sequence += 1


def plain(count: int) -> list[bytes]:
    """So many hand-outs, each unlike the others."""
    return [handout(TIME, f"r{number}", "c", "", BARE, "ok") for number in range(count)]


def settled() -> None:
    """Wait for the threads that make room for files and give up old ones."""
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(PATIENCE)
