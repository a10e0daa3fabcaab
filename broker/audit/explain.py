"""What one request was about, in sentences, from the audit log [pure].

Duty: find the records of a request and those that belong to them; tell them.
Not its duty: reading files (``files``), whether lines are true (``verify``).
Rules:

* what a caller claimed is told as a claim;
* lines join by the names that they share: scoped token, version, lease, MCP request;
* texts are what the audit holds: escaped where they could play with a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from broker.audit.schema import KINDS

Record = Mapping[str, Any]
Describe = Callable[[str], str]
"""The text of a policy by its id."""

MOST: Final = 50
"""Related lines told of; more are counted."""

_JOINED: Final = (
    *("kind", "request_id", "client", "mcp_request_id", "token_id", "parent"),
    *("credential", "version", "previous", "lease"),
)
_TOKENS: Final = {"token_minted": "minted", "token_revoked": "revoked", "token_expired": "expired"}


def explain(
    lines: Callable[[], Iterable[bytes]],
    request_id: str,
    describe_policy: Describe | None = None,
) -> list[str]:
    """Tell what a request was about; empty when no record names it.

    Args:
        lines: reads all lines anew, oldest first; called twice.
        request_id: the broker's own, as in ``Broker-Request-Id``.
        describe_policy: the text of a policy by its id.
    """
    about = [one for one in records(lines(), request_id) if one.get("request_id") == request_id]
    if not about:
        return []
    told = [sentence for one in about for sentence in _about(one, describe_policy)]
    related = list(_related(lines(), about))
    if related:
        told += ["", "Related records:"]
        told += [f"  {_when(one)}  {_relation(one)}" for one in related[:MOST]]
        if len(related) > MOST:
            told.append(f"  and {len(related) - MOST} more")
    return told


def records(lines: Iterable[bytes], *texts: str) -> Iterator[Record]:
    """The records of lines that hold one of ``texts``; of all when none is given."""
    needles = [json.dumps(text).encode() for text in texts]
    for line in lines:
        if needles and not any(needle in line for needle in needles):
            continue  # most lines, without the price of reading them
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and _as_written(record):
            yield record


def _as_written(record: Record) -> bool:
    """Whether what lines join by has the shape that the broker gives it."""
    return (
        all(isinstance(record.get(name, ""), str) for name in _JOINED)
        and record.get("kind") in KINDS
        and isinstance(record.get("policies", []), list)
        and isinstance(record.get("arguments", {}), dict)
    )


# --- the request itself -----------------------------------------------------------------


def _about(one: Record, describe: Describe | None) -> Iterator[str]:
    yield f"{_when(one)}  {_headline(one)}"
    yield f"  Asked: {_who(one)}."
    if "token_id" in one and one.get("kind") not in _TOKENS:
        subject = f", on behalf of {_said(one['subject'])}" if "subject" in one else ""
        yield f"  Scoped token: {_said(one['token_id'])}{subject}."
    if "arguments" in one:
        arguments = one["arguments"]
        yield (
            f"  The tool's arguments were looked at: {arguments.get('size')} bytes with the keyed "
            f"digest {arguments.get('digest')}."
        )
    yield from _policies(one, describe)
    left = _left(one)
    if left:
        yield f"  {left}"


def _headline(one: Record) -> str:
    name, kind = _said(one.get("credential", "")), one.get("kind")
    match kind:
        case "handout":
            return f"{name} was handed out."
        case "revalidated":
            return f"{name}: the caller's version was confirmed; no value left."
        case "refusal":
            asked = name or "A request"
            return f"{asked} was refused with {one.get('result')}: {_said(one.get('reason', ''))}."
        case "report":
            return (
                f"The upstream answered {one.get('status')} to {name}, the caller reported; the "
                f"broker's answer: {one.get('result')}."
            )
        case "token_minted" | "token_revoked" | "token_expired":
            return f"{_token(one)}."
        case _:
            return f"{kind}."


def _who(one: Record) -> str:
    client = _said(one["client"]) if "client" in one else "nobody that the broker knows"
    if "actor" in one:
        client = _said(one["actor"])
    where = [f"uid {one['uid']}"] if "uid" in one else []
    where += [f"from {_said(one['address'])}"] if "address" in one else []
    words = client + (f" ({', '.join(where)})" if where else "")
    if "tool" in one:
        claimed = "" if "token_id" in one else ", as it claims"
        words += f", for the tool {_said(one['tool'])}{claimed}"
    if "mcp_request_id" in one:
        words += f", in the MCP request {_said(one['mcp_request_id'])}, as it claims"
    return words


def _policies(one: Record, describe: Describe | None) -> Iterator[str]:
    policies = one.get("policies", [])
    if policies:
        yield f"  Decided by: {', '.join(map(_said, policies))}."
    for policy in policies if describe is not None else ():
        text = describe(str(policy)) if describe is not None else ""
        for line in text.splitlines():
            yield f"    {_said(line)}"


def _left(one: Record) -> str:
    """What left the broker, and which one it was."""
    if one.get("kind") == "refusal":
        return "Nothing left the broker."
    if "version" not in one:
        return ""
    words = f"Version {_said(one['version'])}"
    if "source_version" in one:
        words += f", number {_said(one['source_version'])} in Vault"
    if "lease" in one:
        words += f", of the lease {one['lease']}"
    if "use_until" in one:
        words += f"; to be used until {one['use_until']}"
    return words + "."


# --- what belongs to it -----------------------------------------------------------------


def _related(lines: Iterable[bytes], about: list[Record]) -> Iterator[Record]:
    tokens = {one["token_id"] for one in about if "token_id" in one}
    tokens |= {one["parent"] for one in about if "parent" in one}
    versions = {
        (one["credential"], one["version"])
        for one in about
        if "version" in one and "credential" in one
    }
    leases = {one["lease"] for one in about if "lease" in one}
    calls = {(one.get("client"), one["mcp_request_id"]) for one in about if "mcp_request_id" in one}
    texts = {*tokens, *leases, *(version for _, version in versions), *(call for _, call in calls)}
    if not texts:
        return
    own = {one.get("request_id") for one in about}
    for one in records(lines, *map(str, texts)):
        if one.get("request_id") in own:
            continue
        kind, name = one.get("kind"), one.get("credential")
        same_call = (one.get("client"), one.get("mcp_request_id")) in calls
        if (
            (kind in _TOKENS and one.get("token_id") in tokens)
            or (kind == "report" and (name, one.get("version")) in versions)
            or (
                kind == "refresh"
                and (
                    (name, one.get("version")) in versions
                    or (name, one.get("previous")) in versions
                    or one.get("lease") in leases
                )
            )
            or (same_call and "mcp_request_id" in one)
        ):
            yield one


def _relation(one: Record) -> str:
    kind, name = one.get("kind"), _said(one.get("credential", ""))
    if kind in _TOKENS:
        return _token(one)
    if kind == "report":
        return (
            f"{_said(one.get('client', ''))} reported that the upstream answered "
            f"{one.get('status')} to this version ({one.get('result')})"
        )
    if kind == "refresh":
        words = f"{name}: {one.get('result')}"
        words += f", version {_said(one['version'])}" if "version" in one else ""
        return words + (f" in place of {_said(one['previous'])}" if "previous" in one else "")
    return f"in the same MCP request: {name or 'a request'}: {kind} ({one.get('result')})"


def _token(one: Record) -> str:
    words = f"Scoped token {_said(one.get('token_id', ''))} {_TOKENS[one['kind']]}"
    for member, before in (
        ("actor", " by "),
        ("client", " for "),
        ("subject", ", on behalf of "),
        ("parent", ", from the token "),
        ("expires_at", ", good until "),
        ("reason", ": "),
    ):
        if member in one:
            words += f"{before}{_said(one[member])}"
    return words


def _when(one: Record) -> str:
    return _said(one.get("time", "?"))


def _said(text: object) -> str:
    """A text of the audit as it may go to a terminal."""
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}"
        for character in str(text)
    )
