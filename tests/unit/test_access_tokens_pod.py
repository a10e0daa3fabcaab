"""``access.tokens.pod``: opaque tokens in memory, and what all stores have in common."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from typing import Any

import pytest

from broker.access.principal import Caller, Grant
from broker.access.tokens.ledger import MEMORY, Known, Ledger
from broker.access.tokens.model import GENERATIONS, Claims, Target, Wish
from broker.errors import (
    CredentialUnknown,
    InsufficientScope,
    RequestMalformed,
    SubjectTokenRefused,
    TokensExhausted,
)
from broker.protocol.token_format import PATTERN, well_formed
from tests.simulators.clock import ManualClock, VirtualClock
from tests.simulators.tokens import (
    CALLER,
    LIFE,
    OTHER,
    WISH,
    mint,
    pod,
    reachable,
    verdict,
)


async def test_a_token_says_what_it_was_minted_for() -> None:
    """The caller that shows it gets its claims back, until its end."""
    clock = ManualClock()
    store, _ = pod(clock)
    token, grant = await mint(store)
    assert well_formed(token)
    assert store.verify(token, CALLER) == grant
    assert (grant.subject, grant.caller, grant.tools) == ("alice", "search-mcp", WISH.tools)
    assert grant.expires_at - grant.issued_at == pytest.approx(LIFE)
    clock.advance(LIFE - 0.002)
    assert verdict(store, token) == "good"
    clock.advance(0.002)
    assert verdict(store, token) == "token_expired"


async def test_a_date_that_is_set_back_prolongs_nothing() -> None:
    """A life is counted on the clock that never goes back, too."""
    clock = ManualClock()
    store, _ = pod(clock)
    token, _ = await mint(store)
    clock.jump_wall(-7200)
    clock.advance(LIFE)
    assert verdict(store, token) == "token_expired"


async def test_a_date_that_is_set_forward_ends_it() -> None:
    """What says an hour on the wall is over then."""
    clock = ManualClock()
    store, _ = pod(clock)
    token, _ = await mint(store)
    clock.jump_wall(LIFE)
    assert verdict(store, token) == "token_expired"


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (b"", "token_malformed"),
        (b"mbt_" + b"A" * 49, "token_malformed"),
        (b"eyJhbGciOiJub25lIn0.e30.", "token_malformed"),
    ],
)
async def test_what_is_no_token_is_not_looked_up(shown: bytes, reason: str) -> None:
    """A wrong checksum is told without asking the table."""
    store, _ = pod(ManualClock())
    asked: list[bytes] = []
    find = store._ledger.find

    def looked_up(digest: bytes) -> Known | None:
        asked.append(digest)
        return find(digest)

    store._ledger.find = looked_up  # type: ignore[method-assign]
    assert verdict(store, shown) == reason
    assert asked == []


async def test_another_process_knows_no_token_of_this_one() -> None:
    """A well-formed token that nobody minted here is unknown; a stolen one is its caller's."""
    clock = ManualClock()
    store, _ = pod(clock)
    stranger, _ = pod(clock)
    stranger._random_bytes(1)
    token, _ = await mint(stranger)
    assert verdict(store, token) == "token_unknown"
    token, _ = await mint(store)
    assert verdict(store, token, OTHER) == "token_of_another_caller"


async def test_all_refusals_look_alike() -> None:
    """One class, one sentence, whatever the reason; the reason is kept apart."""
    clock = ManualClock()
    store, _ = pod(clock)
    revoked, grant = await mint(store)
    expired, _ = await mint(store, life=1)
    foreign, _ = await mint(store, caller=OTHER)
    await store.revoke(Target("id", grant.id))
    clock.advance(1)
    shown = set()
    reasons = set()
    for token in (revoked, expired, foreign, b"mbt_nothing"):
        with pytest.raises(SubjectTokenRefused) as refusal:
            store.verify(token, CALLER)
        shown.add((type(refusal.value), str(refusal.value), refusal.value.remedy))
        reasons.add(refusal.value.reason)
    assert len(shown) == 1
    assert reasons == {
        "token_revoked",
        "token_expired",
        "token_of_another_caller",
        "token_malformed",
    }


