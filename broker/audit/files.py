"""The files of one audit log, and where its chain stands.

Duty: name and order the files that rotation makes; find the last link in them.
Not its duty: writing them (``sinks``, ``rotating``), judging them (``verify``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.audit.descriptors import read_end
from broker.audit.links import Head, link_of
from broker.errors import SettingsError

KEY_SIZES: Final = range(32, 65)
"""Bytes of a key: less can be guessed, more BLAKE2b does not take."""
TAIL: Final = 64 << 10
"""Bytes looked at for the last link: many lines, each of which is below ``PIPE_BUF``."""

_NUMBERED: Final = re.compile(r"(.+)\.([1-9][0-9]{0,3})")


def numbered(path: str, number: int) -> str:
    """The name of an older file: 1 is the one before ``path``."""
    return f"{path}.{number}"


def in_order(paths: Iterable[str]) -> list[str]:
    """Files oldest first, those of one log together: ``audit.log*`` of a shell is not.

    A single file that is no older one brings the older ones along, as far as there are any.
    """
    given = list(dict.fromkeys(paths))
    if len(given) == 1 and not _NUMBERED.fullmatch(given[0]):
        given += _older(given[0])
    logs: dict[str, list[tuple[int, str]]] = {}
    for path in given:
        match = _NUMBERED.fullmatch(path)
        log, number = (match[1], int(match[2])) if match else (path, 0)
        logs.setdefault(log, []).append((-number, path))
    return [path for files in logs.values() for _, path in sorted(files)]


def _older(path: str) -> list[str]:
    log = Path(path)
    with suppress(OSError):
        return [
            str(one)
            for one in log.parent.iterdir()
            if (match := _NUMBERED.fullmatch(one.name)) and match[1] == log.name
        ]
    return []


def last_link(path: str) -> Head | None:
    """Where the chain of a log stands: at the last record of its newest file that has one.

    None when something else stands after that record: then a new chain begins.
    """
    for file in reversed(in_order([path])):
        with suppress(OSError):
            size = Path(file).stat().st_size
            for line in _from_the_end(read_end(file, size, TAIL)):
                head = link_of(line)
                if head is not None:
                    return head
                if line.endswith(b"}"):
                    return None  # no piece, and no record either: somebody was here
            if size > TAIL:
                return None
    return None


def _from_the_end(tail: bytes) -> Iterator[bytes]:
    """Lines, the last one first; without its newline it is a record all the same, or a piece."""
    whole, _, last = tail.rpartition(b"\n")
    if link_of(last) is not None:
        yield last
    yield from reversed(whole.splitlines())


def read_key(path: str) -> bytes:
    """The key of a chain: the file's content without a line end after it.

    Raises:
        SettingsError: it cannot be read, or is too short or too long.
    """
    try:
        with Path(path).open("rb") as file:
            key = file.read(max(KEY_SIZES) + 3).removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise SettingsError(
            f"the key cannot be read: {error.strerror}",
            file=path,
            remedy="Check the mounted volume, and that the broker's user may read it.",
        ) from error
    if len(key) not in KEY_SIZES:
        raise SettingsError(
            f"the key has to be {min(KEY_SIZES)} to {max(KEY_SIZES)} bytes long",
            file=path,
            remedy="Make one: openssl rand -hex 32",
        )
    return key
