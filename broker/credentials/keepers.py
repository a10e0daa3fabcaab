"""All keepers of a process.

Duty: create a keeper on demand, single flight and bounded; tell all of them when the
Vault token or the clocks changed; end them.
Not its duty: what a keeper does.
Rules:

* a credential has at most one keeper, so at most one lease and one request in flight;
* keepers never end by themselves; one failing does not touch another;
* one that ends all the same, by a fault of ours, ends ``run``: its credential would be lost
  without a word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress

from broker.credentials.keeper import Deps, Keeper
from broker.credentials.model import CredentialKey, CredentialSpec, Entry, Lease, Snapshot
from broker.credentials.proof import Proof
from broker.errors import CredentialUnavailable, CredentialUnknown, TaskEnded, VaultError

log = logging.getLogger("broker.credentials")


class Keepers:
    """The keepers by credential.

    Args:
        specs: what may be kept, by name.
        deps: what all keepers share.
        proofs: by name of the credential, where one is configured.
        capacity: the most credentials kept at once.
    """

    def __init__(
        self,
        specs: Iterable[CredentialSpec],
        deps: Deps,
        *,
        proofs: Mapping[str, Proof] | None = None,
        capacity: int = 10_000,
    ) -> None:
        self._specs = {spec.key.name: spec for spec in specs}
        self._d = deps
        self._proofs = dict(proofs or {})
        self._capacity = capacity
        self._kept: dict[CredentialKey, tuple[Keeper, asyncio.Task[None]]] = {}
        self._dead: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
        deps.session.on_change(self._wake_all)
        deps.store.subscribe(self._published)

    def start(self) -> None:
        """Keep every configured credential from now on."""
        for spec in self._specs.values():
            self._keeper(spec.key)

    async def run(self) -> None:
        """Watch over the keepers for ever; meant to be a named task of ``app``.

        Raises:
            TaskEnded: one of them ended unasked.
        """
        task = await self._dead.get()
        raise TaskEnded(f"the {task.get_name()} ended unasked") from task.exception()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._dead.put_nowait(task)

    async def ensure(self, key: CredentialKey, deadline: float) -> Entry:
        """Keep ``key`` from now on; wait for its first value until ``deadline``.

        Raises:
            CredentialUnknown: not configured.
            CredentialUnavailable: no value by the deadline, or too many are kept.
        """
        self._keeper(key)
        revision = -1
        while (entry := await self._d.store.wait_change(key, revision, deadline)) is not None:
            if entry.usable(self._d.clock.now()):
                return entry
            if entry.revision == revision:
                break
            revision = entry.revision
        raise CredentialUnavailable(name=key.name)

    async def settled(self, deadline: float) -> None:
        """Wait until every kept credential has had its first attempt, or the deadline."""
        for keeper, _ in list(self._kept.values()):
            await keeper.tried(deadline)

    def _keeper(
        self, key: CredentialKey, inherited: tuple[Snapshot, float] | None = None
    ) -> Keeper:
        if key in self._kept:
            return self._kept[key][0]
        spec = self._specs.get(key.name)
        if spec is None or spec.key != key:
            raise CredentialUnknown
        if len(self._kept) >= self._capacity:
            raise CredentialUnavailable("too many credentials are kept", name=key.name)
        keeper = Keeper(spec, self._d, self._proofs.get(key.name))
        if inherited is not None:
            keeper.inherit(*inherited)
        keeper.announce()
        task = asyncio.create_task(keeper.run(), name=f"keeper {key.name}")
        task.add_done_callback(self._ended)
        self._kept[key] = keeper, task
        return keeper

    async def report(
        self, key: CredentialKey, version: str, status: int, detail: str = "", *, actor: str = ""
    ) -> Entry | None:
        """A caller says the upstream answered ``status`` to ``version``; the entry after it.

        The service decides which statuses count; ``detail`` and ``actor`` are for others.
        """
        del status, detail, actor
        return await self._keeper(key).report(version)

    async def refresh(self, key: CredentialKey) -> Entry | None:
        """An operator's wish: one refresh now, floored; the entry after it."""
        return await self._keeper(key).refresh()

    def announce(self, key: CredentialKey) -> None:
        """A rotation in this process wrote a new value: read it at once; waits for nothing."""
        if key in self._kept:
            self._kept[key][0].changed()

    async def reconfigure(
        self, specs: Iterable[CredentialSpec], *, proofs: Mapping[str, Proof] | None = None
    ) -> None:
        """Take over a new configuration.

        A credential whose value comes from somewhere else starts afresh, with the old value
        in use until the first new one is there (make before break). Others go on with the
        value they have: other times must not break what nobody can replace during an outage.
        """
        new = {spec.key.name: spec for spec in specs}
        self._proofs = dict(proofs or {})
        gone = [
            (key, kept)
            for key, kept in self._kept.items()
            if (spec := new.get(key.name)) is None
            or not kept[0].configure(spec, self._proofs.get(key.name))
        ]
        self._specs = new
        for key, (keeper, task) in gone:
            task.cancel()
            await asyncio.wait([task])
            del self._kept[key]
            spec = new.get(key.name)
            inherited = None if spec is None else keeper.hand_over(spec)
            keeper.abandon()
            if spec is None:
                self._d.store.forget(key)
            else:
                self._keeper(key, inherited)
        self.start()

    async def close(self, deadline: float) -> None:
        """End all keepers; leases of a token that is not ours are revoked one by one.

        Those that were replaced and not yet revoked are among them. Leases of our own token
        die with it, by the session's one ``revoke-self``.
        """
        kept, self._kept = list(self._kept.values()), {}
        for _, task in kept:
            task.cancel()
        if kept:
            await asyncio.wait([task for _, task in kept])
        leases = [keeper.lease for keeper, _ in kept] + self._d.retirer.leases()
        try:
            async with asyncio.timeout(max(0.0, deadline - self._d.clock.now())):
                await asyncio.gather(*(self._revoke(lease) for lease in leases if lease))
        except TimeoutError:
            log.warning("stopping: leases are left to expire, Vault did not answer in time")

    async def _revoke(self, lease: Lease) -> None:
        if lease.generation.own:
            return
        with suppress(VaultError):  # it ends by itself
            await self._d.vault.revoke_lease(lease.generation.token, lease.lease_id)

    def _wake_all(self) -> None:
        for keeper, _ in self._kept.values():
            keeper.wake()

    def _published(self, before: Entry | None, after: Entry) -> None:
        del before
        if after.revalidating and after.reason == "clock_jumped" and after.key in self._kept:
            self._kept[after.key][0].doubt()
