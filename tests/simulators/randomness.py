"""Randomness that a test chooses."""

from __future__ import annotations

from random import Random


class Steady(Random):
    """Every jitter is the same, so that a test can say when things happen."""

    def __init__(self, jitter: float = 0.5) -> None:
        super().__init__(0)
        self.jitter = jitter

    def random(self) -> float:
        return self.jitter
