"""Stories of credentials on virtual time; each asserts when Vault was called."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.credentials.model import (
    CredentialKey,
    CredentialSpec,
    Entry,
    KvExpiry,
    KvSource,
    LeasedSource,
    Snapshot,
    State,
    Use,
)
from broker.errors import (
    CredentialUnavailable,
    CredentialUnknown,
    ProofFailed,
    TaskEnded,
    UpstreamUnavailable,
    VaultDenied,
    VaultError,
    VaultFailed,
    VaultMalformed,
    VaultSealed,
    VaultStandby,
    VaultThrottled,
    VaultUnreachable,
)
from tests.scenarios.world import KV, LEASED, World, world
from tests.simulators.vault_server import LeasedPath, Role

pytestmark = pytest.mark.looptime


async def test_a_lease_is_renewed_then_replaced_when_truncated_and_the_old_one_revoked() -> None:
    """Renewals at 60-70 % of the life; the truncated one leads to a replacement in time."""
    async with world(LEASED) as w:
        first = w.read(LEASED)
        await w.until(149)
        assert w.vault.times("lease")[0] == 0
        renewals = w.vault.times("renew_lease")
        assert 36 <= renewals[0] <= 42
        assert renewals[0] + 36 <= renewals[1] <= renewals[0] + 42
        assert len(w.vault.times("lease")) == 2
        replaced_at = w.vault.times("lease")[1]
        assert renewals[-1] < replaced_at < 150
        assert w.read(LEASED) != first
        assert w.state(LEASED) is State.FRESH
        assert w.vault.times("revoke_lease") == [pytest.approx(replaced_at, abs=0.1)]
        assert len(w.vault.server.live_leases()) == 1


async def test_nothing_is_revoked_before_its_last_use_until() -> None:
    """A reader told to use a value for 5 s may do so although it was replaced at once."""
    async with world(LEASED) as w:
        while len(w.vault.times("lease")) == 1:
            promised = w.clock.now() + 5
            w.read(LEASED, hold=5)
            await w.until(w.clock.now() + 1)
        last = min(promised, 150)
        await w.until(last + 5)
        assert w.vault.times("revoke_lease")[0] >= last - 0.01


async def test_a_lease_that_cannot_be_renewed_is_replaced_ahead_of_time() -> None:
    """No renewal is tried; the new lease is there with a third of the old life left."""
    async with world(LEASED, log_in=False, settle=False) as w:
        w.vault.server.leased("database/creds/orders").renewable = False
        w.session.log_in()
        await w.until(200)
        assert w.vault.count("renew_lease") == 0
        taken = w.vault.times("lease")
        for before, after in itertools.pairwise(taken):
            assert 36 <= after - before <= 42


async def test_a_kv_value_is_polled_and_a_new_version_published() -> None:
    """Polls come every 60 s give or take 10 %; the new version is there with the next poll."""
    async with world(KV) as w:
        first = w.read(KV)
        await w.until(300)
        polls = w.vault.times("kv_read")
        assert all(54 <= b - a <= 66.01 for a, b in itertools.pairwise(polls))
        assert w.read(KV) == first
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        await w.until(367)
        assert w.read(KV) != first
        assert w.value(KV, "api_key") == "canary-key-2"
        assert set(w.said.results("search-api")) == {"changed", "unchanged"}


async def test_confirming_a_value_does_not_wake_its_readers_for_nothing() -> None:
    """A poll that brings nothing new never changes the version."""
    async with world(KV) as w:
        await w.until(600)
        versions = {entry.snapshot.version for _, entry in w.history if entry.snapshot}
        assert len(versions) == 1


WITHDRAWALS: dict[str, Callable[[World], None]] = {
    "deleted": lambda w: w.vault.server.kv.delete("search-api"),
    "destroyed": lambda w: w.vault.server.kv.destroy("search-api"),
}


@pytest.mark.parametrize("how", WITHDRAWALS)
async def test_a_kv_version_taken_back_is_withdrawn_at_once_and_heals(how: str) -> None:
    """The poll that sees it ends the hand-outs; a new version ends the withdrawal."""
    async with world(KV) as w:
        WITHDRAWALS[how](w)
        await w.until(67)
        assert w.state(KV) is State.WITHDRAWN
        assert w.read(KV) is None
        assert w.entry(KV).snapshot is None
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        await w.until(67 + 67)
        assert w.state(KV) is State.FRESH
        assert w.read(KV) is not None


async def test_a_kv_roll_back_is_a_new_version() -> None:
    """Vault writes the old data as a new version, and so do we."""
    async with world(KV) as w:
        first = w.read(KV)
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        await w.until(67)
        w.vault.server.kv.rollback("search-api", 1)
        await w.until(134)
        assert w.value(KV, "api_key") == "canary-key-1"
        assert w.read(KV) != first


FAILURES: dict[str, Callable[[], VaultError]] = {
    "outage": VaultUnreachable,
    "sealed": VaultSealed,
    "standby": VaultStandby,
    "throttled": lambda: VaultThrottled(retry_after=7.0),
    "server error": VaultFailed,
    "garbage": VaultMalformed,
}


@pytest.mark.parametrize("operation", ["lease", "renew_lease", "kv_read"])
@pytest.mark.parametrize("kind", FAILURES)
async def test_a_failure_at_any_step_backs_off_and_heals(kind: str, operation: str) -> None:
    """While Vault fails the value is served to its end; requests keep the floor; then it heals."""
    spec = KV if operation == "kv_read" else LEASED
    async with world(spec) as w:
        fault = w.vault.fail(FAILURES[kind](), operation=operation)
        await w.until(149)
        assert w.usable(spec)  # a lease of 60 s was renewed or replaced by other means, or lives
        await w.until(400)
        times = w.vault.times(operation)
        assert all(b - a >= 1.0 for a, b in itertools.pairwise(times))
        if kind == "throttled":
            failed = [t for t in times if t > 50]
            assert all(b - a >= 7.0 for a, b in itertools.pairwise(failed))
        w.vault.heal(fault)
        await w.until(470)
        assert w.usable(spec)
        assert w.state(spec) is State.FRESH


async def test_an_outage_of_everything_ends_a_leased_value_with_its_lease() -> None:
    """The lease lives 60 s and not longer without Vault; then the answer is a 503 with times."""
    async with world(LEASED) as w:
        fault = w.vault.outage()
        await w.until(59.9)
        assert w.read(LEASED) is not None
        assert w.state(LEASED) is State.STALE
        await w.until(60.1)
        assert w.read(LEASED) is None
        assert w.state(LEASED) is State.EXPIRED
        entry = w.entry(LEASED)
        assert entry.since_wall == pytest.approx(w.clock.wall() - 0.1, abs=0.2)
        assert entry.reason == "vault_unreachable"
        await w.until(300)
        attempt = w.entry(LEASED).next_attempt_wall
        assert attempt is not None
        assert w.clock.wall() <= attempt <= w.clock.wall() + 60
        w.vault.heal(fault)
        await w.until(361)
        assert w.read(LEASED) is not None


async def test_an_outage_serves_a_static_value_to_its_max_staleness() -> None:
    """One hour after the last confirmation and not a moment longer."""
    async with world(KV) as w:
        await w.until(300)
        confirmed = w.vault.times("kv_read")[-1]
        w.vault.outage()
        await w.until(confirmed + 3599.9)
        assert w.read(KV) is not None
        await w.until(confirmed + 3600.1)
        assert w.read(KV) is None
        assert w.state(KV) is State.EXPIRED


async def test_a_denial_after_a_policy_change_is_refused_and_heals_without_a_restart() -> None:
    """Asked again every 60 s give or take 10 %; the value stays meanwhile."""
    async with world(KV) as w:
        w.vault.server.deny("secret/data/search-api")
        await w.until(70)
        assert w.state(KV) is State.REFUSED
        assert w.read(KV) is not None
        await w.until(400)
        asked = [t for t in w.vault.times("kv_read") if t > 1]
        assert all(54 <= b - a <= 66.01 for a, b in itertools.pairwise(asked))
        w.vault.server.allow("secret/data/search-api")
        await w.until(467)
        assert w.state(KV) is State.FRESH


async def test_a_renewal_that_is_denied_leads_to_a_new_lease() -> None:
    """A policy without sys/leases/renew costs more leases, not an outage."""
    async with world(LEASED) as w:
        w.vault.server.deny("sys/leases/renew")
        await w.until(300)
        assert not [1 for _, e in w.history[3:] if not e.usable(_)]
        assert len(w.vault.times("lease")) >= 5


async def test_a_lease_revoked_out_of_band_is_replaced_at_the_next_renewal() -> None:
    """Vault's word that it is gone ends it at once; a new one is there within the floor."""
    async with world(LEASED) as w:
        first = w.read(LEASED)
        w.vault.server.revoke_lease(w.vault.server.live_leases()[0].lease_id)
        await w.until(45)
        renewal = w.vault.times("renew_lease")[0]
        assert w.vault.times("lease")[1] == pytest.approx(renewal + 1.0, abs=0.01)
        lost = [e for t, e in w.history if t < renewal + 0.5 and e.revalidating]
        assert lost
        assert w.read(LEASED) not in (None, first)


