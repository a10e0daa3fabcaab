"""The http driver against providers on their bad days."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.clock import SystemClock
from broker.credentials.model import CredentialKey, CredentialSpec, KvSource, Use
from broker.credentials.store import CredentialStore
from broker.demo.certificates import Authority
from broker.demo.search_api import SearchApi
from broker.demo.serving import ServedApp
from broker.errors import (
    BrokerError,
    ProofFailed,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
)
from broker.rotation.drivers.documents import FilledRequest, RequestTemplate
from broker.rotation.drivers.exchange import MAX_BODY, Exchange, HeldKey, stored_key
from broker.rotation.drivers.http import MAX_PAGES, CreateCall, HttpCalls, HttpDriver, ListCall
from broker.rotation.drivers.port import MintedKey
from broker.rotation.drivers.proof import HttpProof
from broker.rotation.model import Label
from broker.secret import SecretValue
from tests.contract.test_driver_port import SearchWorld

CLOCK = SystemClock()
LABEL = Label("here", "search-api", "r1")
CANARY = "sk-canary-0123456789abcdef"


@pytest.fixture
def api() -> Iterator[SearchApi]:
    api = SearchApi()
    api.start()
    yield api
    api.stop()


@contextmanager
def provider(answer: bytes, *, trickle: float = 0.0) -> Iterator[tuple[str, list[bytes]]]:
    """Answers every connection with these bytes; its origin and the requests it saw."""
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65_536)
                head, _, body = request.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                while length and len(body) < int(length[1]):  # unread bytes would reset it
                    body += connection.recv(65_536)
                seen.append(request)
                try:
                    if trickle:
                        for number in range(len(answer)):
                            if ended.wait(trickle):
                                return
                            connection.sendall(answer[number : number + 1])
                    else:
                        connection.sendall(answer)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def http(status: str, body: str = "", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", body]).encode()


def use(origin: str, **like: Any) -> Use:
    return replace(Use(name="x-api-key", field="api_key", origins=(origin,)), **like)


def driver(
    origin: str,
    *,
    timeout: float = 2.0,
    held: tuple[SecretValue, ...] = (),
    manager: HeldKey | None = None,
    target: str = "",
    life: float | None = None,
) -> HttpDriver:
    target = target or origin
    key = manager or HeldKey("admin", {"api_key": SecretValue(CANARY)}, use(origin))
    exchange = Exchange(clock=CLOCK, timeout=timeout)
    spec = CredentialSpec(CredentialKey("search-api"), KvSource("secret", "a"), use=use(origin))
    calls = HttpCalls(
        create=CreateCall(
            RequestTemplate("POST", f"{target}/keys", body={"name": "{label}"}),
            {"api_key": "/key"},
            "/id",
            "/until",
            life,
        ),
        listing=ListCall(
            RequestTemplate("GET", f"{target}/keys"),
            "/keys",
            "/id",
            "/name",
            next="/next",
            cursor="after",
        ),
        retire=RequestTemplate("DELETE", f"{target}/keys/{{id}}"),
    )
    return HttpDriver(
        "search-api",
        calls,
        installation="here",
        clock=CLOCK,
        exchange=exchange,
        manager=lambda: key,
        proof=HttpProof(spec, RequestTemplate("GET", f"{target}/me"), exchange, clock=CLOCK),
        in_use=lambda: held,
    )


def words(error: BaseException) -> str:
    """Everything a traceback would show of an error."""
    assert isinstance(error, BrokerError)
    told = f"{error!r} {error} {error.remedy}"
    while error.__cause__ is not None:
        error = error.__cause__
        told += f" {error!r}"
    return told


# --- key management that misbehaves ---------------------------------------------------


async def test_garbage_with_200_is_an_error_and_the_key_is_found_by_its_label(
    api: SearchApi,
) -> None:
    """A creation that cannot be read raises; the key it made is in the list under its label."""
    world = SearchWorld(api)
    api.admin.mishap.garbage = True

    with pytest.raises(UpstreamMalformed, match="no JSON"):
        await world.driver.create(LABEL)

    api.admin.mishap.garbage = False
    assert [key.label for key in await world.driver.list()] == [LABEL.text]


async def test_a_lost_answer_is_temporary_and_the_key_is_found_by_its_label(
    api: SearchApi,
) -> None:
    """What a gateway swallowed may have been done, and can be looked up."""
    world = SearchWorld(api)
    api.admin.mishap.lost = True

    with pytest.raises(UpstreamUnavailable):
        await world.driver.create(LABEL)

    api.admin.mishap.lost = False
    (found,) = await world.driver.list()
    await world.driver.retire(found.key_id)
    assert api.keys.live() == []


async def test_the_key_in_use_again_is_no_new_key(api: SearchApi) -> None:
    """A provider that answers with the key that is handed out already changes nothing."""
    first = await SearchWorld(api).driver.create(LABEL)
    key = first.fields["api_key"]
    manager = HeldKey("admin", {"t": api.admin.key}, use(api.address, scheme="bearer", field="t"))
    calls = HttpCalls(
        CreateCall(
            RequestTemplate("POST", f"{api.address}/admin/keys", body={"label": "{label}"}),
            {"api_key": "/key"},
            "/id",
        ),
        RequestTemplate("DELETE", f"{api.address}/admin/keys/{{id}}"),
    )
    repeating = HttpDriver(
        "search-api",
        calls,
        installation="here",
        clock=CLOCK,
        exchange=Exchange(clock=CLOCK, timeout=5.0),
        manager=lambda: manager,
        proof=None,
        in_use=lambda: (key,),
    )
    api.admin.mishap.repeat = True

    with pytest.raises(UpstreamMalformed, match="in use already") as failed:
        await repeating.create(LABEL)

    assert key.reveal() not in words(failed.value)
    assert api.keys.check(key)[1] == "ok"


async def test_429_is_temporary_and_says_when(api: SearchApi) -> None:
    """Retry-After reaches the plan, and nothing was made."""
    world = SearchWorld(api)
    api.admin.mishap.throttle = 7

    with pytest.raises(UpstreamUnavailable) as failed:
        await world.driver.create(LABEL)

    assert failed.value.retry_after == 7.0
    assert api.keys.known() == []


async def test_a_slow_provider_is_given_up_at_the_deadline() -> None:
    """The deadline is over the whole exchange, though each byte comes in time."""
    started = CLOCK.now()

    with (
        provider(http("200 OK", "{}" + " " * 500), trickle=0.05) as (origin, _),
        pytest.raises(UpstreamUnavailable, match=r"within 0\.3 s"),
    ):
        await driver(origin, timeout=0.3).create(LABEL)

    assert CLOCK.now() - started < 1.5


# --- answers by their status ----------------------------------------------------------

OPERATIONS = ["create", "list", "retire", "prove"]


async def call(one: HttpDriver, operation: str) -> None:
    match operation:
        case "create":
            await one.create(LABEL)
        case "list":
            await one.list()
        case "retire":
            await one.retire("k1")
        case _:
            await one.prove(MintedKey("k1", {"api_key": SecretValue(CANARY)}))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", UpstreamRefused),
        ("408 Request Timeout", UpstreamUnavailable),
        ("409 Conflict", UpstreamUnavailable),
        ("422 Unprocessable Content", UpstreamRefused),
        ("429 Too Many Requests", UpstreamUnavailable),
        ("500 Internal Server Error", UpstreamUnavailable),
        ("503 Service Unavailable", UpstreamUnavailable),
        ("302 Found", UpstreamMalformed),
    ],
)
async def test_statuses(operation: str, status: str, kind: type[UpstreamError]) -> None:
    """Each status has one meaning, and what the answer says is not repeated."""
    answer = http(status, f'{{"error": "{CANARY}"}}', "Location: http://127.0.0.1:9/")
    with provider(answer) as (origin, seen), pytest.raises(UpstreamError) as failed:
        await call(driver(origin), operation)

    assert type(failed.value) is kind
    if isinstance(failed.value, UpstreamUnavailable):
        assert failed.value.unclear is (status[:3] in {"408", "500", "503"})
    assert len(seen) == 1  # no redirect, no retry
    assert CANARY not in words(failed.value)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_401_and_403(operation: str, status: str) -> None:
    """They are the proof's no; elsewhere the managing key lacks the right."""
    with (
        provider(http(status)) as (origin, _),
        pytest.raises(ProofFailed if operation == "prove" else UpstreamRefused),
    ):
        await call(driver(origin), operation)


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
async def test_a_key_that_is_gone_is_retired(status: str) -> None:
    """404 means gone for a retirement, and a wrong URL for all else."""
    with provider(http(status)) as (origin, _):
        await driver(origin).retire("k1")
        for operation in ("create", "list", "prove"):
            with pytest.raises(UpstreamRefused):
                await call(driver(origin), operation)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("Retry-After: 5", 5, 5),
        ("Retry-After: 999999999999999999", 3600, 3600),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
