"""The audit log that settings describe.

Duty: target, key and place in the chain, from ``AuditSettings``.
Not its duty: writing (``audit.log``), where the chain stands (``audit.files``).
Rule: a chain goes on over restarts as long as the file's last record can be read; else, and on
standard output, each start begins a new one, and says so when it is not the first.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from broker.app import translate
from broker.audit.chain import Chain
from broker.audit.files import last_link, read_key
from broker.audit.log import AuditLog, Recorder
from broker.clock import Clock
from broker.settings.domain import AuditSettings

log = logging.getLogger("broker.audit")


def audit_log(settings: AuditSettings, *, clock: Clock, metrics: Recorder) -> AuditLog:
    """Open the log.

    Raises:
        SettingsError: the key cannot be used.
        AuditUnavailable: the target cannot be opened.
    """
    key = read_key(settings.key_file) if settings.key_file else b""
    return AuditLog(
        translate.audit_sink(settings),
        clock=clock,
        metrics=metrics,
        on_failure=settings.on_failure,
        chain=_chain(settings.file, key),
        sync=settings.sync,
    )


def digest_key(settings: AuditSettings) -> bytes:
    """Key of the digests of tools' arguments: the chain's, or one of this process alone."""
    return read_key(settings.key_file) if settings.key_file else secrets.token_bytes(32)


def _chain(file: str, key: bytes) -> Chain:
    head = last_link(file) if file else None
    if head is not None:
        return Chain(key, sequence=head.sequence, link=bytes.fromhex(head.chain))
    path = Path(file)
    if file and path.is_file() and path.stat().st_size:
        log.warning("the audit file does not end with a record: a new chain begins in it")
    return Chain(key)