async def test_a_new_vault_token_moves_the_leases_before_the_old_one_ends() -> None:
    """Three leases are taken anew under the new token within seconds; no reader waits."""
    specs = [
        CredentialSpec(CredentialKey(f"db-{n}"), LeasedSource(f"database/creds/{n}"))
        for n in range(3)
    ]
    async with world(*specs, log_in=False, settle=False) as w:
        for n in range(3):
            w.vault.server.leased(f"database/creds/{n}")
        old = w.session.log_in(Role(ttl=90, max_ttl=90))
        await w.until(60)
        new = w.session.log_in()
        for t in range(60, 89):
            await w.until(t + 0.5)
            assert all(w.read(spec) for spec in specs)
        for spec in specs:
            snapshot = w.entry(spec).snapshot
            assert snapshot is not None
            assert snapshot.lease is not None
            assert snapshot.lease.generation is new
            assert [t for t in w.vault.times("lease") if 60 <= t <= 65]
        assert old.free_at() <= w.clock.now() + 30


async def test_a_value_never_outlives_the_token_that_took_its_lease() -> None:
    """A lease of 60 s under a token with 8 s left ends with the token."""
    async with world(LEASED, log_in=False, settle=False) as w:
        w.session.log_in(Role(ttl=8, max_ttl=8))
        await w.until(7.9)
        assert w.read(LEASED) is not None
        await w.until(8.1)
        assert w.read(LEASED) is None


