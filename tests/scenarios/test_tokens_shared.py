"""Scoped tokens on several replicas: one Vault, one document, virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from broker.access.tokens.model import Target, Wish
from broker.access.tokens.reader import IN_USE, PATIENCE, POLL, Reader
from broker.access.tokens.revocations import SKEW, Revocations
from broker.access.tokens.signing import CURRENT, KEY_CHARACTERS
from broker.errors import (
    RevocationFailed,
    SubjectTokenRefused,
    TokensExhausted,
    TokensUnavailable,
    VaultConflict,
    VaultFailed,
    VaultTimeout,
)
from broker.protocol.token_format import well_formed
from broker.secret import SecretValue
from tests.simulators.clock import VirtualClock
from tests.simulators.tokens import (
    CALLER,
    OTHER,
    WISH,
    Replica,
    mint,
    reachable,
    replicas,
    verdict,
)
from tests.simulators.vault import VaultSimulator

pytestmark = pytest.mark.looptime

KEYS = "secret/data/tokens/key"
DOCUMENT = "secret/data/tokens/revocations"


def reads(vault: VaultSimulator, path: str = DOCUMENT) -> list[float]:
    """When a document was read."""
    return [call.at for call in vault.calls if call.operation == "kv_read" and call.path == path]


async def refused_within(replica: Replica, token: bytes, seconds: float) -> float:
    """How long a token is still taken; it must not be longer than ``seconds``."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while verdict(replica.store, token) == "good":
        assert loop.time() - started <= seconds
        await asyncio.sleep(0.01)
    return loop.time() - started


async def test_a_token_is_good_at_every_replica() -> None:
    """What one minted the other takes, with all it says; a caller's own, and nobody else's."""
    async with replicas(VirtualClock()) as (vault, (one, two)):
        token, grant = await mint(one.store)
        assert well_formed(token)
        assert token.startswith(b"mbs_")
        assert await two.use(token) == "good"
        assert two.store.verify(token, CALLER) == grant
        assert await two.use(token, OTHER) == "token_of_another_caller"
        writes = [call.path for call in vault.calls if call.operation == "kv_write"]
        assert writes == [KEYS]  # one key for both, and nothing is stored for a token


@pytest.mark.parametrize(
    "target",
    [
        Target("id", "own"),
        Target("subject", "alice"),
        Target("caller", "search-mcp"),
        Target("credential", "orders-db"),
        Target("all"),
    ],
    ids=str,
)
async def test_revoked_on_one_and_refused_on_all_within_a_second(target: Target) -> None:
    """At once where it was asked for; elsewhere with the next reading, and with all children."""
    clock = VirtualClock()
    async with replicas(clock, 3) as (_, (one, two, three)):
        token, grant = await mint(one.store)
        child, _ = await mint(two.store, Wish("alice", ("search",), ()), parent=token)
        grandchild, _ = await mint(three.store, Wish("alice", ("search",), ()), parent=child)
        safe, _ = await mint(two.store, Wish("bob", ("*",), ()), caller=OTHER)
        for replica in (one, two, three):
            for text in (token, child, grandchild):
                assert await replica.use(text) == "good"
        await clock.sleep(0.37)
        generations = [replica.store.generation for replica in (one, two, three)]
        value = grant.id if target.value == "own" else target.value
        ended = await one.store.revoke(Target(target.by, value))
        assert len(ended) == 3
        for text in (token, child, grandchild):
            assert verdict(one.store, text) == "token_revoked"
        delays = [refused_within(replica, token, POLL + 0.02) for replica in (two, three)]
        assert all(delay > 0 for delay in await asyncio.gather(*delays))
        for replica in (two, three):
            assert verdict(replica.store, child) == "token_revoked"
            assert verdict(replica.store, grandchild) == "token_revoked"
            expected = "token_revoked" if target.by == "all" else "good"
            assert verdict(replica.store, safe, OTHER) == expected
        for replica, before in zip((one, two, three), generations, strict=True):
            assert replica.store.generation > before
        await clock.sleep(0.1)
        assert grant.id in two.records.of("learned")
        assert one.records.of("learned") == []


