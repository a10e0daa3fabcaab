"""What the demo's parts saw  [pure].

Duty: the values that ``watch`` writes down and ``judge`` reads.
Not its duty: either of that.
Rules: times are Unix seconds, all from one machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal

Verdict = Literal["ok", "missing", "unknown", "expired", "revoked"]
"""What the search API thinks of a key."""

BROKER: Final = "broker"
ENVIRONMENT: Final = "environment"
"""The two editions of the MCP server, also what they call themselves upstream."""

EVENTS: Final = (
    "lease_renewed",
    "lease_replaced",
    "token_replaced",
    "out_of_band_change",
    "vault_restarted",
    "caller_refused",
    "token_narrowed",
    "token_revoked",
    "leak_masked",
    "rotated",
    "rolled_back",
)
"""What must have happened at least once for the story to be told."""


@dataclass(frozen=True, slots=True)
class SearchCall:
    """One call the search API saw."""

    at: float
    consumer: str
    """The caller's User-Agent: a claim, used for the statistics only."""
    key_id: str
    verdict: Verdict

    @property
    def dead_key(self) -> bool:
        """Whether it came with a key that is none (any more)."""
        return self.verdict != "ok"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One MCP tool call of an agent."""

    at: float
    edition: str
    tool: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Handout:
    """One hand-out, as the audit log has it."""

    at: float
    credential: str
    version: str
    use_until: float
    lease: str = ""
    """Digest of the lease id; empty for a credential without a lease."""
    source_version: str = ""


@dataclass(slots=True)
class LeaseLife:
    """What OpenBao told about one lease, look by look."""

    issued_at: float
    expires_at: float
    """The latest end OpenBao told."""
    renewals: int = 0
    gone_at: float = inf
    """The first look at which OpenBao did not know it any more: it ended before."""

    @property
    def end(self) -> float:
        """When it was certainly over."""
        return min(self.expires_at, self.gone_at)


@dataclass(slots=True)
class Facts:
    """All that was recorded."""

    tool_calls: list[ToolCall] = field(default_factory=list)
    search_calls: Sequence[SearchCall] = ()
    changed_keys: list[str] = field(default_factory=list)
    """Ids of search keys that were revoked behind everybody's back."""
    key_of_version: dict[str, str] = field(default_factory=dict)
    """KV version number (as text) to key id."""
    key_ends: Mapping[str, float] = field(default_factory=dict)
    """Key id to its end, for keys that have one: announced, or brought about by the broker."""
    live_keys: int = 0
    """Keys that the search API takes at the end."""
    refused_users: Sequence[str] = ()
    """Users PostgreSQL refused, one entry a refusal."""
    users: Mapping[str, str] = field(default_factory=dict)
    """Database user to the edition it was made for."""
    handouts: list[Handout] = field(default_factory=list)
    leases: dict[str, LeaseLife] = field(default_factory=dict)
    """By digest of the lease id."""
    environment_ends: float = inf
    """When the lease ended that the environment edition got at its start."""
    events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENTS, 0))
