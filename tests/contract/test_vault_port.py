"""What every ``VaultPort`` must do: one suite, run against the simulator and the real one.

The simulator is trusted by hundreds of scenarios; here it is held to what OpenBao does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from broker.errors import (
    VaultDenied,
    VaultError,
    VaultInvalid,
    VaultLeaseExpired,
    VaultNotFound,
    VaultSealed,
    VaultTimeout,
    VaultUnreachable,
    VaultValueDeleted,
)
from broker.secret import SecretValue
from broker.vault.interface import LeaseGrant, TokenGrant
from tests.contract.worlds import World


async def login(world: World, role: str = "plain", **like: object) -> TokenGrant:
    name = await world.role(role, **like)
    return await world.port.login_kubernetes(mount=world.auth_mount, role=name, jwt=world.jwt())


async def read(world: World, token: SecretValue, path: str) -> dict[str, str]:
    value = await world.port.kv_read(token, mount="secret", path=path, kv_version=2)
    return {key: secret.reveal() for key, secret in value.data.items()}


async def refused(asking: Awaitable[object]) -> VaultError:
    with pytest.raises(VaultError) as caught:
        await asking
    return caught.value


class TestLogin:
    """``auth/kubernetes/login``."""

    async def test_brings_a_token_with_the_roles_life(self, world: World) -> None:
        """A login answers with a renewable service token that works, and a look-up agrees."""
        before = world.clock.now()
        grant = await login(world, "life", ttl=600)
        info = await world.port.lookup_self(grant.token)
        assert before <= grant.sent_at <= info.sent_at <= world.clock.now()
        assert grant.ttl == 600
        assert info.ttl == pytest.approx(600, abs=60)
        assert (grant.kind, info.kind) == ("service", "service")
        assert grant.renewable
        assert info.renewable
        assert grant.accessor == info.accessor != ""
        assert grant.num_uses == info.num_uses == 0
        assert grant.policies == info.policies
        assert "default" in grant.policies

    async def test_to_an_unknown_role(self, world: World) -> None:
        """A role that does not exist is an invalid request."""
        await world.role("known")
        asking = world.port.login_kubernetes(
            mount=world.auth_mount, role="never-made", jwt=world.jwt()
        )
        assert type(await refused(asking)) is VaultInvalid

    async def test_at_an_unknown_mount(self, world: World) -> None:
        """A mount that does not exist denies: without a token Vault does not say more."""
        asking = world.port.login_kubernetes(mount="nowhere", role="x", jwt=world.jwt())
        assert type(await refused(asking)) is VaultDenied

    @pytest.mark.parametrize(
        ("audience", "ttl"), [("another", 3600.0), ("vault", -60.0)], ids=["audience", "expired"]
    )
    async def test_with_a_token_that_is_not_accepted(
        self, world: World, audience: str, ttl: float
    ) -> None:
        """A service-account token for another audience, or past its time, is denied."""
        role = await world.role("strict")
        jwt = world.jwt(audience=audience, ttl=ttl)
        asking = world.port.login_kubernetes(mount=world.auth_mount, role=role, jwt=jwt)
        assert type(await refused(asking)) is VaultDenied

    async def test_with_something_else_than_a_token(self, world: World) -> None:
        """What is no JWT is denied like one that is not accepted."""
        role = await world.role("strict")
        asking = world.port.login_kubernetes(
            mount=world.auth_mount, role=role, jwt=SecretValue("no jwt")
        )
        assert type(await refused(asking)) is VaultDenied

    async def test_while_tokens_cannot_be_reviewed(self, world: World) -> None:
        """With TokenReview down a login is denied, and later it works again."""
        await world.token_review(works=False)
        assert type(await refused(login(world))) is VaultDenied
        await world.token_review(works=True)
        await login(world)

    async def test_batch_tokens(self, world: World) -> None:
        """A batch token is neither renewed nor revoked, and its leases are cut to its life."""
        grant = await login(world, "batch", ttl=30, kind="batch")
        assert (grant.kind, grant.renewable, grant.accessor) == ("batch", False, "")
        info = await world.port.lookup_self(grant.token)
        assert (info.kind, info.renewable) == ("batch", False)
        assert type(await refused(world.port.renew_self(grant.token))) is VaultInvalid
        assert type(await refused(world.port.revoke_self(grant.token))) is VaultInvalid

    async def test_tokens_with_a_use_limit(self, world: World) -> None:
        """A use limit shows at the login, and ends the token."""
        await world.kv_put("limited", {"a": "b"})
        grant = await login(world, "limited", num_uses=2)
        assert grant.num_uses == 2
        await read(world, grant.token, "limited")
        await read(world, grant.token, "limited")
        assert type(await refused(read(world, grant.token, "limited"))) is VaultDenied


class TestToken:
    """The token's own life."""

    async def test_renewal_starts_the_life_again(self, world: World) -> None:
        """A renewed token has its TTL before it again."""
        grant = await login(world, "renewed", ttl=60)
        await world.clock.sleep(1.1)
        renewed = await world.port.renew_self(grant.token)
        assert renewed.ttl == 60
        assert renewed.accessor == grant.accessor
        assert renewed.sent_at >= grant.sent_at + 1

    async def test_renewal_is_truncated_by_the_maximum(self, world: World) -> None:
        """Asked for more than the maximum leaves, Vault gives what is left, without an error."""
        grant = await login(world, "truncated", ttl=20, max_ttl=90)
        longer = await world.port.renew_self(grant.token, increment=60)
        assert longer.ttl == pytest.approx(60, abs=20)
        cut = await world.port.renew_self(grant.token, increment=3600)
        assert cut.ttl == pytest.approx(90, abs=20)

    async def test_the_limit_cannot_be_read(self, world: World) -> None:
        """A role's ``token_max_ttl`` shows in no look-up."""
        grant = await login(world, "hidden", ttl=20, max_ttl=90)
        assert (await world.port.lookup_self(grant.token)).explicit_max_ttl == 0

    async def test_periodic_tokens(self, world: World) -> None:
        """A periodic token's life is its period, whatever a renewal asks for."""
        grant = await login(world, "periodic", period=60)
        assert grant.ttl == 60
        assert (await world.port.lookup_self(grant.token)).period == 60
        assert (await world.port.renew_self(grant.token, increment=3600)).ttl == 60

    async def test_expiry(self, world: World) -> None:
        """A token past its life is denied everywhere."""
        await world.kv_put("expiry", {"a": "b"})
        grant = await login(world, "brief", ttl=1)
        await world.clock.sleep(2.1)
        for asking in (
            world.port.lookup_self(grant.token),
            world.port.renew_self(grant.token),
            world.port.revoke_self(grant.token),
            read(world, grant.token, "expiry"),
        ):
            assert type(await refused(asking)) is VaultDenied

    async def test_revocation(self, world: World) -> None:
        """After ``revoke_self`` the token is denied everywhere."""
        await world.kv_put("revoked", {"a": "b"})
        grant = await login(world)
        assert await read(world, grant.token, "revoked") == {"a": "b"}
        await world.port.revoke_self(grant.token)
        for asking in (
            world.port.lookup_self(grant.token),
            world.port.renew_lease(grant.token, "some/lease"),
            read(world, grant.token, "revoked"),
        ):
            assert type(await refused(asking)) is VaultDenied

    async def test_revocation_behind_our_back(self, world: World) -> None:
        """Somebody else's revocation looks the same."""
        grant = await login(world)
        await world.revoke_token(grant.accessor)
        assert type(await refused(world.port.lookup_self(grant.token))) is VaultDenied

    async def test_unknown(self, world: World) -> None:
        """A token that never was is denied."""
        never = SecretValue("s.neverwasatoken")
        assert type(await refused(world.port.lookup_self(never))) is VaultDenied


