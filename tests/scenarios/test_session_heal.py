"""A 403 in use: is it the token or the path? Who asks, who logs in, and how often."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from broker.errors import (
    LoginError,
    LoginFailed,
    VaultDenied,
    VaultError,
    VaultFailed,
    VaultUnreachable,
)
from tests.scenarios.session_story import Story
from tests.simulators.service_account import service_account_jwt
from tests.simulators.vault_server import Role

pytestmark = pytest.mark.looptime


@pytest.fixture
async def story(tmp_path: Path) -> Story:
    made = Story(tmp_path, Role(ttl=600))
    made.write(service_account_jwt())
    return made


def revoke(story: Story) -> None:
    """Somebody revokes the current token behind the broker's back."""
    story.vault.server.revoke(story.vault.server.tokens[-1])


async def test_a_hundred_denials_one_lookup_one_login(story: Story) -> None:
    """However many callers were denied, one look-up and one login serve them all."""
    story.vault.latency[""] = 0.2
    async with story.running():
        await story.clock.sleep_until(100)
        old = story.current
        revoke(story)
        answers = await asyncio.gather(*(story.session.denied(old) for _ in range(100)))
        assert story.vault.times("lookup_self", since=100) == [100]
        assert story.vault.times("login_kubernetes", since=100) == [100.2]
        assert set(answers) == {story.current}
        assert (old.ended, old.number, story.current.number) == (True, 1, 2)
        assert story.metrics.logins == ["ok", "ok"]


async def test_living_token_means_the_path(story: Story) -> None:
    """While the token lives a denial is about the path: no login, one look-up a second."""
    async with story.running():
        await story.clock.sleep_until(100)
        for _ in range(50):
            assert await story.session.denied(story.current) is None
            await story.clock.sleep(0.1)
        assert story.vault.times("lookup_self", since=100) == [100, 101, 102, 103, 104]
        assert story.logins() == [0]
        assert not story.current.ended


async def test_denied_with_an_old_generation(story: Story) -> None:
    """Who was denied with a generation already replaced gets the current one, unasked."""
    async with story.running():
        await story.clock.sleep_until(100)
        old = story.current
        revoke(story)
        newer = await story.session.denied(old)
        assert await story.session.denied(old) is newer is story.current
        assert story.vault.times("lookup_self", since=100) == [100]


@pytest.mark.parametrize("error", [VaultUnreachable(), VaultFailed()], ids=lambda e: e.code)
async def test_nobody_can_tell(story: Story, error: VaultError) -> None:
    """A look-up that fails otherwise proves nothing; the token stays in use."""
    async with story.running():
        await story.clock.sleep_until(100)
        story.vault.fail(error, operation="lookup_self")
        assert await story.session.denied(story.current) is None
        assert not story.current.ended
        assert story.logins() == [0]


async def test_the_login_fails_then_heals(story: Story) -> None:
    """A dead token whose re-login fails: callers are told at once, one loop goes on trying."""
    async with story.running():
        await story.clock.sleep_until(100)
        old = story.current
        revoke(story)
        outage = story.vault.fail(VaultDenied(), operation="login_kubernetes")
        answers = await asyncio.gather(*(story.session.denied(old) for _ in range(100)))
        assert set(answers) == {None}
        assert old.ended
        with pytest.raises(LoginFailed) as caught:
            await story.session.ready(105)
        assert caught.value.retryable
        story.vault.heal(outage)
        assert (await story.session.ready(200)).number == 2
        assert story.logins() == [0, 100, 101, 103, 107]
        assert story.metrics.logins == ["ok", *["login_failed"] * 3, "ok"]


async def test_tokens_that_die_young(story: Story) -> None:
    """Somebody revokes every token at once: logins come slower and slower, never a storm."""
    async with story.running():
        await story.clock.sleep_until(100)
        while story.clock.now() < 400:
            generation = story.current
            if not generation.ended:
                revoke(story)
                await story.session.denied(generation)
            await story.clock.sleep(1)
        assert len(story.logins()) <= 16
        assert story.vault.peak_rate(operation="login_kubernetes") == 1
        assert story.vault.peak_rate(operation="lookup_self") == 1
        gaps = [later - earlier for earlier, later in pairwise(story.logins())]
        assert min(gaps[-3:]) >= 30
        calm = await story.session.ready(500)
        await story.clock.sleep(100)
        revoke(story)
        assert await story.session.denied(calm) is not None
        assert story.logins()[-1] == pytest.approx(story.clock.now(), abs=0.01)


