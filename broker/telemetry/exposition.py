"""Prometheus' text format: lines, histograms, slices.

Duty: turn numbers into text, a little at a time.
Not its duty: which metrics exist (``metrics``).
Rules:

* all samples of a family stand together below its ``HELP`` and ``TYPE``;
* a slice is cut by its items and its size, so that an item without a line (a credential
  that was never refreshed) counts too: walking past ten thousand of them takes time.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import Final, Literal

SLICE_ITEMS: Final = 100
SLICE_CHARACTERS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: all its series share name, type and meaning."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str

    def head(self) -> str:
        """The two lines above the samples."""
        return f"# HELP {self.name} {self.meaning}\n# TYPE {self.name} {self.kind}\n"

    def line(self, value: float, labels: str = "") -> str:
        """One sample; ``labels`` is ``name="value",…`` with values from ``escape``."""
        return (
            f"{self.name}{{{labels}}} {number(value)}\n"
            if labels
            else (f"{self.name} {number(value)}\n")
        )


class Histogram:
    """Counts of observations by bucket.

    Args:
        bounds: upper bounds in ascending order, the last one below infinity.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation. Hot path."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, family: Family, labels: str = "") -> str:
        """All lines at once: buckets, sum and count must agree with one another."""
        prefix = f"{labels}," if labels else ""
        braces = f"{{{labels}}}" if labels else ""
        totals = list(accumulate(self._counts))
        return "".join(
            [
                *(
                    f'{family.name}_bucket{{{prefix}le="{number(bound)}"}} {total}\n'
                    for bound, total in zip((*self._bounds, inf), totals, strict=True)
                ),
                f"{family.name}_sum{braces} {number(self._sum)}\n",
                f"{family.name}_count{braces} {totals[-1]}\n",
            ]
        )


def number(value: float) -> str:
    """A number as Go's ``ParseFloat`` reads it."""
    if value == inf:
        return "+Inf"
    return repr(value)


def escape(text: str) -> str:
    """A label's value: backslash, double quote and line feed are escaped."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def sliced(items: Iterable[str]) -> Iterator[bytes]:
    """Join items, empty ones too, into slices that are cheap to make."""
    held: list[str] = []
    size = 0
    for item in items:
        held.append(item)
        size += len(item)
        if len(held) >= SLICE_ITEMS or size >= SLICE_CHARACTERS:
            if size:
                yield "".join(held).encode()
            else:
                # Nothing to say yet, but time went by: let the reader breathe.
                yield b""
            held, size = [], 0
    if size:
        yield "".join(held).encode()
