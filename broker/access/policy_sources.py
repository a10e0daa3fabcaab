"""What policies are made of [pure].

Duty: carry it from the configuration to where it is compiled (``policies``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.access.roles import Role
from broker.access.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One file as it was read."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """What policies may know of a credential: where its value is."""

    kind: str
    mount: str
    path: str
    """Below the mount."""

    @property
    def whole(self) -> str:
        """The whole path, as globs of roles have it."""
        return f"{self.mount}/{self.path}" if self.mount else self.path


@dataclass(frozen=True, slots=True)
class Sources:
    """What policies are made of."""

    clients: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Credentials that are listed for each client."""
    credentials: Mapping[str, Target] = field(default_factory=dict)
    roles: tuple[Role, ...] = ()
    files: tuple[PolicyFile, ...] = ()
    tools: tuple[str, ...] = ()
    """Tools that policies may name; empty: any."""
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    known_callers: frozenset[str] = frozenset()
    """Clients that policies may name, though they are not served yet."""
    file: str = ""
    """The configuration's own, for places."""
