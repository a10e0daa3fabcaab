"""A file of Cedar policies, cut into its statements [pure].

Duty: where each policy begins and ends, so that a fault names its line.
Not its duty: what is in one (``cedar`` parses them one by one).
Rules:

* strings and comments are respected; what follows the last ``;`` is a statement too, so
  that a forgotten one is a fault and not a lost policy;
* nesting is bounded here, before Cedar's parser sees it: its recursion would end the process.

Source: https://docs.cedarpolicy.com/policies/syntax-grammar.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# A comment, a string with escapes, the end, or anything else.
_PIECE: Final = re.compile(r'//[^\n\r]*|"(?:[^"\\]|\\.)*"|;|[^";/]+|.', re.DOTALL)
# Strings and comments, so that they are passed over; what Cedar's parser goes deeper for.
_DEEPER: Final = re.compile(
    r'//[^\n\r]*|"(?:[^"\\]|\\.)*"|[\[({\])}]|\|\||&&|\bif\b|[.+*-]', re.DOTALL
)
BRACKETS: Final = 100
"""Brackets open at once in one policy; some 800 end the process."""
OPERATORS: Final = 4000
"""Operators in one policy; more than 6000 of one kind in a row end the process."""


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


def too_deep(policy: str) -> bool:
    """Whether a policy may be nested too deeply to be parsed."""
    brackets = operators = 0
    for match in _DEEPER.finditer(policy):
        piece = match[0]
        if piece in "[({":
            brackets += 1
        elif piece in "])}":
            brackets -= 1
        elif not piece.startswith(("//", '"')):
            operators += 1
        if brackets > BRACKETS or operators > OPERATORS:
            return True
    return False
