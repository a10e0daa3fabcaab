"""Verdicts that are kept.

Duty: a bounded memory for each caller. Not its duty: what a verdict depends on (``policy``).
Rules: bounded for each caller by itself, so that one who invents names of tools pushes out
nobody's verdicts but its own; the oldest goes first.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Cache(Generic[V]):
    """Values by caller and key.

    Args:
        most: values kept for one caller.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[str, dict[Hashable, V]] = {}

    def get(self, caller: str, key: Hashable) -> V | None:
        """What is kept."""
        mine = self._kept.get(caller)
        return None if mine is None else mine.get(key)

    def put(self, caller: str, key: Hashable, value: V) -> None:
        """Keep a value."""
        mine = self._kept.setdefault(caller, {})
        if len(mine) >= self._most and key not in mine:
            del mine[next(iter(mine))]
        mine[key] = value

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def __len__(self) -> int:
        return sum(len(mine) for mine in self._kept.values())
