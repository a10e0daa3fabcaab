"""Where a piece of the configuration stands [pure].

Duty: the path of a value and the place it was written at.
Not its duty: reading either from YAML (``document``) or variables (``environment``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Path: TypeAlias = tuple[str, ...]
"""Keys from the root; items of lists by their index as text."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the file, or an environment variable (``file`` is then its name)."""

    file: str
    line: int | None = None