class TestKv:
    """KV versions 1 and 2."""

    async def test_version_2(self, world: World) -> None:
        """The newest version with its number, custom metadata and time; values as text."""
        await world.kv_put("two", {"key": "old"})
        number = await world.kv_put("two", {"key": "v", "n": 1, "o": {"x": [None]}, "ü": "ß"})
        await world.kv_annotate("two", {"expires_at": "2027-01-01T00:00:00Z"})
        grant = await login(world)
        value = await world.port.kv_read(grant.token, mount="secret", path="two", kv_version=2)
        assert {key: secret.reveal() for key, secret in value.data.items()} == {
            "key": "v",
            "n": "1",
            "o": '{"x":[null]}',
            "ü": "ß",
        }
        assert value.version == number
        assert value.custom_metadata == {"expires_at": "2027-01-01T00:00:00Z"}
        assert value.created_time.endswith("Z")

    async def test_version_1(self, world: World) -> None:
        """The value, without a version."""
        await world.kv_put("deep/one", {"key": "v", "ttl": "1h"}, version=1)
        grant = await login(world)
        value = await world.port.kv_read(grant.token, mount="kv1", path="deep/one", kv_version=1)
        assert {k: secret.reveal() for k, secret in value.data.items()} == {"key": "v", "ttl": "1h"}
        assert (value.version, value.custom_metadata) == (None, {})

    @pytest.mark.parametrize(("mount", "version"), [("secret", 2), ("kv1", 1)])
    async def test_missing(self, world: World, mount: str, version: int) -> None:
        """A path where nothing was ever written is not found."""
        grant = await login(world)
        asking = world.port.kv_read(
            grant.token, mount=mount, path="never", kv_version=2 if version == 2 else 1
        )
        assert type(await refused(asking)) is VaultNotFound

    @pytest.mark.parametrize(("mount", "version"), [("secret", 1), ("kv1", 2)])
    async def test_asked_as_the_other_version(self, world: World, mount: str, version: int) -> None:
        """The wrong KV version finds nothing."""
        await world.kv_put("other", {"a": "b"}, version=2 if mount == "secret" else 1)
        grant = await login(world)
        asking = world.port.kv_read(
            grant.token, mount=mount, path="other", kv_version=2 if version == 2 else 1
        )
        assert type(await refused(asking)) is VaultNotFound

    async def test_deleted_and_undeleted(self, world: World) -> None:
        """A deleted newest version is withdrawn, no older one steps in; undeleted it is back."""
        await world.kv_put("deleted", {"a": "1"})
        number = await world.kv_put("deleted", {"a": "2"})
        grant = await login(world)
        await world.kv_change("delete", "deleted", number)
        assert type(await refused(read(world, grant.token, "deleted"))) is VaultValueDeleted
        await world.kv_change("undelete", "deleted", number)
        assert await read(world, grant.token, "deleted") == {"a": "2"}

    async def test_destroyed(self, world: World) -> None:
        """A destroyed newest version is withdrawn until something new is written."""
        number = await world.kv_put("destroyed", {"a": "1"})
        grant = await login(world)
        await world.kv_change("destroy", "destroyed", number)
        assert type(await refused(read(world, grant.token, "destroyed"))) is VaultValueDeleted
        await world.kv_put("destroyed", {"a": "2"})
        assert await read(world, grant.token, "destroyed") == {"a": "2"}

    async def test_rolled_back(self, world: World) -> None:
        """A rollback is a new version with old data."""
        first = await world.kv_put("rolled", {"a": "1"})
        second = await world.kv_put("rolled", {"a": "2"})
        await world.kv_change("rollback", "rolled", first)
        grant = await login(world)
        value = await world.port.kv_read(grant.token, mount="secret", path="rolled", kv_version=2)
        assert value.data["a"].reveal() == "1"
        assert value.version == second + 1

    async def test_denied_and_allowed_again(self, world: World) -> None:
        """The policy holds from the moment it changes, for tokens that exist already, too."""
        await world.kv_put("guarded", {"a": "b"})
        grant = await login(world)
        await world.deny("secret/data/guarded")
        assert type(await refused(read(world, grant.token, "guarded"))) is VaultDenied
        await world.allow_all()
        assert await read(world, grant.token, "guarded") == {"a": "b"}