async def test_retry_after(header: str, least: float, most: float) -> None:
    """Seconds and dates are read, and bounded."""
    with (
        provider(http("503 Service Unavailable", "", header)) as (origin, _),
        pytest.raises(UpstreamUnavailable) as failed,
    ):
        await driver(origin).list()

    assert failed.value.retry_after is not None
    assert least <= failed.value.retry_after <= most


@pytest.mark.parametrize("header", ["Retry-After: soon", "Retry-After: -1", "X: y"])
async def test_no_retry_after(header: str) -> None:
    """What is no time is none."""
    with (
        provider(http("503 Service Unavailable", "", header)) as (origin, _),
        pytest.raises(UpstreamUnavailable) as failed,
    ):
        await driver(origin).list()

    assert failed.value.retry_after is None


# --- answers that are no keys -----------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        "[]",
        "null",
        "{}",
        f'{{"id": "k1", "other": "{CANARY}"}}',
        f'{{"key": "{CANARY}"}}',
        f'{{"key": "{CANARY}", "id": ""}}',
        f'{{"key": "{CANARY}", "id": null}}',
        f'{{"key": "{CANARY}", "id": true}}',
        f'{{"key": "{CANARY}", "id": {{}}}}',
        f'{{"key": "{CANARY}", "id": "a\\nb"}}',
        f'{{"key": "{CANARY}", "id": "{CANARY}"}}',
        '{"key": "", "id": "k1"}',
        '{"key": "a\\ud800b", "id": "k1"}',
        f'{{"key": "{CANARY}", "id": "a\\udfff"}}',
        '{"key": null, "id": "k1"}',
        '{"key": 5, "id": "k1"}',
        '{"key": ["a"], "id": "k1"}',
        f'{{"key": " {CANARY}", "id": "k1"}}',
        f'{{"key": "{CANARY}\\r\\nx: y", "id": "k1"}}',
        f'{{"key": "{CANARY}", "id": "k1", "until": "tomorrow"}}',
        f'{{"key": "{CANARY}", "id": "k1", "until": "2030-01-01T00:00:00"}}',
        f'{{"key": "{CANARY}", "id": "k1", "until": 5}}',
        "[" * 100_000,
    ],
)
async def test_a_creation_that_cannot_be_read(body: str) -> None:
    """Each is an error of its own kind, and the key is in none."""
    with provider(http("200 OK", body)) as (origin, _), pytest.raises(UpstreamMalformed) as failed:
        await driver(origin).create(LABEL)

    assert CANARY not in words(failed.value)


