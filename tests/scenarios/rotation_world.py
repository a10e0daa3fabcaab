"""Replicas that rotate one key, readers in each, a Vault and a provider; and who judges.

A replica is a reader (keepers and store, as in every pod) and a rotator. The judge samples
every reader and watches the provider; what must never happen is written down when it does.
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
from broker.credentials.model import CredentialKey, CredentialSpec, KvSource
from broker.credentials.reserved import read_note
from broker.credentials.retire import Retirer
from broker.credentials.store import CredentialStore
from broker.errors import VaultError
from broker.rotation.document import from_data
from broker.rotation.drivers.port import Driver
from broker.rotation.election import Always, Election
from broker.rotation.footing import Deps
from broker.rotation.model import KvPath, Label, Phase, Policy, RotationSpec, RotationState
from broker.rotation.ports import Outcome, Standing, StepTaken
from broker.rotation.rotator import Rotator
from broker.rotation.state import Documents
from broker.secret import SecretValue
from tests.scenarios.world import Said
from tests.simulators.clock import VirtualClock
from tests.simulators.provider import ALL, ProviderDriver, ProviderKey, ProviderSimulator
from tests.simulators.rotation_hands import Crash, HandledDriver, HandledVault, Hands
from tests.simulators.session import SessionByHand
from tests.simulators.vault import VaultSimulator

NAME = "search-api"
KEY = CredentialKey(NAME)
STATE, READERS = KvPath("secret", f"broker/rotation/{NAME}"), KvPath("secret", NAME)
HOLD = 10.0
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


class RotationWorld:
    """All of it, on virtual time."""

    reader = READER
    readers: KvPath | None = READERS

    def __init__(self, *, seed: int = 1, installation: str = "prod") -> None:
        self.clock = VirtualClock()
        self.vault = VaultSimulator(self.clock)
        self.account = ProviderSimulator(self.clock)
        self.account.on_retire = self._retired
        self.installation = installation
        self.capabilities = ALL
        self.policy = POLICY
        self.observed = Observed()
        self.replicas: list[Replica] = []
        self.violations: list[str] = []
        self.compromised = False
        """A gap is wanted then, and a key that somebody holds is retired."""
        self.failing = False
        """The upstream refuses a key that readers rightly have."""
        self._rng = Random(seed)
        self._ids, self._owners = count(1), count(1)
        self._promised: dict[str, float] = {}
        self._judge: asyncio.Task[None] | None = None

    def seed(self) -> None:
        """What a person made before the broker came."""
        self.account.seed("k0", secret="canary-secret-0")
        self.vault.server.kv.put(
            NAME,
            {"api_key": "canary-secret-0", "url": "https://api.example.com"},
            custom_metadata={"broker_key_id": "k0"},
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
        return ProviderDriver(self.account, capabilities=self.capabilities)

    def _start(
        self,
        vault: HandledVault,
        session: SessionByHand,
        keepers: Keepers,
        driver: HandledDriver,
        election: Election,
    ) -> tuple[Rotator, asyncio.Task[None]]:
        rotator = Rotator(
            [(RotationSpec(KEY, STATE, self.readers, self.policy), driver)],
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
            _, found = self.vault.server.kv.read_version(STATE.path, 0, mount=STATE.mount)
        except VaultError:
            return RotationState()
        return from_data({name: SecretValue(str(text)) for name, text in found.data.items()})

    def served(self) -> dict[str, str]:
        """The newest version of the readers' path."""
        _, found = self.vault.server.kv.read_version(READERS.path, 0, mount=READERS.mount)
        return {name: str(text) for name, text in found.data.items()}

    def served_id(self) -> str:
        """Id of the key that readers are given; empty when they are given none."""
        secret = self.served().get("api_key")
        return next((key.key_id for key in self.account.keys.values() if key.secret == secret), "")

    def withdrawn(self) -> bool:
        """Whether a compromise has taken the key from the readers."""
        try:
            served = self.served()
        except VaultError:
            return False
        note = read_note({name: SecretValue(text) for name, text in served.items()})
        return note is not None and note.withdrawn_by != ""

    def own_keys(self) -> list[ProviderKey]:
        """Live keys of this installation, and the one it began with."""
        found = []
        for key in self.account.live():
            label = Label.parse(key.label)
            if key.key_id == "k0" or (label and label.installation == self.installation):
                found.append(key)
        return found

    # --- the judge ----------------------------------------------------------------------

    def watch(self) -> None:
        """Sample all readers from now on."""
        self._judge = asyncio.create_task(self._sample(), name="judge")

    async def _sample(self) -> None:
        while True:
            for replica in self.replicas:
                self._read(replica)
            await self.clock.sleep(2.0)

    def _read(self, replica: Replica) -> None:
        now = self.clock.now()
        replica.store.observe(now, self.clock.wall())
        entry = replica.store.get(KEY)
        if entry is None or entry.snapshot is None or not entry.usable(now):
            if not self.compromised and not (entry and entry.revalidating):
                self.violations.append(f"{now:.1f}: {replica.name} has nothing to hand out")
            return
        secret = entry.snapshot.data["api_key"].reveal()
        until = min(entry.expires_at, now + HOLD)
        self._promised[secret] = max(until, self._promised.get(secret, 0.0))
        if set(entry.snapshot.data) != {"api_key", "url"}:
            self.violations.append(f"{now:.1f}: {sorted(entry.snapshot.data)} handed out")
        if not (self.compromised or self.failing or self.account.accepts(secret)):
            self.violations.append(f"{now:.1f}: {replica.name} hands out a dead key")

    def _retired(self, key: ProviderKey) -> None:
        now = self.clock.now()
        if self.compromised:
            return
        if self._promised.get(key.secret, -1.0) > now + 0.05:
            self.violations.append(f"{now:.1f}: {key.key_id} is retired while promised")
        try:
            if self.served().get("api_key") == key.secret:
                self.violations.append(f"{now:.1f}: {key.key_id} is retired while readers have it")
        except VaultError:
            pass

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

    def judged(self) -> list[str]:
        """What went wrong, the end included: exactly one key, the one that readers have."""
        found = list(self.violations)
        keys = [key.key_id for key in self.own_keys()]
        if keys != [self.served_id()]:
            found.append(f"live keys {keys}, readers have {self.served_id()!r}")
        elif not self.account.accepts(self.served()["api_key"]):
            found.append("readers have a key that is not accepted")
        secrets = self.vault.server.kv.backup(STATE.path)
        for number, version in enumerate(secrets.versions if secrets else [], start=1):
            if any(name.startswith("field.") for name in version.data):
                found.append(f"version {number} of the state still holds a secret")
        return found


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
        if world._judge is not None:
            world._judge.cancel()
        for replica in world.replicas:
            await world.end(replica)
            await replica.keepers.close(world.clock.now() + 5)
