"""Where a credential goes in an upstream request.

Duty: decide by ``use`` which header, cookie or query parameter carries what, and to whom.
Not its duty: touching a request (``keyed``), following redirects (``auth``).
Rules:

* to the listed origins only; scheme, host and port must be equal, and an empty list is nobody;
* a value that cannot stand where it should is an error here: the HTTP libraries quote an
  illegal header, key and all, in their exception.

Source: RFC 9110 section 5.5 (field values), RFC 6265 section 4.1.1 (cookie values),
RFC 7617 (basic), RFC 6750 (bearer), RFC 6454 (origins).
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import quote

import httpx2

from broker.client.credential import Credential, Use
from broker.errors import CredentialMalformed
from broker.secret import SecretValue

_FIELD_VALUE: Final = re.compile(
    rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?"
)
_COOKIE_VALUE: Final = re.compile(rb"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")


@dataclass(frozen=True, slots=True)
class Placed:
    """One thing to add to a request."""

    place: Literal["header", "cookie", "unsafe_query"]
    name: str
    value: SecretValue
    """In the form it takes on the wire, ASCII or UTF-8."""


def use_of(credential: Credential) -> Use:
    """Where the credential goes.

    Raises:
        CredentialMalformed: it does not say, or names no origin that may get it.
    """
    if credential.use is None or not credential.use.origins:
        raise CredentialMalformed(
            f"{credential.name} does not say where it goes in a request, and to which origins.",
            remedy="Configure use with its origins, or take the value and place it yourself.",
        )
    return credential.use


def place(credential: Credential) -> Placed:
    """What to add to a request to one of the listed origins.

    Raises:
        CredentialMalformed: as ``use_of``, a field it names is missing, or the value cannot
            stand there.
    """
    use = use_of(credential)
    if use.scheme == "basic":
        user, password = (
            _field(credential, use.username_field),
            _field(credential, use.password_field),
        )
        text = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        return Placed("header", "Authorization", SecretValue(text))
    value = _field(credential, use.field)
    if use.place == "unsafe_query" and not use.scheme:
        return Placed("unsafe_query", use.name, SecretValue(quote(use.prefix + value, safe="")))
    _check(credential, use.place, value)
    if use.scheme == "bearer":
        return Placed("header", "Authorization", SecretValue(f"Bearer {value}"))
    return Placed(use.place, use.name, SecretValue(use.prefix + value))


def _field(credential: Credential, name: str) -> str:
    if not name:
        return credential.value
    if name not in credential.data:
        raise CredentialMalformed(f"{credential.name} has no field {name}, which its use names.")
    return credential[name]


def _check(credential: Credential, where: str, value: str) -> None:
    form = _COOKIE_VALUE if where == "cookie" else _FIELD_VALUE
    if form.fullmatch(value.encode()) is None:
        raise CredentialMalformed(
            f"The value of {credential.name} cannot stand in a {where}: it is empty, or has a "
            "control character in it or a blank at an end.",
            remedy="Write it to Vault without the newline at its end.",
        )


def is_listed(use: Use, url: str) -> bool:
    """Whether ``url`` is at one of the origins that may get the key."""
    origin = _origin(url)
    return origin is not None and origin in _origins(use.origins)


@lru_cache(maxsize=256)
def _origins(listed: tuple[str, ...]) -> frozenset[httpx2.Origin | None]:
    return frozenset(_origin(origin) for origin in listed)


def _origin(url: str) -> httpx2.Origin | None:
    # Parsed as it is sent: lower case, IDNA, default port; user info is not the host.
    try:
        return httpx2.URL(url).origin
    except (httpx2.InvalidURL, ValueError):
        return None
