"""One request to Vault on behalf of a credential.

Duty: read, lease or renew; prove what is new or reported; heal a dead Vault token once.
Not its duty: when (``plan``), what follows from the outcome (``status``, ``keeper``).
Rules:

* it holds no state but the leases it took, each held on its generation at once;
* a value that the upstream refuses is not published; one that nobody can tell of only when
  there is no other to hand out: a proof that is down or wrong must not cost a good value;
* a lease that cannot be used is revoked: nobody else knows it;
* a denial asks the session whether the token is dead, and retries once if it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from broker.clock import Clock
from broker.credentials import plan
from broker.credentials.model import (
    CredentialSpec,
    KvSource,
    Lease,
    LeasedSource,
    Snapshot,
    StaticRoleSource,
)
from broker.credentials.plan import Action
from broker.credentials.proof import Proof
from broker.credentials.retire import Retirer
from broker.credentials.sources import (
    ended_by,
    kv_snapshot,
    leased_snapshot,
    same_value,
    static_snapshot,
)
from broker.errors import (
    BrokerError,
    CredentialMalformed,
    ProofFailed,
    UpstreamError,
    VaultDenied,
    VaultError,
)
from broker.vault.generation import Generation
from broker.vault.interface import SessionPort, VaultPort

log = logging.getLogger("broker.credentials")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request brought."""

    result: str
    """For the metric: changed, unchanged, replaced or renewed."""
    snapshot: Snapshot
    new: bool
    """A new version, to be adopted; else the held one, confirmed."""
    truncated: bool | None = None
    """For a renewal: whether a maximum cut it."""
    proved: bool = False
    """Whether the upstream itself accepts the value."""