async def test_what_was_revoked_elsewhere_is_told_whole() -> None:
    """Events and audit name each token, though the walk over all outlasts a reading's time."""
    clock, told = VirtualClock(), []
    async with replicas(clock) as (_, (one, two)):
        await mint(one.store)

        async def learned(revocations: Revocations) -> None:
            await clock.sleep(2 * PATIENCE)
            told.append(revocations.sequence)

        reader = Reader(clock=clock, documents=two.documents, grace=10.0, learned=learned)
        reading = asyncio.create_task(reader.run())
        await reader.freshen()
        await one.store.revoke(Target("subject", "alice"))
        await clock.sleep(POLL + 4 * PATIENCE + 0.1)
        assert told == [0, reader.revocations.sequence]
        assert reader.revocations.sequence > 0
        reading.cancel()
        await asyncio.wait((reading,))


async def test_a_token_that_was_never_shown_is_revoked_too() -> None:
    """A replica that meets a revoked token for the first time refuses it; so does a new one."""
    clock = VirtualClock()
    async with replicas(clock, 3) as (_, (one, two, three)):
        token, grant = await mint(one.store)
        await two.store.freshen()
        await two.store.revoke(Target("id", grant.id))
        await clock.sleep(POLL)
        assert await three.use(token) == "token_revoked"


async def test_by_parent_the_parent_stays() -> None:
    """What was minted from it ends, here and elsewhere."""
    clock = VirtualClock()
    async with replicas(clock) as (_, (one, two)):
        token, grant = await mint(one.store)
        child, _ = await mint(two.store, parent=token)
        await one.store.revoke(Target("parent", grant.id))
        await clock.sleep(POLL + 0.01)
        assert [await two.use(text) for text in (token, child)] == ["good", "token_revoked"]


async def test_what_is_minted_before_the_news_is_meant_by_it() -> None:
    """A replica that has not heard yet mints for a revoked subject: that token dies too."""
    clock = VirtualClock()
    async with replicas(clock) as (_, (one, two)):
        await mint(two.store)
        parent, _ = await mint(two.store)
        await clock.sleep(0.5)
        await one.store.freshen()
        await clock.sleep(0.01)
        await one.store.revoke(Target("subject", "alice"))
        late, _ = await mint(two.store)
        child, _ = await mint(two.store, parent=parent)
        assert await two.use(late) == "good"
        await clock.sleep(POLL)
        assert [await two.use(text) for text in (late, child)] == ["token_revoked"] * 2
        fresh, _ = await mint(two.store)
        assert [await replica.use(fresh) for replica in (one, two)] == ["good", "good"]


async def test_read_once_a_second_while_in_use_and_not_at_all_while_not() -> None:
    """Never more often, whatever is asked; silence after a quiet minute; at once again then."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (vault, (one,)):
        await clock.sleep(30)
        assert vault.calls == []
        token, _ = await mint(one.store, life=3600)
        for _ in range(2000):
            assert verdict(one.store, token) == "good"
            await clock.sleep(0.01)
        times = reads(vault)
        assert 19 <= len(times) <= 21
        assert min(after - before for before, after in pairwise(times)) >= POLL - 1e-6
        await clock.sleep(IN_USE + 5)
        generation, quiet = one.store.generation, len(reads(vault))
        await clock.sleep(600)
        assert len(reads(vault)) == quiet
        assert not one.store.fresh
        assert one.store.revocations_age() is None
        assert await one.use(token) == "good"
        assert len(reads(vault)) == quiet + 1
        assert one.store.generation == generation
        assert one.store.revocations_age() == pytest.approx(0, abs=0.1)


async def test_verdicts_end_when_nobody_reads_any_more() -> None:
    """Who kept a verdict must ask again before the replica falls silent."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (_, (one,)):
        await mint(one.store)
        generation = one.store.generation
        await clock.sleep(IN_USE + 2 * POLL)
        assert one.store.generation == generation + 1