async def test_a_token_revoked_behind_our_back_is_noticed_at_the_next_use() -> None:
    """The 403 asks for the token; it is dead; the value comes under the new one at once."""
    async with world(KV) as w:
        generation = w.session.generation
        assert generation is not None
        w.vault.server.revoke(w.vault.server.live_tokens()[0])
        await w.until(67)
        assert w.session.denials == 1
        assert w.state(KV) is State.FRESH
        assert w.said.results("search-api") == ["changed", "unchanged"]


async def test_login_trouble_at_the_start_is_told_and_heals_at_once() -> None:
    """Without a Vault token nothing is asked; with the first one everything is."""
    async with world(KV, LEASED, log_in=False, settle=False) as w:
        await w.until(10)
        assert w.vault.calls == []
        assert w.entry(KV).reason == "login_failed"
        assert w.state(KV) is State.PENDING
        w.session.log_in()
        await w.until(10.5)
        assert w.read(KV)
        assert w.read(LEASED)


@pytest.mark.parametrize("jump", [-86_400.0, -60.0, 60.0, 86_400.0])
async def test_the_wall_clock_may_jump_without_a_value_outliving_its_lease(jump: float) -> None:
    """Lives count on the boot clock; a forward jump also has every value confirmed first."""
    async with world(KV, LEASED) as w:
        await w.until(10)
        w.clock.jump_wall(jump)
        before = len(w.vault.calls)
        answers = [w.read(KV), w.read(LEASED)]
        if jump > 0:
            assert answers == [None, None]
            assert w.entry(KV).revalidating
            await w.until(10.5)
            assert {call.operation for call in w.vault.calls[before:]} == {"kv_read", "renew_lease"}
        assert w.read(KV)
        assert w.read(LEASED)
        w.vault.outage()
        await w.until(75)
        assert w.read(LEASED) is None


@pytest.mark.parametrize("spec", [KV, LEASED], ids=lambda spec: spec.key.name)
async def test_an_answer_asked_for_before_the_clocks_jumped_confirms_nothing(
    spec: CredentialSpec,
) -> None:
    """The machine may have stood still between the two; the next answer is the first to count."""
    async with world(spec) as w:
        operation = "kv_read" if spec is KV else "renew_lease"
        w.vault.latency[operation] = 4.0
        before = w.vault.count(operation)
        while w.vault.count(operation) == before:
            await w.clock.sleep(0.5)
        w.clock.jump_wall(3600)
        assert w.read(spec) is None
        await w.until(w.clock.now() + 4.1)
        assert w.vault.count(operation) >= before + 1
        assert w.read(spec) is None
        await w.until(w.clock.now() + 4.5)
        assert w.vault.count(operation) == before + 2
        assert w.read(spec) is not None