async def test_policy_without_lookup(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    """When even a fresh token may not look itself up, a 403 proves nothing: no login storm."""
    story.vault.server.deny("auth/token/lookup-self")
    async with story.running():
        assert "does not let the token look itself up" in caplog.text
        await story.clock.sleep_until(100)
        for _ in range(100):
            assert await story.session.denied(story.current) is None
        assert story.vault.times("lookup_self") == [0]
        revoke(story)
        await story.clock.sleep_until(400)
        assert story.logins() == [0, 370]  # the renewal found it


async def test_asker_leaves(story: Story) -> None:
    """A caller that is cancelled while it logs in leaves the login to the next."""
    story.vault.latency["login_kubernetes"] = 2
    async with story.running():
        await story.clock.sleep_until(100)
        old = story.current
        revoke(story)
        first = asyncio.create_task(story.session.denied(old))
        second = asyncio.create_task(story.session.denied(old))
        await story.clock.sleep(1)
        first.cancel()
        newer = await second
        assert newer is story.current
        assert newer.number == 2
        await story.clock.sleep(5)
        assert len(story.vault.server.live_tokens()) == 1


async def test_ready_waits(story: Story) -> None:
    """``ready`` returns with the first generation, or says why there is none."""
    with pytest.raises(LoginError, match="not logged in"):
        await story.session.ready(story.clock.now())
    outage = story.vault.outage()
    async with story.running():
        waiting = (story.session.ready(10) for _ in range(2))
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [VaultUnreachable, VaultUnreachable]
        assert errors[0] is not errors[1]  # else their tracebacks would grow into each other
        story.vault.heal(outage)
        generations = await asyncio.gather(*(story.session.ready(60) for _ in range(100)))
        assert set(generations) == {story.current}
        assert story.clock.now() == 15
        assert story.metrics.tokens == [(615, 1)]


async def test_paused_machine(story: Story) -> None:
    """Time that passed while the boot clock stood still counts at once, before any answer."""
    async with story.running():
        await story.clock.sleep_until(100)
        story.pause(400)
        generation = await story.session.ready(story.clock.now())
        assert generation.expires_at == pytest.approx(200)
        assert story.vault.server.tokens[0].expires_at == 600  # by its own clock
        await story.clock.sleep(1)
        assert generation is story.current
        assert story.renewals() == [100]
        assert generation.expires_at == pytest.approx(700)


async def test_paused_while_a_renewal_is_under_way(story: Story) -> None:
    """Its answer was given before the pause: the time of the pause counts, and Vault is asked."""
    async with story.running():
        story.vault.latency["renew_self"] = 2.0
        await story.clock.sleep_until(371)
        story.pause(100)
        await story.session.ready(story.clock.now())
        await story.clock.sleep_until(372.5)
        assert story.current.expires_at == pytest.approx(370 + 600 - 100)
        await story.clock.sleep_until(375)
        assert story.renewals() == [370, 372]
        assert story.current.expires_at == pytest.approx(372 + 600)


async def test_paused_for_longer_than_the_token(story: Story) -> None:
    """After a long pause nothing is usable until Vault said that the token is dead."""
    async with story.running():
        await story.clock.sleep_until(100)
        old = story.current
        story.pause(7200)
        story.vault.latency[""] = 0.2
        newer = await story.session.ready(110)
        assert (newer.number, old.ended) == (2, True)
        assert round(story.clock.now(), 1) == 100.6  # renewal, look-up, login
        assert story.logins() == [0, 100.4]


@pytest.mark.parametrize("seconds", [7200, -7200], ids=["forward", "back"])
async def test_somebody_sets_the_clock(story: Story, seconds: float) -> None:
    """A wall clock set by hand ends no generation: Vault is asked, and the token lives on."""
    async with story.running():
        await story.clock.sleep_until(100)
        story.clock.jump_wall(seconds)
        assert (await story.session.ready(110)).number == 1
        await story.clock.sleep_until(300)
        assert story.renewals() == ([100] if seconds > 0 else [])
        assert story.logins() == [0]


async def test_paused_while_vault_is_away(story: Story) -> None:
    """A token in doubt stays unusable until Vault can be asked, and heals with it."""
    async with story.running():
        await story.clock.sleep_until(100)
        story.clock.jump_wall(7200)
        story.vault.outage()
        with pytest.raises(VaultUnreachable):
            await story.session.ready(104)
        story.vault.heal()
        assert (await story.session.ready(120)).number == 1
        assert story.renewals() == [100, 101, 103, 107]


async def test_no_secret_is_logged(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the Vault token nor the service-account token reaches a log or a repr."""
    caplog.set_level("DEBUG")
    async with story.running():
        await story.clock.sleep_until(100)
        revoke(story)
        story.vault.outage("login_kubernetes")
        await story.session.denied(story.current)
        await story.clock.sleep_until(700)
        story.vault.heal()
        await story.clock.sleep_until(800)
    for secret in ("canary", service_account_jwt()):
        assert secret not in caplog.text
        assert secret not in repr(story.current)
    assert story.current.number == 2