async def test_unreadable_is_closed_after_the_grace() -> None:
    """For ten seconds what was read is believed, then no token is, and none is minted."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (vault, (one,)):
        token, _ = await mint(one.store)
        await clock.sleep(2.5)
        assert await one.use(token) == "good"
        last = reads(vault)[-1]
        generation = one.store.generation
        vault.outage()
        while clock.now() < last + 9.98:
            assert verdict(one.store, token) == "good"
            await clock.sleep(0.01)
        assert one.store.generation == generation
        await clock.sleep(0.05)
        assert one.store.generation == generation + 1
        for ask in (
            lambda: one.store.verify(token, CALLER),
            lambda: one.store.look_up(token),
            lambda: one.store.recheck(one.store.page(None, ("", 0), 1)[0].claims.grant),
        ):
            with pytest.raises(TokensUnavailable):
                ask()
        with pytest.raises(TokensUnavailable):
            await mint(one.store)
        vault.heal()
        await clock.sleep(POLL + 0.1)
        assert await one.use(token) == "good"


async def test_a_vault_that_hangs_closes_in_time_too() -> None:
    """An answer that does not come is no answer: the same ten seconds."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (vault, (one,)):
        token, _ = await mint(one.store)
        await clock.sleep(1.5)
        last, generation = reads(vault)[-1], one.store.generation
        vault.hang()
        await clock.sleep(last + 9.9 - clock.now())
        assert verdict(one.store, token) == "good"
        await clock.sleep(0.2)
        assert one.store.generation > generation
        with pytest.raises(TokensUnavailable):
            one.store.verify(token, CALLER)
        vault.resume()
        await clock.sleep(3)
        assert await one.use(token) == "good"


async def test_after_a_sleep_of_the_machine_nothing_old_is_believed() -> None:
    """An hour later the first request is not answered by what was read before."""
    clock = VirtualClock()
    async with replicas(clock) as (_, (one, two)):
        token, grant = await mint(one.store, life=36_000)
        assert await two.use(token) == "good"
        clock.suspend(3600)
        with pytest.raises(TokensUnavailable):
            two.store.verify(token, CALLER)
        await one.store.revoke(Target("id", grant.id))
        await clock.sleep(POLL + 0.1)
        assert await two.use(token) == "token_revoked"


async def test_without_vault_from_the_start_no_token_is_taken() -> None:
    """A new replica that cannot read waits a moment, then says that it cannot say."""
    clock = VirtualClock()
    async with replicas(clock) as (vault, (one, two)):
        token, _ = await mint(one.store)
        vault.outage()
        started = clock.now()
        with pytest.raises(TokensUnavailable):
            await two.use(token)
        assert clock.now() - started <= 2.1
        with pytest.raises(TokensUnavailable):
            await mint(two.store)


