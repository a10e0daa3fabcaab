"""Single looks at the parts, without memory.

Duty: read OpenBao's tokens, leases and the search key, and new lines of growing files.
Not its duty: comparing one look with the next (``watch``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from broker.clock import Clock
from broker.demo.configuration import ORDERS_PATH
from broker.demo.openbao_admin import Admin, AdminError
from broker.secret import SecretValue


@dataclass(slots=True)
class Look:
    """What OpenBao showed at one look."""

    at: float
    """Unix time after the answers had come."""
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Accessor to what is known of a token that came from a login."""
    leases: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Lease id to what is known of it."""
    key: tuple[str, SecretValue] | None = None
    """Version and text of the search key in Vault."""


def look_at_openbao(admin: Admin, clock: Clock) -> Look:
    """The living tokens of the kubernetes auth method, orders leases, the search key. Blocks.

    Raises:
        AdminError: OpenBao cannot tell.
        httpx2.TransportError: it does not answer.
    """
    look = Look(at=0.0)
    for accessor in admin.accessors():
        try:
            body = {"accessor": accessor}
            token = admin.request("POST", "auth/token/lookup-accessor", body)["data"]
        except AdminError as error:
            if error.status in (400, 403, 404):  # it ended between the two requests
                continue
            raise
        if token["path"].startswith("auth/kubernetes/"):
            look.tokens[accessor] = token
    for lease_id in admin.leases(ORDERS_PATH):
        try:
            look.leases[lease_id] = dict(admin.lease(lease_id))
        except AdminError as error:
            if error.status in (400, 404):
                continue
            raise
    value = admin.request("GET", "secret/data/search-api")["data"]
    look.key = str(value["metadata"]["version"]), SecretValue(value["data"]["api_key"])
    look.at = clock.wall()
    return look


class Tail:
    """Whole new lines of a growing file."""

    def __init__(self, file: Path) -> None:
        self._file, self._offset = file, 0

    def lines(self) -> list[str]:
        """The lines that were completed since the last time."""
        if not self._file.exists():
            return []
        with self._file.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode().splitlines()


def unix_time(text: str) -> float:
    """Unix time of an RFC 3339 text, cut to microseconds."""
    return datetime.fromisoformat(text).timestamp()
