"""``vault.client`` over TLS: whom it trusts, what it shows, files that change."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import logging
import shutil
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from broker.clock import SystemClock
from broker.demo.certificates import Authority, CertificateFiles
from broker.errors import VaultError, VaultTlsFailed, VaultUnreachable
from broker.secret import SecretValue
from broker.vault.client import VaultClient
from broker.vault.tls import TlsOptions, context, fingerprint
from tests.simulators.hostile import HostileServer, answer, hostile_server
from tests.support.patience import PATIENCE, eventually

TOKEN = SecretValue("hvs.canary-token")
INFO = {"data": {"accessor": "acc", "ttl": 60, "renewable": True, "type": "service"}}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "ours").mkdir()
    return Authority(tmp_path / "ours", name="our CA")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    (tmp_path / "theirs").mkdir()
    return Authority(tmp_path / "theirs", name="their CA")


def server_tls(files: CertificateFiles, *, client_ca: Path | None = None) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(files.certificate, files.key)
    if client_ca is not None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(client_ca)
    return made


@asynccontextmanager
async def served(
    tls: ssl.SSLContext, options: TlsOptions, address: str = "{}"
) -> AsyncIterator[tuple[HostileServer, VaultClient]]:
    async with hostile_server(tls) as server:
        server.script = answer(INFO)
        where = address.format(server.address)
        client = VaultClient(where, clock=SystemClock(), tls=options, timeout=PATIENCE)
        try:
            yield server, client
        finally:
            await client.aclose()


async def refused(tls: ssl.SSLContext, options: TlsOptions) -> VaultError:
    """The error of a look-up; no request, and so no token, has arrived."""
    async with served(tls, options) as (server, client):
        with pytest.raises(VaultError) as caught:
            await client.lookup_self(TOKEN)
        assert server.seen == []
    return caught.value


class TestTrust:
    """Who may answer."""

    async def test_our_authority_by_file_and_by_directory(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        """A certificate by a configured CA for the address's host is trusted."""
        tls = server_tls(authority.issue("vault"))
        async with served(tls, TlsOptions(ca_file=str(authority.ca_file))) as (_, client):
            await client.lookup_self(TOKEN)
        hashed = tmp_path / "hashed"
        hashed.mkdir()
        shutil.copy(authority.ca_file, hashed / f"{_subject_hash('our CA')}.0")
        async with served(tls, TlsOptions(ca_path=str(hashed))) as (_, client):
            await client.lookup_self(TOKEN)

    async def test_a_foreign_authority(self, authority: Authority, stranger: Authority) -> None:
        """A certificate by another CA is refused."""
        tls = server_tls(stranger.issue("vault"))
        error = await refused(tls, TlsOptions(ca_file=str(authority.ca_file)))
        assert isinstance(error, VaultTlsFailed)

    async def test_the_systems_authorities(
        self, authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without a configured CA the system's count; with one they do not."""
        tls = server_tls(authority.issue("vault"))
        assert isinstance(await refused(tls, TlsOptions()), VaultTlsFailed)
        # OpenSSL's own variable says which the system's are.
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
        async with served(tls, TlsOptions()) as (_, client):
            await client.lookup_self(TOKEN)
        error = await refused(tls, TlsOptions(ca_file=str(stranger.ca_file)))
        assert isinstance(error, VaultTlsFailed)

    async def test_an_image_without_roots(
        self, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Where the system has no roots at all, those of certifi count."""
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
        assert len(context(TlsOptions()).get_ca_certs()) > 50
        tls = server_tls(authority.issue("vault"))
        assert isinstance(await refused(tls, TlsOptions()), VaultTlsFailed)

    async def test_another_host(self, authority: Authority) -> None:
        """A certificate for another name is refused, and the error says so."""
        tls = server_tls(authority.issue("vault", names=("vault.example",)))
        error = await refused(tls, TlsOptions(ca_file=str(authority.ca_file)))
        assert isinstance(error, VaultTlsFailed)
        assert "127.0.0.1" in str(error)

    async def test_server_name(self, authority: Authority) -> None:
        """``server_name`` is asked for by SNI, and verified in place of the host."""
        tls = server_tls(authority.issue("vault", names=("vault.example",)))
        asked: list[str | None] = []
        tls.sni_callback = lambda _sock, name, _context: asked.append(name)
        ca_file = str(authority.ca_file)
        async with served(tls, TlsOptions(ca_file, server_name="vault.example")) as (_, client):
            await client.lookup_self(TOKEN)
        assert asked == ["vault.example"]
        error = await refused(tls, TlsOptions(ca_file, server_name="other.example"))
        assert isinstance(error, VaultTlsFailed)

    async def test_an_expired_certificate(self, authority: Authority) -> None:
        """A certificate whose time is over is refused, and the error says so."""
        files = authority.issue("vault", life=dt.timedelta(hours=-1))
        error = await refused(server_tls(files), TlsOptions(ca_file=str(authority.ca_file)))
        assert isinstance(error, VaultTlsFailed)
        assert "expired" in str(error)

    async def test_skipping_is_said_loudly_and_once(
        self, stranger: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without verification anybody is believed: the log warns once, the library never."""
        tls = server_tls(stranger.issue("vault", names=("else.example",)))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async with served(tls, TlsOptions(unsafe_skip_verify=True)) as (_, client):
                await client.lookup_self(TOKEN)
                await client.lookup_self(TOKEN)
        assert [r.levelno for r in caplog.records if "unsafe" in r.message] == [logging.WARNING]
        assert caught == []

    async def test_plain_http_where_tls_is_spoken(self, authority: Authority) -> None:
        """http:// to a TLS port fails as unavailable."""
        tls = server_tls(authority.issue("vault"))
        async with hostile_server(tls) as server:
            where = server.address.replace("https", "http")
            client = VaultClient(where, clock=SystemClock(), timeout=PATIENCE)
            with pytest.raises(VaultError) as caught:
                await client.lookup_self(TOKEN)
            assert caught.value.retryable

    async def test_tls_where_plain_http_is_spoken(self) -> None:
        """https:// to a plain port fails as TLS."""

        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = VaultClient(f"https://127.0.0.1:{port}", clock=SystemClock(), timeout=PATIENCE)
            with pytest.raises(VaultTlsFailed, match=r"wrong version number|record layer failure"):
                await client.lookup_self(TOKEN)


class TestClientCertificate:
    """What the client shows."""

    async def test_is_shown(self, authority: Authority) -> None:
        """A server that wants a certificate gets the configured one, and refuses without."""
        mine = authority.issue("broker")
        tls = server_tls(authority.issue("vault"), client_ca=authority.ca_file)
        ca_file = str(authority.ca_file)
        options = TlsOptions(ca_file, cert_file=str(mine.certificate), key_file=str(mine.key))
        async with served(tls, options) as (_, client):
            await client.lookup_self(TOKEN)
        # By TLS 1.3 the client hears of it only after its own part of the handshake: as an
        # alert, or not at all when the server is quick to close.
        error = await refused(tls, TlsOptions(ca_file))
        assert isinstance(error, VaultTlsFailed | VaultUnreachable)

    def test_that_cannot_be_used(self, authority: Authority, stranger: Authority) -> None:
        """Files that are missing, garbage or no pair are a TLS failure with a remedy."""
        mine, other = authority.issue("broker"), stranger.issue("other")
        missing = str(authority.ca_file.with_name("missing"))
        for options in (
            TlsOptions(ca_file=missing),
            TlsOptions(ca_path=missing),
            TlsOptions(ca_file=str(mine.key)),
            TlsOptions(cert_file=missing),
            TlsOptions(cert_file=str(mine.certificate)),
            TlsOptions(cert_file=str(mine.certificate), key_file=str(other.key)),
        ):
            with pytest.raises(VaultTlsFailed) as caught:
                context(options)
            assert "vault.tls" in caught.value.remedy


class TestReload:
    """Files that change."""

    async def test_new_files_are_used(
        self, authority: Authority, stranger: Authority, tmp_path: Path
    ) -> None:
        """After a change of the CA file new connections trust the new CA, and it alone."""
        ca_file = tmp_path / "ca.pem"
        shutil.copy(stranger.ca_file, ca_file)
        options = TlsOptions(ca_file=str(ca_file))
        async with served(server_tls(authority.issue("vault")), options) as (server, client):
            with pytest.raises(VaultTlsFailed):
                await client.lookup_self(TOKEN)
            assert not client.reload_tls()
            shutil.copy(authority.ca_file, ca_file)
            assert client.reload_tls()
            await client.lookup_self(TOKEN)
            assert server.open == 1
            shutil.copy(stranger.ca_file, ca_file)
            assert client.reload_tls()
            await eventually(lambda: server.open == 0)  # the kept connection is closed
            with pytest.raises(VaultTlsFailed):
                await client.lookup_self(TOKEN)
        assert len(server.seen) == 1

    async def test_files_that_come_late(self, authority: Authority, tmp_path: Path) -> None:
        """While there are no files to begin with, every request looks for them."""
        ca_file = tmp_path / "ca.pem"
        options = TlsOptions(ca_file=str(ca_file))
        async with served(server_tls(authority.issue("vault")), options) as (_, client):
            with pytest.raises(VaultTlsFailed) as caught:
                await client.lookup_self(TOKEN)
            assert "vault.tls" in caught.value.remedy
            shutil.copy(authority.ca_file, ca_file)
            await client.lookup_self(TOKEN)

    async def test_bad_files_leave_the_good_ones_in_force(
        self, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A file half written changes nothing, and the log says so."""
        ca_file = tmp_path / "ca.pem"
        shutil.copy(authority.ca_file, ca_file)
        options = TlsOptions(ca_file=str(ca_file))
        async with served(server_tls(authority.issue("vault")), options) as (_, client):
            await client.lookup_self(TOKEN)
            ca_file.write_text("-----BEGIN CERTI")
            assert not client.reload_tls()
            await client.lookup_self(TOKEN)
        assert "not used" in caplog.text

    def test_fingerprint(self, authority: Authority, tmp_path: Path) -> None:
        """Any change of any file's content shows, and nothing else."""
        ca_file, directory = tmp_path / "ca.pem", tmp_path / "hashed"
        directory.mkdir()
        options = TlsOptions(ca_file=str(ca_file), ca_path=str(directory))
        seen = [fingerprint(options)]
        ca_file.write_text("one")
        seen.append(fingerprint(options))
        ca_file.write_text("two")
        seen.append(fingerprint(options))
        (directory / "0.0").write_text("three")
        seen.append(fingerprint(options))
        ca_file.touch()
        assert fingerprint(options) == seen[-1]
        assert len(set(seen)) == 4


def _subject_hash(name: str) -> str:
    """OpenSSL's file name for a CA with this common name, as ``openssl rehash`` finds it."""
    canonical = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.lower())])
    parts = canonical.public_bytes()[2:]  # without the frame of the sequence
    return hashlib.sha1(parts).digest()[3::-1].hex()
