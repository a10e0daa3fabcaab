"""From Vault's typed results to a snapshot [pure].

Duty: assemble the fields that are handed out; read the value's own expiry; tell
whether a re-read brought something new.
Not its duty: asking Vault (``keeper``), deciding when (``plan``).
Rules:

* a field that the configuration names and the value lacks is ``CredentialMalformed``,
  whose message names keys, never values;
* in a template that is a URL every inserted value is percent-encoded (RFC 3986,
  section 2.1), so that a password with ``@`` or ``/`` cannot change its meaning;
* what a rotation wrote beside the fields (``reserved``) is read here and never handed out;
* a date without a zone is refused: guessing one could serve a dead key for hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from math import inf
from string import Formatter
from typing import Final
from urllib.parse import quote

from broker.credentials.model import (
    CredentialSpec,
    KvExpiry,
    KvSource,
    Lease,
    Snapshot,
    Source,
    StaticRoleSource,
)
from broker.credentials.reserved import read_note, without_note
from broker.errors import CredentialMalformed, VaultValueDeleted
from broker.secret import SecretValue
from broker.vault.generation import Generation
from broker.vault.interface import KvValue, LeaseGrant

YEAR_3000: Final = 32_503_680_000
"""Unix seconds: a later expiry is one in milliseconds, which would read as never."""


def placeholders(template: str) -> tuple[str, ...]:
    """The names in ``{braces}``; ``{{`` and ``}}`` stand for the braces themselves.

    Raises:
        ValueError: unbalanced braces, or anything in them but a name.
    """
    names: list[str] = []
    for _, name, spec, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name or spec or conversion or not name.replace("-", "_").isidentifier():
            raise ValueError("a placeholder is a key in braces, such as {username}")
        names.append(name)
    return tuple(names)


def assemble(
    fields: Mapping[str, str], data: Mapping[str, SecretValue]
) -> Mapping[str, SecretValue]:
    """Fill the templates of ``fields`` from ``data``; no fields: ``data`` as it is.

    Raises:
        CredentialMalformed: a placeholder names a key that the value lacks.
    """
    if not fields:
        return dict(data)
    return {name: _fill(name, template, data) for name, template in fields.items()}


def _fill(field: str, template: str, data: Mapping[str, SecretValue]) -> SecretValue:
    encode = "://" in template
    parts: list[str] = []
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        value = data.get(name)
        if value is None:
            raise CredentialMalformed(f"field {field!r} needs the key {name!r}, which is absent")
        parts.append(quote(value.reveal(), safe="") if encode else value.reveal())
    return SecretValue("".join(parts))


def parse_expiry(text: str) -> float:
    """Unix seconds from RFC 3339 text with a zone, or from Unix seconds as text.

    Raises:
        CredentialMalformed: neither; the text is not repeated, it may be a secret.
    """
    text = text.strip()
    # Raised outside: Python's own errors quote the text, and ours would hold on to them.
    seconds, moment = None, None
    with suppress(ValueError):
        seconds = float(text)
    if seconds is None:
        with suppress(ValueError):
            moment = datetime.fromisoformat(text)
        if moment is None:
            raise CredentialMalformed("the expiry is neither RFC 3339 nor Unix time")
        if moment.tzinfo is None:
            raise CredentialMalformed("the expiry has no time zone")
        return moment.timestamp()
    if not 0 <= seconds <= YEAR_3000:
        raise CredentialMalformed("the expiry is not a Unix time in seconds")
    return seconds


def own_expiry(expiry: KvExpiry, value: KvValue) -> float | None:
    """The value's own expiry as Unix time less the skew allowance; None when it has none.

    Raises:
        CredentialMalformed: configured, but absent or unreadable.
    """
    if expiry.where == "none":
        note = read_note(value.data)  # a rotation knows what the provider said
        known = None if note is None else note.expires_wall
        return None if known is None else known - expiry.skew
    if expiry.where == "field":
        secret = value.data.get(expiry.name)
        text = None if secret is None else secret.reveal()
    else:
        text = value.custom_metadata.get(expiry.name)
    if text is None:
        raise CredentialMalformed(f"the expiry {expiry.name!r} is absent from its {expiry.where}")
    return parse_expiry(text) - expiry.skew


def kv_snapshot(
    spec: CredentialSpec, source: KvSource, value: KvValue, *, version: str
) -> Snapshot:
    """A snapshot from a KV read.

    Raises:
        CredentialMalformed: see ``assemble`` and ``own_expiry``.
        VaultValueDeleted: a rotation withdrew it.
    """
    note = read_note(value.data)
    if note is not None and note.withdrawn_by:
        raise VaultValueDeleted(
            "The key was withdrawn: it is compromised, and a rotation makes another.",
            remedy="See 'broker rotation status' where keys are rotated.",
            version=value.version,
        )
    if not without_note(value.data):
        raise CredentialMalformed("the value in Vault is empty")
    return Snapshot(
        key=spec.key,
        version=version,
        data=_checked(spec, assemble(spec.fields, without_note(value.data))),
        obtained_at=value.sent_at,
        validated_at=value.sent_at,
        source_version="" if value.version is None else str(value.version),
        own_expiry_wall=own_expiry(source.expiry, value),
        parts=value.data if spec.fields else {},
    )


_ABOUT_THE_ROLE = frozenset(
    {"ttl", "last_vault_rotation", "rotation_period", "rotation_schedule", "rotation_window"}
)
"""Members of a static role's answer that are no part of the credential."""


