"""A session by hand: the test says when the Vault token changes."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from broker.errors import LoginError, LoginFailed, VaultDenied, VaultError
from broker.secret import SecretValue
from broker.vault.generation import Generation
from tests.simulators.vault import VaultSimulator
from tests.simulators.vault_server import Role


class SessionByHand:
    """Implements ``SessionPort`` over a ``VaultSimulator``; nothing happens by itself."""

    def __init__(self, vault: VaultSimulator) -> None:
        self._vault = vault
        self._callbacks: list[Callable[[], None]] = []
        self.generation: Generation | None = None
        self.reason: LoginError | VaultError = LoginFailed()
        self.denials = 0

    def log_in(self, role: Role | None = None, *, expires_at: float = inf) -> Generation:
        """A new generation from now on; the old one stays as it is."""
        token = self._vault.server.issue(role)
        number = 1 if self.generation is None else self.generation.number + 1
        self.generation = Generation(
            number,
            SecretValue(token.text),
            expires_at=min(expires_at, token.expires_at),
            renewable=True,
        )
        self._changed()
        return self.generation

    def lose(self) -> None:
        """The current generation has ended."""
        assert self.generation is not None
        self.generation.ended = True
        self._changed()

    async def ready(self, deadline: float) -> Generation:
        """The current generation, or the reason there is none."""
        del deadline
        if self.generation is None or self.generation.ended:
            raise self.reason
        return self.generation

    async def denied(self, generation: Generation) -> Generation | None:
        """A new login when the token is dead."""
        self.denials += 1
        try:
            await self._vault.lookup_self(generation.token)
        except VaultDenied:
            if generation is self.generation:
                self.lose()
                self.log_in()
            return self.generation
        return None

    def on_change(self, callback: Callable[[], None]) -> None:
        """Remember whom to tell."""
        self._callbacks.append(callback)

    def _changed(self) -> None:
        for callback in self._callbacks:
            callback()


class FixedSession:
    """Implements ``SessionPort`` with one given token that never ends."""

    def __init__(self, token: SecretValue) -> None:
        self.generation: Generation | None = Generation(
            1, token, expires_at=inf, renewable=False, own=False
        )

    async def ready(self, deadline: float) -> Generation:
        """The one generation."""
        del deadline
        assert self.generation is not None
        return self.generation

    async def denied(self, generation: Generation) -> Generation | None:
        """A refusal is always about the path."""
        del generation
        return None

    def on_change(self, callback: Callable[[], None]) -> None:
        """Nothing ever changes."""
