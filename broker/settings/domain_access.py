"""What the configuration says about roles and policies, as the program uses it.

Duty: as for ``domain``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """When a role holds; times in minutes of the day."""

    zone: str
    days: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """One role by name."""

    name: str
    callers: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    times: tuple[WindowSettings, ...] = ()
    addresses: tuple[str, ...] = ()
    actions: tuple[str, ...] = ("handout", "report", "read_status", "call_tool")


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy file as it was read."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Policy files and the words they may use."""

    files: tuple[str, ...] = ()
    texts: tuple[PolicyText, ...] = ()
    """Their content: a change of it is a change of the configuration."""
    zone: str = "UTC"
    zones: tuple[str, ...] = ()
    arguments: Mapping[str, Literal["text", "whole_number", "boolean"]] = field(
        default_factory=dict
    )
    tools: tuple[str, ...] = ()
