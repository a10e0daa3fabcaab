"""The link between one audit record and the next [pure].

Duty: one formula, for the log that writes the chain and for whoever verifies it.
Not its duty: counting and writing (``log``), finding what was changed (``verify``).
"""

from __future__ import annotations

from binascii import hexlify
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


class Chain:
    """One chain as it grows: seals lines, and can go back to where it stood.

    Args:
        key: see ``chain_of``.
        sequence: number of the last record; 0 before the first.
        link: of the last record.
    """

    __slots__ = ("_keyed", "link", "sequence")

    def __init__(self, key: bytes = b"", *, sequence: int = 0, link: bytes = BEGINNING) -> None:
        self._keyed = blake2b(key=key, digest_size=SIZE)
        self.sequence = sequence
        self.link = link

    def seal(self, line: bytes) -> bytes:
        r"""Number a line, link it to the one before, and stand there.

        Args:
            line: an object of JSON that ends in ``}\n``.
        """
        self.sequence += 1
        content = b'%b,"seq":%d' % (line[:-2], self.sequence)
        keyed = self._keyed.copy()  # as ``chain_of``, without setting the key up each time
        keyed.update(self.link)
        keyed.update(content)
        self.link = keyed.digest()
        return b'%b,"chain":"%b"}\n' % (content, hexlify(self.link))

    def mark(self) -> tuple[int, bytes]:
        """Where the chain stands."""
        return self.sequence, self.link

    def back_to(self, mark: tuple[int, bytes]) -> None:
        """Forget what was sealed since: it was not written."""
        self.sequence, self.link = mark