async def test_after_an_hours_sleep_no_old_lease_is_handed_out() -> None:
    """The boot clock ran on: the lease is known to be over before anything is asked."""
    async with world(LEASED) as w:
        await w.until(10)
        first = w.read(LEASED)
        w.clock.suspend(3600)
        assert w.read(LEASED) is None
        await w.until(3610 + 16)  # the longest single sleep is 15 s
        assert w.read(LEASED) not in (None, first)


async def test_a_value_with_its_own_expiry_ends_then_whatever_vault_says() -> None:
    """The provider's date, less 30 s for the difference of clocks."""
    expiry = KvExpiry("custom_metadata", "until")
    spec = replace(KV, source=KvSource("secret", "search-api", expiry=expiry))
    async with world(spec, settle=False) as w:
        until = w.clock.wall() + 100
        w.vault.server.kv.put("search-api", {"api_key": "k"}, custom_metadata={"until": str(until)})
        await w.until(69.9)
        assert w.read(spec)
        await w.until(70.1)
        assert w.read(spec) is None
        assert w.state(spec) is State.EXPIRED


async def test_a_thousand_credentials_start_together() -> None:
    """All have a value within 20 s at no more than 50 + 50 requests in any second; polls spread.

    The limiter's defaults: 50 requests a second after a burst of 50.
    """
    specs = [
        CredentialSpec(CredentialKey(f"c{n}"), KvSource("secret", f"c{n}")) for n in range(1000)
    ]
    async with world(*specs, settle=False, limited=True) as w:
        for n in range(1000):
            w.vault.server.kv.put(f"c{n}", {"k": "v"})
        await w.until(20)
        assert all(w.usable(spec) for spec in specs)
        assert w.vault.count("kv_read") == 1000
        assert w.vault.peak_rate(1.0, "kv_read") <= 101  # one more at the edge of the window
        await w.until(121)
        assert w.vault.peak_rate(1.0, "kv_read") <= 101
        assert w.vault.count("kv_read") <= 3000


async def test_one_failing_among_a_hundred_is_alone_in_it() -> None:
    """Ninety-nine are polled as ever; the failing one backs off by itself."""
    specs = [
        CredentialSpec(CredentialKey(f"c{n}"), KvSource("secret", f"c{n}")) for n in range(100)
    ]
    async with world(*specs, settle=False) as w:
        for n in range(1, 100):
            w.vault.server.kv.put(f"c{n}", {"k": "v"})
        await w.until(300)
        assert w.state(specs[0]) is State.REFUSED
        assert all(w.state(spec) is State.FRESH for spec in specs[1:])
        per_credential = w.vault.count("kv_read") / 100
        assert per_credential <= 7


async def test_a_thousand_readers_during_a_replacement_never_wait() -> None:
    """The old value is there until the new one is, even if Vault takes 5 s to make it."""
    async with world(LEASED) as w:
        w.vault.latency["lease"] = 5.0

        async def reader() -> int:
            misses = 0
            for _ in range(60):
                misses += w.read(LEASED) is None
                await w.clock.sleep(2.5)
            return misses

        assert sum(await asyncio.gather(*(reader() for _ in range(1000)))) == 0
        assert w.vault.count("lease") >= 2


async def test_a_report_of_an_old_version_changes_nothing() -> None:
    """The newer version is the answer; Vault is not asked."""
    async with world(KV) as w:
        first = w.read(KV)
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        await w.until(67)
        asked = w.vault.count("kv_read")
        assert first is not None
        entry = await w.keepers.report(KV.key, first, 401)
        assert entry is not None
        assert entry.snapshot is not None
        assert entry.snapshot.version != first
        assert w.vault.count("kv_read") == asked
        assert entry.state is State.FRESH


async def test_a_report_of_the_current_version_brings_the_newer_one_from_vault() -> None:
    """A key changed behind the broker's back is there after the first 401, not the next poll."""
    async with world(KV) as w:
        await w.until(20)
        first = w.read(KV)
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        assert first is not None
        entry = await w.keepers.report(KV.key, first, 401)
        assert w.clock.now() == pytest.approx(20, abs=0.1)
        assert entry is not None
        assert entry.snapshot is not None
        assert entry.snapshot.version != first
        assert w.value(KV, "api_key") == "canary-key-2"


