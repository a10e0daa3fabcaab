"""The member of a KV value that is the broker's own, beside the fields [pure].

Duty: write and read what a rotation tells readers within the value itself, so that it
changes together with it: which rotation wrote it, and until when the version before lives.
Not its duty: rotating (``rotation``), handing out (``sources``).
Rules:

* it is never handed out, nor can a template name it: a placeholder holds no dot;
* nothing in it is secret;
* a member that cannot be read is ``CredentialMalformed``: ignoring it could serve a dead key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from broker.errors import CredentialMalformed
from broker.secret import SecretValue

RESERVED: Final = "broker.rotation"
"""Name of the member."""


@dataclass(frozen=True, slots=True)
class Note:
    """What stands in the member. Times are Unix seconds."""

    installation: str
    rotation: str
    """Which rotation made the key; empty for a key that no rotation made, given back."""
    key_id: str
    """The provider's id of the key; empty when nobody knows it."""
    since_wall: float
    """When the key was made."""
    expires_wall: float | None = None
    """The key's own expiry."""
    replaces: int = 0
    """Version of this KV secret before; 0: none that readers may still hold."""
    retire_at_wall: float = 0.0
    """From then on nobody may serve the version before."""
    reverts: str = ""
    """The rotation that this version takes back, if it does."""
    withdrawn_by: str = ""
    """The rotation that withdrew the value because of a compromise: the version holds what stood
    beside the key, and no key. ``rotation`` and ``key_id`` are those of the withdrawn key."""


def with_note(data: Mapping[str, SecretValue], note: Note) -> dict[str, SecretValue]:
    """The value as it is written."""
    return {**data, RESERVED: SecretValue(json.dumps(asdict(note), separators=(",", ":")))}


def without_note(data: Mapping[str, SecretValue]) -> dict[str, SecretValue]:
    """The value as it is handed out."""
    return {name: value for name, value in data.items() if name != RESERVED}


def read_note(data: Mapping[str, SecretValue]) -> Note | None:
    """The note in a value; None when no rotation wrote it.

    Raises:
        CredentialMalformed: it is there and cannot be read.
    """
    secret = data.get(RESERVED)
    if secret is None:
        return None
    try:
        found = json.loads(secret.reveal())
        note = Note(**found)
        checks = (
            *(isinstance(text, str) for text in (note.installation, note.rotation)),
            *(isinstance(text, str) for text in (note.key_id, note.reverts, note.withdrawn_by)),
            *(_number(each) for each in (note.since_wall, note.replaces, note.retire_at_wall)),
            note.expires_wall is None or _number(note.expires_wall),
        )
    except (ValueError, TypeError, RecursionError):
        checks = (False,)
    if not all(checks):
        raise CredentialMalformed(f"the member {RESERVED!r} is not what a rotation writes")
    return note


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN
