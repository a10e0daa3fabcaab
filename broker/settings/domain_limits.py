"""The section ``limits`` as the program uses it.

Duty: frozen values, as ``domain`` has the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from broker.settings.rates import FAILURES_RATE, Rate

Dimension: TypeAlias = Literal["client", "tool", "credential"]


@dataclass(frozen=True, slots=True)
class LimitRuleSettings:
    """One limit; an empty selection is everything."""

    rate: str
    """As written; fits ``rates.rate``."""
    clients: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    per: tuple[Dimension, ...] = ("client", "tool", "credential")


@dataclass(frozen=True, slots=True)
class CallerLimitSettings:
    """How often callers may ask."""

    default: str = ""
    """Rate of what no rule matches; empty for none."""
    rules: Mapping[str, LimitRuleSettings] = field(default_factory=dict)
    failed_authentications: Rate | None = FAILURES_RATE