@pytest.mark.usefixtures("database")
class TestLeases:
    """Values with a lease."""

    @staticmethod
    async def take(world: World, name: str, **life: int) -> tuple[TokenGrant, LeaseGrant]:
        path = await world.leased(name, "users", **life)
        grant = await login(world)
        return grant, await world.port.lease(grant.token, path=path)

    async def test_each_is_a_new_one(self, world: World) -> None:
        """Each read makes a lease of its own, with the engine's life."""
        grant, one = await self.take(world, "each")
        two = await world.port.lease(grant.token, path="database/creds/each")
        assert one.lease_id != two.lease_id
        assert one.lease_id.startswith("database/creds/each/")
        assert one.data["username"] != two.data["username"]
        assert set(one.data) == {"username", "password"}
        assert (one.duration, one.renewable) == (60, True)
        assert await world.living("database/creds/each") == 2

    async def test_renewal(self, world: World) -> None:
        """A renewed lease has its life before it again; ``increment`` asks for another life."""
        grant, lease = await self.take(world, "renew")
        renewed = await world.port.renew_lease(grant.token, lease.lease_id)
        assert (renewed.lease_id, renewed.duration) == (lease.lease_id, 60)
        assert renewed.renewable
        less = await world.port.renew_lease(grant.token, lease.lease_id, increment=10)
        assert less.duration == 10

    async def test_renewal_is_truncated_by_the_maximum(self, world: World) -> None:
        """Past the maximum Vault gives what is left, without an error."""
        grant, lease = await self.take(world, "limit", ttl=60, max_ttl=90)
        renewed = await world.port.renew_lease(grant.token, lease.lease_id, increment=3600)
        assert renewed.duration == pytest.approx(90, abs=20)

    @pytest.mark.parametrize("who", ["we", "somebody else"])
    async def test_revocation(self, world: World, who: str) -> None:
        """A revoked lease is gone, and renewing it says so."""
        grant, lease = await self.take(world, "revoke")
        if who == "we":
            await world.port.revoke_lease(grant.token, lease.lease_id)
        else:
            await world.revoke_lease(lease.lease_id)
        await self.gone(world, lease.lease_id)
        asking = world.port.renew_lease(grant.token, lease.lease_id)
        assert type(await refused(asking)) is VaultLeaseExpired

    async def test_revocation_of_what_is_unknown(self, world: World) -> None:
        """Revoking twice, or what never was, is no error."""
        grant, lease = await self.take(world, "twice")
        await world.port.revoke_lease(grant.token, lease.lease_id)
        await world.port.revoke_lease(grant.token, lease.lease_id)
        await world.port.revoke_lease(grant.token, "database/creds/twice/never")

    async def test_expiry(self, world: World) -> None:
        """A lease past its life is unknown."""
        grant, lease = await self.take(world, "brief", ttl=1, max_ttl=1)
        assert lease.duration == 1
        await world.clock.sleep(2.5)
        asking = world.port.renew_lease(grant.token, lease.lease_id)
        assert type(await refused(asking)) is VaultLeaseExpired

    async def test_dies_with_its_token(self, world: World) -> None:
        """A lease ends with the token that took it, and no other token can hold it."""
        taker, lease = await self.take(world, "orphan")
        other = await login(world)
        await world.port.renew_lease(other.token, lease.lease_id)
        await world.port.revoke_self(taker.token)
        await self.gone(world, lease.lease_id)
        asking = world.port.renew_lease(other.token, lease.lease_id)
        assert type(await refused(asking)) is VaultLeaseExpired

    async def test_renewing_does_not_save_it_from_its_tokens_end(self, world: World) -> None:
        """A lease renewed beyond its token's life dies with the token all the same."""
        path = await world.leased("beyond", "users")
        taker = await login(world, "four-seconds", ttl=4, max_ttl=4)
        lease = await world.port.lease(taker.token, path=path)
        renewed = await world.port.renew_lease(taker.token, lease.lease_id, increment=60)
        assert renewed.duration > 4
        await world.clock.sleep(5.5)
        other = await login(world)
        asking = world.port.renew_lease(other.token, lease.lease_id)
        assert type(await refused(asking)) is VaultLeaseExpired

    async def test_of_a_batch_token(self, world: World) -> None:
        """Leases of a batch token are cut to its life, renewed or not."""
        path = await world.leased("batched", "users")
        grant = await login(world, "batch", ttl=30, kind="batch")
        lease = await world.port.lease(grant.token, path=path)
        assert lease.duration <= 30
        renewed = await world.port.renew_lease(grant.token, lease.lease_id, increment=3600)
        assert renewed.duration <= 30

    async def test_denied(self, world: World) -> None:
        """The policy holds for leases, and for their renewal."""
        grant, lease = await self.take(world, "guarded")
        await world.deny("database/creds/guarded")
        asking = world.port.lease(grant.token, path="database/creds/guarded")
        assert type(await refused(asking)) is VaultDenied
        await world.deny("sys/leases/renew")
        renewing = world.port.renew_lease(grant.token, lease.lease_id)
        assert type(await refused(renewing)) is VaultDenied
        await world.allow_all()
        await world.port.renew_lease(grant.token, lease.lease_id)

    async def test_of_an_unknown_role(self, world: World) -> None:
        """A path below the engine that nobody made is refused, and not as denied."""
        grant, _ = await self.take(world, "known")
        asking = world.port.lease(grant.token, path="database/creds/never")
        assert type(await refused(asking)) in {VaultInvalid, VaultNotFound}

    async def gone(self, world: World, lease_id: str) -> None:
        """Vault revokes in the background: wait until it has."""
        path = lease_id.rpartition("/")[0]
        for _ in range(1200):
            if not await world.living(path):
                return
            await world.clock.sleep(0.05)
        pytest.fail(f"{path} still has leases")