async def test_a_report_never_withdraws_the_only_value() -> None:
    """Nothing newer: the value is suspect, says so, and is handed out still."""
    async with world(KV) as w:
        await w.until(20)
        first = w.read(KV)
        assert first is not None
        entry = await w.keepers.report(KV.key, first, 401)
        assert entry is not None
        assert entry.state is State.SUSPECT
        assert w.read(KV) == first
        assert ("suspect", {"credential": "search-api", "version": first}) in w.said.events


@pytest.mark.parametrize(("spec", "operation", "most"), [(KV, "kv_read", 22), (LEASED, "lease", 9)])
async def test_a_flood_of_false_reports_costs_little(
    spec: CredentialSpec, operation: str, most: int
) -> None:
    """A hundred callers report for ten minutes; the floor doubles with each in a row."""
    async with world(spec) as w:

        async def liar() -> None:
            while w.clock.now() < 600:
                version = w.read(spec)
                if version is not None:
                    await w.keepers.report(spec.key, version, 401)
                await w.clock.sleep(1)

        await asyncio.gather(*(liar() for _ in range(100)))
        assert w.read(spec)
        assert w.vault.count(operation) <= most


class UpstreamProof:
    """Accepts the values it was told of."""

    def __init__(self, *accepted: str) -> None:
        self.accepted = set(accepted)
        self.asked = self.suspected = 0
        self.down = False
        """Nobody can tell."""

    async def prove(self, snapshot: Snapshot, *, suspect: bool) -> None:
        self.asked += 1
        self.suspected += suspect
        if self.down:
            raise UpstreamUnavailable
        if snapshot.data["api_key"].reveal() not in self.accepted:
            raise ProofFailed


async def test_a_new_value_that_fails_its_proof_is_not_published() -> None:
    """Readers stay with the old one until the new one works."""
    proof = UpstreamProof("canary-key-1")
    async with world(KV, proofs={"search-api": proof}) as w:
        first = w.read(KV)
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        await w.until(120)
        assert w.read(KV) == first
        assert w.state(KV) is State.STALE
        proof.accepted.add("canary-key-2")
        await w.until(190)
        assert w.read(KV) != first


async def test_the_proofs_verdict_clears_a_suspicion() -> None:
    """A false report costs one proof and leaves no mark."""
    proof = UpstreamProof("canary-key-1")
    async with world(KV, proofs={"search-api": proof}) as w:
        await w.until(20)
        version = w.read(KV)
        assert version is not None
        entry = await w.keepers.report(KV.key, version, 401)
        assert entry is not None
        assert entry.state is State.FRESH
        assert (proof.asked, proof.suspected) == (2, 1)


async def test_a_reported_value_that_the_upstream_refuses_stays_and_says_so() -> None:
    """There is no other: it is suspect for as long as Vault has nothing newer, and heals."""
    proof = UpstreamProof("canary-key-1")
    async with world(KV, proofs={"search-api": proof}) as w:
        await w.until(20)
        version = w.read(KV)
        assert version is not None
        proof.accepted.clear()
        entry = await w.keepers.report(KV.key, version, 401)
        assert entry is not None
        assert entry.state is State.SUSPECT
        await w.until(3 * 3600)  # beyond max_staleness: Vault confirms it all the while
        assert w.read(KV) == version
        assert w.state(KV) is State.SUSPECT
        proof.accepted.add("canary-key-1")
        await w.until(3 * 3600 + 90)
        assert w.state(KV) is State.FRESH


async def test_a_new_value_that_nobody_can_tell_of_waits_for_the_proof() -> None:
    """While the old one lives; it is published as soon as the upstream answers again."""
    proof = UpstreamProof("canary-key-1", "canary-key-2")
    async with world(KV, proofs={"search-api": proof}) as w:
        first = w.read(KV)
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        proof.down = True
        await w.until(600)
        assert w.read(KV) == first
        assert w.entry(KV).reason == "upstream_unavailable"
        proof.down = False
        await w.until(670)
        assert w.read(KV) not in (None, first)


async def test_a_proof_comes_and_goes_with_a_reload() -> None:
    """The value that is held stays; the next new one is tried, or no longer."""
    proof = UpstreamProof("canary-key-1")
    async with world(KV) as w:
        first = w.read(KV)
        await w.keepers.reconfigure([KV], proofs={"search-api": proof})
        assert w.read(KV) == first
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        await w.until(120)
        assert w.read(KV) == first
        assert proof.asked > 0
        await w.keepers.reconfigure([KV])
        await w.until(190)
        assert w.read(KV) not in (None, first)


