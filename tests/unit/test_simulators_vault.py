"""The simulated Vault itself: what tests lean on must be true."""

from __future__ import annotations

import asyncio

import pytest

from broker.errors import (
    VaultDenied,
    VaultFailed,
    VaultInvalid,
    VaultLeaseExpired,
    VaultSealed,
    VaultThrottled,
    VaultTimeout,
    VaultUnreachable,
    VaultValueDeleted,
)
from broker.secret import SecretValue
from broker.vault.interface import TokenGrant, VaultPort
from tests.simulators.clock import EPOCH, VirtualClock
from tests.simulators.service_account import service_account_jwt
from tests.simulators.vault import VaultSimulator
from tests.simulators.vault_server import LeasedPath, Role

pytestmark = pytest.mark.looptime

ORDERS = "database/creds/orders"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def vault(clock: VirtualClock) -> VaultSimulator:
    return VaultSimulator(clock)


async def log_in(vault: VaultPort, jwt: str | None = None) -> TokenGrant:
    return await vault.login_kubernetes(
        mount="kubernetes", role="broker", jwt=SecretValue(jwt or service_account_jwt())
    )


async def test_truncated_renewal(vault: VaultSimulator, clock: VirtualClock) -> None:
    """A token renewed near its maximum gets less than its TTL, and dies at the maximum."""
    vault.server.role(like=Role(ttl=60, max_ttl=100))
    grant = await log_in(vault)
    await clock.sleep_until(55)
    assert (await vault.renew_self(grant.token)).ttl == pytest.approx(45)
    await clock.sleep_until(100)
    with pytest.raises(VaultDenied):
        await vault.lookup_self(grant.token)


async def test_lease_dies_with_its_token(vault: VaultSimulator, clock: VirtualClock) -> None:
    """A lease renewed past its token's end dies at its token's end."""
    vault.server.role(like=Role(ttl=8, max_ttl=8))
    vault.server.leased(ORDERS, LeasedPath(ttl=60))
    grant = await log_in(vault)
    lease = await vault.lease(grant.token, path=ORDERS)
    assert lease.duration == 60
    assert len(vault.server.live_leases()) == 1
    await clock.sleep_until(8)
    assert vault.server.live_leases() == []
    other = await log_in(vault)
    with pytest.raises(VaultLeaseExpired):
        await vault.renew_lease(other.token, lease.lease_id)


@pytest.mark.parametrize(
    ("role", "jwt", "error"),
    [
        (Role(), "not.a", VaultDenied),
        (Role(audience="vault"), service_account_jwt(audience="other"), VaultDenied),
        (Role(), service_account_jwt(expires_wall=EPOCH), VaultDenied),
        (Role(jwts={service_account_jwt(subject="me")}), service_account_jwt(), VaultDenied),
    ],
    ids=["no JWT", "other audience", "expired", "unknown"],
)
async def test_login_refused(
    vault: VaultSimulator, role: Role, jwt: str, error: type[Exception]
) -> None:
    """Any trouble with the service-account token is a 403."""
    vault.server.role(like=role)
    with pytest.raises(error):
        await log_in(vault, jwt)


async def test_tokens_that_cannot_be_renewed(vault: VaultSimulator) -> None:
    """Batch tokens are neither renewed nor revoked; a use limit is counted."""
    role = vault.server.role(like=Role(kind="batch", ttl=60))
    batch = await log_in(vault)
    with pytest.raises(VaultInvalid):
        await vault.renew_self(batch.token)
    with pytest.raises(VaultInvalid):
        await vault.revoke_self(batch.token)
    role.kind, role.num_uses = "service", 2
    limited = await log_in(vault)
    await vault.lookup_self(limited.token)
    await vault.lookup_self(limited.token)
    with pytest.raises(VaultDenied):
        await vault.lookup_self(limited.token)


