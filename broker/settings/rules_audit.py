"""Contradictions about the audit log [pure].

Duty: say what of ``audit`` cannot work or would open it to those it is about.
Not its duty: whether the files can be used (``audit``); all else (``rules``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.settings.domain import AuditSettings, Settings
from broker.settings.findings import Finding

LEAST: Final = 65_536
"""Bytes: a smaller file would be rotated every few hand-outs."""


def audit_rules(settings: Settings) -> Iterator[Finding]:
    """Yield every finding about ``audit``."""
    audit = settings.audit
    if not audit.file:
        yield from _standard_output(audit)
    elif 0 < audit.max_bytes < LEAST:
        yield Finding(
            ("audit", "max_bytes"),
            f"rotates every few hand-outs: {audit.max_bytes} bytes hold some "
            f"{max(1, audit.max_bytes // 400)} records",
            f"Write {LEAST} or more; 104857600 are 100 MiB.",
        )
    if audit.keep is not None and not audit.max_bytes:
        yield Finding(
            ("audit", "keep"),
            "has no meaning: nothing is rotated",
            "Set audit.max_bytes, or remove keep.",
        )
    yield from _places(settings)


def _standard_output(audit: AuditSettings) -> Iterator[Finding]:
    if audit.max_bytes:
        yield Finding(
            ("audit", "max_bytes"),
            "cannot rotate standard output",
            "Set audit.file, or remove max_bytes: whoever collects the output rotates it.",
        )
    if audit.sync:
        yield Finding(
            ("audit", "sync"),
            "cannot wait for a disk: the records go to standard output",
            "Set audit.file, or remove sync.",
        )


def _places(settings: Settings) -> Iterator[Finding]:
    audit = settings.audit
    if audit.key_file and audit.key_file == audit.file:
        yield Finding(
            ("audit", "key_file"),
            "is the file that the records are appended to",
            "Keep the key in a file of its own, mounted from a Secret.",
        )
    for name in settings.clients:
        shared = f"{settings.listeners.socket_directory.rstrip('/')}/{name}/"
        for key, path in (("file", audit.file), ("key_file", audit.key_file)):
            if path.startswith(shared):
                yield Finding(
                    ("audit", key),
                    f"lies in the directory that the client {name} mounts",
                    "Put it where no other container can reach it.",
                )
