r"""What stands in one audit record [pure].

Duty: build the line for a hand-out, a refusal, a report, a step of a rotation or a gap.
Not its duty: writing it (``log``).
Rules:

* names, versions and digests only: no value, no token, no lease id, no text from upstream;
* a line is ASCII JSON with one ``\n`` at its end, and shorter than ``PIPE_BUF``, so that a
  write to a pipe is whole or not at all;
* what a caller merely claims (tool, id of the MCP request) is cut and escaped;
* built by hand on the hot path: only strings that vary are encoded each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

quote: Callable[[str], str] = json.encoder.encode_basestring_ascii
"""Text as a JSON string, quotes included; in C where the interpreter has it."""

LONGEST: Final = 128
"""Characters kept of a text that comes from outside (each may grow to six when escaped)."""


class Stamp:
    """Writes Unix time as RFC 3339 with milliseconds, quickly.

    Records of one second share their first 19 characters, so these are kept.
    """

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, wall: float) -> str:
        """Text for ``wall``, rounded down."""
        second = int(wall)
        if second != self._second:
            self._second = second
            self._text = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}."
        return f"{self._text}{int((wall - second) * 1000):03d}Z"


def cut(text: str) -> str:
    """The first ``LONGEST`` characters, with a mark when there were more."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def lease_digest(lease_id: str) -> str:
    """Names a lease without naming it: 16 hexadecimal digits of its SHA-256."""
    return sha256(lease_id.encode()).hexdigest()[:16]


def value_fields(
    credential: str, version: str, *, source_version: str, lease_id: str, use_until: str
) -> str:
    """The part of a hand-out's record that stays the same while the answer does.

    Args:
        credential: its name.
        version: the version handed out.
        source_version: Vault's own number, or empty.
        lease_id: goes in as a digest; empty when there is no lease.
        use_until: as told to the caller.
    """
    fields = f'"credential":{quote(credential)},"version":{quote(version)}'
    if source_version:
        fields += f',"source_version":{quote(source_version)}'
    if lease_id:
        fields += f',"lease":"{lease_digest(lease_id)}"'
    return fields + f',"use_until":"{use_until}"'


def who_fields(
    *,
    uid: int | None = None,
    address: str = "",
    tool: str = "",
    mcp_request_id: str = "",
    token_id: str = "",
    subject: str = "",
    policies: Iterable[str] = (),
) -> str:
    """What is known of who asks, each member with its comma; empty members are left out."""
    fields = "" if uid is None else f',"uid":{uid}'
    if address:
        fields += f',"address":{quote(cut(address))}'
    if tool:
        fields += f',"tool":{quote(cut(tool))}'
    if mcp_request_id:
        fields += f',"mcp_request_id":{quote(cut(mcp_request_id))}'
    if token_id:
        fields += f',"token_id":{quote(cut(token_id))}'
    if subject:
        fields += f',"subject":{quote(cut(subject))}'
    if policies:
        fields += f',"policies":[{",".join(quote(cut(one)) for one in policies)}]'
    return fields


def handout_rest(client: str, who: str, value: str) -> str:
    """The part of a hand-out's record that stays the same for the same request.

    Args:
        client: who gets it.
        who: ``who_fields``.
        value: ``value_fields``.
    """
    return f'"client":{quote(client)}{who},{value}}}\n'


def handout_line(time: str, request_id: str, result: str, rest: str) -> bytes:
    """A hand-out: ``result`` is ``ok`` or ``not_modified``."""
    return (
        f'{{"time":"{time}","kind":"handout","result":"{result}","request_id":"{request_id}",{rest}'
    ).encode("ascii")


def refusal_line(
    time: str, request_id: str, client: str, claims: str, credential: str, result: str, reason: str
) -> bytes:
    """A refusal: ``result`` is the code of the error, ``reason`` the truth behind it."""
    about = f',"credential":{quote(cut(credential))}' if credential else ""
    who = f',"client":{quote(client)}' if client else ""
    return (
        f'{{"time":"{time}","kind":"refusal","result":{quote(result)},'
        f'"reason":{quote(cut(reason))},"request_id":{quote(cut(request_id))}'
        f"{who}{claims}{about}}}\n"
    ).encode("ascii")


def report_line(
    time: str,
    request_id: str,
    client: str,
    claims: str,
    credential: str,
    version: str,
    status: int,
    result: str,
) -> bytes:
    """A report that was taken: ``result`` is ``newer``, ``conflict`` or the code of an error."""
    return (
        f'{{"time":"{time}","kind":"report","result":{quote(result)},"status":{status},'
        f'"request_id":{quote(cut(request_id))},"client":{quote(client)}{claims},'
        f'"credential":{quote(cut(credential))},"version":{quote(cut(version))}}}\n'
    ).encode("ascii")


def rotation_line(
    time: str,
    credential: str,
    step: str,
    actor: str,
    *,
    rotation: str,
    key_id: str,
    reason: str,
    detail: str,
    source_version: str,
) -> bytes:
    """A step of a rotation that is committed; empty members are left out.

    Args:
        time: when it was taken.
        credential: its name.
        step: what was done (``rotation.ports.StepKind``).
        actor: who asked for it; ``schedule`` when nobody did.
        rotation: id of the rotation.
        key_id: the provider's id of the key that it is about.
        reason: why the rotation began.
        detail: code of an error.
        source_version: of the readers' path, when the step wrote it.
    """
    members = {
        "rotation": rotation,
        "key_id": key_id,
        "reason": reason,
        "detail": detail,
        "source_version": source_version,
    }
    told = "".join(f',"{name}":{quote(cut(text))}' for name, text in members.items() if text)
    return (
        f'{{"time":"{time}","kind":"rotation","step":{quote(step)},'
        f'"credential":{quote(cut(credential))},"actor":{quote(cut(actor))}{told}}}\n'
    ).encode("ascii")


def gap_line(time: str, lost: int) -> bytes:
    """So many records before this line could not be written though the hand-outs went out."""
    return f'{{"time":"{time}","kind":"gap","lost":{lost}}}\n'.encode("ascii")
