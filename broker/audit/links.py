"""Where a line of the audit has its link, and how a head is written down [pure].

Duty: read both.
Not its duty: what a link is (``chain``), whether it is right (``verify``).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MARK: Final = b',"chain":'
"""What stands between a record's content and its link."""
_LINK: Final = re.compile(rb',"seq":([1-9][0-9]{0,17}),"chain":"([0-9a-f]{32})"\}$')


class Head(NamedTuple):
    """The end of a chain as somebody recorded it."""

    sequence: int
    chain: str
    """32 hexadecimal digits."""


def read_head(text: str) -> Head | None:
    """Read ``HEX@SEQ``, as ``broker audit verify`` prints it; None when it is something else."""
    match = re.fullmatch(r"([0-9a-f]{32})@([1-9][0-9]{0,17})", text.strip())
    return None if match is None else Head(int(match[2]), match[1])


def link_of(line: bytes) -> Head | None:
    """Sequence and link that a line ends with; None when it has none."""
    match = _LINK.search(line.rstrip(b"\n"))
    return None if match is None else Head(int(match[1]), match[2].decode("ascii"))
