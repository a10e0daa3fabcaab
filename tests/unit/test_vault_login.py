"""One login: the file, Vault's verdict, the fitness of the token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.errors import LoginFailed, TokenFileUnusable, TokenUnfit, VaultUnreachable
from broker.vault.login import FILE_CAP, KubernetesLogin, Login, TokenFileLogin, read_token
from tests.simulators.clock import VirtualClock
from tests.simulators.service_account import service_account_jwt
from tests.simulators.vault import VaultSimulator
from tests.simulators.vault_server import Role

pytestmark = pytest.mark.looptime


@pytest.fixture
def vault() -> VaultSimulator:
    return VaultSimulator(VirtualClock())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "token"


def kubernetes(vault: VaultSimulator, file: Path) -> Login:
    return KubernetesLogin(vault, mount="kubernetes", role="broker", token_file=str(file))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"a.b c.d", "no token"),
        (b"canary\ncanary", "no token"),
        ("tök".encode(), "no token"),
        (b"\x00" * 10, "no token"),
        (b"x" * (FILE_CAP + 1), "larger"),
    ],
)
async def test_unusable_content(file: Path, content: bytes, word: str) -> None:
    """What is no token is told apart by its fault, never by its content."""
    file.write_bytes(content)
    with pytest.raises(TokenFileUnusable, match=word) as caught:
        read_token(file)
    assert "canary" not in str(caught.value).replace(str(file), "")


async def test_unusable_files(tmp_path: Path) -> None:
    """Missing, a directory, a FIFO: refused at once, and no descriptor stays open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo"):
        with pytest.raises(TokenFileUnusable, match=path.name):
            read_token(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_unreadable_file(file: Path) -> None:
    """A file that cannot be opened is named with the system's reason."""
    file.symlink_to(file.name)
    with pytest.raises(TokenFileUnusable, match="Too many levels of symbolic links"):
        read_token(file)


@pytest.mark.parametrize(
    "text",
    ["hvs.some-vault-token", "a.b.c", "..", "e30.e30.", "e30.bnVsbA.x", "e30.e30.x.y", "e30.*.x"],
)
async def test_no_jwt(vault: VaultSimulator, file: Path, text: str) -> None:
    """A file that holds another kind of token never reaches Vault."""
    file.write_text(text)
    with pytest.raises(TokenFileUnusable, match="service-account token") as caught:
        await kubernetes(vault, file).login()
    assert vault.calls == []
    assert text not in str(caught.value)


async def test_file_is_read_at_each_login(vault: VaultSimulator, file: Path) -> None:
    """A service-account token that the kubelet replaced is the one sent next."""
    old, new = service_account_jwt(subject="old"), service_account_jwt(subject="new")
    vault.server.role(like=Role(jwts={old}))
    login = kubernetes(vault, file)
    file.write_text(old)
    await login.login()
    vault.server.role().jwts = {new}
    with pytest.raises(LoginFailed):
        await login.login()
    file.write_text(new + "\n")
    grant = await login.login()
    assert grant.ttl == 3600
    assert login.own
    assert not login.changed()


async def test_refusals_are_login_failures(vault: VaultSimulator, file: Path) -> None:
    """403 and 400 at the login are both LoginFailed, and may heal; an outage is itself."""
    file.write_text(service_account_jwt())
    login = kubernetes(vault, file)
    with pytest.raises(LoginFailed, match="broker") as caught:  # no such auth method: 403
        await login.login()
    assert caught.value.retryable
    vault.server.role("other")
    with pytest.raises(LoginFailed, match="invalid role"):
        await login.login()
    vault.outage()
    with pytest.raises(VaultUnreachable):
        await login.login()


@pytest.mark.parametrize("kind", ["service", "batch"])
async def test_use_limit(vault: VaultSimulator, file: Path, kind: str) -> None:
    """A token with a use limit is refused, and given back where that is possible."""
    file.write_text(service_account_jwt())
    vault.server.role(like=Role(num_uses=5, kind="batch" if kind == "batch" else "service"))
    with pytest.raises(TokenUnfit, match="5 times"):
        await kubernetes(vault, file).login()
    assert vault.count("revoke_self") == (kind == "service")


async def test_use_limit_by_file(vault: VaultSimulator, file: Path) -> None:
    """A token given by file is refused for its use limit, and never revoked."""
    file.write_text(vault.server.issue(Role(num_uses=5)).text)
    with pytest.raises(TokenUnfit):
        await TokenFileLogin(vault, token_file=str(file)).login()
    assert vault.count("revoke_self") == 0


async def test_token_file(vault: VaultSimulator, file: Path) -> None:
    """A Vault token by file is looked up, tells its life, and shows when another lies there."""
    login = TokenFileLogin(vault, token_file=str(file))
    file.write_text(vault.server.issue(Role(ttl=600, period=60)).text)
    grant = await login.login()
    assert (grant.ttl, grant.renewable, grant.period) == (60, True, 60)
    assert not login.own
    assert not login.changed()
    file.write_text("hvs.another")
    assert login.changed()
    with pytest.raises(LoginFailed, match="not accept") as caught:
        await login.login()
    assert "hvs.another" not in str(caught.value)
    file.unlink()
    assert not login.changed()