async def test_a_proof_that_is_down_for_good_costs_no_value() -> None:
    """Before the old value ends the new one is published unproved: readers never lack one."""
    proof = UpstreamProof("canary-key-1", "canary-key-2")
    async with world(KV, proofs={"search-api": proof}) as w:
        first = w.read(KV)
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        proof.down = True
        for minute in range(1, 90):
            await w.until(60 * minute)
            assert w.read(KV) is not None
        assert w.read(KV) != first


async def test_a_first_value_is_there_although_nobody_can_tell() -> None:
    """The upstream's outage does not keep the broker from getting ready; its refusal does."""
    proof = UpstreamProof()
    proof.down = True
    async with world(KV, proofs={"search-api": proof}) as w:
        assert w.read(KV) is not None
    async with world(KV, proofs={"search-api": UpstreamProof()}, settle=False) as w:
        await w.until(120)
        assert w.read(KV) is None
        assert w.entry(KV).reason == "proof_failed"


async def test_a_leased_user_that_fails_its_proof_is_revoked_again() -> None:
    """The old lease serves on; nothing is left behind for each attempt."""

    class Refusing(UpstreamProof):
        async def prove(self, snapshot: Snapshot, *, suspect: bool) -> None:
            if self.down:
                raise ProofFailed

    proof = Refusing()
    async with world(LEASED, proofs={"orders-db": proof}) as w:
        first = w.read(LEASED)
        proof.down = True
        assert first is not None
        await w.keepers.report(LEASED.key, first, 401)
        await w.until(120)
        assert w.read(LEASED) == first
        assert len(w.vault.server.live_leases()) == 1


async def test_an_answer_without_a_lease_is_refused_with_a_remedy() -> None:
    """A path that answers without a lease is said to be of the wrong kind."""
    async with world(LEASED, settle=False) as w:
        w.vault.server.paths["database/creds/orders"] = LeasedPath(leased=False)
        await w.until(1)
        assert w.state(LEASED) is State.REFUSED
        assert w.entry(LEASED).reason == "credential_malformed"
        assert w.vault.server.live_leases() == []


async def test_a_lease_that_lacks_a_field_is_given_back() -> None:
    """What cannot be handed out is not left behind."""
    spec = replace(LEASED, fields={"dsn": "postgresql://{nobody}@orders/db"})
    async with world(spec) as w:
        assert w.entry(spec).reason == "credential_malformed"
        assert w.vault.server.live_leases() == []


async def test_a_hanging_refresh_does_not_block_readers_and_its_late_answer_is_revoked() -> None:
    """The request ends by its deadline; what it made is not left behind."""
    async with world(LEASED) as w:
        w.vault.hang("lease")
        await w.until(145)
        assert w.read(LEASED)
        w.vault.resume()
        await w.until(220)
        assert w.read(LEASED)
        assert len(w.vault.server.live_leases()) <= 2


async def test_stopping_during_a_refresh_leaves_no_lease_behind() -> None:
    """The answer that comes after its caller has gone is revoked by the port."""
    async with world(LEASED, settle=False) as w:
        w.vault.latency["lease"] = 5.0
        await w.until(2)
        await w.keepers.close(w.clock.now() + 5)
        await w.until(30)
        assert w.vault.server.live_leases() == []


async def test_leases_under_a_given_token_are_revoked_one_by_one_at_the_end() -> None:
    """A token given by file is not ours to revoke, so its leases are."""
    async with world(LEASED) as w:
        assert w.session.generation is not None
        w.session.generation.own = False
        await w.keepers.close(w.clock.now() + 5)
        assert w.vault.server.live_leases() == []


async def test_a_replaced_lease_under_a_given_token_is_not_left_behind() -> None:
    """Nobody revokes that token: what still waited for a promise is revoked at the stop."""
    async with world(LEASED) as w:
        assert w.session.generation is not None
        w.session.generation.own = False
        w.read(LEASED, hold=3000)
        while len(w.vault.server.live_leases()) < 2:
            w.read(LEASED, hold=3000)
            await w.clock.sleep(1)
        await w.keepers.close(w.clock.now() + 5)
        assert w.vault.server.live_leases() == []