async def test_a_creation_is_read() -> None:
    """Key, id (a number too) and expiry come from where the pointers say."""
    body = f'{{"key": "{CANARY}", "id": 17, "until": "2030-01-01T00:00:00Z"}}'
    with provider(http("201 Created", body)) as (origin, seen):
        key = await driver(origin).create(LABEL)

    assert key == MintedKey("17", {"api_key": SecretValue(CANARY)}, 1_893_456_000.0)
    assert seen[0].startswith(b"POST /keys HTTP/1.1\r\n")


async def test_an_answer_that_is_too_large() -> None:
    """Reading ends at the bound."""
    with (
        provider(http("200 OK", "x" * (MAX_BODY + 1))) as (origin, _),
        pytest.raises(UpstreamMalformed, match="larger than"),
    ):
        await driver(origin).create(LABEL)


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
async def test_an_answer_that_is_no_http(answer: bytes) -> None:
    """A broken connection may pass."""
    with provider(answer) as (origin, _), pytest.raises(UpstreamUnavailable):
        await driver(origin).create(LABEL)


async def test_nobody_listens() -> None:
    """A refused connection may pass."""
    with pytest.raises(UpstreamUnavailable) as failed:
        await driver("http://127.0.0.1:1").create(LABEL)

    assert not failed.value.unclear


async def test_a_list_that_never_ends() -> None:
    """A cursor that comes again ends the reading."""
    with (
        provider(http("200 OK", '{"keys": [], "next": "a"}')) as (origin, seen),
        pytest.raises(UpstreamMalformed, match="same page"),
    ):
        await driver(origin).list()

    assert len(seen) == 2 < MAX_PAGES
    assert b"GET /keys?after=a HTTP" in seen[1]


@pytest.mark.parametrize(
    "body", ["{}", '{"keys": {}}', '{"keys": [1]}', '{"keys": [{"name": "x"}]}']
)
async def test_a_list_that_cannot_be_read(body: str) -> None:
    """An item without an id is no key to judge by."""
    with provider(http("200 OK", body)) as (origin, _), pytest.raises(UpstreamMalformed):
        await driver(origin).list()