async def test_a_child_is_never_wider_and_never_longer() -> None:
    """What a parent does not have, none of its children gets; it ends with it."""
    clock = ManualClock()
    store, _ = pod(clock)
    parent, above = await mint(store, life=100)
    clock.advance(40)
    child, grant = await mint(store, Wish("alice", ("fetch_page",), ("orders-db",)), parent=parent)
    assert (grant.parent, grant.expires_at) == (above.id, above.expires_at)
    for wish, error in (
        (replace(WISH, tools=("*",)), InsufficientScope),
        (replace(WISH, tools=("search", "delete")), InsufficientScope),
        (replace(WISH, credentials=("hidden",)), CredentialUnknown),
        (replace(WISH, subject="bob"), RequestMalformed),
    ):
        with pytest.raises(error):
            await mint(store, wish, parent=parent)
    with pytest.raises(InsufficientScope) as refusal:
        await mint(store, WISH, parent=child)
    assert refusal.value.scope == "tool:search tool:fetch_*"
    clock.advance(60)
    assert verdict(store, child) == "token_expired"


async def test_a_child_has_its_parents_audience() -> None:
    """An audience is passed on, and not exchanged."""
    store, _ = pod(ManualClock())
    wish = replace(WISH, audience="https://mcp.example/a")
    parent, _ = await mint(store, wish)
    assert (await mint(store, parent=parent))[1].audience == wish.audience
    with pytest.raises(RequestMalformed):
        await mint(store, replace(wish, audience="https://mcp.example/b"), parent=parent)


async def test_a_child_of_a_bad_parent_is_not_born() -> None:
    """Revoked, expired, another caller's: nothing comes of it."""
    clock = ManualClock()
    store, _ = pod(clock)
    revoked, grant = await mint(store)
    await store.revoke(Target("id", grant.id))
    foreign, _ = await mint(store, caller=OTHER)
    expired, _ = await mint(store, life=1)
    clock.advance(1)
    for parent in (revoked, foreign, expired, b"mbt_"):
        with pytest.raises(SubjectTokenRefused):
            await mint(store, parent=parent)


async def test_a_line_has_an_end() -> None:
    """So many ancestors and no more."""
    store, _ = pod(ManualClock())
    token, _ = await mint(store)
    for _ in range(GENERATIONS):
        token, _ = await mint(store, parent=token)
    with pytest.raises(RequestMalformed):
        await mint(store, parent=token)


@pytest.mark.parametrize(
    ("target", "alive"),
    [
        (Target("id", "child"), {"parent", "sibling", "other", "bob"}),
        (Target("id", "parent"), {"other", "bob"}),
        (Target("parent", "parent"), {"parent", "other", "bob"}),
        (Target("subject", "alice"), {"bob"}),
        (Target("caller", "search-mcp"), {"other"}),
        (Target("credential", "orders-db"), {"bob"}),
        (Target("credential", "hidden"), {"parent", "child", "grandchild", "sibling", "other"}),
        (Target("all"), set()),
        (
            Target("id", "nobody"),
            {"parent", "child", "grandchild", "sibling", "other", "bob"},
        ),
    ],
    ids=lambda value: f"{value.by}-{value.value}" if isinstance(value, Target) else "",
)
async def test_revoking(target: Target, alive: set[str]) -> None:
    """Each way of naming tokens ends those and all that came of them, and no others."""
    store, _ = pod(ManualClock())
    tokens: dict[str, Any] = {}
    ids: dict[str, str] = {}
    lean = Wish("alice", ("search",), ())
    for name, wish, parent, caller in (
        ("parent", WISH, None, CALLER),
        ("child", lean, "parent", CALLER),
        ("grandchild", lean, "child", CALLER),
        ("sibling", lean, "parent", CALLER),
        ("other", WISH, None, OTHER),
        ("bob", Wish("bob", ("*",), ("hidden",)), None, CALLER),
    ):
        tokens[name], grant = await mint(
            store, wish, parent=tokens[parent] if parent else None, caller=caller
        )
        ids[name] = grant.id
    generation = store.generation
    ended = await store.revoke(replace(target, value=ids.get(target.value, target.value)))
    good = {
        name
        for name, token in tokens.items()
        if "good" in {verdict(store, token), verdict(store, token, OTHER)}
    }
    assert good == alive
    assert {known.claims.grant.id for known in ended} == {ids[name] for name in ids.keys() - alive}
    assert store.generation > generation
    assert (await mint(store))[0]  # what comes later is not meant