def static_snapshot(spec: CredentialSpec, grant: LeaseGrant, *, version: str) -> Snapshot:
    """A snapshot from a read of a static role, which ends when Vault replaces the password.

    Raises:
        CredentialMalformed: a lease in the answer, no ``ttl``, or a field is absent.
    """
    if grant.lease_id:
        raise CredentialMalformed("the path answered with a lease; is the source kind leased?")
    told = grant.data.get("ttl")
    try:
        ttl = float("nan" if told is None else told.reveal())
    except ValueError:
        ttl = float("nan")
    if not 0 <= ttl < inf:  # no number at all is not "never"
        raise CredentialMalformed("the answer has no ttl; is it a static role's?")
    rotated = grant.data.get("last_vault_rotation")
    data = {name: value for name, value in grant.data.items() if name not in _ABOUT_THE_ROLE}
    return Snapshot(
        key=spec.key,
        version=version,
        data=_checked(spec, assemble(spec.fields, data)),
        obtained_at=grant.sent_at,
        validated_at=grant.sent_at,
        source_version="" if rotated is None else rotated.reveal(),
        ends_at=grant.sent_at + ttl,
    )


def leased_snapshot(
    spec: CredentialSpec, grant: LeaseGrant, generation: Generation, *, version: str
) -> Snapshot:
    """A snapshot from a lease, bound to the generation that took it.

    Raises:
        CredentialMalformed: no lease in the answer, no life, or a field is absent.
    """
    if not grant.lease_id:
        raise CredentialMalformed("the path answered without a lease; is the source kind kv?")
    if grant.duration <= 0:
        raise CredentialMalformed("the lease has no duration")
    lease = Lease(
        lease_id=grant.lease_id,
        generation=generation,
        issued_at=grant.sent_at,
        refreshed_at=grant.sent_at,
        duration=grant.duration,
        first_duration=grant.duration,
        renewable=grant.renewable,
    )
    return Snapshot(
        key=spec.key,
        version=version,
        data=_checked(spec, assemble(spec.fields, grant.data)),
        obtained_at=grant.sent_at,
        validated_at=grant.sent_at,
        lease=lease,
        parts=grant.data if spec.fields else {},
    )


def _checked(spec: CredentialSpec, data: Mapping[str, SecretValue]) -> Mapping[str, SecretValue]:
    """``data``, when it has every field that ``use`` names.

    Raises:
        CredentialMalformed: it has not.
    """
    use = spec.use
    if use is not None:
        for name in (use.field, use.username_field, use.password_field):
            if name and name not in data:
                raise CredentialMalformed(f"'use' names the field {name!r}, which is absent")
    return data


def serves(held: Snapshot | None, old: CredentialSpec, new: CredentialSpec) -> bool:
    """Whether a value held under ``old`` is one that ``new`` asks for.

    When and how often Vault is asked may differ, and how long callers may keep an answer; not
    where the value comes from, what is made of it, or how its expiry is known.
    """
    if _origin(old.source) != _origin(new.source) or old.fields != new.fields:
        return False
    return held is None or stands_in(held, new)


def _origin(source: Source) -> Source:
    """The source without what only says when to ask."""
    if isinstance(source, KvSource | StaticRoleSource):
        return replace(source, poll=0.0, max_staleness=0.0)
    return replace(source, increment=None)


def ended_by(value: KvValue, held: Snapshot) -> float | None:
    """Unix time from which ``held`` may not be served, because ``value`` took its place.

    A rotation writes it with the new key: the old one is retired upstream then. None when
    ``value`` says nothing about the version that is held.
    """
    note = read_note(value.data)
    if note is None or not note.replaces or str(note.replaces) != held.source_version:
        return None
    return note.retire_at_wall


def same_value(one: Snapshot, other: Snapshot) -> bool:
    """Whether a re-read brought the version that is already held."""
    return one.source_version == other.source_version and dict(one.data) == dict(other.data)


def stands_in(snapshot: Snapshot, spec: CredentialSpec) -> bool:
    """Whether a value of another configuration has the fields that ``spec`` hands out."""
    if spec.fields and spec.fields.keys() != snapshot.data.keys():
        return False
    try:
        _checked(spec, snapshot.data)
    except CredentialMalformed:
        return False
    return True
