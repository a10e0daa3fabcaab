"""A session, its Vault and its clock, for scenarios.

Every jitter is 0.5, so a token of 600 s is renewed after 600 - 600 * (1/3 + 0.05) = 370 s,
and attempts that fail are 1, 2, 4, 8, 16, 30, 30 ... s apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from math import inf
from pathlib import Path

from broker.clock import Clock
from broker.vault.generation import Generation
from broker.vault.login import KubernetesLogin, TokenFileLogin
from broker.vault.session import Session
from broker.vault.tenure import LoginObserver
from tests.simulators.clock import EPOCH, VirtualClock
from tests.simulators.randomness import Steady
from tests.simulators.vault import VaultSimulator
from tests.simulators.vault_server import LeasedPath, Role

ORDERS = "database/creds/orders"


class Counters:
    """Implements ``SessionMetrics``."""

    def __init__(self) -> None:
        self.logins: list[str] = []
        self.tokens: list[tuple[float | None, int]] = []

    def login(self, result: str) -> None:
        self.logins.append(result)

    def vault_token(self, *, expires_wall: float | None, generation: int) -> None:
        self.tokens.append((expires_wall and round(expires_wall - EPOCH, 3), generation))


class Story:
    """A session, its Vault and its clock."""

    def __init__(
        self,
        directory: Path,
        role: Role,
        *,
        by_file: bool = False,
        observe: Callable[[Clock], LoginObserver] | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.vault = VaultSimulator(self.clock)
        self.role = self.vault.server.role(like=role)
        self.vault.server.leased(ORDERS, LeasedPath(ttl=3600))
        self.file = directory / "token"
        self.metrics = Counters()
        self.changes: list[float] = []
        self.gap = 0.0
        self.session = Session(
            self.vault,
            TokenFileLogin(self.vault, token_file=str(self.file))
            if by_file
            else KubernetesLogin(
                self.vault, mount="kubernetes", role="broker", token_file=str(self.file)
            ),
            clock=self.clock,
            rng=Steady(),
            metrics=self.metrics,
            observer=None if observe is None else observe(self.clock),
        )
        self._usable_until = inf
        self.session.on_change(self._changed)

    def _changed(self) -> None:
        now, generation = self.clock.now(), self.current
        self.changes.append(round(now, 3))
        self.gap += max(0.0, now - self._usable_until)
        self._usable_until = now if generation.ended else generation.expires_at

    @property
    def current(self) -> Generation:
        generation = self.session.generation
        assert generation is not None
        return generation

    def write(self, text: str) -> None:
        """Replace the token file, as a kubelet does: at once."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def pause(self, seconds: float) -> None:
        """The machine was paused with its boot clock; elsewhere, time went on."""
        self.clock.jump_wall(seconds)
        self.vault.server.ahead += seconds

    def renewals(self) -> list[float]:
        return self.vault.times("renew_self")

    def logins(self) -> list[float]:
        return self.vault.times("login_kubernetes")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """``start`` and ``run``; at the end what a supervisor does: cancel, and see why."""
        await self.session.start()
        task = asyncio.create_task(self.session.run())
        try:
            yield
        finally:
            ended = task.done()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert not ended, "run() must never return"
