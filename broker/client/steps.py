"""What a conversation with the broker is made of [pure].

Duty: a request, its answer or its loss, a pause: what generators yield and are sent.
Not its duty: which requests (``core``), carrying them out (``link``).
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

Result = TypeVar("Result")

ANSWER_WITHIN: Final = 10.0
"""Seconds the broker may take, a wait that was asked for aside; it holds back for 2 at most."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the broker."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """The bearer among them."""
    body: bytes = b""
    within: float = ANSWER_WITHIN
    """Seconds until the answer is given up."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The broker's answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)

    def document(self) -> object:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer."""

    why: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before going on."""

    seconds: float


Steps: TypeAlias = Generator[Call | Pause, Reply | Lost | None, Result]
"""A conversation. Sent ``None`` at first and after a ``Pause``."""