@pytest.mark.parametrize(
    "document",
    [
        {"revocations": "nonsense"},
        {"revocations": '{"schema":9,"sequence":1}'},
        {"revocations": '{"schema":1,"sequence":1}\n["id","x"]'},
        {"other": "x"},
    ],
    ids=str,
)
async def test_a_damaged_document_closes(document: dict[str, str]) -> None:
    """It is neither taken for an empty one nor written over."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (vault, (one,)):
        token, grant = await mint(one.store)
        version = vault.server.kv.put("tokens/revocations", document)
        await clock.sleep(11)
        with pytest.raises(TokensUnavailable):
            await one.use(token)
        with pytest.raises(RevocationFailed):
            await one.store.revoke(Target("id", grant.id))
        secret, number = vault.server.kv.read("tokens/revocations", mount="secret", kv_version=2)
        assert (number, secret.versions[-1].data) == (version, document)


@pytest.mark.parametrize("loss", ["delete", "wipe", "restore"])
async def test_a_document_that_is_lost_is_written_again(loss: str) -> None:
    """Deleted, gone with its history, or put back to an older state: what a replica knows stays."""
    clock = VirtualClock()
    async with replicas(clock, 3) as (vault, (one, two, three)):
        token, grant = await mint(one.store)
        kv = vault.server.kv
        await one.store.revoke(Target("subject", "carol"))
        backup = kv.backup("tokens/revocations")
        await one.store.revoke(Target("id", grant.id))
        assert await two.use(token) == "token_revoked"
        if loss == "delete":
            kv.delete("tokens/revocations")
        elif loss == "wipe":
            kv.wipe("tokens/revocations")
        else:
            kv.restore("tokens/revocations", backup)
        await clock.sleep(2.2)
        assert await three.use(token) == "token_revoked"
        fresh, _ = await mint(two.store)
        assert [await replica.use(fresh) for replica in (one, two, three)] == ["good"] * 3


async def test_news_that_a_write_of_ones_own_brings_are_told_too() -> None:
    """Guards hear of a revocation by another replica, also when this one reads it to write."""
    clock = VirtualClock()
    async with replicas(clock) as (_, (one, two)):
        token, grant = await mint(two.store)
        assert await two.use(token) == "good"
        await clock.sleep(0.3)
        await one.store.revoke(Target("id", grant.id))
        await two.store.revoke(Target("subject", "carol"))
        assert verdict(two.store, token) == "token_revoked"
        await clock.sleep(2 * POLL)
        assert two.records.of("learned") == [grant.id]


async def test_a_document_made_anew_under_the_same_number_is_read() -> None:
    """Vault counts from one again when the metadata was deleted: the number is not the content."""
    clock = VirtualClock()
    async with replicas(clock) as (vault, (one, two)):
        token, grant = await mint(two.store)
        await one.store.revoke(Target("subject", "carol"))
        assert await two.use(token) == "good"
        await clock.sleep(2.2)
        vault.server.kv.wipe("tokens/revocations")
        await one.store.revoke(Target("id", grant.id))
        await refused_within(two, token, POLL + 0.02)


@pytest.mark.parametrize("failure", [VaultFailed(), VaultTimeout()], ids=lambda one: one.code)
async def test_a_revocation_that_is_not_written_is_not_claimed(failure: Exception) -> None:
    """The one who revokes is told, and nothing here says it is revoked."""
    clock = VirtualClock()
    async with replicas(clock) as (vault, (one, two)):
        token, grant = await mint(one.store)
        vault.fail(failure, operation="kv_write", times=1)  # type: ignore[arg-type]
        with pytest.raises(RevocationFailed):
            await one.store.revoke(Target("id", grant.id))
        await clock.sleep(3)
        assert [await replica.use(token) for replica in (one, two)] == ["good", "good"]
        await one.store.revoke(Target("id", grant.id))
        await clock.sleep(POLL + 0.1)
        assert [await replica.use(token) for replica in (one, two)] == ["token_revoked"] * 2


async def test_replicas_that_revoke_at_once_lose_nothing() -> None:
    """Check-and-set conflicts are read and tried again until every revocation stands."""
    clock = VirtualClock()
    async with replicas(clock, 4) as (vault, all_of):
        vault.latency["kv_write"] = vault.latency["kv_read"] = 0.05
        tokens = [await mint(replica.store) for replica in all_of for _ in range(5)]
        await asyncio.gather(
            *(
                all_of[number % 4].store.revoke(Target("id", grant.id))
                for number, (_, grant) in enumerate(tokens)
            )
        )
        await clock.sleep(POLL + 0.2)
        for replica in all_of:
            assert {await replica.use(token) for token, _ in tokens} == {"token_revoked"}
        assert any(call.outcome == VaultConflict.code for call in vault.calls)


async def test_others_that_always_come_first_are_told() -> None:
    """There is an end to trying."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (vault, (one,)):
        _, grant = await mint(one.store)
        vault.fail(VaultConflict(), operation="kv_write", times=1000)
        with pytest.raises(RevocationFailed):
            await one.store.revoke(Target("id", grant.id))


async def test_many_at_once_are_one_write() -> None:
    """A logout of hundreds costs Vault a few requests, not hundreds."""
    clock = VirtualClock()
    async with replicas(clock, 1, most=500) as (vault, (one,)):
        vault.latency["kv_write"] = 0.1
        grants = [(await mint(one.store))[1] for _ in range(300)]
        await asyncio.gather(*(one.store.revoke(Target("id", grant.id)) for grant in grants))
        writes = [call.path for call in vault.calls if call.operation == "kv_write"]
        assert writes.count(DOCUMENT) <= 3
        assert one.store.live() == {"search-mcp": 0}


