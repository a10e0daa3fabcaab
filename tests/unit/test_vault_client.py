"""``vault.client`` against a server that does what networks and proxies do."""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from broker.clock import SystemClock
from broker.errors import (
    SettingsError,
    VaultDenied,
    VaultError,
    VaultFailed,
    VaultInvalid,
    VaultMalformed,
    VaultNameUnresolved,
    VaultSealed,
    VaultStandby,
    VaultThrottled,
    VaultTimeout,
    VaultUnavailable,
    VaultUnreachable,
)
from broker.secret import SecretValue
from broker.vault.client import VaultClient
from broker.vault.limiter import Budget, Limiter
from tests.simulators.hostile import (
    HostileServer,
    Script,
    after,
    answer,
    hostile_server,
    pour,
    raw,
    response,
    routes,
    trickle,
)
from tests.support.patience import PATIENCE, eventually, turns

CANARY = "canary-5up3r53cr37"
TOKEN = SecretValue("hvs.canary-token")
LOGIN = "/v1/auth/kubernetes/login"
KV = "/v1/secret/data/app"
CREDS = "/v1/database/creds/app"
SELF = "/v1/auth/token/lookup-self"

GRANT = {
    "auth": {
        "client_token": f"hvs.{CANARY}",
        "accessor": "acc",
        "lease_duration": 60,
        "renewable": True,
        "token_type": "service",
        "policies": ["default"],
    }
}
LEASE = {
    "lease_id": "database/creds/app/1",
    "lease_duration": 60,
    "renewable": True,
    "data": {"password": CANARY},
}
VALUE = {"data": {"data": {"key": CANARY}, "metadata": {"version": 1}}}
INFO = {"data": {"accessor": "acc", "ttl": 60, "renewable": True, "type": "service"}}

Served: TypeAlias = "Callable[..., Any]"


@asynccontextmanager
async def served(
    script: Script, **options: Any
) -> AsyncIterator[tuple[HostileServer, VaultClient]]:
    """A hostile server and a client of it."""
    async with hostile_server() as server:
        server.script = script
        client = VaultClient(
            server.address, clock=SystemClock(), **{"timeout": PATIENCE, **options}
        )
        try:
            yield server, client
        finally:
            await client.aclose()


def read(client: VaultClient) -> Coroutine[Any, Any, object]:
    return client.kv_read(TOKEN, mount="secret", path="app", kv_version=2)


def login(client: VaultClient) -> Coroutine[Any, Any, object]:
    return client.login_kubernetes(mount="kubernetes", role="r", jwt=SecretValue("a.b.c"))


async def refused(asking: Coroutine[Any, Any, object]) -> VaultError:
    """The error of a call that must fail; it and all it hangs on hold no canary."""
    with pytest.raises(VaultError) as caught:
        await asking
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + error.remedy
    assert "canary" not in shown
    chain: BaseException | None = error
    while chain is not None:
        assert "canary" not in repr(vars(chain))
        chain = chain.__cause__ or chain.__context__
    return error


