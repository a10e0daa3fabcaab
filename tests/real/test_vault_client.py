"""``vault.client`` and OpenBao: what the contract does not cover, seen on the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker.clock import SystemClock
from broker.demo.certificates import Authority
from broker.demo.openbao import OpenBao
from broker.errors import (
    VaultDenied,
    VaultInvalid,
    VaultMalformed,
    VaultNotFound,
    VaultThrottled,
    VaultTimeout,
    VaultTlsFailed,
)
from broker.vault.client import VaultClient
from broker.vault.tls import TlsOptions
from tests.conftest import KubernetesAuth
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.real


@pytest.fixture
async def client(openbao: OpenBao) -> AsyncIterator[VaultClient]:
    made = VaultClient(openbao.address, clock=SystemClock(), timeout=PATIENCE)
    yield made
    await made.aclose()


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenBao, Authority]]:
    directory = tmp_path_factory.mktemp("openbao-tls")
    authority = Authority(directory, name="vault CA")
    files = authority.issue("vault", names=("localhost", "127.0.0.1", "vault.example"))
    server = OpenBao(directory, tls=files, ca_file=authority.ca_file)
    server.start()
    yield server, authority
    server.stop()


async def test_tls(tls_server: tuple[OpenBao, Authority], tmp_path: Path) -> None:
    """With the right CA, by host and by server name, it works; else the token does not leave."""
    server, authority = tls_server
    stranger = Authority(tmp_path, name="another CA")
    good = TlsOptions(ca_file=str(authority.ca_file))
    named = TlsOptions(ca_file=str(authority.ca_file), server_name="vault.example")
    for options in (good, named):
        client = VaultClient(server.address, clock=SystemClock(), tls=options)
        assert (await client.lookup_self(server.root_token)).policies == ("root",)
        await client.aclose()
    for options in (
        TlsOptions(),
        TlsOptions(ca_file=str(stranger.ca_file)),
        TlsOptions(ca_file=str(authority.ca_file), server_name="other.example"),
    ):
        client = VaultClient(server.address, clock=SystemClock(), tls=options)
        with pytest.raises(VaultTlsFailed):
            await client.lookup_self(server.root_token)
        await client.aclose()


async def test_http_to_a_tls_listener(tls_server: tuple[OpenBao, Authority]) -> None:
    """An address with the wrong scheme is told apart, with what to write instead."""
    server, _ = tls_server
    address = server.address.replace("https", "http")
    client = VaultClient(address, clock=SystemClock())
    with pytest.raises(VaultTlsFailed) as caught:
        await client.health()
    assert "https://" in caught.value.remedy
    await client.aclose()


async def test_namespace(openbao: OpenBao) -> None:
    """The namespace goes with every request: the same path elsewhere is another value."""
    openbao.admin.request("POST", "sys/namespaces/team-a", {})
    mount = {"type": "kv", "options": {"version": "1"}}
    openbao.admin.request("POST", "team-a/sys/mounts/kv1", mount)
    openbao.admin.request("POST", "team-a/kv1/where", {"where": "team-a"})
    openbao.admin.kv_write("kv1", "where", {"where": "root"}, version=1)
    for namespace, expected in (("", "root"), ("team-a", "team-a")):
        client = VaultClient(openbao.address, clock=SystemClock(), namespace=namespace)
        value = await client.kv_read(openbao.root_token, mount="kv1", path="where", kv_version=1)
        assert value.data["where"].reveal() == expected
        await client.aclose()
    client = VaultClient(openbao.address, clock=SystemClock(), namespace="nowhere")
    with pytest.raises(VaultNotFound) as caught:
        await client.kv_read(openbao.root_token, mount="kv1", path="where", kv_version=1)
    assert "vault.namespace" in caught.value.remedy
    await client.aclose()


async def test_a_rate_limit_quota_throttles(openbao: OpenBao, client: VaultClient) -> None:
    """OpenBao's quota on a mount answers 429, and other mounts go on."""
    openbao.admin.enable_kv("quota", version=1)
    quota = {"path": "quota/", "rate": 1, "interval": "60s"}
    openbao.admin.request("POST", "sys/quotas/rate-limit/tight", quota)
    try:
        with pytest.raises(VaultThrottled):
            for _ in range(3):
                await client.kv_read(
                    openbao.root_token, mount="quota", path="started", kv_version=1
                )
        await client.kv_read(openbao.root_token, mount="kv1", path="started", kv_version=1)
    finally:
        openbao.admin.request("DELETE", "sys/quotas/rate-limit/tight")


@pytest.mark.parametrize(
    ("mount", "path", "version", "word"),
    [
        ("kv1", "data/framed", 1, ""),
        ("kv1", "framed", 2, "version: 1"),
        ("secret", "framed", 1, "version: 2"),
        ("secret", "data/framed", 1, "version: 2"),
        ("nowhere", "framed", 2, "mounted"),
    ],
)
async def test_hints_at_the_kv_version(
    openbao: OpenBao, client: VaultClient, mount: str, path: str, version: int, word: str
) -> None:
    """Each way to mix up mount, path and version says what to change."""
    openbao.admin.kv_write("kv1", "data/framed", {"data": {"a": "b"}}, version=1)
    openbao.admin.kv_write("secret", "framed", {"a": "b"})
    asking = client.kv_read(
        openbao.root_token, mount=mount, path=path, kv_version=1 if version == 1 else 2
    )
    if not word:
        assert (await asking).data["data"].reveal() == '{"a":"b"}'
        return
    with pytest.raises((VaultNotFound, VaultInvalid)) as caught:
        await asking
    assert word in caught.value.remedy


async def test_a_login_that_comes_too_late_leaves_no_token(
    openbao: OpenBao, kubernetes_auth: KubernetesAuth
) -> None:
    """TokenReview hangs, the caller gives up, then the login succeeds: its token is revoked."""
    client = VaultClient(openbao.address, clock=SystemClock(), timeout=0.5)
    before = set(openbao.admin.accessors())
    kubernetes_auth.cluster.behaviour = "hang"
    try:
        with pytest.raises(VaultTimeout):
            await client.login_kubernetes(
                mount=kubernetes_auth.mount, role=kubernetes_auth.role, jwt=kubernetes_auth.token()
            )
    finally:
        kubernetes_auth.cluster.behaviour = "answer"
    await client.aclose()  # waits for the late answer, and for the revocation
    assert set(openbao.admin.accessors()) <= before


async def test_an_overloaded_server_does_not_keep_the_caller(
    openbao: OpenBao, client: VaultClient
) -> None:
    """A server that stands still costs the deadline; afterwards all goes on."""
    slow = VaultClient(openbao.address, clock=SystemClock(), timeout=0.3)
    openbao.pause()
    try:
        asked = await asyncio.gather(
            *(slow.lookup_self(openbao.root_token) for _ in range(6)), return_exceptions=True
        )
        assert {type(error) for error in asked} == {VaultTimeout}
    finally:
        openbao.resume()
    await client.lookup_self(openbao.root_token)
    await slow.aclose()


async def test_a_path_without_an_answer(openbao: OpenBao, client: VaultClient) -> None:
    """A write that answers 204 has no lease and no data: malformed for a credential."""
    with pytest.raises(VaultMalformed):
        await client.lease(
            openbao.root_token, path="kv1/written", method="write", parameters={"a": "b"}
        )


async def test_a_token_of_another_server_is_denied(
    tls_server: tuple[OpenBao, Authority], client: VaultClient
) -> None:
    """A token of another Vault is denied like one that never was."""
    other, _ = tls_server
    with pytest.raises(VaultDenied):
        await client.lookup_self(other.root_token)
