"""What stands in the audit records of what happens without a request for a value [pure].

Duty: build the line for a scoped token, a login, a refresh, a rotation's step, a
configuration, start, stop, and the head of the chain at the top of a file.
Not its duty: requests (``record``), noticing any of it (``app``, ``access``).
Rules: those of ``record``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from broker.audit.record import cut, lease_digest, listed, members, quote

KEYS: Final = 1024
"""Bytes kept of a list of configuration keys."""

TokenKind = Literal["token_minted", "token_revoked", "token_expired"]


def token_line(
    time: str,
    kind: TokenKind,
    *,
    token_id: str,
    subject: str,
    client: str,
    parent: str,
    actor: str,
    reason: str,
    expires_at: str,
    request_id: str,
) -> bytes:
    """What became of a scoped token; empty members are left out.

    Args:
        time: when.
        kind: what.
        token_id: its id, which is no secret.
        subject: on whose behalf it speaks.
        client: the caller that it is bound to.
        parent: id of the token that it was minted with.
        actor: who did it: a client's name, ``operator uid 0``, ``expiry``.
        reason: of a revocation.
        expires_at: when it ends or ended, RFC 3339.
        request_id: of the request that did it.
    """
    told = members(
        token_id=token_id,
        subject=subject,
        client=client,
        parent=parent,
        actor=actor,
        reason=reason,
        expires_at=expires_at,
        request_id=request_id,
    )
    return f'{{"time":"{time}","kind":"{kind}"{told}}}\n'.encode("ascii")


def login_line(time: str, result: str, *, generation: int | None) -> bytes:
    """A login to Vault: ``ok`` with the generation of the token, or the code of an error."""
    number = "" if generation is None else f',"generation":{generation}'
    return (f'{{"time":"{time}","kind":"login","result":{quote(result)}{number}}}\n').encode(
        "ascii"
    )


def refresh_line(
    time: str,
    credential: str,
    result: str,
    *,
    version: str,
    source_version: str,
    lease_id: str,
    previous: str,
) -> bytes:
    """What became of a credential at Vault; empty members are left out.

    Args:
        time: when.
        credential: its name.
        result: ``renewed``, ``replaced``, ``changed``, or the code of an error.
        version: the one that is handed out from now on.
        source_version: Vault's own number of it.
        lease_id: goes in as a digest.
        previous: the version that it takes the place of.
    """
    told = members(
        credential=credential,
        version=version,
        source_version=source_version,
        lease=lease_digest(lease_id) if lease_id else "",
        previous=previous,
    )
    return f'{{"time":"{time}","kind":"refresh","result":{quote(result)}{told}}}\n'.encode("ascii")


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
    told = members(
        rotation=rotation,
        key_id=key_id,
        reason=reason,
        detail=detail,
        source_version=source_version,
    )
    return (
        f'{{"time":"{time}","kind":"rotation","step":{quote(step)},'
        f'"credential":{quote(cut(credential))},"actor":{quote(cut(actor))}{told}}}\n'
    ).encode("ascii")


def configuration_line(
    time: str,
    result: Literal["applied", "refused"],
    *,
    digest: str,
    keys: Sequence[str] = (),
    restart: Sequence[str] = (),
    reason: str = "",
) -> bytes:
    """A changed configuration: names of keys, never what they hold.

    Args:
        time: when.
        result: what became of it.
        digest: SHA-256 of the file.
        keys: what changed and was applied.
        restart: what changed and waits for a restart.
        reason: code of the error that it was refused for.
    """
    told = members(digest=digest, reason=reason)
    told += listed("keys", keys, KEYS) + listed("restart", restart, KEYS)
    return f'{{"time":"{time}","kind":"configuration","result":"{result}"{told}}}\n'.encode("ascii")


def start_line(time: str, *, process: str, broker_version: str, digest: str, host: str) -> bytes:
    """A process begins.

    Args:
        time: when.
        process: ``broker`` or ``rotator``.
        broker_version: of the program.
        digest: SHA-256 of the configuration file; empty when unknown.
        host: name of the machine, in Kubernetes of the pod.
    """
    told = members(process=process, broker_version=broker_version, digest=digest, host=host)
    return f'{{"time":"{time}","kind":"start"{told}}}\n'.encode("ascii")


def stop_line(time: str, *, reason: str, exit_code: int | None) -> bytes:
    """A process ends in order: ``reason`` is a signal, ``quit``, or the code of an error."""
    code = "" if exit_code is None else f',"exit_code":{exit_code}'
    return f'{{"time":"{time}","kind":"stop"{members(reason=reason)}{code}}}\n'.encode("ascii")


def head_line(time: str, *, file: str, sequence: int, chain: str) -> bytes:
    """The top of a file that goes on where ``file`` ends; no record of the chain itself.

    Args:
        time: of the record that it repeats the head of.
        file: name of the file before.
        sequence: of its last record.
        chain: of that record.
    """
    return (
        f'{{"time":"{time}","kind":"head","file":{quote(cut(file))},'
        f'"seq":{sequence},"chain":"{chain}"}}\n'
    ).encode("ascii")