async def test_keys_without_a_label_are_somebody_elses() -> None:
    """An account's other keys do not disturb the list."""
    body = '{"keys": [{"id": 1}, {"id": "b", "name": null}], "next": ""}'
    with provider(http("200 OK", body)) as (origin, _):
        keys = await driver(origin).list()

    assert [(key.key_id, key.label) for key in keys] == [("1", ""), ("b", "")]


# --- where keys go ------------------------------------------------------------------------


async def test_no_key_leaves_for_another_origin() -> None:
    """A URL that is not at the key's own origins is not asked."""
    with (
        provider(http("200 OK", "{}")) as (elsewhere, seen),
        pytest.raises(UpstreamRefused, match="origin"),
    ):
        await driver("http://127.0.0.1:1", target=elsewhere).create(LABEL)

    assert seen == []


@pytest.mark.parametrize(
    ("like", "line"),
    [
        ({}, f"x-api-key: {CANARY}"),
        ({"prefix": "Key "}, f"x-api-key: Key {CANARY}"),
        ({"scheme": "bearer"}, f"Authorization: Bearer {CANARY}"),
        ({"place": "cookie", "name": "session"}, f"Cookie: session={CANARY}"),
        ({"place": "unsafe_query", "name": "k"}, f"DELETE /keys/k1?k={CANARY} HTTP/1.1"),
    ],
)
async def test_the_managing_key_goes_where_its_use_says(
    like: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Header, cookie, scheme and query; and it is in no log line."""
    caplog.set_level("DEBUG")
    with provider(http("204 No Content")) as (origin, seen):
        held = HeldKey("admin", {"api_key": SecretValue(CANARY)}, use(origin, **like))
        await driver(origin, manager=held).retire("k1")

    assert line.lower() in seen[0].decode().lower()
    assert CANARY not in caplog.text


async def test_a_key_that_would_break_the_header_is_not_sent() -> None:
    """A newline in a managing key is an error before any connection."""
    with provider(http("204 No Content")) as (origin, seen):
        held = HeldKey("admin", {"api_key": SecretValue(f"{CANARY}\n")}, use(origin))
        with pytest.raises(UpstreamError) as failed:
            await driver(origin, manager=held).retire("k1")

    assert seen == []
    assert CANARY not in words(failed.value)


async def test_a_managing_key_without_a_value_is_waited_for() -> None:
    """Until the store has it the provider is not asked."""
    read = stored_key(CredentialStore(CLOCK), "admin", use("http://127.0.0.1:1"), CLOCK)

    with pytest.raises(UpstreamUnavailable, match="admin") as failed:
        read()

    assert not failed.value.unclear


async def test_ids_cannot_become_paths() -> None:
    """What a provider gave as an id is percent-encoded."""
    with provider(http("204 No Content")) as (origin, seen):
        await driver(origin).retire("../a?b#c d/ä%")

    assert seen[0].startswith(b"DELETE /keys/..%2Fa%3Fb%23c%20d%2F%C3%A4%25 HTTP/1.1\r\n")


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody in between sees the key."""
    with (
        provider(http("204 No Content")) as (origin, seen),
        provider(http("204 No Content")) as (proxy, taken),
    ):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        await driver(origin).retire("k1")

    assert (len(seen), taken) == (1, [])


async def test_an_unknown_ca_is_not_trusted(tmp_path: Path) -> None:
    """Without the provider's CA there is no connection; with it there is."""

    async def gone(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    authority = Authority(tmp_path)
    with ServedApp(gone, tls=authority.issue("provider")) as served:
        held = HeldKey("admin", {"api_key": SecretValue(CANARY)}, use(served.address))
        request = FilledRequest("DELETE", f"{served.address}/keys/k1", {})
        strange = Exchange(clock=CLOCK, timeout=5.0)
        with pytest.raises(UpstreamUnavailable, match="TLS") as failed:
            await strange.send(request, held, "a test")
        assert not failed.value.unclear
        known = Exchange(clock=CLOCK, timeout=5.0, ca_file=str(authority.ca_file))
        assert (await known.send(request, held, "a test")).status == 204
        missing = Exchange(clock=CLOCK, timeout=5.0, ca_file=str(tmp_path / "none.pem"))
        with pytest.raises(UpstreamRefused, match="roots"):
            await missing.send(request, held, "a test")
