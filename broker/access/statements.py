"""A file of Cedar policies, cut into its statements [pure].

Duty: where each policy begins and ends, so that a fault names its line.
Not its duty: what is in one (``cedar`` parses them one by one).
Rules: strings and comments are respected; what follows the last ``;`` is a statement too, so
that a forgotten one is a fault and not a lost policy.

Source: https://docs.cedarpolicy.com/policies/syntax-grammar.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# A comment, a string with escapes, the end, or anything else.
_PIECE: Final = re.compile(r'//[^\n\r]*|"(?:[^"\\]|\\.)*"|;|[^";/]+|.', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy as written."""

    text: str
    """From its first word on, ``;`` included; comments before it are left out."""
    line: int
    """Of its first word, from 1."""


def split(text: str) -> Iterator[Statement]:
    """Cut a file."""
    begins: int | None = None
    for match in _PIECE.finditer(text):
        piece = match[0]
        if begins is None and not piece.startswith("//") and piece.strip():
            begins = match.start() + len(piece) - len(piece.lstrip())
        if piece == ";" and begins is not None:
            yield _statement(text, begins, match.end())
            begins = None
    if begins is not None:
        yield _statement(text, begins, len(text))


def _statement(text: str, begins: int, ends: int) -> Statement:
    return Statement(text[begins:ends].rstrip(), text.count("\n", 0, begins) + 1)