class TestWrittenLeases:
    """Paths that answer a write."""

    async def test_parameters(self, world: World) -> None:
        """Parameters reach the engine; the lease may be one that is not renewable."""
        path = await world.leased("otp", "one-time")
        grant = await login(world)
        lease = await world.port.lease(
            grant.token, path=path, method="write", parameters={"ip": "10.1.2.3"}
        )
        assert lease.lease_id.startswith(f"{path}/")
        assert not lease.renewable
        renewing = world.port.renew_lease(grant.token, lease.lease_id)
        assert type(await refused(renewing)) is VaultInvalid
        await world.port.revoke_lease(grant.token, lease.lease_id)

    async def test_without_its_parameters(self, world: World) -> None:
        """A parameter that is missing is an invalid request."""
        path = await world.leased("otp", "one-time")
        grant = await login(world)
        asking = world.port.lease(grant.token, path=path, method="write")
        assert type(await refused(asking)) is VaultInvalid

    async def test_a_path_without_a_lease(self, world: World) -> None:
        """A value without a lease has an empty lease id."""
        path = await world.unleased("plain", {"a": "b"})
        grant = await login(world)
        value = await world.port.lease(grant.token, path=path)
        assert (value.lease_id, value.renewable) == ("", False)
        assert value.data["a"].reveal() == "b"


