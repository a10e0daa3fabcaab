"""Every kind of audit record and every member, as JSON Schema [pure].

Duty: the closed set of kinds; which members each must and may have; what each means.
Not its duty: building lines (``record``, ``lifecycle``): a test compares them with this.
Rules:

* a kind or member that is not listed here is not written;
* docs/audit.schema.json is what ``json_schema`` returns; docs/audit.md explains the same
  members in the same words; a test compares both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_WHO: Final = (
    "uid",
    "address",
    "tool",
    "mcp_request_id",
    "token_id",
    "subject",
    "policies",
)
_ARGUMENTS: Final = "arguments"
_VALUE: Final = ("source_version", "lease")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record."""

    meaning: str
    """When it is written."""
    always: tuple[str, ...]
    """Members besides ``COMMON``."""
    perhaps: tuple[str, ...] = ()
    """Members that are left out when not known."""


COMMON: Final = ("time", "kind", "seq", "chain")
"""Members of every line."""

KINDS: Final[Mapping[str, Kind]] = {
    "handout": Kind(
        "before each answer that carries a value",
        ("result", "request_id", "client", "credential", "version", "use_until"),
        (*_WHO, _ARGUMENTS, *_VALUE),
    ),
    "revalidated": Kind(
        "before each 304: the caller's version is the newest, and may be used longer",
        ("result", "request_id", "client", "credential", "version", "use_until"),
        (*_WHO, _ARGUMENTS, *_VALUE),
    ),
    "refusal": Kind(
        "for each refused request that named or missed a caller or a credential",
        ("result", "reason", "request_id"),
        ("client", *_WHO, _ARGUMENTS, "credential", "count"),
    ),
    "report": Kind(
        "after each report of a refused key that was taken",
        ("result", "status", "request_id", "client", "credential", "version"),
        _WHO,
    ),
    "token_minted": Kind(
        "before the answer that carries a new scoped token",
        ("token_id",),
        ("subject", "client", "parent", "actor", "reason", "expires_at", "request_id"),
    ),
    "token_revoked": Kind(
        "when a scoped token is revoked, by itself or with its parent",
        ("token_id",),
        ("subject", "client", "parent", "actor", "reason", "expires_at", "request_id"),
    ),
    "token_expired": Kind(
        "when a scoped token that has ended is forgotten",
        ("token_id",),
        ("subject", "client", "parent", "actor", "reason", "expires_at", "request_id"),
    ),
    "login": Kind("after each login to Vault, well or not", ("result",), ("generation",)),
    "refresh": Kind(
        "when a credential was renewed or replaced, or first refused for a new reason",
        ("result", "credential"),
        ("version", "source_version", "lease", "previous"),
    ),
    "rotation": Kind(
        "after each step of a rotation that is committed",
        ("step", "credential", "actor"),
        ("rotation", "key_id", "reason", "detail", "source_version"),
    ),
    "configuration": Kind(
        "when a changed configuration was applied or refused",
        ("result",),
        ("digest", "reason", "keys", "restart"),
    ),
    "start": Kind(
        "first of all by each process",
        ("process", "broker_version"),
        ("digest", "host"),
    ),
    "stop": Kind("last of all, when the process ends in order", ("reason",), ("exit_code",)),
    "gap": Kind(
        "before the first record after some were lost (`on_failure: allow`), and after a piece of "
        "one",
        ("lost",),
    ),
    "head": Kind(
        "at the top of a file that goes on where another was full; repeats the `seq` and `chain` "
        "of its last record",
        ("file",),
    ),
}
"""What may be written; nothing else is."""

_NUMBER: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 0}
_TEXT: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 128}
_TIME: Final[Mapping[str, Any]] = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$",
}
_NAMES: Final[Mapping[str, Any]] = {"type": "array", "items": _TEXT, "minItems": 1}


def _hex(digits: int) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^[0-9a-f]{{{digits}}}$"}