async def test_one_revocation_that_fails_takes_no_other_with_it() -> None:
    """Of two equal ones that wait for the same write each is told what became of its own."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (vault, (one,)):
        token, grant = await mint(one.store)
        vault.latency["kv_write"] = 0.1
        vault.fail(VaultFailed(), operation="kv_write", times=1)
        target = Target("id", grant.id)
        results = await asyncio.gather(
            one.store.revoke(target), one.store.revoke(target), return_exceptions=True
        )
        assert isinstance(results[0], RevocationFailed)
        assert not isinstance(results[1], BaseException)
        assert verdict(one.store, token) == "token_revoked"


async def test_entries_go_when_nothing_they_mean_can_live() -> None:
    """The document does not grow for ever: ids go with their token, the rest after a day."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (_, (one,)):
        for _ in range(5):
            _, grant = await mint(one.store, life=60)
            await one.store.revoke(Target("id", grant.id))
        await one.store.revoke(Target("subject", "bob"))
        assert len(one.store._reader.revocations.entries) == 6
        await clock.sleep(61 + SKEW)
        await one.store.revoke(Target("subject", "carol"))
        values = [entry.target.value for entry in one.store._reader.revocations.entries]
        assert values == ["bob", "carol"]


async def test_keys_are_replaced_by_hand() -> None:
    """A second key is added, then named current: both kinds of tokens are good everywhere."""
    clock = VirtualClock()
    async with replicas(clock) as (vault, (one, two)):
        old, _ = await mint(one.store, life=3600)
        assert await two.use(old) == "good"
        secret, _ = vault.server.kv.read("tokens/key", mount="secret", kv_version=2)
        data = dict(secret.versions[-1].data)
        data["k2"] = "n" * KEY_CHARACTERS
        vault.server.kv.put("tokens/key", data)
        for _ in range(70):
            assert await one.use(old) == await two.use(old) == "good"
            await clock.sleep(1)
        vault.server.kv.put("tokens/key", {**data, CURRENT: "k2"})
        for _ in range(70):
            assert await one.use(old) == await two.use(old) == "good"
            await clock.sleep(1)
        new, _ = await mint(one.store)
        assert one.store._reader.signing_key().name == "k2"
        assert [await two.use(token) for token in (old, new)] == ["good", "good"]


async def test_a_key_that_is_taken_away_takes_its_tokens_along() -> None:
    """Within a minute, also those that were verified before."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (vault, (one,)):
        token, _ = await mint(one.store, life=3600)
        generation = one.store.generation
        vault.server.kv.put("tokens/key", {CURRENT: "k2", "k2": "n" * KEY_CHARACTERS})
        for _ in range(62):
            await one.store.freshen()
            await clock.sleep(1)
        assert one.store.generation > generation
        assert await one.use(token) == "token_key_unknown"
        fresh, _ = await mint(one.store)
        assert await one.use(fresh) == "good"


async def test_a_key_that_is_not_known_yet_is_read_soon() -> None:
    """A token of a newer key is refused for a moment, and then taken."""
    clock = VirtualClock()
    async with replicas(clock) as (vault, (one, two)):
        old, _ = await mint(two.store)
        assert await one.use(old) == "good"
        secret, _ = vault.server.kv.read("tokens/key", mount="secret", kv_version=2)
        data = {**secret.versions[-1].data, "k2": "n" * KEY_CHARACTERS, CURRENT: "k2"}
        vault.server.kv.put("tokens/key", data)
        third = Replica(vault, one.documents._session, clock, seed=9)  # type: ignore[arg-type]
        third.start()
        new, _ = await mint(third.store)
        assert await one.use(new) == "token_key_unknown"
        await clock.sleep(POLL + 0.1)
        assert await one.use(new) == "good"
        await third.stop()


async def test_deleted_keys_close_everything() -> None:
    """Taking the key out of Vault is a way to end every token; none is made anew silently."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (vault, (one,)):
        token, _ = await mint(one.store, life=3600)
        vault.server.kv.delete("tokens/key")
        for _ in range(75):
            await one.store.freshen()
            await clock.sleep(1)
        with pytest.raises(TokensUnavailable):
            await one.use(token)


async def test_the_first_key_is_made_once() -> None:
    """Replicas that start together agree on one."""
    clock = VirtualClock()
    async with replicas(clock, 3) as (vault, all_of):
        vault.latency["kv_write"] = vault.latency["kv_read"] = 0.05
        minted = await asyncio.gather(*(mint(replica.store) for replica in all_of))
        await clock.sleep(1.2)
        for replica in all_of:
            assert {await replica.use(token) for token, _ in minted} == {"good"}
        _, version = vault.server.kv.read("tokens/key", mount="secret", kv_version=2)
        assert version == 1


