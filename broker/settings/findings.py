"""What a rule of the configuration finds [pure].

Duty: the value that ``rules`` and ``rules_credentials`` yield.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.settings.places import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction or danger; ``fatal`` keeps the broker from starting."""

    path: Path
    message: str
    remedy: str
    fatal: bool = True
