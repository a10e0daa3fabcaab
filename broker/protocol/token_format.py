"""The form of scoped tokens: found by secret scanners, refused early when mistyped [pure].

Duty: make the text of a token from its bytes; take one apart; find tokens in any text.
Not its duty: what a token says and whether it is good (``access.tokens``).
Rules:

* a token is ``mbt_`` (opaque, kept by one broker) or ``mbs_`` (signed, good at every broker
  of an installation), a body, and six characters of checksum. The prefix names the maker to
  whoever finds one; the checksum tells a token from a look-alike without asking anybody;
* the checksum is no proof: it keeps accidents and scanners' false alarms out, not attackers;
* prefix and checksum stay the same for ever: scanners learn them once.

Source: https://github.blog/engineering/behind-githubs-new-authentication-token-formats/
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from typing import Final, Literal, TypeAlias
from zlib import crc32

Kind: TypeAlias = Literal["mbt", "mbs"]

OPAQUE: Final = b"mbt_"
SIGNED: Final = b"mbs_"
RANDOM_BYTES: Final = 32
"""Bytes of chance in an opaque token: 256 bits."""
LONGEST: Final = 8192
"""Characters of the longest token: half of what a request's head may have."""

PATTERN: Final = r"\bmb(?:t_[0-9A-Za-z]{49}|s_[0-9A-Za-z_-]{90,8182})(?![0-9A-Za-z_-])"
"""For secret scanners; what it finds is a token when ``well_formed`` says so too."""

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = tuple((a + b).encode() for a in _BASE62 for b in _BASE62)
_SQUARE: Final = 62 * 62
_BODY: Final = 43
"""Characters of 32 bytes in base 62."""
_SUM: Final = 6
_FOUND: Final = re.compile(PATTERN)


def base62(number: int, width: int) -> str:
    """``number`` in base 62, filled up with zeros to ``width`` characters."""
    digits = []
    while number:
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return "".join(reversed(digits)).rjust(width, "0")


def opaque(chance: bytes) -> bytes:
    """An opaque token of 32 random bytes."""
    head = OPAQUE + base62(int.from_bytes(chance, "big"), _BODY).encode()
    return head + checksum(head)


def signed(content: bytes) -> bytes:
    """A token around content that carries its own signature."""
    head = SIGNED + urlsafe_b64encode(content).rstrip(b"=")
    return head + checksum(head)


def checksum(head: bytes) -> bytes:
    """Six characters: CRC-32 of all that stands before, in base 62."""
    rest, low = divmod(crc32(head), _SQUARE)
    high, middle = divmod(rest, _SQUARE)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def well_formed(token: bytes) -> bool:
    """Whether prefix, length and checksum are right; costs about a microsecond."""
    size = len(token)
    if token[:4] == OPAQUE:
        if size != len(OPAQUE) + _BODY + _SUM:
            return False
    elif token[:4] != SIGNED or size > LONGEST:
        return False
    return checksum(token[:-_SUM]) == token[-_SUM:]


def content(token: bytes) -> bytes | None:
    """What a well-formed signed token carries; None when it is no base64url, or spelled otherwise.

    Unused bits and the signs of plain base64 would make many texts of one token, which no
    scanner knows and which are not each other's digest.
    """
    text = token[len(SIGNED) : -_SUM]
    try:
        raw = b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return raw if urlsafe_b64encode(raw).rstrip(b"=") == text else None


def mask_tokens(text: str, mask: str = "***") -> str:
    """``text`` with every scoped token in it, well-formed or not, as ``mask``."""
    if "mbt_" not in text and "mbs_" not in text:
        return text
    return _FOUND.sub(mask, text)