@pytest.mark.looptime
async def test_a_revocation_counts_before_it_has_looked_at_all() -> None:
    """With thousands alive, the first request after it is refused, and so is a child."""
    store, _ = pod(VirtualClock(), most=5000)
    tokens = [(await mint(store))[0] for _ in range(2000)]
    work = asyncio.create_task(store.revoke(Target("all")))
    await asyncio.sleep(0)
    assert not work.done()
    assert {verdict(store, token) for token in tokens} == {"token_revoked"}
    with pytest.raises(SubjectTokenRefused):
        await mint(store, parent=tokens[-1])
    late, _ = await mint(store)
    assert len(await work) == 2000
    assert verdict(store, late) == "good"
    assert store._revocations.entries == ()


@pytest.mark.looptime
async def test_what_has_ended_is_told_once_and_forgotten() -> None:
    """Ends by time are told within two seconds; a while later nothing is left of the token."""
    clock = VirtualClock()
    store, records = pod(clock)
    ((_, reaper),) = store.tasks()
    running = asyncio.create_task(reaper)
    short, one = await mint(store, life=10)
    _, two = await mint(store, life=20)
    revoked, three = await mint(store, life=30)
    await store.revoke(Target("id", three.id))
    await clock.sleep(12)
    assert records.of("expired") == [one.id]
    assert verdict(store, short) == "token_expired"
    assert store.live() == {"search-mcp": 1}
    await clock.sleep(10)
    assert records.of("expired") == [one.id, two.id]
    assert verdict(store, revoked) == "token_revoked"
    await clock.sleep(30 + MEMORY)
    assert records.of("expired") == [one.id, two.id]
    assert verdict(store, short) == verdict(store, revoked) == "token_unknown"
    assert (len(store._ledger), store.live()) == (0, {})
    running.cancel()


@pytest.mark.looptime
async def test_after_a_long_sleep_all_ends_are_told() -> None:
    """A machine that slept through them tells each end when it wakes."""
    clock = VirtualClock()
    store, records = pod(clock)
    ((_, reaper),) = store.tasks()
    running = asyncio.create_task(reaper)
    grants = [(await mint(store, life=10 + n))[1] for n in range(5)]
    await clock.sleep(1)
    clock.suspend(7200)
    await clock.sleep(3)
    assert records.of("expired") == [grant.id for grant in grants]
    assert len(store._ledger) == 0
    running.cancel()


async def test_a_caller_has_so_many_and_no_more() -> None:
    """Full of live ones is an error that says when there is a place; others are not touched."""
    clock = ManualClock()
    store, _ = pod(clock, most=3)
    tokens = [(await mint(store, life=100 + n))[0] for n in range(3)]
    with pytest.raises(TokensExhausted) as refusal:
        await mint(store)
    assert refusal.value.next_attempt_at == pytest.approx(clock.wall() + 100, abs=0.01)
    assert verdict(store, (await mint(store, caller=OTHER))[0], OTHER) == "good"
    grant = store.verify(tokens[1], CALLER)
    await store.revoke(Target("id", grant.id))
    assert verdict(store, (await mint(store))[0]) == "good"
    assert verdict(store, tokens[1]) == "token_unknown"  # its place was needed
    assert [verdict(store, token) for token in (tokens[0], tokens[2])] == ["good", "good"]


