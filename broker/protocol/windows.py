"""Finding any of many strings in a text, at a cost that depends on the text alone [pure].

Duty: an index of strings; every place in a text where one of them stands.
Not its duty: encodings, masking (``redaction``).
Rules:

* strings are cut into windows of equal length: the first one is looked up at each character
  of a text, the following ones only along the path that matched so far;
* up to ``CROWD`` strings with equal windows so far are kept as they are and compared one by
  one; more of them are told apart by their next window. So strings that begin alike, as keys
  of one provider do, cost no more than a few that do not;
* a node's parts are replaced, never changed in place, where a reader in another thread
  could trip over the change.

A trie over windows instead of characters (compare burst tries: Heinz, Zobel, Williams 2002).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias, Union

WINDOW: Final = 6
"""Characters looked up at once; no shorter string can be found."""
CROWD: Final = 4
"""Strings compared one by one before they are told apart by windows."""

_Rest: TypeAlias = Union[tuple[str, ...], "_Node"]
"""What may follow after a window: a few remainders, or a node for many."""


class _Node:
    """Strings that are alike so far, by what follows."""

    __slots__ = ("ends", "rests")

    def __init__(self) -> None:
        self.rests: dict[str, _Rest] = {}
        self.ends: dict[str, int] = {}
        """Remainders shorter than a window, and how often each was added."""

    def __bool__(self) -> bool:
        return bool(self.rests or self.ends)


class Windows:
    """A multiset of strings of at least ``WINDOW`` characters."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = _Node()

    def __bool__(self) -> bool:
        return bool(self._root)

    def add(self, string: str) -> None:
        """Add ``string`` once more."""
        if len(string) < WINDOW:
            raise ValueError(f"a string under {WINDOW} characters cannot be found")
        _add(self._root, string)

    def remove(self, string: str) -> None:
        """Undo one ``add``; a string that is not there is ignored."""
        _remove(self._root, string)

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Start and end of the longest string at each place where one begins."""
        first = self._root.rests
        for start in [
            start
            for start in range(len(text) - WINDOW + 1)
            if text[start : start + WINDOW] in first
        ]:
            end = _longest(self._root, text, start)
            if end > start:
                yield start, end


def _longest(node: _Node, text: str, at: int) -> int:
    """End of the longest string that begins at ``at``; -1 when none does."""
    best = -1
    while True:
        if node.ends:
            for length in range(WINDOW - 1, -1, -1):
                if (end := text[at : at + length]) in node.ends:
                    best = at + len(end)
                    break
        rest = node.rests.get(text[at : at + WINDOW])
        at += WINDOW
        if isinstance(rest, _Node):
            node = rest
            continue
        for string in rest or ():
            if text.startswith(string, at):
                best = max(best, at + len(string))
        return best


def _add(node: _Node, string: str) -> None:
    while len(string) >= WINDOW:
        window, string = string[:WINDOW], string[WINDOW:]
        rest = node.rests.get(window, ())
        if not isinstance(rest, _Node):
            if len(rest) < CROWD:
                node.rests[window] = (*rest, string)
                return
            crowd = _Node()
            for each in rest:
                _add(crowd, each)  # one level deep: CROWD strings never crowd a new node
            node.rests[window] = rest = crowd
        node = rest
    node.ends[string] = node.ends.get(string, 0) + 1


def discount(counts: dict[str, int], string: str) -> int:
    """Count one less, without a moment in which a reader would miss what is left.

    Returns:
        How often ``string`` was counted before.
    """
    before = counts.get(string, 0)
    if before > 1:
        counts[string] = before - 1
    else:
        counts.pop(string, None)
    return before


def _remove(node: _Node, string: str) -> None:
    path: list[tuple[_Node, str]] = []
    while len(string) >= WINDOW:
        window, string = string[:WINDOW], string[WINDOW:]
        path.append((node, window))
        rest = node.rests.get(window, ())
        if not isinstance(rest, _Node):
            if string in rest:
                at = rest.index(string)
                node.rests[window] = rest[:at] + rest[at + 1 :]
            break
        node = rest
    else:
        discount(node.ends, string)
    for parent, window in reversed(path):
        if parent.rests.get(window):
            break
        parent.rests.pop(window, None)
