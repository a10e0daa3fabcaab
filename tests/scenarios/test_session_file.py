"""A Vault token given by file: taken up, followed, never revoked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.vault.generation import Generation
from tests.scenarios.session_story import Story
from tests.simulators.vault_server import Role

pytestmark = pytest.mark.looptime


def over(generation: Generation) -> bool:
    return generation.ended


@asynccontextmanager
async def by_file(directory: Path, role: Role | None) -> AsyncIterator[Story]:
    story = Story(directory, Role(), by_file=True)
    story.write(story.vault.server.issue(role).text + "\n")
    async with story.running():
        yield story
    await story.session.close(story.clock.now() + 5)
    assert story.vault.times("revoke_self") == []  # never one given by file


async def test_root_token(tmp_path: Path) -> None:
    """A token that never expires is left alone: no renewal, no login, no end."""
    async with by_file(tmp_path, None) as story:
        await story.clock.sleep_until(10_000)
        assert [call.operation for call in story.vault.calls] == ["lookup_self"]
        assert story.metrics.tokens == [(None, 1)]


async def test_file_replaced(tmp_path: Path) -> None:
    """Another token in the file is taken up within the poll; the old one is left alone."""
    async with by_file(tmp_path, Role(ttl=600)) as story:
        old = story.current
        await story.clock.sleep_until(101)
        story.write(story.vault.server.issue(Role(ttl=600)).text)
        await story.clock.sleep_until(112)
        assert story.current.number == 2
        assert not story.current.own
        assert not over(old)
        await story.clock.sleep_until(700)
        assert over(old)
        assert story.gap == 0


async def test_same_token_near_its_end(tmp_path: Path) -> None:
    """A file that keeps a token at its maximum is read again with growing waits, no more."""
    async with by_file(tmp_path, Role(ttl=600, max_ttl=600)) as story:
        await story.clock.sleep_until(599)
        assert story.renewals() == [370]
        lookups = story.vault.times("lookup_self", since=1)
        assert 5 <= len(lookups) <= 35
        assert story.vault.peak_rate(operation="lookup_self") == 1
        assert story.current.number == 1
        await story.clock.sleep_until(650)
        assert story.current.ended
        story.write(story.vault.server.issue(Role(ttl=600)).text)
        await story.session.ready(story.clock.now() + 11)
        assert story.current.number == 2


async def test_dead_token_in_the_file(tmp_path: Path) -> None:
    """A denial reads the file again at once: a newer token in it serves all."""
    async with by_file(tmp_path, Role(ttl=600)) as story:
        await story.clock.sleep_until(101)
        old = story.current
        story.vault.server.revoke(story.vault.server.tokens[0])
        story.write(story.vault.server.issue(Role(ttl=600)).text)
        newer = await story.session.denied(old)
        assert newer is story.current
        assert newer.number == 2
        assert story.vault.times("lookup_self", since=1) == [101, 101]


async def test_bad_file_while_the_token_is_good(tmp_path: Path) -> None:
    """A file that holds rubbish or nothing takes nothing away from a living token."""
    async with by_file(tmp_path, Role(ttl=600)) as story:
        story.write("not-a-token-of-this-vault")
        await story.clock.sleep_until(100)
        story.file.unlink()
        await story.clock.sleep_until(500)
        assert story.current.number == 1
        assert story.renewals() == [370]
        assert story.gap == 0
        story.write(story.vault.server.issue(Role(ttl=600)).text)
        await story.clock.sleep(10)
        assert story.current.number == 2


async def test_two_loops_one_floor(tmp_path: Path) -> None:
    """Whoever finds a reason to log in, a second lies between any two attempts."""
    async with by_file(tmp_path, Role(ttl=600)) as story:
        await story.clock.sleep_until(102.5)
        story.vault.server.revoke(story.vault.server.tokens[0])
        story.write("not-a-token-of-this-vault")
        assert await story.session.denied(story.current) is None
        await story.clock.sleep_until(111)
        # The retries come at 103.5, 105.5, 109.5; the look at the file at 110 has to wait.
        lookups = story.vault.times("lookup_self", since=1)
        assert lookups == [102.5, 102.5, 103.5, 105.5, 109.5, 110.5]


async def test_file_token_that_may_not_renew(tmp_path: Path) -> None:
    """A token by file that may not renew itself is not asked to again."""
    async with by_file(tmp_path, Role(ttl=600)) as story:
        story.vault.server.deny("auth/token/renew-self")
        await story.clock.sleep_until(599)
        assert story.renewals() == [370]
        assert story.current.number == 1


async def test_no_file_is_taken_up_after_the_stop(tmp_path: Path) -> None:
    """A token that is laid ready after the stop is left where it is."""
    async with by_file(tmp_path, Role(ttl=600)) as story:
        await story.session.close(5)
        story.write(story.vault.server.issue(Role(ttl=600)).text)
        await story.clock.sleep(100)
        assert story.current.number == 1
