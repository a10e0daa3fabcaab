"""Tokens where none belong: in a URL, in a tool's arguments, in ``_meta`` [pure].

Duty: find them. Not its duty: refusing the request, scrubbing logs (``guard``).
Rules, so that presigned URLs and other people's signatures in arguments survive:

* our own scoped tokens are known by their prefix (``mbt_``, ``mbs_``) and refused anywhere;
* the bearer of the request itself is refused anywhere, whatever it looks like;
* ``access_token`` in the query is refused whatever it holds (RFC 6750 section 2.3 is not for us);
* what merely looks like a JWT is refused only where the name of the query parameter or of
  the member of ``_meta`` says that it is a token. ``progressToken`` and
  ``X-Amz-Security-Token`` are other names;
* a path and a parameter without a value have no such name: there a JWT is refused when it is
  all of a segment and its first part is a JOSE header, so that no file's name is taken for one.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from broker.protocol import token_format

LONGEST: Final = 8192
"""Characters of a bearer: more than any identity provider makes, less than a header may have."""
SHORTEST: Final = 24

_SCOPED: Final = re.compile(token_format.PATTERN)
_SCOPED_BYTES: Final = re.compile(token_format.PATTERN.encode("ascii"))
_SEGMENTS: Final = re.compile(r"[/;=]")
# Matched as a whole, so that the work grows with the text and no faster.
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_BEARER: Final = re.compile(r"bearer\s+\S{8,}", re.IGNORECASE)
_NAMES: Final = frozenset(
    (
        *("accesstoken", "assertion", "auth", "authorization", "authtoken", "bearer"),
        *("bearertoken", "clientassertion", "idtoken", "jwt", "refreshtoken", "subjecttoken"),
        "token",
    )
)
"""Names of members and parameters that say "this is a token", without ``-``, ``_`` and case."""


def is_scoped(token: str) -> bool:
    """Whether a bearer has the form of one of our own scoped tokens, checksum included."""
    return token.isascii() and token_format.well_formed(token.encode("ascii"))


def in_query(query: bytes, bearer: str) -> tuple[str, ...]:
    """Tokens in the query of a URL, decoded.

    Args:
        query: as it was sent, without the question mark.
        bearer: of the same request; empty without one.
    """
    if not query:
        return ()
    text = query.decode("latin-1")
    found = [*_known(text, bearer), *_known(unquote_plus(text), bearer)]
    for name, value in parse_qsl(text, keep_blank_values=True):
        named = _plain(name)
        if named == "accesstoken" or (named in _NAMES and _looks_like_a_token(value)):
            found.append(value)
        if not value and _is_jwt(name):
            found.append(name)
    return tuple(dict.fromkeys(found))


def in_path(path: str, bearer: str) -> tuple[str, ...]:
    """Tokens in the path of a URL.

    Args:
        path: decoded.
        bearer: of the same request; empty without one.
    """
    found = [*_known(path, bearer), *filter(_is_jwt, _SEGMENTS.split(path))]
    return tuple(dict.fromkeys(found))


def in_beginning(body: bytes) -> tuple[str, ...]:
    """Scoped tokens in the beginning of a body that is not read to its end.

    A token that is cut by that end, or spelled with escapes, is not found.
    """
    if b"mbt_" not in body and b"mbs_" not in body:
        return ()
    found = (one.group().decode("ascii") for one in _SCOPED_BYTES.finditer(body))
    return tuple(dict.fromkeys(found))


def in_message(document: Mapping[str, Any], bearer: str) -> tuple[str, ...]:
    """Tokens in a JSON-RPC message, wherever they stand.

    Args:
        document: as it was parsed.
        bearer: of the same request; empty without one.
    """
    found: list[str] = []
    for name, text, in_meta in _texts(document):
        found += _known(text, bearer)
        if in_meta and _plain(name) in _NAMES and _looks_like_a_token(text):
            found.append(text)
    return tuple(dict.fromkeys(found))


def _known(text: str, bearer: str) -> Iterator[str]:
    if "mbt_" in text or "mbs_" in text:
        yield from _SCOPED.findall(text)
    if len(bearer) >= SHORTEST and bearer in text:
        yield bearer


def _looks_like_a_token(text: str) -> bool:
    text = text.strip()
    return _JWT.fullmatch(text) is not None or _BEARER.fullmatch(text) is not None


def _is_jwt(text: str) -> bool:
    text = text.strip()
    if _JWT.fullmatch(text) is None:
        return False
    head = text.partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def _texts(document: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Every text with the name of its member and whether it stands in ``_meta``; names too."""
    # A stack of its own: a body nested as deep as the parser allows must not end this one.
    waiting: list[tuple[str, Any, bool]] = [("", document, False)]
    while waiting:
        name, value, in_meta = waiting.pop()
        if isinstance(value, str):
            yield name, value, in_meta
        elif isinstance(value, dict):
            for key, member in value.items():
                yield "", key, False
                waiting.append((key, member, in_meta or key == "_meta"))
        elif isinstance(value, list):
            waiting.extend((name, member, in_meta) for member in value)