class TestEnvironment:
    """Nothing comes from the environment."""

    async def test_no_proxy_and_no_token_from_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Proxy variables, VAULT_TOKEN, a token file and .netrc change no request."""
        async with hostile_server() as proxy, served(answer(GRANT)) as (server, client):
            for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.address)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.setenv("VAULT_TOKEN", "from-the-environment")
            monkeypatch.setenv("VAULT_ADDR", proxy.address)
            monkeypatch.setenv("HOME", str(tmp_path))
            (tmp_path / ".vault-token").write_text("from-a-file")
            (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else")
            await login(client)
            assert proxy.connections == 0
            (seen,) = server.seen
            assert "x-vault-token" not in seen.headers
            assert "authorization" not in seen.headers

    async def test_each_request_says_what_it_should(self) -> None:
        """A request carries its own token, the namespace and the header against forgery."""
        async with served(answer(VALUE), namespace="team/a") as (server, client):
            await read(client)
        (seen,) = server.seen
        assert (seen.method, seen.target) == ("GET", KV)
        assert seen.headers["x-vault-token"] == TOKEN.reveal()
        assert seen.headers["x-vault-namespace"] == "team/a"
        assert seen.headers["x-vault-request"] == "true"

    @pytest.mark.parametrize("token", ["", "two\r\nlines", "tab\there", "ümlaut"])
    async def test_a_token_that_is_none_is_not_sent(self, token: str) -> None:
        """Something that cannot be a token is refused here, and not quoted."""
        async with served(answer(INFO)) as (server, client):
            error = await refused(client.lookup_self(SecretValue(token and f"canary{token}")))
        assert isinstance(error, VaultDenied)
        assert server.seen == []

    @pytest.mark.parametrize("path", ["", "a//b", "../sys/mounts", "a/./b", "a/.."])
    async def test_a_path_that_climbs_is_refused(self, path: str) -> None:
        """A path says exactly what is asked for."""
        async with served(answer(VALUE)) as (server, client):
            error = await refused(client.lease(TOKEN, path=path))
        assert isinstance(error, VaultInvalid)
        assert server.seen == []

    async def test_a_path_is_escaped(self) -> None:
        """Characters with a meaning in URLs are part of the path."""
        async with served(answer(VALUE)) as (server, client):
            await client.kv_read(TOKEN, mount="se cret", path="a?b#c%2f", kv_version=2)
        assert server.seen[0].target == "/v1/se%20cret/data/a%3Fb%23c%252f"

    @pytest.mark.parametrize(
        "address", ["", "vault:8200", "ftp://vault", "http://", "http://user:pw@vault", "unix:///x"]
    )
    async def test_an_address_that_is_none(self, address: str) -> None:
        """An address is an http or https URL without a user."""
        with pytest.raises(SettingsError):
            VaultClient(address, clock=SystemClock())
        with pytest.raises(SettingsError):
            VaultClient("http://vault", clock=SystemClock(), redirect_addresses=[address])


class TestRedirects:
    """A token goes to configured addresses only."""

    async def test_to_another_host_is_not_followed(self) -> None:
        """A 307 elsewhere is an error, and the token does not get there."""
        async with hostile_server() as thief:
            location = {"Location": f"{thief.address}{KV}"}
            async with served(raw(response(307, b"", location))) as (_, client):
                error = await refused(read(client))
            assert isinstance(error, VaultStandby)
            assert thief.address in str(error)
            assert thief.connections == 0

    async def test_to_a_configured_address_is_followed(self) -> None:
        """A standby's 307 leads to the leader, with method, body and token."""
        async with hostile_server() as leader:
            leader.script = answer(GRANT)
            location = {"Location": f"{leader.address}/v1/auth/token/renew-self"}
            script = raw(response(307, b"", location))
            async with served(script, redirect_addresses=[leader.address]) as (_, client):
                await client.renew_self(TOKEN, increment=60)
            (seen,) = leader.seen
            assert (seen.method, seen.json) == ("POST", {"increment": 60})
            assert seen.headers["x-vault-token"] == TOKEN.reveal()

    @pytest.mark.parametrize(
        "location",
        [
            "{origin}.evil.example/v1/x",
            "{origin}@evil.example/v1/x",
            "//evil.example/v1/x",
            "/v1/elsewhere",
            "",
        ],
    )
    async def test_to_what_only_looks_configured(self, location: str) -> None:
        """Origins are compared whole."""
        async with served(answer({})) as (server, client):
            target = location.format(origin=server.address)
            server.script = raw(response(307, b"", {"Location": target}))
            error = await refused(read(client))
        assert isinstance(error, VaultStandby | VaultMalformed)
        assert len(server.seen) == 1

    @pytest.mark.parametrize("status", [301, 302, 303, 308])
    async def test_of_another_kind_is_not_followed(self, status: int) -> None:
        """A login page of some proxy is not Vault."""
        async with served(answer({})) as (server, client):
            server.script = raw(response(status, b"", {"Location": f"{server.address}/login"}))
            error = await refused(read(client))
        assert isinstance(error, VaultMalformed)
        assert len(server.seen) == 1

    async def test_in_a_circle_ends(self) -> None:
        """Two standbys that name each other are no leader."""
        async with served(answer({})) as (server, client):
            server.script = raw(response(307, b"", {"Location": f"{server.address}{KV}"}))
            assert isinstance(await refused(read(client)), VaultStandby)
        assert len(server.seen) == 2


