"""Contradictions within one credential, explained in words [pure].

Duty: source, fields and use of a credential against each other.
Not its duty: who may have it (``rules``); what Vault really holds (``broker check``).
Rules: as in ``rules``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter
from urllib.parse import urlsplit

from broker.settings.domain import CredentialSettings, SourceSettings, UseSettings
from broker.settings.findings import Finding
from broker.settings.places import Path
from broker.settings.units import HEADER, is_loopback

_LEAST = 1.0
# Seconds between two requests for one credential; DESIGN promise 4 wants a floor.

MESSAGE_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)
"""Headers that frame or route a message (RFC 9110, 9112): a key there breaks the request."""


def credential_rules(one: CredentialSettings) -> Iterator[Finding]:
    """Yield every finding about one credential."""
    at = ("credentials", one.name)
    yield from _times(one, at)
    if one.source.kind != "leased":
        yield from _polled(one.source, one.margin, (*at, "source"))
    if one.source.kind == "kv":
        yield from _kv(one.source, (*at, "source"))
    if one.source.increment is not None and one.source.increment < _LEAST:
        yield Finding((*at, "source", "increment"), "is shorter than 1s", "Write at least 1s.")
    for name, template in one.fields.items():
        yield from _template(template, (*at, "fields", name))
    if one.use is not None:
        yield from _use(one.use, (*at, "use"))
        yield from _use_fields(one, one.use, (*at, "use"))


def _times(one: CredentialSettings, at: Path) -> Iterator[Finding]:
    if one.hold < _LEAST:
        yield Finding(
            (*at, "hold"), "gives a caller no time to use an answer", "Write at least 1s."
        )
    if one.refused_interval < _LEAST:
        yield Finding((*at, "refused_interval"), "would flood Vault", "Write at least 1s.")


def _polled(source: SourceSettings, margin: float, at: Path) -> Iterator[Finding]:
    if source.poll < _LEAST:
        yield Finding((*at, "poll"), "would flood Vault", "Write at least 1s.")
    if source.max_staleness < source.poll + margin:
        yield Finding(
            (*at, "max_staleness"),
            "is shorter than poll and margin together: the value would end between two polls",
            "Make max_staleness a few times poll; it is what you survive without Vault.",
        )


def _kv(source: SourceSettings, at: Path) -> Iterator[Finding]:
    if source.path.split("/")[0] in {"data", "metadata"} and source.kv_version == 2:
        yield Finding(
            (*at, "path"),
            "starts with data/ or metadata/, which belongs to the API's path",
            "Leave it out: the broker adds it for KV version 2.",
            fatal=False,
        )
    if source.expiry.where == "custom_metadata" and source.kv_version == 1:
        yield Finding(
            (*at, "expiry", "custom_metadata"),
            "does not exist in KV version 1",
            "Use expiry: {field: …}, or a KV version 2 mount.",
        )


def placeholders(template: str) -> tuple[str, ...]:
    """The keys in ``{braces}`` of a template; ``{{`` and ``}}`` are braces themselves.

    Raises:
        ValueError: unbalanced braces, or anything in them but the name of a key.
    """
    names = []
    for _, name, spec, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name or spec or conversion or not name.replace("-", "_").isidentifier():
            raise ValueError("a placeholder is a key in braces")
        names.append(name)
    return tuple(names)


def _template(template: str, at: Path) -> Iterator[Finding]:
    try:
        placeholders(template)
    except ValueError:
        yield Finding(
            at,
            "is no template: braces are unbalanced or hold more than the name of a key",
            "Write keys of the Vault value in braces, {username}; a brace itself twice, {{.",
        )


def _use(use: UseSettings, at: Path) -> Iterator[Finding]:
    if use.scheme:
        yield from _scheme(use, at)
    else:
        yield from _place(use, at)
    if not use.origins:
        yield Finding(
            (*at, "origins"),
            "is empty: the client library will send the value nowhere",
            "Name the upstream's origin: [https://api.example].",
            fatal=False,
        )
    for number, text in enumerate(use.origins):
        parts = urlsplit(text)
        if parts.scheme == "http" and not is_loopback(parts):
            yield Finding(
                (*at, "origins", str(number)),
                "would carry the value over the network in clear",
                "Use https://; http:// is for loopback only.",
            )


def _scheme(use: UseSettings, at: Path) -> Iterator[Finding]:
    for key, odd in (
        ("in", use.place != "header"),
        ("name", use.name.lower() != "authorization"),
        ("prefix", bool(use.prefix)),
    ):
        if odd:
            yield Finding(
                (*at, key),
                f"contradicts scheme: {use.scheme}, which is the Authorization header's",
                "Remove it, or remove scheme.",
            )
    if use.scheme == "basic":
        for key in ("username_field", "password_field"):
            if not getattr(use, key):
                yield Finding(
                    (*at, key),
                    "is missing: scheme basic sends a user name and a password",
                    "Name the fields that hold them.",
                )
        if use.field:
            yield Finding(
                (*at, "field"),
                "has no meaning with scheme: basic",
                "Use username_field and password_field.",
            )


def _place(use: UseSettings, at: Path) -> Iterator[Finding]:
    if use.place == "unsafe_query":
        yield Finding(
            (*at, "in"),
            "puts the value into URLs, which end up in logs, histories and Referer headers",
            "Use a header if the upstream takes one.",
            fatal=False,
        )
    if use.place != "header" and use.name == "Authorization":
        yield Finding(
            (*at, "name"),
            f"is missing: a {use.place.removeprefix('unsafe_')} needs its own name",
            "Write the name that the upstream documents.",
        )
    elif use.place != "unsafe_query" and not re.fullmatch(HEADER, use.name):
        yield Finding(
            (*at, "name"),
            f"is no name of a {use.place}",
            "Write the name that the upstream documents, without spaces or colons.",
        )
    elif use.place == "header" and use.name.lower() in MESSAGE_HEADERS:
        yield Finding(
            (*at, "name"),
            "is a header that frames or routes the request",
            "Write the header that the upstream reads its key from.",
        )


def _use_fields(one: CredentialSettings, use: UseSettings, at: Path) -> Iterator[Finding]:
    if use.scheme != "basic":
        if not use.field:
            yield Finding(
                (*at, "field"), "is missing: which field is the value?", "Name the field."
            )
        for key in ("username_field", "password_field"):
            if getattr(use, key):
                yield Finding(
                    (*at, key), "belongs to scheme: basic", "Remove it, or write scheme: basic."
                )
    if one.fields:
        for key in ("field", "username_field", "password_field"):
            name = getattr(use, key)
            if name and name not in one.fields:
                yield Finding(
                    (*at, key),
                    f"names {name}, which is not among the credential's fields",
                    f"Use one of: {', '.join(one.fields)}.",
                )
