"""A provider of API keys in memory: one account, as all replicas and installations see it.

Duty: keys with label, secret, expiry; which secrets the upstream accepts, and when.
Not its duty: faults between a replica and the provider (``rotation_hands``).

A test in short::

    account = ProviderSimulator(clock)
    account.seed("k0", secret="canary-0")
    driver = ProviderDriver(account)
    account.next_is_bad = True                # the next key is never accepted
    account.settles_after = 20.0              # a new key is accepted only later
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.clock import Clock
from broker.errors import ProofFailed
from broker.rotation.drivers.port import Capabilities, MintedKey
from broker.rotation.model import Label, UpstreamKey
from broker.secret import SecretValue

ALL = Capabilities(
    overlap=True, prove_first=True, rollback=True, list=True, fields=frozenset({"api_key"})
)


@dataclass
class ProviderKey:
    """A key as the provider knows it."""

    key_id: str
    label: str
    secret: str = field(repr=False)
    created_wall: float
    accepted_at: float
    """From when the upstream accepts it, on ``Clock.now()``: clocks of ours do not move it."""
    expires_wall: float | None = None
    bad: bool = False
    """Never accepted."""
    retired_wall: float | None = None
    retired_by: str = ""
    """The installation whose broker ended it."""


class ProviderSimulator:
    """One account at the provider."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.keys: dict[str, ProviderKey] = {}
        self.next_is_bad = False
        self.settles_after = 0.0
        self.life: float | None = None
        """Seconds a new key lives; None: for ever."""
        self.retired_twice = 0
        self.on_retire: Callable[[ProviderKey], None] = lambda _: None

    def seed(self, key_id: str, *, secret: str, label: str = "made by hand") -> ProviderKey:
        """A key somebody made before the broker came."""
        wall = self._clock.wall()
        key = self.keys[key_id] = ProviderKey(key_id, label, secret, wall, self._clock.now())
        return key

    def create(self, label: str) -> ProviderKey:
        """A new key; ids and secrets are never used twice."""
        number, wall = len(self.keys) + 1, self._clock.wall()
        key = ProviderKey(
            f"key-{number}",
            label,
            f"canary-secret-{number}",
            wall,
            self._clock.now() + self.settles_after,
            None if self.life is None else wall + self.life,
            bad=self.next_is_bad,
        )
        self.next_is_bad = False
        self.keys[key.key_id] = key
        return key

    def retire(self, key_id: str, *, by: str = "") -> None:
        """End a key; idempotent. Who manages the account may end any key in it."""
        key = self.keys.get(key_id)
        if key is None:
            return
        if key.retired_wall is not None:
            self.retired_twice += 1
            return
        self.on_retire(key)
        key.retired_wall, key.retired_by = self._clock.wall(), by

    def accepts(self, secret: str) -> bool:
        """Whether the upstream takes this secret now."""
        wall = self._clock.wall()
        return any(
            key.secret == secret
            and key.retired_wall is None
            and not key.bad
            and self._clock.now() >= key.accepted_at
            and (key.expires_wall is None or wall < key.expires_wall)
            for key in self.keys.values()
        )

    def live(self) -> list[ProviderKey]:
        """Keys that nobody has retired."""
        return [key for key in self.keys.values() if key.retired_wall is None]


class ProviderDriver:
    """``Driver`` over an account."""

    def __init__(
        self,
        account: ProviderSimulator,
        *,
        capabilities: Capabilities = ALL,
        field: str = "api_key",
        by: str = "",
    ) -> None:
        self.account = account
        self.field = field
        self._by = by
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def create(self, label: Label) -> MintedKey:
        key = self.account.create(label.text)
        return MintedKey(key.key_id, {self.field: SecretValue(key.secret)}, key.expires_wall)

    async def prove(self, key: MintedKey) -> None:
        if not self.account.accepts(key.fields[self.field].reveal()):
            raise ProofFailed

    async def list(self) -> Sequence[UpstreamKey]:
        return [
            UpstreamKey(key.key_id, key.label, key.created_wall, key.expires_wall)
            for key in self.account.live()
        ]

    async def retire(self, key_id: str) -> None:
        self.account.retire(key_id, by=self._by)
