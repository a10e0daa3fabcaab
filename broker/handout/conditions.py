"""Conditions and preferences of a request [pure].

Duty: read ``If-None-Match`` (RFC 9110 section 13.1.2) and ``Prefer: wait`` (RFC 7240).
Not its duty: acting on them (``service``).
Rules: what cannot be read is as if it were not there.
"""

from __future__ import annotations

import re
from typing import Final

_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')
_WAIT: Final = re.compile(r'(?:^|,)\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


def matches(if_none_match: str, etag: str) -> bool:
    """Whether the header names ``etag`` (quotes included); compared weakly, ``*`` names all."""
    if if_none_match == etag:
        return True
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def wait_seconds(prefer: str) -> float | None:
    """Seconds of ``wait=N`` among the preferences; the first one counts; None without one."""
    found = _WAIT.search(prefer)
    return None if found is None else float(found[1])