MEMBERS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "time": (_TIME, "UTC, RFC 3339 with milliseconds"),
    "kind": ({"enum": [*KINDS]}, "what happened; see above"),
    "seq": ({"type": "integer", "minimum": 1}, "counts the records of a chain from 1"),
    "chain": (_hex(32), "links the record to all before it; see below"),
    "result": (
        _TEXT,
        (
            "`ok`, `not_modified`, `newer`, `conflict`, `renewed`, `replaced`, `changed`, "
            "`applied`, "
            "`refused`, or the code of an error"
        ),
    ),
    "reason": (
        _TEXT,
        (
            "the truth behind a refusal, which the caller is not told: `unknown` or `not_allowed`, "
            "which proof failed, why there is no value; why a token was revoked, a rotation began, "
            "a configuration was refused, a process ended"
        ),
    ),
    "request_id": (
        _TEXT,
        "the broker's own id; also in the answer's `Broker-Request-Id` and in problem documents",
    ),
    "client": (_TEXT, "the authenticated client; absent when nobody was"),
    "uid": (
        _NUMBER,
        "the peer's uid as the kernel vouches for it; absent on TCP",
    ),
    "address": (_TEXT, "the peer's address; absent on a Unix socket"),
    "tool": (
        _TEXT,
        "the MCP tool: a *claim* of the caller in `Broker-Tool`, unless there is a `token_id`",
    ),
    "mcp_request_id": (
        _TEXT,
        "id of the MCP request, as the caller *claims* in `Broker-Mcp-Request-Id`",
    ),
    "token_id": (
        _TEXT,
        (
            "id of the scoped token, never the token; `*` in a revocation that named none this "
            "broker knew: `reason` says which it means"
        ),
    ),
    "subject": (_TEXT, "on whose behalf, as the scoped token says"),
    "policies": (_NAMES, "ids of the policies that decided; `…` when there were too many"),
    "arguments": (
        {
            "type": "object",
            "properties": {"digest": _hex(32), "size": _NUMBER},
            "required": ["digest", "size"],
            "additionalProperties": False,
        },
        "keyed digest and size in bytes of the tool's arguments, where a policy looked at them",
    ),
    "credential": (_TEXT, "what was handed out, asked for, refreshed or rotated"),
    "version": (_TEXT, "the broker's version of the value: opaque, never used twice"),
    "source_version": (
        _TEXT,
        "Vault's own number of the KV version; of a step: the one that it wrote for the readers",
    ),
    "lease": (
        _hex(16),
        (
            "the first 16 hexadecimal digits of the SHA-256 of the lease id: "
            '`printf %s "$LEASE_ID" \\| sha256sum` finds the records of a lease'
        ),
    ),
    "previous": (_TEXT, "the version that `version` takes the place of, or that was withdrawn"),
    "use_until": (_TIME, "until when the caller was told to use the value"),
    "status": (_NUMBER, "the upstream's HTTP status in a report"),
    "parent": (_TEXT, "id of the scoped token that this one was minted with"),
    "actor": (
        _TEXT,
        (
            "who did it, or reported it: a client, perhaps `for` a subject; `operator uid 1000` as "
            "the kernel vouches for it; `schedule`"
        ),
    ),
    "expires_at": (_TIME, "when the scoped token ends"),
    "generation": (_NUMBER, "number of the Vault token since the start, from 1"),
    "step": (
        _TEXT,
        (
            "what was done: `created`, `rotated`, `rolled_back`, `retired`, `swept` and the others "
            "in [metrics](metrics.md#words)"
        ),
    ),
    "rotation": (
        _TEXT,
        (
            "id of the rotation; also in the new key's label at the provider, and in the value in "
            "Vault"
        ),
    ),
    "key_id": (_TEXT, "the provider's id of the key that the step is about"),
    "detail": (_TEXT, "code of the error behind it"),
    "digest": (_hex(64), "SHA-256 of the configuration file"),
    "keys": (_NAMES, "configuration keys that changed and were applied; `…` for more"),
    "restart": (_NAMES, "configuration keys that changed and wait for a restart; `…` for more"),
    "process": ({"enum": ["broker", "rotator"]}, "`broker run` or `broker rotator`"),
    "broker_version": (_TEXT, "of the program"),
    "host": (_TEXT, "name of the machine: in Kubernetes of the pod"),
    "exit_code": (_NUMBER, "what the process ends with; absent when an error ends it"),
    "count": (
        _NUMBER,
        "how many refusals alike this record stands for, itself included; absent: one",
    ),
    "lost": (
        _NUMBER,
        "how many records before this line could not be written; 0 after a piece of one",
    ),
    "file": (_TEXT, "name of the file before this one"),
}
"""Each member's schema and meaning."""

_RESULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "handout": {"const": "ok"},
    "revalidated": {"const": "not_modified"},
    "configuration": {"enum": ["applied", "refused"]},
}
"""What ``result`` is where it is less than any word."""


def json_schema() -> dict[str, Any]:
    """JSON Schema of one line (draft 2020-12)."""
    return {
        "$schema": DIALECT,
        "title": "Audit record of mcp-secrets-broker",
        "description": "One line of the audit log. It holds names, versions and digests; never a "
        "value, a token or a lease id.",
        "type": "object",
        "required": list(COMMON),
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in KINDS],
        "$defs": {kind: _kind(kind, one) for kind, one in KINDS.items()},
    }


def _kind(name: str, kind: Kind) -> dict[str, Any]:
    properties = {
        member: {**MEMBERS[member][0], "description": MEMBERS[member][1].replace("\\|", "|")}
        for member in (*COMMON, *kind.always, *kind.perhaps)
    }
    properties["kind"] = {"const": name}
    if name in _RESULTS:
        properties["result"] = {**_RESULTS[name], "description": MEMBERS["result"][1]}
    return {
        "description": f"Written {kind.meaning}.",
        "type": "object",
        "properties": properties,
        "required": [*COMMON, *kind.always],
        "additionalProperties": False,
    }
