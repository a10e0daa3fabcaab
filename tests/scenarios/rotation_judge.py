"""Who judges a rotation: what must never happen is written down when it does.

Duty: sample every reader, hear of each key that ends, look at what is left.
Not its duty: making any of it happen (``rotation_world``).
Rules: only what a person did on purpose excuses anything, and only what it is about:

* a compromise asks for a gap, and for the end of every key that lives when it is asked for;
* a value that a person deleted is handed out to nobody;
* nobody may return to a key whose end is decided. A person who restores the readers' path
  to such a key has a dead key there: readers hand it out until another rotation.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from broker.credentials.model import CredentialKey
from broker.credentials.reserved import read_note
from broker.errors import BrokerError, VaultError
from broker.rotation.model import KvPath, Label, Phase, Reason, RotationState
from broker.secret import SecretValue
from tests.simulators.clock import VirtualClock
from tests.simulators.provider import ProviderKey, ProviderSimulator
from tests.simulators.vault import VaultSimulator
from tests.simulators.vault_kv import KvSecret

if TYPE_CHECKING:
    from tests.scenarios.rotation_world import Replica

NAME = "search-api"
KEY = CredentialKey(NAME)
STATE, READERS = KvPath("secret", f"broker/rotation/{NAME}"), KvPath("secret", NAME)
HOLD = 10.0
GAP = 90.0
"""Seconds after a gap that a person wanted until all readers have the new value: they ask again
a minute after a refusal, and some."""

Restored = Literal["state", "readers", "both"]


class RotationJudge:
    """Judges one installation."""

    clock: VirtualClock
    vault: VaultSimulator
    account: ProviderSimulator
    installation: str
    state_path = STATE
    readers: KvPath | None = READERS
    first_id = "k0"
    """The key it begins with, which a person made."""
    replicas: list[Replica]

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.compromised = False
        """A gap is wanted then, and a key that somebody holds is retired: excuses all of it."""
        self.failing = False
        """The upstream refuses a key that readers rightly have."""
        self.state_lost = False
        """A person took the state back, or away: keys may live whose intent nobody knows."""
        self.never_known = False
        """A person took the first key away, which he had made, before any rotation saw it."""
        self._promised: dict[str, float] = {}
        self._over: set[str] = set()
        """Secrets of keys that may end at any time, by a person's wish."""
        self._doomed: set[str] = set()
        """Ids of keys whose end was decided."""
        self._gap_until = 0.0
        self._looked = 0
        """The version of the readers' path that was looked at last."""
        self._beside_lost = False
        """No version is left that tells what stood beside the key."""
        self._task: asyncio.Task[None] | None = None

    # --- the truth ----------------------------------------------------------------------

    def state(self) -> RotationState:
        """The committed state; an empty one when there is none."""
        raise NotImplementedError

    def served(self, version: int = 0) -> dict[str, str]:
        """The newest or another version of the readers' path."""
        path = self.readers or READERS
        _, found = self.vault.server.kv.read_version(path.path, version, mount=path.mount)
        return {name: str(text) for name, text in found.data.items()}

    def served_id(self) -> str:
        """Id of the key that readers are given; empty when they are given none."""
        secret = self.served().get("api_key")
        return next((key.key_id for key in self.account.keys.values() if key.secret == secret), "")

    def withdrawn(self, version: int = 0) -> bool:
        """Whether a compromise has taken the key from the readers."""
        try:
            served = self.served(version)
        except VaultError:
            return False
        note = read_note({name: SecretValue(text) for name, text in served.items()})
        return note is not None and note.withdrawn_by != ""

    def deleted(self, version: int = 0) -> bool:
        """Whether a person has deleted what readers are given."""
        try:
            self.served(version)
        except VaultError:
            return True
        return False

    def owns(self, key: ProviderKey) -> bool:
        """Whether a key is this installation's: by its label, or the one it began with."""
        label = Label.parse(key.label)
        if label is None:
            return key.key_id == self.first_id
        return (label.installation, label.credential) == (self.installation, NAME)

    def own_keys(self) -> list[ProviderKey]:
        """Live keys of this installation, and the one it began with."""
        return [key for key in self.account.live() if self.owns(key)]

    # --- what persons do ----------------------------------------------------------------

    def backup(self) -> tuple[KvSecret | None, KvSecret | None]:
        """State and readers' path as they are at this moment."""
        assert self.readers is not None
        kv = self.vault.server.kv
        return kv.backup(self.state_path.path), kv.backup(self.readers.path)

    def restore(self, backup: tuple[KvSecret | None, KvSecret | None], what: Restored) -> None:
        """Put a backup back."""
        assert self.readers is not None
        self._excuse()
        kv = self.vault.server.kv
        if what != "readers":
            self.state_lost = True
            kv.restore(self.state_path.path, backup[0])
        if what != "state":
            kv.restore(self.readers.path, backup[1])
            self.brought_back()

    def delete_readers(self) -> None:
        """Nobody shall have the value that readers are given now."""
        assert self.readers is not None
        known = self.state().current
        if not self.deleted() and self.served_id() == self.first_id:
            self.never_known |= known is None or known.key_id != self.first_id
        self.vault.server.kv.delete(self.readers.path)
        self._excuse()

    def brought_back(self) -> None:
        """A person wrote an old value into the readers' path: its key may be over."""
        self._excuse()
        if self.deleted() or self.withdrawn():
            return
        key = self.account.keys[self.served_id()]
        started = set().union(*(pod.hands.retiring for pod in self.replicas))
        if key.retired_wall is not None or key.key_id in self._doomed | started:
            self._over.add(key.secret)

    def _excuse(self) -> None:
        """Take down what persons want, and what is decided, as of now."""
        try:
            state = self.state()
        except BrokerError:
            return
        if state.wish is Reason.COMPROMISED or state.phase is Phase.WITHDRAWING:
            self._over |= {key.secret for key in self.own_keys()}
        if self.readers is not None and self._without_key():
            self._gap_until = self.clock.now() + GAP
        ends = {
            Phase.WITHDRAWING: state.current,
            Phase.RETIRING: state.current,
            Phase.DISCARDING: state.candidate,
        }.get(state.phase)
        if ends is not None:
            self._doomed.add(ends.key_id)

    def _without_key(self) -> bool:
        """Whether readers have no key, or had none in a version since the last look."""
        assert self.readers is not None
        count, found = self.vault.server.kv.count(self.readers.path), False
        for version in {*range(self._looked + 1, count), count}:
            gone = self.deleted(version)
            found = found or gone or self.withdrawn(version)
        self._looked = count
        if self.deleted():
            kept = self.vault.server.kv.backup(self.readers.path)
            self._beside_lost |= kept is None or all(each.deleted for each in kept.versions)
        return found

    # --- the judge ----------------------------------------------------------------------

    def watch(self) -> None:
        """Sample all readers from now on."""
        self._task = asyncio.create_task(self._sample(), name="judge")

    def leave(self) -> None:
        """Sample no more."""
        if self._task is not None:
            self._task.cancel()

    async def _sample(self) -> None:
        while True:
            self._excuse()
            for replica in self.replicas:
                self._read(replica)
            await self.clock.sleep(2.0)

    def _read(self, replica: Replica) -> None:
        now = self.clock.now()
        replica.store.observe(now, self.clock.wall())
        entry = replica.store.get(KEY)
        if entry is None or entry.snapshot is None or not entry.usable(now):
            wanted = self.compromised or now < self._gap_until
            if not wanted and not (entry and entry.revalidating):
                self.violations.append(f"{now:.1f}: {replica.name} has nothing to hand out")
            return
        secret = entry.snapshot.data["api_key"].reveal()
        until = min(entry.expires_at, now + HOLD)
        self._promised[secret] = max(until, self._promised.get(secret, 0.0))
        if not (self._beside_lost or set(entry.snapshot.data) == {"api_key", "url"}):
            self.violations.append(f"{now:.1f}: {sorted(entry.snapshot.data)} handed out")
        excused = self.compromised or self.failing or secret in self._over
        if not (excused or self.account.accepts(secret)):
            self.violations.append(f"{now:.1f}: {replica.name} hands out a dead key")

    def _retired(self, key: ProviderKey) -> None:
        now = self.clock.now()
        if not self.owns(key) or self.compromised:
            return
        self._excuse()
        if key.secret in self._over:
            return
        if self._promised.get(key.secret, -1.0) > now + 0.05:
            self.violations.append(f"{now:.1f}: {key.key_id} is retired while promised")
        try:
            if self.served().get("api_key") == key.secret:
                self.violations.append(f"{now:.1f}: {key.key_id} is retired while readers have it")
        except VaultError:
            pass

    # --- the end ------------------------------------------------------------------------

    def judged(self) -> list[str]:
        """What went wrong, the end included: exactly one key, the one that readers have."""
        found = list(self.violations)
        keys = [key.key_id for key in self.own_keys()]
        if keys != [self.served_id()]:
            found.append(f"live keys {keys}, readers have {self.served_id()!r}")
        elif not self.account.accepts(self.served()["api_key"]):
            found.append("readers have a key that is not accepted")
        secrets = self.vault.server.kv.backup(self.state_path.path)
        for number, version in enumerate(secrets.versions if secrets else [], start=1):
            if any(name.startswith("field.") for name in version.data):
                found.append(f"version {number} of the state still holds a secret")
        return found