async def test_the_stop_does_not_wait_for_a_vault_that_hangs() -> None:
    """Its leases are left to expire when the time is over."""
    async with world(LEASED) as w:
        assert w.session.generation is not None
        w.session.generation.own = False
        w.vault.hang("revoke_lease")
        started = w.clock.now()
        await w.keepers.close(started + 5)
        assert w.clock.now() - started == pytest.approx(5)


async def test_a_new_configuration_starts_the_new_and_ends_the_old() -> None:
    """What stays goes on without a request; what is gone is revoked after its promise."""
    other = CredentialSpec(CredentialKey("other"), KvSource("secret", "search-api"))
    async with world(KV, LEASED) as w:
        version, _ = w.read(KV), w.read(LEASED, hold=20)
        asked = w.vault.count("kv_read")
        await w.keepers.reconfigure([KV, other])
        await w.until(1)
        assert w.read(KV) == version
        assert w.read(other)
        assert w.vault.count("kv_read") == asked + 1
        assert w.store.get(LEASED.key) is None
        assert len(w.vault.server.live_leases()) == 1
        await w.until(21)
        assert w.vault.server.live_leases() == []


async def test_other_times_for_a_credential_do_not_break_its_value() -> None:
    """During an outage nothing could replace it; the new times count from the next step on."""
    async with world(KV, LEASED) as w:
        versions = w.read(KV), w.read(LEASED)
        w.vault.outage()
        kv = replace(KV, hold=5.0, source=KvSource("secret", "search-api", poll=5.0))
        await w.keepers.reconfigure([kv, replace(LEASED, margin=1.0, required=False)])
        assert (w.read(KV), w.read(LEASED)) == versions
        await w.until(6)
        assert (w.read(KV), w.read(LEASED)) == versions
        assert w.state(KV) is State.STALE  # polled after 5 s, not 60
        assert w.state(LEASED) is State.FRESH


async def test_another_source_or_use_starts_a_credential_afresh() -> None:
    """The old value answers another question; its lease is revoked."""
    path = CredentialSpec(LEASED.key, LeasedSource("database/creds/orders", parameters={"a": 1}))
    use = replace(KV, use=Use(name="x-api-key", field="nothing"))
    async with world(KV, LEASED) as w:
        first = w.read(LEASED, hold=0.0)
        await w.keepers.reconfigure([use, path])
        await w.until(2)
        assert w.read(KV) is None
        assert w.entry(KV).reason == "credential_malformed"
        assert w.read(LEASED) not in (None, first)
        assert len(w.vault.server.live_leases()) == 1


async def test_a_keeper_that_ends_by_a_fault_of_ours_is_told() -> None:
    """Its credential would expire without a word; the process stops instead."""
    async with world(KV) as w:
        watching = asyncio.create_task(w.keepers.run())

        def fault(before: Entry | None, after: Entry) -> None:
            raise ArithmeticError

        w.store.subscribe(fault)
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        with pytest.raises(TaskEnded, match="keeper search-api") as told:
            await watching
        assert isinstance(told.value.__cause__, ArithmeticError)


async def test_keepers_that_are_ended_are_no_fault() -> None:
    """By a new configuration or at the stop."""
    async with world(KV, LEASED) as w:
        watching = asyncio.create_task(w.keepers.run())
        await w.keepers.reconfigure([KV])
        await w.keepers.close(w.clock.now())
        await w.until(1)
        assert not watching.done()
        watching.cancel()


async def test_a_denied_read_of_a_live_token_is_about_the_path() -> None:
    """One look-up tells; no login follows."""
    async with world(KV) as w:
        w.vault.fail(VaultDenied(), operation="kv_read", times=1)
        await w.until(67)
        assert w.session.denials == 1
        generation = w.session.generation
        assert generation is not None
        assert generation.number == 1
        assert w.state(KV) is State.REFUSED


async def test_a_credential_can_be_kept_on_demand_by_any_number_at_once() -> None:
    """A hundred who ask for it together cause one request, and all get the value."""
    async with world(LEASED, start=False) as w:
        assert w.store.get(LEASED.key) is None
        asked = (w.keepers.ensure(LEASED.key, w.clock.now() + 5) for _ in range(100))
        entries = await asyncio.gather(*asked)
        assert len({entry.revision for entry in entries}) == 1
        assert w.vault.count("lease") == 1


