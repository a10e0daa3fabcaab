"""Finds secrets that somebody wrote into the configuration [pure].

Duty: tell a literal secret by its shape or by the place it stands in.
Not its duty: secrets in Vault or in answers (``protocol.redaction``).
Rules:

* nothing that is found is ever repeated, neither value nor a key that looks like one;
* a shape is listed only when its issuer made it recognisable; entropy is not guessed at,
  for a false alarm would keep a broker from starting.

Sources: Vault token prefixes https://developer.hashicorp.com/vault/docs/concepts/tokens,
RFC 7519 (JWT), RFC 7468 (PEM); the rest are the prefixes their providers document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from broker.settings.places import Path

_SHAPES: Final = tuple(
    (words, re.compile(pattern))
    for words, pattern in (
        ("a Vault token", r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}"),
        ("a Vault token", r"(?<![\w./-])[sbr]\.[A-Za-z0-9]{24,}(?![\w/])"),
        ("a signed token (JWT)", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
        ("a GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
        ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
        ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
        ("an API key", r"\b(?:sk|pk|rk)[-_](?:live|test|ant|proj)[-_][A-Za-z0-9_-]{16,}"),
        ("an API key", r"\bsk-[A-Za-z0-9]{32,}"),
        ("an API key", r"\btvly-[A-Za-z0-9-]{16,}"),
        ("a Google API key", r"\bAIza[A-Za-z0-9_-]{35}"),
        ("an AWS access key", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    )
)

# user:password@ with a password that is no placeholder.
_USERINFO: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#@\s:]*:(?P<password>[^/?#@\s]+)@")
_PLACEHOLDER: Final = re.compile(r"(?<!\{)\{[^{}]*\}(?!\})")

_SECRET_KEY: Final = re.compile(
    r"(?:^|[_.-])(?:pass(?:word|wd|phrase)?|pwd|secret(?:_?id)?|token|jwt|bearer|credential|dsn"
    r"|(?:api|private|secret|access|signing|encryption)[_.-]?key|connection[_.-]?string)$",
    re.IGNORECASE,
)
_ANSWER: Final = ("rotation", "driver", "create", "answer", "fields")

REMEDY: Final = (
    "Take it out of this place, consider it known and replace it at its issuer; "
    "keep the new one in Vault and name its path under credentials."
)


def shape(text: str) -> str | None:
    """What secret ``text`` looks like, in words, or None."""
    for words, pattern in _SHAPES:
        if pattern.search(text):
            return words
    for match in _USERINFO.finditer(text):
        if not _PLACEHOLDER.fullmatch(match["password"]):
            return "a password in a URL"
    return None


def names_a_secret(key: str) -> bool:
    """Whether a key by this name would hold a secret: ``password``, ``client_secret``."""
    return _SECRET_KEY.search(key) is not None


def dotted(path: Path) -> str:
    """``credentials.search-api.hold``; a part that looks like a secret is masked."""
    return ".".join("***" if shape(part) else part for part in path)


def find(data: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Walk plain data.

    Yields:
        Path and a sentence for each literal secret; the value is in neither.
    """
    if isinstance(data, dict):
        for key, value in data.items():
            inner = (*path, key)
            if found := shape(key):
                yield inner, f"looks like {found}, written as a key"
            if _misplaced(inner, value):
                yield inner, "holds a literal secret, by its name"
            else:
                yield from find(value, inner)
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from find(value, (*path, str(number)))
    elif isinstance(data, str) and (found := shape(data)):
        yield path, f"holds a literal secret: {found}"


def _misplaced(path: Path, value: Any) -> bool:
    """Whether the name of this key says 'secret' and its value is no reference to one."""
    if not names_a_secret(path[-1]) or isinstance(value, bool | dict | list | None):
        return False
    if len(path) == 4 and path[0] == "credentials" and path[2] == "fields":
        return _PLACEHOLDER.search(str(value)) is None
    if path[:2] == ("policies", "arguments"):
        return False  # a tool's argument by name, and its kind
    if path[0] == "credentials" and path[2:-1] == _ANSWER:
        return not str(value).startswith("/")  # a JSON pointer says where, not what
    return bool(value != "")
