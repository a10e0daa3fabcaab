"""The link between one audit record and the next [pure].

Duty: one formula, for the log that writes the chain and for whoever verifies it.
Not its duty: counting and writing (``log``), finding what was changed (``verify``).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

SIZE: Final = 16
"""Bytes of a link; as text twice as many hexadecimal digits."""
BEGINNING: Final = bytes(SIZE)
"""What stands for the link before the first record of a chain."""


def chain_of(key: bytes, previous: bytes, content: bytes) -> bytes:
    """The link of a record: BLAKE2b over the link before it and the record's own bytes.

    Args:
        key: of ``audit.key_file``, at most 64 bytes; empty for a chain without a key, which
            anybody who may write the file can make anew.
        previous: link of the record before; ``BEGINNING`` for the first one.
        content: the line up to, and without, ``,"chain":``.
    """
    return blake2b(previous + content, digest_size=SIZE, key=key).digest()