def test_memory_is_bounded_after_a_hundred_thousand() -> None:
    """Coming and going without end, by revocation and by time, leaves no more than at the start."""
    ledger = Ledger(bytes(32), most=500, now=0.0)
    grant = Grant("", "alice", "search-mcp", "", ("search",), ("search-api",), 0.0, 0.0)
    sizes = []
    for number in range(100_000):
        now = number / 10
        claims = Claims(replace(grant, id=str(number), expires_at=now + 20), (), ("search-api",))
        known = Known(claims, number.to_bytes(8, "big"), now + 20, minted=True)
        ledger.add(known, wall=now)
        if number % 3 == 0:
            ledger.end(known, revoked=True)
        if number % 250 == 249:
            while (due := ledger.due(now, most=200)) is not None:
                for one in due:
                    ledger.end(one, revoked=False)
        if number in {10_000, 99_999}:
            sizes.append(sum(1 for _ in reachable(ledger)))
    assert len(ledger) <= 500
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


async def test_a_dump_of_the_store_holds_no_token() -> None:
    """Nothing that can be reached from it is a token, or holds one; nor can it be pickled."""
    store, _ = pod(ManualClock())
    tokens = [(await mint(store))[0] for _ in range(20)]
    tokens.append((await mint(store, parent=tokens[0]))[0])
    for token in tokens:
        assert verdict(store, token) == "good"
    found = [
        one if isinstance(one, str) else bytes(one).decode("latin-1")
        for one in reachable(store)
        if isinstance(one, str | bytes | bytearray)
    ]
    assert any("alice" in text for text in found)  # it looks where the claims are
    for token in tokens:
        body = token[4:-6].decode()
        assert not any(body in text for text in found)
    shown = repr(store) + repr(store._ledger.all()) + repr(store._ledger)
    assert PATTERN not in shown
    assert "mbt_" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(store)


async def test_a_token_that_is_shown_prints_stars() -> None:
    """What mint gives is a secret."""
    store, _ = pod(ManualClock())
    minted = await store.mint(WISH, parent=None, caller="search-mcp", life=LIFE)
    assert "mbt_" not in repr(minted)
    assert minted.token.reveal().startswith("mbt_")


async def test_a_token_that_never_left_is_forgotten() -> None:
    """After ``discard`` it is unknown, and its place is free."""
    store, _ = pod(ManualClock(), most=1)
    minted = await store.mint(WISH, parent=None, caller="search-mcp", life=LIFE)
    store.discard(minted.known)
    assert verdict(store, minted.token.reveal().encode()) == "token_unknown"
    assert await mint(store)


async def test_what_was_verified_can_be_looked_at_again() -> None:
    """After a wait the grant is good, or it is not, without the token's text."""
    clock = ManualClock()
    store, _ = pod(clock)
    _, grant = await mint(store)
    store.recheck(grant)
    clock.advance(LIFE)
    with pytest.raises(SubjectTokenRefused):
        store.recheck(grant)
    with pytest.raises(SubjectTokenRefused):
        store.recheck(replace(grant, id="nobody's"))


async def test_pages_show_each_live_token_once() -> None:
    """By caller, in the order of their coming, through changes between two pages."""
    store, _ = pod(ManualClock())
    ids = []
    for number in range(7):
        caller = Caller(f"mcp-{number % 2}", "token")
        ids.append((await mint(store, caller=caller))[1].id)
    seen: list[str] = []
    after = ("", 0)
    while found := store.page(None, after, 2):
        seen += [known.claims.grant.id for known in found]
        after = (found[-1].claims.grant.caller, found[-1].number)
        if len(seen) == 2:
            await store.revoke(Target("id", seen[-1]))
    assert seen == [*ids[::2], *ids[1::2]]
    mine = store.page("mcp-1", ("", 0), 10)
    assert [known.claims.grant.id for known in mine] == ids[1::2]


def test_a_digest_needs_the_process_own_key() -> None:
    """Two ledgers keep the same token under different digests."""
    one, two = (Ledger(bytes([n]) * 32, most=1, now=0.0) for n in (1, 2))
    assert one.digest(b"mbt_x") == one.digest(b"mbt_x") != two.digest(b"mbt_x")