class TestBadAnswers:
    """What is not Vault's is told apart from Vault's word."""

    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            (raw(response(200, f"<html>{CANARY}</html>".encode())), VaultMalformed),
            (raw(response(200, f'{{"data": {{"data": "{CANARY}'.encode())), VaultMalformed),
            (raw(response(200, b"")), VaultMalformed),
            (raw(response(204, b"")), VaultMalformed),
            (raw(response(200, b'["canary"]')), VaultMalformed),
            (raw(response(200, b'{"data": NaN, "x": "canary"}')), VaultMalformed),
            (raw(response(200, b"[" * 100_000)), VaultMalformed),
            (raw(response(200, b"\xff\xfecanary")), VaultMalformed),
            (raw(response(403, b"<html>canary</html>")), VaultMalformed),
            (raw(response(404, b"<html>canary</html>")), VaultMalformed),
            (raw(response(502, b"<html>canary</html>")), VaultFailed),
            (raw(response(429, b"canary")), VaultThrottled),
            (raw(b"SSH-2.0-canary\r\n\r\n", close=True), VaultMalformed),
            (raw(b"HTTP/1.1 200 OK\r\ncanary\r\nX: y\r\n\r\n", close=True), VaultMalformed),
            (raw(b"HTTP/1.1 200 OK\r\nX: " + b"canary" * 20_000, close=True), VaultMalformed),
            (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{", close=True), VaultUnreachable),
            (raw(b"", close=True), VaultUnreachable),
            (answer({"errors": ["canary"]}, 500), VaultFailed),
            (answer({"errors": ["canary: Vault is sealed"]}, 503), VaultSealed),
            (answer({"errors": ["canary"]}, 412), VaultFailed),
            (answer({"errors": ["canary"]}, 418), VaultInvalid),
        ],
    )
    async def test_becomes_an_error_without_its_body(
        self, script: Script, expected: type[VaultError], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each kind of answer has its error; no error and no log line quotes an answer."""
        caplog.set_level(logging.DEBUG)
        async with served(script) as (_, client):
            error = await refused(read(client))
        assert type(error) is expected
        assert "canary" not in caplog.text

    async def test_too_long_is_not_read_to_its_end(self) -> None:
        """Of 20 MB only the first few are taken."""
        size = 20_000_000
        async with served(answer({})) as (server, client):
            server.script = pour(server, size)
            assert isinstance(await refused(read(client)), VaultMalformed)
            await asyncio.sleep(0.05)
            assert server.sent < size / 2

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("7", 7.0),
            ("Sun, 01 Jan 2023 00:00:00 GMT", 0.0),
            ("soon", None),
            ("-3", None),
            ("", None),
        ],
    )
    async def test_throttled_says_for_how_long(self, header: str, expected: float | None) -> None:
        """Retry-After reaches the caller, in seconds or as a date."""
        script = answer({"errors": ["quota"]}, 429, {"Retry-After": header})
        async with served(script) as (_, client):
            error = await refused(read(client))
        assert isinstance(error, VaultThrottled)
        assert error.retry_after == expected

    async def test_nobody_listens(self) -> None:
        """A closed port is unreachable, at once."""
        async with hostile_server() as server:
            address = server.address
        client = VaultClient(address, clock=SystemClock())
        error = await refused(read(client))
        assert type(error) is VaultUnreachable
        assert "refused" in str(error)

    async def test_a_name_that_is_none(self) -> None:
        """A host that does not resolve is told apart."""
        client = VaultClient("http://vault.invalid:8200", clock=SystemClock(), timeout=1.9)
        error = await refused(read(client))
        assert isinstance(error, VaultNameUnresolved | VaultTimeout)  # a slow resolver may hang

    async def test_a_reset_is_unreachable(self) -> None:
        """A connection reset under way is unreachable."""

        async def reset(_: object, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with served(reset) as (_, client):
            assert type(await refused(read(client))) is VaultUnreachable


class TestDeadline:
    """The deadline stands above the socket."""

    @pytest.mark.parametrize(
        "script",
        [
            trickle(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000, each=0.01),
            trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000, each=0.01),
        ],
        ids=["head", "body"],
    )
    async def test_a_trickling_server_holds_neither_caller_nor_thread(self, script: Script) -> None:
        """A byte now and then does not stretch the deadline, and the thread comes back."""

        async def again() -> None:
            with suppress(VaultTimeout):  # half a second may be short for a busy machine
                await read(client)
                done.set()

        done = asyncio.Event()
        slots = Limiter(Budget(rate=1000, burst=100, concurrency=3), clock=SystemClock())
        async with served(script, timeout=0.5, limiter=slots) as (server, client):
            async with asyncio.timeout(PATIENCE):  # the trickle goes on for longer
                assert isinstance(await refused(read(client)), VaultTimeout)
                server.script = answer(VALUE)
                while not done.is_set():
                    await again()  # of three slots reads may have one: it is free again

    async def test_six_hung_reads_do_not_stop_a_login(self) -> None:
        """Reads that hang hold their threads, and none of those kept for logins."""
        never = asyncio.Event()
        script = routes({KV: after(never.wait, answer(VALUE)), LOGIN: answer(GRANT)})
        async with served(script) as (server, client):
            reads = [asyncio.create_task(refused(read(client))) for _ in range(6)]
            await server.arrived(KV, 6)
            await login(client)
            assert not any(task.done() for task in reads)
            for task in reads:
                task.cancel()
            await asyncio.gather(*reads, return_exceptions=True)

    async def test_hung_renewals_do_not_stop_a_login(self) -> None:
        """Renewals that hang leave a slot for the login, too."""
        never = asyncio.Event()
        renew = "/v1/sys/leases/renew"
        script = routes({renew: after(never.wait, answer(LEASE)), LOGIN: answer(GRANT)})
        async with served(script) as (server, client):
            renewals = [asyncio.create_task(client.renew_lease(TOKEN, "x")) for _ in range(9)]
            await server.arrived(renew, 7)
            await login(client)
            assert not any(task.done() for task in renewals)
            for task in renewals:
                task.cancel()
            await asyncio.gather(*renewals, return_exceptions=True)


class TestLateAnswers:
    """Nothing is minted that nobody knows."""

    REVOKE = "/v1/sys/leases/revoke"
    REVOKE_SELF = "/v1/auth/token/revoke-self"

    async def test_a_late_lease_is_revoked(self) -> None:
        """The lease of an answer after the deadline is revoked with the token that took it."""
        go = asyncio.Event()
        script = routes(
            {CREDS: after(go.wait, answer(LEASE)), self.REVOKE: raw(response(204, b""))}
        )
        async with served(script, timeout=1.0) as (server, client):
            error = await refused(client.lease(TOKEN, path="database/creds/app"))
            assert isinstance(error, VaultTimeout)
            assert server.asked(self.REVOKE) == []
            go.set()
            revoked = await server.arrived(self.REVOKE)
        assert revoked.json == {"lease_id": "database/creds/app/1"}
        assert revoked.headers["x-vault-token"] == TOKEN.reveal()

    async def test_a_late_login_is_revoked(self) -> None:
        """The token of a login whose caller was cancelled revokes itself."""
        go = asyncio.Event()
        script = routes(
            {LOGIN: after(go.wait, answer(GRANT)), self.REVOKE_SELF: raw(response(204, b""))}
        )
        async with served(script) as (server, client):
            task = asyncio.create_task(login(client))
            await server.arrived(LOGIN)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            go.set()
            revoked = await server.arrived(self.REVOKE_SELF)
        assert revoked.headers["x-vault-token"] == f"hvs.{CANARY}"

    async def test_a_lease_in_an_answer_that_cannot_be_read_is_revoked(self) -> None:
        """A lease without a duration cannot be used, but it exists."""
        broken = {**LEASE, "lease_duration": "60s"}
        script = routes({CREDS: answer(broken), self.REVOKE: raw(response(204, b""))})
        async with served(script) as (server, client):
            error = await refused(client.lease(TOKEN, path="database/creds/app"))
            assert isinstance(error, VaultMalformed)
            await server.arrived(self.REVOKE)

    async def test_a_revocation_that_fails_is_tried_again(self) -> None:
        """One outage does not leave a lease behind."""
        answers = iter([answer({"errors": []}, 500), raw(response(204, b""))])

        async def revoke(seen: Any, writer: asyncio.StreamWriter) -> None:
            await next(answers)(seen, writer)

        broken = {**LEASE, "renewable": None}
        async with served(routes({CREDS: answer(broken), self.REVOKE: revoke})) as (server, client):
            await refused(client.lease(TOKEN, path="database/creds/app"))
            await server.arrived(self.REVOKE, 2)

    async def test_closing_waits_for_late_answers(self) -> None:
        """``aclose`` returns when the late lease is revoked."""
        go = asyncio.Event()
        script = routes(
            {CREDS: after(go.wait, answer(LEASE)), self.REVOKE: raw(response(204, b""))}
        )
        async with served(script) as (server, client):
            task = asyncio.create_task(client.lease(TOKEN, path="database/creds/app"))
            await server.arrived(CREDS)
            task.cancel()
            closing = asyncio.create_task(client.aclose())
            await asyncio.sleep(0.05)
            assert not closing.done()
            go.set()
            await closing
            assert len(server.asked(self.REVOKE)) == 1

    async def test_closing_is_bounded_and_leaves_nothing_running(self) -> None:
        """A server that never answers cannot hold up the end; threads and tasks are gone."""
        never = asyncio.Event()
        before = set(threading.enumerate())
        async with served(after(never.wait, answer(LEASE)), timeout=600, close_timeout=0.2) as (
            server,
            client,
        ):
            tasks = [
                asyncio.create_task(client.lease(TOKEN, path="database/creds/app")),
                asyncio.create_task(read(client)),
            ]
            await server.arrived(CREDS)
            await server.arrived(KV)
            tasks[0].cancel()
            await asyncio.sleep(0)
            await client.aclose()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(ended[1], VaultUnavailable)
            error = await refused(read(client))
            assert type(error) is VaultUnavailable
            for thread in set(threading.enumerate()) - before:
                thread.join(PATIENCE)
                assert not thread.is_alive()
            assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("vault-late")]


class Recorder:
    """Metrics that remember."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def vault_request(self, operation: str, status: str, seconds: float) -> None:
        assert seconds >= 0
        self.told.append((operation, status))


class TestRequests:
    """What is measured and reused."""

    async def test_each_request_is_counted_by_operation_and_status(self) -> None:
        """Metrics hear of every request that was sent, with its end."""
        recorder = Recorder()
        script = routes({KV: answer(VALUE), SELF: answer({"errors": ["no"]}, 403)})
        async with served(script, metrics=recorder) as (_, client):
            await read(client)
            await refused(client.lookup_self(TOKEN))
        assert recorder.told == [("kv_read", "ok"), ("lookup_self", "vault_denied")]

    async def test_connections_are_kept(self) -> None:
        """Requests one after the other share a connection."""
        async with served(answer(VALUE)) as (server, client):
            for _ in range(5):
                await read(client)
            assert (server.connections, len(server.seen)) == (1, 5)

    async def test_a_refusal_keeps_the_connection(self) -> None:
        """Vault's no is an answer like others."""
        async with served(answer({"errors": ["no"]}, 403)) as (server, client):
            for _ in range(3):
                await refused(read(client))
            assert server.connections == 1

    async def test_a_restarted_server_is_found_again(self) -> None:
        """A kept connection that the server has closed is not used."""
        async with served(raw(response(200, b"{}"), close=True)) as (server, client):
            await refused(read(client))
            server.script = answer(VALUE)
            await eventually(lambda: server.open == 0)
            await turns()
            await read(client)
            assert server.connections == 2

    @pytest.mark.parametrize("status", [429, 472, 473, 501, 503])
    async def test_health_reads_every_status(self, status: int) -> None:
        """``sys/health`` says how Vault is by its status, and its body is read all the same."""
        body = {"initialized": True, "sealed": status == 503, "standby": True, "version": "2.7.2"}
        async with served(answer(body, status)) as (server, client):
            health = await client.health()
        assert (health.sealed, health.standby) == (status == 503, True)
        assert "x-vault-token" not in server.seen[0].headers

    async def test_the_log_holds_no_secret(self, caplog: pytest.LogCaptureFixture) -> None:
        """At the finest level no token and no value is logged, by nobody."""
        caplog.set_level(logging.DEBUG)
        script = routes({LOGIN: answer(GRANT), KV: answer(VALUE), CREDS: answer(LEASE)})
        async with served(script) as (_, client):
            await login(client)
            await read(client)
            await client.lease(TOKEN, path="database/creds/app")
        assert caplog.records
        assert "canary" not in caplog.text
