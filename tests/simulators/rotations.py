"""A rotator that does nothing: for what asks one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.errors import BrokerError, RotationUnknown
from broker.rotation.model import Past, Phase, Reason, Result
from broker.rotation.ports import Outcome, Standing

WALL = 1_800_000_000.0


@dataclass
class Rotations:
    """Implements ``rotation.ports.Rotations``: notes what is asked."""

    asked: list[tuple[str, ...]] = field(default_factory=list)
    problem: BrokerError | None = None
    """What the next request ends with."""
    overdue: bool = False

    async def request(
        self, name: str, *, actor: str, compromised: bool = False, timeout: float = 120.0
    ) -> Outcome:
        self._note("compromised" if compromised else "rotate", name, actor)
        return Outcome(name, "r-7", Result.ROTATED)

    async def suspect(self, name: str, *, actor: str) -> None:
        self._note("suspect", name, actor)

    def status(self) -> Sequence[Standing]:
        return [
            Standing(
                "search-api",
                Phase.OVERLAP,
                leading=True,
                rotation="r-7",
                reason=Reason.DEMANDED,
                key_since_wall=WALL,
                due_wall=WALL + 3600,
                retire_at_wall=WALL + 60,
                overdue=self.overdue,
                problem="vault_sealed" if self.overdue else "",
            )
        ]

    async def history(self, name: str) -> Sequence[Past]:
        self._note("history", name)
        return [
            Past(
                "r-6",
                Result.ROLLED_BACK,
                Reason.MAX_AGE,
                "schedule",
                WALL - 100,
                WALL - 50,
                key_id="key-6",
                detail="proof_failed",
            )
        ]

    async def freeze(self, name: str, *, actor: str) -> None:
        self._note("freeze", name, actor)

    async def unfreeze(self, name: str, *, actor: str) -> None:
        self._note("unfreeze", name, actor)

    async def pin(self, name: str, *, actor: str) -> None:
        self._note("pin", name, actor)

    def _note(self, *words: str) -> None:
        self.asked.append(words)
        if words[1] != "search-api":
            raise RotationUnknown
        if self.problem is not None:
            raise self.problem
