"""How tokens end: replaced, revoked, left to expire; and how the session stops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.errors import TokenUnfit, VaultDenied, VaultUnreachable
from broker.vault.generation import Generation
from broker.vault.interface import LeaseGrant
from tests.scenarios.session_story import ORDERS, Story
from tests.simulators.service_account import service_account_jwt
from tests.simulators.vault_server import Role

pytestmark = pytest.mark.looptime

CUT = Role(ttl=600, max_ttl=700)
"""Logs in at 0 and 470; the first token could live until 700."""


def told(directory: Path, role: Role) -> Story:
    story = Story(directory, role)
    story.write(service_account_jwt())
    return story


def over(generation: Generation) -> bool:
    return generation.ended


async def lease(story: Story) -> tuple[Generation, LeaseGrant]:
    generation = story.current
    grant = await story.vault.lease(generation.token, path=ORDERS)
    generation.hold(grant.lease_id)
    return generation, grant


async def test_three_leases_on_a_token_at_its_maximum(tmp_path: Path) -> None:
    """The old token is revoked only after its three leases and the last promise are over."""
    story = told(tmp_path, CUT)
    async with story.running():
        taken = [await lease(story) for _ in range(3)]
        await story.clock.sleep_until(471)
        old, new = taken[0][0], story.current
        assert (old.number, new.number) == (1, 2)
        assert not over(old)
        for generation, grant in taken[:2]:
            generation.release(grant.lease_id, until=story.clock.now() + 30)
        await story.clock.sleep_until(520)
        assert len(story.vault.server.live_leases()) == 3
        assert story.vault.times("revoke_self") == []
        old.release(taken[2][1].lease_id, until=560)
        await story.clock.sleep_until(600)
        assert story.vault.times("revoke_self") == [560]
        assert over(old)
        assert story.vault.server.live_leases() == []
        assert [token.number for token in story.vault.server.live_tokens()] == [2]


async def test_lease_never_replaced(tmp_path: Path) -> None:
    """While an unreplaced lease hangs on it, an old token is left to expire, and told of."""
    story = told(tmp_path, Role(ttl=602, max_ttl=700))
    async with story.running():
        old, _ = await lease(story)
        await story.clock.sleep_until(699)
        assert not over(old)
        assert len(story.vault.server.live_leases()) == 1
        await story.clock.sleep_until(701)
        assert over(old)
        assert story.changes[-1] == 700
        assert story.vault.times("revoke_self") == []


async def test_revocation_fails_for_a_while(tmp_path: Path) -> None:
    """A revocation that fails is tried again with growing waits."""
    story = told(tmp_path, CUT)
    async with story.running():
        await story.clock.sleep_until(480)
        story.vault.fail(VaultUnreachable(), operation="revoke_self", times=3)
        await story.clock.sleep_until(600)
        assert story.vault.times("revoke_self") == [500, 501, 503, 507]


async def test_revocation_refused(tmp_path: Path) -> None:
    """A revocation that Vault refuses is not asked for again."""
    story = told(tmp_path, CUT)
    async with story.running():
        await story.clock.sleep_until(480)
        story.vault.fail(VaultDenied(), operation="revoke_self")
        await story.clock.sleep_until(750)
        assert story.vault.times("revoke_self") == [500]


async def test_a_hung_revocation_holds_nothing_up(tmp_path: Path) -> None:
    """While Vault lets a revocation hang, the current token is renewed on time."""
    story = told(tmp_path, Role(ttl=60, max_ttl=150))
    async with story.running():
        await story.clock.sleep_until(100)
        story.vault.hang("revoke_self")
        story.role.max_ttl = 10_000.0
        await story.clock.sleep_until(300)
        second = story.logins()[1]
        renewals = [at for at in story.renewals() if at > second]
        assert renewals == [pytest.approx(second + 37 * n, abs=0.01) for n in range(1, 5)]


# --- start ------------------------------------------------------------------------------


async def test_unfit_at_the_start(tmp_path: Path) -> None:
    """A token with a use limit is a start-up error, and is not left behind."""
    story = told(tmp_path, Role(num_uses=10))
    with pytest.raises(TokenUnfit):
        await story.session.start()
    assert story.vault.server.live_tokens() == []
    assert story.metrics.logins == ["token_unfit"]


async def test_unfit_later(tmp_path: Path) -> None:
    """A use limit set while the broker runs is asked about slowly, and heals."""
    story = told(tmp_path, Role(ttl=600, renewable=False))
    async with story.running():
        story.role.num_uses = 10
        await story.clock.sleep_until(440)
        story.role.num_uses = 0
        await story.clock.sleep_until(500)
        assert story.logins() == [0, 370, 400, 430, 460]
        assert story.current.number == 2


async def test_start_does_not_wait_for_ever(tmp_path: Path) -> None:
    """When Vault hangs, ``start`` returns by the port's deadline; what comes late is revoked."""
    story = told(tmp_path, Role(ttl=600))
    story.vault.hang("login_kubernetes")
    async with story.running():
        assert story.clock.now() == 10
        story.vault.resume()
        await story.session.ready(20)
        assert story.logins() == [0, 11]
        assert [token.number for token in story.vault.server.live_tokens()] == [2]