async def test_kv_life(vault: VaultSimulator) -> None:
    """KV v2: versions, deletion, destruction and rollback as Vault has them."""
    vault.server.role()
    kv, token = vault.server.kv, (await log_in(vault)).token
    kv.put("search-api", {"api_key": "k1", "limit": 5}, custom_metadata={"owner": "search"})
    kv.put("search-api", {"api_key": "k2"})

    async def read() -> tuple[int | None, str]:
        value = await vault.kv_read(token, mount="secret", path="search-api", kv_version=2)
        return value.version, value.data["api_key"].reveal()

    assert await read() == (2, "k2")
    kv.delete("search-api")
    with pytest.raises(VaultValueDeleted):
        await read()
    kv.undelete("search-api")
    assert await read() == (2, "k2")
    assert kv.rollback("search-api", 1) == 3
    assert await read() == (3, "k1")
    kv.destroy("search-api")
    with pytest.raises(VaultValueDeleted):
        await read()


async def test_policy_by_path(vault: VaultSimulator) -> None:
    """A denied pattern refuses until it is allowed again."""
    vault.server.role()
    vault.server.kv.put("search-api", {"api_key": "k1"})
    token = (await log_in(vault)).token
    vault.server.deny("secret/data/*")
    with pytest.raises(VaultDenied):
        await vault.kv_read(token, mount="secret", path="search-api", kv_version=2)
    vault.server.allow("secret/data/*")
    await vault.kv_read(token, mount="secret", path="search-api", kv_version=2)
    assert [call.outcome for call in vault.calls] == ["ok", "vault_denied", "ok"]


async def test_faults(vault: VaultSimulator) -> None:
    """Faults hit all or one operation, a number of times or until healed."""
    vault.server.role()
    token = (await log_in(vault)).token
    vault.fail(VaultFailed(), operation="lookup_self", times=1)
    with pytest.raises(VaultFailed):
        await vault.lookup_self(token)
    await vault.lookup_self(token)
    sealed = vault.seal()
    with pytest.raises(VaultSealed):
        await vault.lookup_self(token)
    assert (await vault.health()).sealed
    vault.heal(sealed)
    vault.throttle(7)
    with pytest.raises(VaultThrottled) as caught:
        await vault.lookup_self(token)
    assert caught.value.retry_after == 7
    vault.heal()
    await vault.lookup_self(token)


async def test_late_answer_is_revoked(vault: VaultSimulator, clock: VirtualClock) -> None:
    """A lease granted after its caller timed out is revoked, and nobody keeps it."""
    vault.server.role()
    vault.server.leased(ORDERS)
    token = (await log_in(vault)).token
    vault.hang("lease")
    with pytest.raises(VaultTimeout):
        await vault.lease(token, path=ORDERS)
    assert clock.now() == 10
    vault.resume()
    await vault.aclose()
    assert [lease.revoked_at for lease in vault.server.leases] == [10]


async def test_answer_of_an_abandoned_call(vault: VaultSimulator, clock: VirtualClock) -> None:
    """A login cancelled on its way is revoked when its answer comes."""
    vault.server.role()
    vault.latency["login_kubernetes"] = 3
    waiting = asyncio.create_task(log_in(vault))
    await clock.sleep(1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert vault.calls[0].outcome == "abandoned"
    await clock.sleep(3)
    assert [token.revoked_at for token in vault.server.tokens] == [3]


async def test_lost_answer_takes_effect(vault: VaultSimulator) -> None:
    """A lost answer is an outage for the client, yet the server has acted."""
    vault.server.role()
    vault.lose_answers("login_kubernetes")
    with pytest.raises(VaultUnreachable):
        await log_in(vault)
    assert len(vault.server.live_tokens()) == 1


async def test_log(vault: VaultSimulator, clock: VirtualClock) -> None:
    """The log tells when each call was sent, and the peak rate within a second."""
    vault.server.role()
    token = (await log_in(vault)).token
    for wait in (0.4, 0.4, 2, 0.4):
        await clock.sleep(wait)
        await vault.lookup_self(token)
    assert vault.times("lookup_self") == [0.4, 0.8, 2.8, 3.2]
    assert vault.peak_rate() == 3
    assert vault.peak_rate(operation="lookup_self") == 2
    assert "canary" not in vault.dump()