async def test_a_forger_gets_nowhere() -> None:
    """Another installation's key, a pod's own token, another content under a good checksum."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (_, (one,)), replicas(clock, 1, first=50) as (_, (foreign,)):
        await mint(one.store)
        token, _ = await mint(foreign.store)
        assert await one.use(token) in {"token_key_unknown", "token_signature_wrong"}
        assert await one.use(b"mbt_" + b"0" * 49) == "token_malformed"
        assert await one.use(b"") == "token_malformed"


async def test_an_id_is_enough_for_its_owner() -> None:
    """A client may revoke a token that another replica minted, and no other client may."""
    clock = VirtualClock()
    async with replicas(clock) as (_, (one, two)):
        _, grant = await mint(one.store, life=60)
        await two.store.freshen()
        assert two.store.get(grant.id) is None
        assert two.store.owns(grant.id, "search-mcp")
        assert not two.store.owns(grant.id, "other-mcp")
        assert not two.store.owns("x" * 32, "search-mcp")
        await clock.sleep(62)
        assert not two.store.owns(grant.id, "search-mcp")


async def test_what_is_only_shown_makes_room_and_works_without() -> None:
    """The bound of a caller holds for what others minted too; such tokens are verified anew."""
    clock = VirtualClock()
    async with replicas(clock, 1, most=100) as (_, (minter,)):
        vault, session = minter.documents._vault, minter.documents._session
        small = Replica(vault, session, clock, seed=5, most=3)  # type: ignore[arg-type]
        small.start()
        tokens = [(await mint(minter.store))[0] for _ in range(10)]
        for _ in range(2):
            assert {await small.use(token) for token in tokens} == {"good"}
            assert len(small.store._ledger) == 3
        own = [(await mint(small.store))[0] for _ in range(3)]
        with pytest.raises(TokensExhausted):
            await mint(small.store)
        assert {await small.use(token) for token in (*own, *tokens)} == {"good"}
        assert len(small.store._ledger) == 3
        grant = small.store.verify(tokens[0], CALLER)
        with pytest.raises(SubjectTokenRefused):  # not remembered: the caller asks anew
            small.store.recheck(grant)
        await small.stop()


async def test_a_child_ends_with_its_parent_across_replicas() -> None:
    """Minted elsewhere, no wider and no longer."""
    clock = VirtualClock()
    async with replicas(clock) as (_, (one, two)):
        parent, above = await mint(one.store, life=100)
        await clock.sleep(30)
        child, grant = await mint(two.store, replace(WISH, credentials=()), parent=parent)
        assert (grant.parent, grant.expires_at) == (above.id, above.expires_at)
        await clock.sleep(70)
        assert await one.use(child) == "token_expired"
        with pytest.raises(SubjectTokenRefused):
            await mint(one.store, parent=parent)
        with pytest.raises(SubjectTokenRefused):
            await mint(two.store, parent=(await mint(one.store, caller=OTHER))[0])


async def test_a_dump_holds_neither_token_nor_key() -> None:
    """Of the token nothing is left but what it says; the key's text is in no text of the store."""
    clock = VirtualClock()
    async with replicas(clock) as (vault, (one, two)):
        token, _ = await mint(one.store)
        assert await two.use(token) == "good"
        secret, _ = vault.server.kv.read("tokens/key", mount="secret", kv_version=2)
        (key,) = [str(text) for name, text in secret.versions[-1].data.items() if name != CURRENT]
        for store in (one.store, two.store):
            found = list(reachable([store._ledger, store._reader._keys, store._reader._loaded]))
            texts = [
                each if isinstance(each, str) else bytes(each).decode("latin-1")
                for each in found
                if isinstance(each, str | bytes | bytearray)
            ]
            assert any("alice" in text for text in texts)
            assert not any(token.decode() in text or key in text for text in texts)
            assert not any(isinstance(each, SecretValue) for each in found)


async def test_the_reader_survives_a_denial_and_a_lost_login() -> None:
    """A Vault token that died is replaced and the reading goes on."""
    clock = VirtualClock()
    async with replicas(clock, 1) as (vault, (one,)):
        token, _ = await mint(one.store)
        for live in vault.server.live_tokens():
            vault.server.revoke(live)
        await clock.sleep(3)
        assert await one.use(token) == "good"
        vault.server.deny(DOCUMENT)
        await clock.sleep(11)
        with pytest.raises(TokensUnavailable):
            await one.use(token)