# --- stop -------------------------------------------------------------------------------


async def test_stop_revokes_what_is_ours(tmp_path: Path) -> None:
    """At the stop each living token of our own is revoked once; leases die with them."""
    story = told(tmp_path, CUT)
    async with story.running():
        await lease(story)
        await story.clock.sleep_until(500)
        assert len(story.vault.server.live_tokens()) == 2
    await story.session.close(story.clock.now() + 5)
    assert story.vault.times("revoke_self") == [500, 500]
    assert story.vault.server.live_tokens() == []
    assert story.vault.server.live_leases() == []
    await story.session.close(story.clock.now() + 5)
    assert story.vault.count("revoke_self") == 2


async def test_stop_while_vault_hangs(tmp_path: Path) -> None:
    """A stop ends within its bound when Vault does not answer."""
    story = told(tmp_path, Role(ttl=600))
    async with story.running():
        await story.clock.sleep_until(100)
    story.vault.hang()
    await story.session.close(103)
    assert story.clock.now() == 103


async def test_stop_while_vault_is_away(tmp_path: Path) -> None:
    """A stop asks once, and leaves to expire what cannot be revoked."""
    story = told(tmp_path, Role(ttl=600))
    async with story.running():
        await story.clock.sleep_until(100)
    story.vault.outage()
    await story.session.close(110)
    assert story.clock.now() == 100
    assert story.vault.times("revoke_self") == [100]


async def test_stop_after_the_end(tmp_path: Path) -> None:
    """A token that has expired is not revoked."""
    story = told(tmp_path, Role(ttl=600))
    async with story.running():
        pass
    await story.clock.sleep_until(601)
    await story.session.close(610)
    assert story.vault.times("revoke_self") == []


async def test_stop_revokes_no_batch_token(tmp_path: Path) -> None:
    """A batch token cannot be revoked, and the stop does not try."""
    story = told(tmp_path, Role(ttl=600, kind="batch"))
    async with story.running():
        pass
    await story.session.close(5)
    assert story.vault.times("revoke_self") == []


async def test_stop_while_logging_in(tmp_path: Path) -> None:
    """A login under way at the stop leaves no token behind."""
    story = told(tmp_path, Role(ttl=600))
    story.vault.latency["login_kubernetes"] = 3
    starting = asyncio.create_task(story.session.start())
    await story.clock.sleep(1)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await story.session.close(story.clock.now() + 5)
    await story.vault.aclose()
    assert [token.revoked_at for token in story.vault.server.tokens] == [3]


async def test_stop_while_a_caller_heals(tmp_path: Path) -> None:
    """A login that a denied caller began is waited for, and its token revoked."""
    story = told(tmp_path, Role(ttl=600))
    async with story.running():
        await story.clock.sleep_until(100)
        story.vault.latency["login_kubernetes"] = 3
        story.vault.server.revoke(story.vault.server.tokens[0])
        healing = asyncio.create_task(story.session.denied(story.current))
        await story.clock.sleep(1)
    await story.session.close(story.clock.now() + 5)
    await healing
    assert story.vault.server.live_tokens() == []
    assert len(story.vault.server.tokens) == 2
    await story.clock.sleep_until(1000)
    assert await story.session.denied(story.current) is None
    assert len(story.logins()) == 2


async def test_nothing_begins_after_the_stop(tmp_path: Path) -> None:
    """A session that was closed asks Vault for nothing more, even if its task still runs."""
    story = told(tmp_path, Role(ttl=600))
    async with story.running():
        await story.clock.sleep_until(100)
        await story.session.close(105)
        await story.clock.sleep_until(1500)
        assert [call.at for call in story.vault.calls if call.at > 100] == []