class TestServer:
    """The server's own state."""

    async def test_health(self, world: World) -> None:
        """A healthy server says so without a token."""
        health = await world.port.health()
        assert (health.initialized, health.sealed, health.standby) == (True, False, False)
        assert health.version

    async def test_sealed_and_unsealed(self, world: World) -> None:
        """A sealed server answers nothing but its health; afterwards tokens are what they were."""
        await world.kv_put("sealed", {"a": "b"})
        grant = await login(world)
        await world.seal()
        try:
            assert type(await refused(read(world, grant.token, "sealed"))) is VaultSealed
            asking = world.port.login_kubernetes(mount=world.auth_mount, role="x", jwt=world.jwt())
            assert type(await refused(asking)) is VaultSealed
            assert (await world.port.health()).sealed
        finally:
            await world.unseal()
        assert await read(world, grant.token, "sealed") == {"a": "b"}

    async def test_killed_and_restarted(self, world: World) -> None:
        """Without a server it is unreachable; after the restart tokens are what they were."""
        await world.kv_put("killed", {"a": "b"})
        grant = await login(world)
        await world.kill()
        try:
            assert type(await refused(read(world, grant.token, "killed"))) is VaultUnreachable
            assert type(await refused(world.port.health())) is VaultUnreachable
        finally:
            await world.restart()
        assert await read(world, grant.token, "killed") == {"a": "b"}

    @pytest.mark.usefixtures("database")
    async def test_what_a_late_answer_brings_is_revoked(self, world: World) -> None:
        """A server that stalls costs a timeout; the lease it makes afterwards does not stay."""
        path = await world.leased("late", "users")
        grant = await login(world)
        await world.pause()
        timed_out = asyncio.create_task(refused(world.hasty.lease(grant.token, path=path)))
        assert type(await timed_out) is VaultTimeout
        abandoned = asyncio.create_task(world.hasty.lease(grant.token, path=path))
        await world.clock.sleep(0.2)
        abandoned.cancel()
        await asyncio.gather(abandoned, return_exceptions=True)
        await world.resume()
        await world.hasty.aclose()
        for _ in range(1200):
            if not await world.living(path):
                break
            await world.clock.sleep(0.05)
        assert await world.living(path) == 0