class Requests:
    """Asks Vault for one credential.

    Args:
        limit: told, as Unix time, when the held value ends because a newer one took its place.
        remaining: tells how many seconds the held value may still be handed out.
    """

    def __init__(
        self,
        spec: CredentialSpec,
        *,
        clock: Clock,
        vault: VaultPort,
        session: SessionPort,
        retirer: Retirer,
        new_version: Callable[[], str],
        limit: Callable[[float], None],
        remaining: Callable[[], float],
        proof: Proof | None = None,
    ) -> None:
        self._limit, self._remaining = limit, remaining
        self._spec, self._clock, self._vault, self._session = spec, clock, vault, session
        self._retirer, self._new_version, self._proof = retirer, new_version, proof

    def configure(self, spec: CredentialSpec, proof: Proof | None) -> None:
        """Take over a specification of the same value (``sources.serves``)."""
        self._spec, self._proof = spec, proof

    async def ask(self, action: Action, held: Snapshot | None, *, suspect: bool) -> Outcome:
        """Carry ``action`` out.

        Args:
            action: READ, LEASE or RENEW.
            held: the current version.
            suspect: a caller reported it, so a re-read that brings nothing new is proved.

        Raises:
            LoginError or VaultError or CredentialError: the outcome when it is none.
        """
        generation = await self._session.ready(self._clock.now())
        try:
            return await self._with(generation, action, held, suspect=suspect)
        except VaultDenied:
            newer = await self._session.denied(generation)
            if newer is None:
                raise
            if action is Action.RENEW:
                action = Action.LEASE  # the lease died with its token
            return await self._with(newer, action, held, suspect=suspect)

    async def _with(
        self, generation: Generation, action: Action, held: Snapshot | None, *, suspect: bool
    ) -> Outcome:
        source = self._spec.source
        if isinstance(source, KvSource):
            return await self._read(source, generation, held, suspect=suspect)
        if isinstance(source, StaticRoleSource):
            return await self._read_static(source, generation, held, suspect=suspect)
        if action is Action.RENEW and held is not None and held.lease is not None:
            return await self._renew(source, generation, held, held.lease)
        return await self._lease(source, generation)

    async def _read(
        self, source: KvSource, generation: Generation, held: Snapshot | None, *, suspect: bool
    ) -> Outcome:
        value = await self._vault.kv_read(
            generation.token, mount=source.mount, path=source.path, kv_version=source.kv_version
        )
        if held is not None and (end := ended_by(value, held)) is not None:
            self._limit(end)  # before the proof: it may refuse the new one until then
        fresh = kv_snapshot(self._spec, source, value, version=self._new_version())
        return await self._compared(held, fresh, suspect=suspect)

    async def _read_static(
        self,
        source: StaticRoleSource,
        generation: Generation,
        held: Snapshot | None,
        *,
        suspect: bool,
    ) -> Outcome:
        grant = await self._vault.lease(generation.token, path=source.path)
        try:
            fresh = static_snapshot(self._spec, grant, version=self._new_version())
        except CredentialMalformed:
            if grant.lease_id:
                await self._give_back(generation, grant.lease_id)
            raise
        return await self._compared(held, fresh, suspect=suspect)

    async def _compared(self, held: Snapshot | None, fresh: Snapshot, *, suspect: bool) -> Outcome:
        if held is not None and same_value(held, fresh):
            confirmed = replace(
                held,
                validated_at=fresh.validated_at,
                own_expiry_wall=fresh.own_expiry_wall,
                ends_at=fresh.ends_at,
            )
            if suspect:
                return await self._suspected(confirmed)
            return Outcome("unchanged", confirmed, new=False)
        await self._prove(fresh)
        return Outcome("changed", fresh, new=True)

    async def _suspected(self, confirmed: Snapshot) -> Outcome:
        """Vault has nothing newer. The upstream's verdict withdraws nothing: there is no other."""
        if self._proof is None:
            return Outcome("unchanged", confirmed, new=False)
        try:
            await self._proof.prove(confirmed, suspect=True)
        except (ProofFailed, UpstreamError) as error:
            self._warn("the upstream does not confirm a reported value", error)
            return Outcome(error.code, confirmed, new=False)
        return Outcome("unchanged", confirmed, new=False, proved=True)

    async def _lease(self, source: LeasedSource, generation: Generation) -> Outcome:
        grant = await self._vault.lease(
            generation.token, path=source.path, method=source.method, parameters=source.parameters
        )
        try:
            fresh = leased_snapshot(self._spec, grant, generation, version=self._new_version())
        except CredentialMalformed:
            if grant.lease_id:
                await self._give_back(generation, grant.lease_id)
            raise
        assert fresh.lease is not None
        generation.hold(fresh.lease.lease_id)
        try:
            await self._prove(fresh)
        except BaseException:
            self._retirer.retire(fresh.lease, -inf)
            raise
        return Outcome("replaced", fresh, new=True)

    async def _renew(
        self, source: LeasedSource, generation: Generation, held: Snapshot, lease: Lease
    ) -> Outcome:
        renewal = await self._vault.renew_lease(
            generation.token, lease.lease_id, increment=source.increment
        )
        truncated = not renewal.renewable or plan.is_truncated(
            source, lease.first_duration, renewal.duration
        )
        lease = replace(lease, refreshed_at=renewal.sent_at, duration=renewal.duration)
        renewed = replace(held, validated_at=renewal.sent_at, lease=lease)
        return Outcome("renewed", renewed, new=False, truncated=truncated)

    async def _prove(self, snapshot: Snapshot) -> None:
        """Return when a new value may be published.

        Raises:
            ProofFailed: the upstream refuses it.
            UpstreamError: nobody can tell, and there is another to hand out meanwhile.
        """
        if self._proof is None:
            return
        try:
            await self._proof.prove(snapshot, suspect=False)
        except UpstreamError as error:
            if self._remaining() > plan.UNPROVED:
                raise
            self._warn("a value is published unproved: nobody can tell, there is no other", error)

    def _warn(self, message: str, error: BrokerError) -> None:
        extra = {"credential": self._spec.key.name, "reason": error.code, "remedy": error.remedy}
        log.warning("%s: %s", message, error, extra=extra)

    async def _give_back(self, generation: Generation, lease_id: str) -> None:
        try:
            await self._vault.revoke_lease(generation.token, lease_id)
        except VaultError as error:
            log.warning("an unusable lease is left to expire", extra={"reason": error.code})
