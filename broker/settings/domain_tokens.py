"""The part of the configuration that is about scoped tokens, as the program uses it.

Duty: as for ``domain``: frozen values, durations in seconds, defaults filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Where scoped tokens are kept, and how long they live."""

    store: Literal["off", "pod", "shared"] = "pod"
    life: float = 900.0
    max_life: float = 3600.0
    max_tokens: int = 10_000
    """Alive, of one client."""
    mount: str = "secret"
    path: str = ""
    """Never empty when ``store`` is ``shared``."""
    revocation_grace: float = 10.0