async def test_what_cannot_be_kept_on_demand_says_so() -> None:
    """Unknown, too many, or without a value by the deadline: three clear errors."""
    async with world(KV, LEASED, start=False, capacity=1) as w:
        with pytest.raises(CredentialUnknown):
            await w.keepers.ensure(CredentialKey("nothing"), w.clock.now() + 5)
        with pytest.raises(CredentialUnknown):
            await w.keepers.ensure(CredentialKey("search-api", "somebody"), w.clock.now() + 5)
        fault = w.vault.outage()
        with pytest.raises(CredentialUnavailable):
            await w.keepers.ensure(KV.key, w.clock.now() + 5)
        assert w.clock.now() == pytest.approx(5, abs=0.01)
        w.vault.heal(fault)
        with pytest.raises(CredentialUnavailable, match="too many"):
            await w.keepers.ensure(LEASED.key, w.clock.now() + 5)


async def test_a_replaced_lease_is_revoked_after_an_outage_or_left_to_its_end() -> None:
    """While Vault is away the revocation is tried again, with pauses, until the lease is over."""
    async with world(LEASED) as w:
        await w.keepers.refresh(LEASED.key)
        await w.until(2)
        assert len(w.vault.server.live_leases()) == 1  # nobody had been promised anything
        w.read(LEASED, hold=2)
        await w.until(5)
        await w.keepers.report(LEASED.key, str(w.read(LEASED, hold=2)), 401)
        await w.until(32)
        fault = w.vault.fail(VaultUnreachable(), operation="revoke_lease")
        await w.until(36)
        tried = w.vault.count("revoke_lease")
        w.vault.heal(fault)
        await w.until(60)
        assert w.retirer.pending() == 0
        assert len(w.vault.server.live_leases()) == 1
        assert tried >= 2


async def test_a_replaced_lease_that_may_not_be_revoked_is_left_to_expire() -> None:
    """A policy without sys/leases/revoke costs one warning a lease, not a storm."""
    async with world(LEASED) as w:
        w.vault.server.deny("sys/leases/revoke")
        await w.until(400)
        assert w.vault.count("revoke_lease") <= w.vault.count("lease")
        assert w.retirer.pending() == 0


async def test_another_source_takes_over_when_its_first_value_is_there() -> None:
    """A typo in the new path costs nothing while the old value lives; its lease ends with it."""
    wrong = replace(LEASED, source=LeasedSource("database/creds/odrers"))
    right = replace(LEASED, source=LeasedSource("database/creds/bills"))
    async with world(LEASED) as w:
        w.vault.server.leased("database/creds/bills")
        first = w.read(LEASED)
        await w.keepers.reconfigure([wrong])
        await w.until(20)
        assert w.read(LEASED) == first
        assert w.state(LEASED) is State.REFUSED
        await w.keepers.reconfigure([right])
        await w.until(21)
        second = w.read(LEASED)
        assert second not in (None, first)
        await w.until(52)  # 30 s after the last hand-out of the first
        assert [lease.lease_id.split("/lease")[0] for lease in w.vault.server.live_leases()] == [
            "database/creds/bills"
        ]


async def test_a_value_of_a_former_source_ends_when_it_would_have_ended() -> None:
    """It is not renewed: nobody asks for it any more."""
    wrong = replace(LEASED, source=LeasedSource("database/creds/odrers"))
    async with world(LEASED) as w:
        await w.keepers.reconfigure([wrong])
        await w.until(59.9)
        assert w.read(LEASED) is not None
        await w.until(60.1)
        assert w.read(LEASED) is None
        assert w.vault.count("renew_lease") == 0


async def test_a_value_that_lacks_a_new_field_does_not_stand_in() -> None:
    """Better no value for a moment than one without the field that readers are told of."""
    other = replace(LEASED, fields={"dsn": "postgresql://{username}:{password}@orders/db"})
    async with world(LEASED) as w:
        w.vault.outage()
        await w.keepers.reconfigure([other])
        await w.until(5)
        assert w.read(LEASED) is None


@pytest.mark.parametrize(("spec", "at"), [(LEASED, 51), (KV, 3060)])
async def test_subscribers_hear_once_that_a_value_nears_its_end(
    spec: CredentialSpec, at: float
) -> None:
    """When 15 % of the life are left and nothing newer came."""
    async with world(spec) as w:
        w.vault.outage()
        version = w.read(spec)
        assert version is not None
        await w.until(at - 1)
        told = ("expiring", {"credential": spec.key.name, "version": version})
        assert told not in w.said.events
        await w.until(at + 120)
        assert w.said.events.count(told) == 1
