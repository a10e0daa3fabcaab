"""What the audit has of logins and refreshes, on virtual time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.app.trail import Trail
from broker.audit.record import lease_digest
from broker.clock import Clock
from tests.scenarios.session_story import Story
from tests.scenarios.world import KV, LEASED, world
from tests.simulators.desk import AuditSimulator
from tests.simulators.service_account import service_account_jwt
from tests.simulators.vault_server import Role

pytestmark = pytest.mark.looptime


class Watched:
    """Makes a trail whose records a test reads."""

    def __init__(self) -> None:
        self.audit = AuditSimulator()

    def __call__(self, clock: Clock) -> Trail:
        return Trail(self.audit, clock)

    def records(self, *members: str) -> list[tuple[Any, ...]]:
        lines = map(json.loads, self.audit.lines)
        return [tuple(line.get(member) for member in members) for line in lines]


async def test_a_lease_from_its_first_to_its_second() -> None:
    """Taken, renewed, renewed again, replaced: versions, and the lease by its digest alone."""
    watched = Watched()
    async with world(LEASED, observe=watched) as w:
        await w.until(149)
        told = watched.records("credential", "result", "version", "previous", "lease")
    first, second = told[0], told[-1]
    assert first[:4] == ("orders-db", "replaced", "v1", None)
    assert told[1:-1] == [("orders-db", "renewed", "v1", None, first[4])] * (len(told) - 2)
    assert len(told) >= 4
    assert second[:4] == ("orders-db", "replaced", "v2", "v1")
    assert first[4] != second[4] is not None
    assert "database/creds" not in b"".join(watched.audit.lines).decode()
    live = w.vault.server.live_leases()
    assert second[4] in {lease_digest(one.lease_id) for one in live}


async def test_a_value_that_changes_is_withdrawn_and_comes_back() -> None:
    """Quiet polls leave no record; what was withdrawn is named."""
    watched = Watched()
    async with world(KV, observe=watched) as w:
        await w.until(300)
        w.vault.server.kv.delete("search-api")
        await w.until(600)
        w.vault.server.kv.put("search-api", {"api_key": "canary-key-2"})
        await w.until(700)
    first, gone, second = watched.records("result", "version", "previous", "source_version")
    assert first == ("changed", "v1", None, "1")
    assert gone == ("vault_value_deleted", None, "v1", None)
    assert (second[0], second[2:]) == ("changed", (None, "2"))
    assert second[1] not in ("v1", None)
    assert "canary" not in b"".join(watched.audit.lines).decode()


async def test_an_outage_is_one_record() -> None:
    """Vault away for ten minutes: one failure a credential, not one an attempt."""
    watched = Watched()
    async with world(KV, observe=watched) as w:
        w.vault.outage()
        await w.until(600)
        w.vault.heal()
        await w.until(700)
    assert watched.records("result", "version") == [
        ("changed", "v1"),
        ("vault_unreachable", "v1"),
    ]


async def test_logins_that_fail_and_succeed(tmp_path: Path) -> None:
    """Each attempt is a record; a success has the generation."""
    watched = Watched()
    story = Story(tmp_path, Role(ttl=600, max_ttl=700), observe=watched)
    story.vault.outage()
    story.write(service_account_jwt())
    async with story.running():
        await story.clock.sleep(4)
        story.vault.heal()
        await story.clock.sleep(700)
    assert watched.records("kind", "result", "generation") == [
        *[("login", "vault_unreachable", None)] * 3,
        ("login", "ok", 1),
        ("login", "ok", 2),
    ]
