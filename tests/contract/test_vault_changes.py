"""What every ``ChangePort`` must do: the simulator and the real client on OpenBao."""

from __future__ import annotations

from collections.abc import Mapping

from broker.errors import (
    VaultConflict,
    VaultDenied,
    VaultNotFound,
    VaultRefused,
    VaultUnreachable,
    VaultValueDeleted,
)
from broker.secret import SecretValue
from tests.contract.test_vault_port import login, read, refused
from tests.contract.worlds import World


async def write(
    world: World, token: SecretValue, path: str, data: Mapping[str, str], *, cas: int
) -> int:
    secrets = {name: SecretValue(text) for name, text in data.items()}
    return await world.port.kv_write(
        token, mount="secret", path=f"rotated/{path}", data=secrets, cas=cas
    )


async def version(world: World, token: SecretValue, path: str, number: int) -> dict[str, str]:
    value = await world.port.kv_read_version(
        token, mount="secret", path=f"rotated/{path}", version=number
    )
    assert value.version == number
    return {key: secret.reveal() for key, secret in value.data.items()}


async def test_only_the_one_who_knows_the_newest_version_writes(world: World) -> None:
    """Check-and-set: 0 makes the first version; a stale number conflicts and changes nothing."""
    token = (await login(world)).token
    assert await write(world, token, "cas", {"key": "one"}, cas=0) == 1
    for stale in (0, 2):
        asking = write(world, token, "cas", {"key": "other"}, cas=stale)
        assert type(await refused(asking)) is VaultConflict
    assert await write(world, token, "cas", {"key": 'zwei "ü"'}, cas=1) == 2
    assert await read(world, token, "rotated/cas") == {"key": 'zwei "ü"'}
    assert await version(world, token, "cas", 1) == {"key": "one"}


async def test_a_deleted_version_keeps_its_number(world: World) -> None:
    """Who reads a deleted version learns its number, and may write the next with it."""
    token = (await login(world)).token
    await write(world, token, "gone", {"key": "one"}, cas=0)
    await world.port.kv_delete(token, mount="secret", path="rotated/gone", versions=[1, 7])
    error = await refused(read(world, token, "rotated/gone"))
    assert isinstance(error, VaultValueDeleted)
    assert error.version == 1
    assert type(await refused(write(world, token, "gone", {"a": "b"}, cas=0))) is VaultConflict
    assert await write(world, token, "gone", {"key": "two"}, cas=1) == 2


async def test_a_destroyed_version_is_gone_and_others_stay(world: World) -> None:
    """Old versions are destroyed without touching the newest."""
    token = (await login(world)).token
    await write(world, token, "burnt", {"key": "one"}, cas=0)
    await write(world, token, "burnt", {"key": "two"}, cas=1)
    await world.port.kv_destroy(token, mount="secret", path="rotated/burnt", versions=[1, 9])
    error = await refused(version(world, token, "burnt", 1))
    assert isinstance(error, VaultValueDeleted)
    assert error.version == 1
    assert await read(world, token, "rotated/burnt") == {"key": "two"}


async def test_a_version_that_never_was(world: World) -> None:
    """It is not found, neither below a known path nor below an unknown one."""
    token = (await login(world)).token
    await write(world, token, "known", {"key": "one"}, cas=0)
    assert type(await refused(version(world, token, "known", 5))) is VaultNotFound
    assert type(await refused(version(world, token, "unknown", 1))) is VaultNotFound


async def test_changes_need_their_own_permission(world: World) -> None:
    """Each kind of change is a path of its own in the policy."""
    token = (await login(world)).token
    await write(world, token, "guarded", {"key": "one"}, cas=0)
    port, path = world.port, "rotated/guarded"
    try:
        await world.deny("secret/data/rotated/guarded")
        asking = write(world, token, "guarded", {"key": "two"}, cas=1)
        assert type(await refused(asking)) is VaultDenied
        await world.allow_all()
        await world.deny("secret/delete/rotated/guarded")
        asking_delete = port.kv_delete(token, mount="secret", path=path, versions=[1])
        assert type(await refused(asking_delete)) is VaultDenied
        await world.allow_all()
        await world.deny("secret/destroy/rotated/guarded")
        asking_destroy = port.kv_destroy(token, mount="secret", path=path, versions=[1])
        assert type(await refused(asking_destroy)) is VaultDenied
    finally:
        await world.allow_all()
    assert await read(world, token, path) == {"key": "one"}


async def test_a_path_that_acts(world: World) -> None:
    """A write to a role that does not exist is refused, not taken for done."""
    token = (await login(world)).token
    asking = world.port.write(token, path="database/rotate-role/never-made")
    assert isinstance(await refused(asking), VaultRefused)


async def test_without_a_server(world: World) -> None:
    """A write that found no server is retryable."""
    token = (await login(world)).token
    await world.kill()
    try:
        error = await refused(write(world, token, "away", {"a": "b"}, cas=0))
        assert type(error) is VaultUnreachable
    finally:
        await world.restart()
    assert await write(world, token, "away", {"a": "b"}, cas=0) == 1
