r"""What stands in the audit records of requests [pure].

Duty: build the line for a hand-out, a revalidation, a refusal, a report or a gap, and the
parts of it that are worth keeping; the shapes that all records share.
Not its duty: records of what happens without a request (``lifecycle``), sequence and chain
(``log`` adds them to every line), writing (``log``), the list of all members (``schema``).
Rules:

* names, versions and digests only: no value, no token, no lease id, no text from upstream;
* a line is ASCII JSON with one ``\n`` at its end, and shorter than ``PIPE_BUF`` by enough for
  sequence and chain, so that a write to a pipe is whole or not at all;
* what a caller merely claims (tool, id of the MCP request) is cut and escaped;
* the same thing has the same name in every kind, so that lines join;
* built by hand on the hot path: only strings that vary are encoded each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import Final

quote: Callable[[str], str] = json.encoder.encode_basestring_ascii
"""Text as a JSON string, quotes included; in C where the interpreter has it."""

LONGEST: Final = 128
"""Characters kept of a text that comes from outside."""
WIDEST: Final = 258
"""Bytes kept of it when it is written: what 128 printable ASCII characters take at most."""
POLICIES: Final = 512
"""Bytes kept of a list of policies."""


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
    """The first ``LONGEST`` characters, or as many as fit ``WIDEST``, with a mark when cut."""
    if len(text) <= LONGEST and text.isascii() and text.isprintable():
        return text
    kept = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    while len(quote(kept)) > WIDEST:
        over = len(quote(kept)) - WIDEST
        kept = kept[: -1 - max(1, over // 12)] + "…"
    return kept


def lease_digest(lease_id: str) -> str:
    """Names a lease without naming it: 16 hexadecimal digits of its SHA-256."""
    return sha256(lease_id.encode()).hexdigest()[:16]


def members(**texts: str) -> str:
    """Members with text, each with its comma, cut; empty ones are left out."""
    return "".join(f',"{name}":{quote(cut(text))}' for name, text in texts.items() if text)


def listed(name: str, texts: Sequence[str], most: int) -> str:
    """A member that is a list, with its comma; ``…`` for those that ``most`` bytes leave out."""
    if not texts:
        return ""
    kept: list[str] = []
    size = 0
    for text in texts:
        one = quote(cut(text))
        size += len(one) + 1
        if size > most:
            kept.append(quote("…"))
            break
        kept.append(one)
    return f',"{name}":[{",".join(kept)}]'


# --- parts that are worth keeping -------------------------------------------------------


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
    policies: Sequence[str] = (),
) -> str:
    """Who asks, and what decided; each member with its comma, empty ones left out.

    Args:
        uid: the peer's, as the kernel vouches for it.
        address: the peer's, on TCP.
        tool: as claimed, or as a scoped token proves.
        mcp_request_id: as claimed.
        token_id: id of the scoped token.
        subject: on whose behalf, by the scoped token.
        policies: ids of the policies that decided.
    """
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
    return fields + listed("policies", policies, POLICIES) if policies else fields


def argument_fields(key: bytes, content: bytes) -> str:
    """A tool's arguments as keyed digest and size, with the comma, where they were part of it.

    Args:
        key: 1 to 64 bytes. Short arguments can be found by trying: without the key they cannot.
        content: the arguments as they were decided on.
    """
    digest = blake2b(content, digest_size=16, key=key, person=b"arguments").hexdigest()
    return f',"arguments":{{"digest":"{digest}","size":{len(content)}}}'


# --- lines --------------------------------------------------------------------------------


def handout_rest(client: str, who: str, value: str, arguments: str = "") -> str:
    """The part of a hand-out's record that stays the same for the same request.

    Args:
        client: who gets it.
        who: ``who_fields``.
        value: ``value_fields``.
        arguments: ``argument_fields``.
    """
    return f'"client":{quote(client)}{who}{arguments},{value}}}\n'


def handout_line(time: str, request_id: str, result: str, rest: str) -> bytes:
    """A hand-out, or with ``result`` ``not_modified`` a revalidation, which carries no value."""
    kind = "revalidated" if result == "not_modified" else "handout"
    return (
        f'{{"time":"{time}","kind":"{kind}","result":"{result}","request_id":"{request_id}",{rest}'
    ).encode("ascii")


def refusal_line(
    time: str,
    request_id: str,
    client: str,
    who: str,
    credential: str,
    result: str,
    reason: str,
    arguments: str = "",
    count: int = 1,
) -> bytes:
    """A refusal: ``result`` is the code of the error, ``reason`` the truth behind it.

    With ``count`` above one the line stands for so many alike (a flood of one peer).
    """
    many = f',"count":{count}' if count > 1 else ""
    return (
        f'{{"time":"{time}","kind":"refusal","result":{quote(result)},'
        f'"reason":{quote(cut(reason))},"request_id":{quote(cut(request_id))}'
        f"{members(client=client)}{who}{arguments}{members(credential=credential)}{many}}}\n"
    ).encode("ascii")


def report_line(
    time: str,
    request_id: str,
    client: str,
    who: str,
    credential: str,
    version: str,
    status: int,
    result: str,
) -> bytes:
    """A report that was taken: ``result`` is ``newer``, ``conflict`` or the code of an error."""
    return (
        f'{{"time":"{time}","kind":"report","result":{quote(result)},"status":{status},'
        f'"request_id":{quote(cut(request_id))},"client":{quote(client)}{who},'
        f'"credential":{quote(cut(credential))},"version":{quote(cut(version))}}}\n'
    ).encode("ascii")


def gap_line(time: str, lost: int) -> bytes:
    """So many records before this line could not be written though the hand-outs went out."""
    return f'{{"time":"{time}","kind":"gap","lost":{lost}}}\n'.encode("ascii")
