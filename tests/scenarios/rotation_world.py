"""Replicas that rotate one key, readers in each, a Vault and a provider.

A replica is a reader (keepers and store, as in every pod) and a rotator. Who judges them is
``rotation_judge``. A second world may stand ``beside`` the first: another installation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random

from broker.credentials.keeper import Deps as KeeperDeps
from broker.credentials.keepers import Keepers
from broker.credentials.model import CredentialSpec, KvSource
from broker.credentials.retire import Retirer
from broker.credentials.store import CredentialStore
from broker.errors import VaultError
from broker.rotation.document import from_data
from broker.rotation.drivers.port import Driver
from broker.rotation.election import Always, Election
from broker.rotation.footing import Deps
from broker.rotation.model import KvPath, Phase, Policy, RotationSpec, RotationState
from broker.rotation.ports import Outcome, Standing, StepTaken
from broker.rotation.rotator import Rotator
from broker.rotation.state import Documents
from broker.secret import SecretValue
from tests.scenarios.rotation_judge import HOLD, KEY, NAME, READERS, STATE, RotationJudge
from tests.scenarios.world import Said
from tests.simulators.clock import VirtualClock
from tests.simulators.provider import ALL, ProviderDriver, ProviderKey, ProviderSimulator
from tests.simulators.rotation_hands import Crash, HandledDriver, HandledVault, Hands
from tests.simulators.session import SessionByHand
from tests.simulators.vault import VaultSimulator

READER = CredentialSpec(KEY, KvSource("secret", NAME, poll=10.0, max_staleness=40.0), hold=HOLD)
POLICY = Policy(
    max_age=None,
    settle=20.0,
    overlap=120.0,  # 10 × 1.1 + 10 + 40 and some
    patience=30.0,
    retry=2.0,
    retry_cap=20.0,
    watch=10.0,
    sweep_every=60.0,
    orphan_age=150.0,
)


class Follows:
    """An election by hand."""

    def __init__(self, *, leading: bool = True) -> None:
        self.leading = leading

    def on_change(self, callback: object) -> None:
        """Loops look at ``leading`` before each act anyway."""

    async def ring(self) -> None:
        """Nobody hears it: wishes are late, and found all the same."""


@dataclass
class Observed:
    """What rotators told."""

    steps: list[StepTaken] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)

    def took(self, step: StepTaken) -> None:
        self.steps.append(step)

    def stands(self, standing: Standing) -> None:
        self.standings.append(standing)

    def kinds(self) -> list[str]:
        return [step.kind for step in self.steps]


@dataclass(eq=False)
class Replica:
    """A pod: readers and, while its process lives, a rotator."""

    name: str
    vault: HandledVault
    session: SessionByHand
    store: CredentialStore
    keepers: Keepers
    election: Election
    driver: HandledDriver
    hands: Hands
    rotator: Rotator
    task: asyncio.Task[None]

    @property
    def crashed(self) -> bool:
        return self.task.done()


class RotationWorld(RotationJudge):
    """All of it, on virtual time."""

    reader = READER
    readers: KvPath | None = READERS

    def __init__(self, *, seed: int = 1, installation: str = "prod") -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.vault = VaultSimulator(self.clock)
        self.account = ProviderSimulator(self.clock)
        self.account.on_retire = self._retired
        self.installation = installation
        self.capabilities = ALL
        self.policy = POLICY
        self.observed = Observed()
        self.replicas: list[Replica] = []
        self._rng = Random(seed)
        self._ids, self._owners = count(1), count(1)

    def beside(self, other: RotationWorld) -> None:
        """Another installation: the same provider account, Vault and clock; paths of its own."""
        name, hears = self.installation, other.account.on_retire
        self.clock, self.vault, self.account = other.clock, other.vault, other.account
        self.state_path = KvPath(STATE.mount, f"{name}/rotation/{NAME}")
        self.readers = KvPath(READERS.mount, f"{name}/{NAME}")
        source = KvSource(READERS.mount, self.readers.path, poll=10.0, max_staleness=40.0)
        self.reader = CredentialSpec(KEY, source, hold=HOLD)
        self.first_id = f"{name}-k0"

        def both(key: ProviderKey) -> None:
            hears(key)
            self._retired(key)

        self.account.on_retire = both

    def seed(self) -> None:
        """What a person made before the broker came."""
        assert self.readers is not None
        secret = f"canary-secret-{self.first_id}"
        self.account.seed(self.first_id, secret=secret)
        self.vault.server.kv.put(
            self.readers.path,
            {"api_key": secret, "url": "https://api.example.com"},
            custom_metadata={"broker_key_id": self.first_id},
        )

    # --- replicas ---------------------------------------------------------------------

    async def replica(self, name: str, election: Election | None = None) -> Replica:
        """A new pod with a rotator that runs."""
        hands = Hands()
        vault = HandledVault(self.vault, hands)
        session = SessionByHand(vault)
        session.log_in()
        store = CredentialStore(self.clock)
        said = Said()
        versions = count(1)
        keepers = Keepers(
            [self.reader],
            KeeperDeps(
                clock=self.clock,
                vault=vault,
                session=session,
                store=store,
                retirer=Retirer(clock=self.clock, vault=vault, session=session, rng=self._rng),
                rng=self._rng,
                recorder=said,
                events=said,
                new_version=lambda: f"{name}-{next(versions)}",
            ),
        )
        keepers.start()
        await keepers.settled(self.clock.now() + 60)
        driver = HandledDriver(self.driver(vault, session), hands)
        election = election or Always()
        rotator, task = self._start(vault, session, keepers, driver, election)
        made = Replica(name, vault, session, store, keepers, election, driver, hands, rotator, task)
        self.replicas.append(made)
        return made

    def driver(self, vault: HandledVault, session: SessionByHand) -> Driver:
        """Of a new replica."""
        return ProviderDriver(self.account, capabilities=self.capabilities, by=self.installation)

    def _start(
        self,
        vault: HandledVault,
        session: SessionByHand,
        keepers: Keepers,
        driver: HandledDriver,
        election: Election,
    ) -> tuple[Rotator, asyncio.Task[None]]:
        rotator = Rotator(
            [(RotationSpec(KEY, self.state_path, self.readers, self.policy), driver)],
            Deps(
                clock=self.clock,
                documents=Documents(clock=self.clock, vault=vault, session=session),
                readership=keepers,
                observer=self.observed,
                rng=self._rng,
                installation=self.installation,
                owner=f"process-{next(self._owners)}",
                new_id=lambda: f"r{next(self._ids)}",
            ),
            election=election,
        )
        return rotator, asyncio.create_task(rotator.run(), name="rotator")

    async def restart(self, replica: Replica) -> None:
        """The process is gone, if it is not yet; another takes its place."""
        await self.end(replica)
        replica.hands.script.clear()
        replica.rotator, replica.task = self._start(
            replica.vault, replica.session, replica.keepers, replica.driver, replica.election
        )

    async def end(self, replica: Replica) -> None:
        """End the rotator's process; only a crash the script asked for is no fault."""
        replica.task.cancel()
        (outcome,) = await asyncio.gather(replica.task, return_exceptions=True)
        for error in _leaves(outcome):
            if not isinstance(error, Crash | asyncio.CancelledError):
                self.violations.append(f"the rotator ended by {error!r}")

    def demand(self, number: int = 0, *, compromised: bool = False) -> asyncio.Task[Outcome]:
        """Somebody asks a replica for a rotation; the task ends with the outcome."""
        asking = self.replicas[number].rotator.request(
            NAME, actor="operator", compromised=compromised, timeout=1000.0
        )
        return asyncio.create_task(asking, name="demand")

    # --- the truth ----------------------------------------------------------------------

    def state(self) -> RotationState:
        """The committed state; an empty one when there is none."""
        try:
            path = self.state_path
            _, found = self.vault.server.kv.read_version(path.path, 0, mount=path.mount)
        except VaultError:
            return RotationState()
        return from_data({name: SecretValue(str(text)) for name, text in found.data.items()})

    # --- the end ------------------------------------------------------------------------

    async def until(self, *phases: Phase, within: float = 600.0) -> RotationState:
        """Let time pass until the committed state is in one of the phases."""
        deadline = self.clock.now() + within
        while self.state().phase not in phases:
            assert self.clock.now() < deadline, (self.state(), self.observed.kinds())
            await self.clock.sleep(0.5)
        return self.state()

    async def recover(self) -> None:
        """Nothing goes wrong any more; ended processes are replaced."""
        self.vault.heal()
        for replica in self.replicas:
            replica.driver.away = False
            replica.hands.script.clear()
            replica.hands.resume.set()
            if replica.crashed:
                await self.restart(replica)

    async def settled(self, *, within: float = 3000.0) -> None:
        """After all mishaps: wait for the end of what is under way and for the sweep."""
        deadline = self.clock.now() + within
        while self.clock.now() < deadline:
            await self.clock.sleep(20)
            state = self.state()
            done = state.phase is Phase.IDLE and state.wish is None and state.past
            if done and not self.withdrawn() and len(self.own_keys()) == 1 and not state.staged:
                break


def _leaves(error: object) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error] if isinstance(error, BaseException) else []


@asynccontextmanager
async def rotation_world(
    *, replicas: int = 1, seed: int = 1, rotated: bool = False, policy: Policy = POLICY
) -> AsyncIterator[RotationWorld]:
    """A world with so many replicas; ``rotated``: the first rotation has ended."""
    world = RotationWorld(seed=seed)
    world.policy = policy
    world.seed()
    for number in range(replicas):
        await world.replica(f"pod-{number}")
    world.watch()
    try:
        if rotated:
            await world.settled()
            assert world.judged() == []
            world.observed.steps.clear()
        yield world
    finally:
        world.leave()
        for replica in world.replicas:
            await world.end(replica)
            await replica.keepers.close(world.clock.now() + 5)
