"""Scopes and globs: how a token says which tools and credentials it is for [pure].

Duty: spell a tool or a credential as an OAuth scope, read scopes back, match names.
Not its duty: deciding (``access``), the form of a token.
Rules:

* a scope is ``tool:NAME`` or ``credential:NAME``; characters that RFC 6749 keeps out of a
  scope are percent-encoded, so that every name has exactly one scope;
* a glob knows ``*`` (any text, ``/`` included) and ``?`` (one character), nothing else: what
  a pattern allows can be read off it. Case counts.

Source: RFC 6749 section 3.3 (scope), RFC 6750 section 3.1 (insufficient_scope).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

TOOL_SCOPE: Final = "tool:"
CREDENTIAL_SCOPE: Final = "credential:"
_SAFE: Final = "!#$&'()*+,/:;=?@[]^_`{|}~.-"


def tool_scope(name: str) -> str:
    """The scope for a tool's name or a glob of names."""
    return TOOL_SCOPE + quote(name, safe=_SAFE)


def credential_scope(name: str) -> str:
    """The scope for a credential."""
    return CREDENTIAL_SCOPE + quote(name, safe=_SAFE)


def scope_text(tools: Iterable[str], credentials: Iterable[str] = ()) -> str:
    """The ``scope`` of a token, as RFC 7662 and challenges want it."""
    return " ".join([*map(tool_scope, tools), *map(credential_scope, credentials)])


def tools_of(scope: str) -> tuple[str, ...]:
    """Tools and globs that the scopes in ``scope`` name, in their order."""
    return tuple(
        unquote(one.removeprefix(TOOL_SCOPE)) for one in scope.split() if one.startswith(TOOL_SCOPE)
    )


def matches(pattern: str, name: str) -> bool:
    """Whether a name or glob covers ``name``."""
    return pattern == name or (
        ("*" in pattern or "?" in pattern) and _compiled(pattern).fullmatch(name) is not None
    )


def covers(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns covers ``name``."""
    return any(matches(pattern, name) for pattern in patterns)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # After each star the next piece is taken where it is found first, and never looked for
    # again (an atomic group): if the rest does not fit behind it, it fits behind no later one.
    # So a name costs its length times the pattern's, however many stars there are.
    first, *others = (
        "".join("." if sign == "?" else re.escape(sign) for sign in piece)
        for piece in re.split(r"\*+", pattern)
    )
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    found = "".join(f"(?>.*?{piece})" for piece in middle if piece)
    return re.compile(f"{first}{found}.*{last}", re.DOTALL)


def includes(pattern: str, asked: str) -> bool:
    """Whether ``pattern`` covers every name that ``asked``, a name or a glob, covers.

    A yes is always right. In doubt the answer is no: it decides what a token may be minted for.
    """
    places = _places(_canonical(pattern))
    stars, unknown = places.get("*", 0), places.get("?", 0)
    here = 1
    """Places in the pattern up to which it may have gone, as ``asked`` is read: a bit each."""
    for sign in _canonical(asked):
        here |= (here & stars) << 1  # a star may stand for nothing; there are no two in a row
        if sign == "*":
            here &= stars
        else:
            here = here & stars | (here & (places.get(sign, 0) | unknown)) << 1
    here |= (here & stars) << 1
    return bool(here >> len(_canonical(pattern)))


def _places(pattern: str) -> dict[str, int]:
    """Where each sign stands in a pattern, as bits."""
    found: dict[str, int] = {}
    for place, sign in enumerate(pattern):
        found[sign] = found.get(sign, 0) | 1 << place
    return found


@lru_cache(maxsize=4096)
def meeting(one: str, other: str) -> str | None:
    """A name that both patterns cover; None when there is none."""
    one, other = _canonical(one), _canonical(other)
    waiting = [(0, 0, "")]
    seen = {(0, 0)}
    while waiting:
        here, there, text = waiting.pop()
        if (here, there) == (len(one), len(other)):
            return text
        for step in _steps(one[here : here + 1], other[there : there + 1]):
            place = (here + step[0], there + step[1])
            if place not in seen:
                seen.add(place)
                waiting.append((*place, text + step[2]))
    return None


def _steps(own: str, its: str) -> Iterator[tuple[int, int, str]]:
    """How far a sign of either pattern leads, and the character read on the way."""
    if own == "*":
        yield 1, 0, ""
    if its == "*":
        yield 0, 1, ""
    if own and its and (own == its or own in "*?" or its in "*?") and (own, its) != ("*", "*"):
        read = next((sign for sign in (own, its) if sign not in "*?"), "x")
        yield own != "*", its != "*", read


def _canonical(pattern: str) -> str:
    """One spelling for patterns that cover the same: in a run, all ``?`` and then one ``*``."""
    return re.sub(
        r"[*?]{2,}",
        lambda run: "?" * run[0].count("?") + "*" * ("*" in run[0]),
        pattern,
    )
