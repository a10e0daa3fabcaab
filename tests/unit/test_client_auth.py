"""``broker.auth`` in clients of httpx2 and httpx, async and sync: where the key goes, and not."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from broker.client.keyed import Library
from broker.client.testing import FakeBroker, header
from broker.errors import ClientError, CredentialMalformed, CredentialUnknown
from broker.protocol.models import UseDocument
from tests.simulators.clock import ManualClock, SteppingClock

KEY = "canary-api-key-1"
NEWER = "canary-api-key-2"
HOME = "https://api.example.com"
SISTER = "https://eu.api.example.com:8443"
ELSEWHERE = "https://evil.example"
USE = header("X-Api-Key", HOME, SISTER)


class Upstream:
    """Servers of several origins: redirects, and a door that wants the current key."""

    def __init__(self, library: Any, key: str = KEY) -> None:
        self.library = library
        self.key = key
        self.redirects: dict[str, tuple[int, str]] = {}
        self.seen: list[tuple[str, str, str]] = []
        """Method, URL without query, and key, of each request as it is on the wire."""
        self.refusal = 401
        self.wire: list[bytes] = []
        """All that a transport would send of each request, body aside."""
        self.bodies: list[bytes] = []

    def __call__(self, request: Any) -> Any:
        lines = {name.lower(): value for name, value in request.headers.raw}
        key = lines.get(b"x-api-key", b"").decode()
        url = str(request.url.copy_with(query=None))
        self.seen.append((request.method, url, key))
        self.wire.append(repr((request.url.raw_path, request.headers.raw)).encode())
        self.bodies.append(request.read())
        if url in self.redirects:
            status, location = self.redirects[url]
            return self.library.Response(status, headers={"Location": location})
        return self.library.Response(200 if key == self.key else self.refusal, json={"path": url})

    def keys(self) -> dict[str, set[str]]:
        """Origin to the keys it saw."""
        found: dict[str, set[str]] = {}
        for _, url, key in self.seen:
            found.setdefault(url.rsplit("/", 1)[0], set()).add(key)
        return found


class Caller:
    """A client of one library and kind, on an upstream in memory."""

    def __init__(self, library: Any, kind: str) -> None:
        self.library = library
        self.kind = kind
        self.upstream = Upstream(library)
        self.fake = FakeBroker(clock=SteppingClock())
        self.fake.put("search-api", {"api_key": KEY}, use=USE)

    def send(
        self,
        method: str,
        url: str,
        *,
        redirects: str = "",
        handler: Callable[[Any], Any] | None = None,
        name: str = "search-api",
        **options: Any,
    ) -> Any:
        """Send one request; ``redirects`` says who follows them: ``client`` or ``auth``."""
        auth = self.fake.broker().auth(name, follow_redirects=redirects == "auth")
        settings: Any = {
            "auth": auth,
            "transport": self.library.MockTransport(handler or self.upstream),
            "follow_redirects": redirects == "client",
        }

        async def send() -> Any:
            async with self.library.AsyncClient(**settings) as client:
                return await client.request(method, url, **options)

        if self.kind == "async":
            return asyncio.run(send())
        with self.library.Client(**settings) as client:
            return client.request(method, url, **options)


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["async", "sync"])
def caller(request: pytest.FixtureRequest, library: Any) -> Caller:
    return Caller(library, request.param)


who_follows = pytest.mark.parametrize("redirects", ["client", "auth"])


def test_the_key_goes_where_use_says(caller: Caller) -> None:
    """A request to a listed origin carries the key."""
    response = caller.send("GET", f"{HOME}/search?q=x")
    assert response.status_code == 200
    assert caller.upstream.seen == [("GET", f"{HOME}/search", KEY)]


def test_a_handler_that_asks_by_name_sees_the_key(caller: Caller) -> None:
    """Tests of authors read request.headers; by name the key is there, also afterwards."""
    kept: list[Any] = []

    def handler(request: Any) -> Any:
        kept.append(request)
        assert request.headers["x-api-key"] == request.headers.get("X-API-KEY") == KEY
        assert "x-api-key" in request.headers
        assert request.headers.get_list("x-api-key") == [KEY]
        return caller.library.Response(200)

    caller.send("GET", f"{HOME}/search", handler=handler)
    assert kept[0].headers["x-api-key"] == KEY


@pytest.mark.parametrize(
    "url",
    [
        f"{ELSEWHERE}/search",
        "http://api.example.com/search",
        "https://api.example.com:444/search",
        "https://api.example.com.evil.example/search",
        "https://api.example.com@evil.example/search",
        "https://sub.api.example.com/search",
    ],
)
def test_no_other_origin_gets_the_key(caller: Caller, url: str) -> None:
    """Scheme, host and port must all be those of a listed origin."""
    caller.send("GET", url)
    assert [key for _, _, key in caller.upstream.seen] == [""]
    assert caller.fake.reported == []


def test_an_origin_is_recognised_however_it_is_spelled(caller: Caller) -> None:
    """Case of the host and the default port make no other origin."""
    assert caller.send("GET", "https://API.example.com:443/search").status_code == 200


@who_follows
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_elsewhere_never_carries_the_key(
    caller: Caller, redirects: str, status: int, method: str
) -> None:
    """Wherever a listed origin points to, the key stays at home."""
    caller.upstream.redirects = {f"{HOME}/old": (status, f"{ELSEWHERE}/new")}
    caller.send(
        method, f"{HOME}/old", redirects=redirects, content=b"" if method == "GET" else b"b"
    )
    assert caller.upstream.keys() == {HOME: {KEY}, ELSEWHERE: {""}}
    assert not [line for line in caller.upstream.wire[1:] if KEY.encode() in line]


@who_follows
@pytest.mark.parametrize("target", [f"{HOME}/new", "/new", f"{SISTER}/new"])
def test_a_redirect_to_a_listed_origin_carries_the_key(
    caller: Caller, redirects: str, target: str
) -> None:
    """The hop after a redirect has the key as the first had."""
    caller.upstream.redirects = {f"{HOME}/old": (302, target)}
    response = caller.send("GET", f"{HOME}/old", redirects=redirects)
    assert response.status_code == 200
    assert caller.upstream.seen[-1][2] == KEY
    assert caller.fake.reported == []


@who_follows
def test_out_and_back_again_the_key_rejoins(caller: Caller, redirects: str) -> None:
    """A chain through a stranger has the key on its first and last hop only."""
    caller.upstream.redirects = {
        f"{HOME}/a": (302, f"{ELSEWHERE}/b"),
        f"{ELSEWHERE}/b": (302, f"{SISTER}/c"),
        f"{SISTER}/c": (302, f"{HOME}/d"),
    }
    response = caller.send("GET", f"{HOME}/a", redirects=redirects)
    assert response.status_code == 200
    assert caller.upstream.keys()[ELSEWHERE] == {""}
    assert [hop[1:] for hop in caller.upstream.seen if hop[2]] == [
        (f"{HOME}/a", KEY),
        (f"{SISTER}/c", KEY),
        (f"{HOME}/d", KEY),
    ]


def test_the_auth_itself_sends_each_hop_once(caller: Caller) -> None:
    """With follow_redirects given to auth no hop is sent without its key first."""
    caller.upstream.redirects = {f"{HOME}/a": (307, f"{HOME}/b")}
    response = caller.send("POST", f"{HOME}/a", redirects="auth", content=b"body")
    assert response.status_code == 200
    assert caller.upstream.seen == [("POST", f"{HOME}/a", KEY), ("POST", f"{HOME}/b", KEY)]
    assert caller.upstream.bodies == [b"body", b"body"]
    assert [str(hop.url) for hop in response.history] == [f"{HOME}/a"]


def test_a_redirect_that_nobody_follows_is_returned(caller: Caller) -> None:
    """Redirects are followed by who was asked to, else not at all."""
    caller.upstream.redirects = {f"{HOME}/old": (302, f"{HOME}/new")}
    response = caller.send("GET", f"{HOME}/old")
    assert response.status_code == 302
    assert len(caller.upstream.seen) == 1


def test_a_bare_copy_that_changed_something_is_not_sent_twice(caller: Caller) -> None:
    """A POST that a redirect carried to a listed origin and that was served stays one POST."""

    def handler(request: Any) -> Any:
        caller.upstream(request)
        if request.url.path == "/a":
            return caller.library.Response(307, headers={"Location": f"{HOME}/b"})
        return caller.library.Response(201)

    response = caller.send("POST", f"{HOME}/a", redirects="client", handler=handler, content=b"x")
    assert response.status_code == 201
    assert [url for _, url, _ in caller.upstream.seen] == [f"{HOME}/a", f"{HOME}/b"]


@who_follows
def test_an_endless_redirect_ends(caller: Caller, redirects: str) -> None:
    """The library's own bound on redirects holds."""
    caller.upstream.redirects = {f"{HOME}/loop": (302, f"{HOME}/loop")}
    with pytest.raises(caller.library.TooManyRedirects):
        caller.send("GET", f"{HOME}/loop", redirects=redirects)
    assert len(caller.upstream.seen) <= 50


def test_a_401_is_reported_and_retried_once_with_the_newer_version(caller: Caller) -> None:
    """A key changed behind the broker's back costs one refused request, no failure."""
    caller.upstream.key = NEWER
    caller.fake.put_on_report("search-api", {"api_key": NEWER})
    response = caller.send("POST", f"{HOME}/search", json={"q": "x"})
    assert response.status_code == 200
    assert [key for _, _, key in caller.upstream.seen] == [KEY, NEWER]
    assert caller.upstream.bodies == [b'{"q":"x"}'] * 2
    assert [(r.version, r.status) for r in caller.fake.reported] == [("v1", 401)]


@pytest.mark.parametrize(("statuses", "sent"), [((401,), 1), ((401, 403), 2)])
def test_a_403_counts_when_the_hand_out_says_so(
    caller: Caller, statuses: tuple[int, ...], sent: int
) -> None:
    """Else it may be about the account, and is the author's to read."""
    caller.upstream.refusal = 403
    caller.upstream.key = NEWER
    caller.fake.put("search-api", {"api_key": KEY}, report_statuses=statuses)
    caller.fake.put_on_report("search-api", {"api_key": NEWER})
    response = caller.send("GET", f"{HOME}/search")
    assert response.status_code == (200 if sent == 2 else 403)
    assert len(caller.upstream.seen) == sent
    assert [report.status for report in caller.fake.reported] == [403] * (sent - 1)


def test_a_401_without_anything_newer_is_returned(caller: Caller) -> None:
    """Reported once, sent once."""
    caller.upstream.key = "another"
    assert caller.send("GET", f"{HOME}/search").status_code == 401
    assert len(caller.upstream.seen) == len(caller.fake.reported) == 1


def test_a_401_for_the_newer_version_too_is_returned(caller: Caller) -> None:
    """There is one retry, whatever it brings."""
    caller.upstream.key = "another"
    caller.fake.put_on_report("search-api", {"api_key": NEWER})
    assert caller.send("GET", f"{HOME}/search").status_code == 401
    assert [key for _, _, key in caller.upstream.seen] == [KEY, NEWER]
    assert len(caller.fake.reported) == 1


@who_follows
def test_a_401_at_the_end_of_a_chain_is_reported_and_retried(
    caller: Caller, redirects: str
) -> None:
    """After a redirect a refusal counts as it does before."""
    caller.upstream.redirects = {f"{HOME}/a": (302, f"{HOME}/b")}
    caller.upstream.key = NEWER
    caller.fake.put_on_report("search-api", {"api_key": NEWER})
    assert caller.send("GET", f"{HOME}/a", redirects=redirects).status_code == 200
    assert len(caller.fake.reported) == 1


def test_a_401_of_somebody_elses_server_is_not_reported(caller: Caller) -> None:
    """A stranger at the end of a chain cannot refuse the key."""
    caller.upstream.redirects = {f"{HOME}/a": (302, f"{ELSEWHERE}/b")}
    assert caller.send("GET", f"{HOME}/a", redirects="client").status_code == 401
    assert caller.fake.reported == []


def test_a_401_stays_a_401_when_the_broker_is_gone(caller: Caller) -> None:
    """A report that fails does not replace the upstream's answer by an error."""

    def handler(_: Any) -> Any:
        caller.fake.down = True
        return caller.library.Response(401)

    assert caller.send("GET", f"{HOME}/search", handler=handler).status_code == 401


def chunks() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


def test_a_stream_is_reported_and_not_sent_twice(library: Any) -> None:
    """A body that was consumed cannot be sent again: its 401 is the answer."""
    caller = Caller(library, "sync")
    caller.fake.put_on_report("search-api", {"api_key": NEWER})

    class Refusing(library.BaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            self.received = b"".join(request.stream)
            return library.Response(401)

    transport = Refusing()
    with library.Client(
        transport=transport, auth=caller.fake.broker().auth("search-api")
    ) as client:
        response = client.post(f"{HOME}/upload", content=chunks())
    assert response.status_code == 401
    assert transport.received == b"onetwo"
    assert len(caller.fake.reported) == 1


PLACES: dict[str, tuple[UseDocument, dict[str, str], bytes]] = {
    "prefix": (
        {
            "in": "header",
            "name": "Authorization",
            "field": "k",
            "prefix": "Token ",
            "origins": [HOME],
        },
        {"k": KEY},
        f"(b'Authorization', b'Token {KEY}')".encode(),
    ),
    "bearer": (
        {
            "in": "header",
            "name": "Authorization",
            "scheme": "bearer",
            "field": "k",
            "origins": [HOME],
        },
        {"k": KEY},
        f"(b'Authorization', b'Bearer {KEY}')".encode(),
    ),
    "basic": (
        {
            "in": "header",
            "name": "Authorization",
            "scheme": "basic",
            "username_field": "u",
            "password_field": "p",
            "origins": [HOME],
        },
        {"u": "user", "p": KEY},
        f"b'Basic {base64.b64encode(f'user:{KEY}'.encode()).decode()}'".encode(),
    ),
    "cookie": (
        {"in": "cookie", "name": "session", "field": "k", "origins": [HOME]},
        {"k": KEY},
        f"(b'Cookie', b'theme=dark; session={KEY}')".encode(),
    ),
    "query": (
        {"in": "unsafe_query", "name": "key", "field": "k", "origins": [HOME]},
        {"k": f"{KEY}&a=ß"},
        f"b'/a?q=x&key={KEY}%26a%3D%C3%9F'".encode(),
    ),
}


@pytest.mark.parametrize("place", PLACES)
@who_follows
def test_each_place_stays_on_its_hop(caller: Caller, place: str, redirects: str) -> None:
    """Header, cookie, query, bearer and basic: there on the listed hop, absent on the next."""
    use, data, expected = PLACES[place]
    caller.fake.put("placed", data, use=use)
    caller.upstream.redirects = {f"{HOME}/a": (302, f"{ELSEWHERE}/b")}
    caller.send(
        "GET", f"{HOME}/a?q=x", name="placed", redirects=redirects, headers={"Cookie": "theme=dark"}
    )
    first, second = caller.upstream.wire
    assert expected in first
    secret = base64.b64encode(f"user:{KEY}".encode()) if place == "basic" else KEY.encode()
    assert secret in first
    assert secret not in second
    assert KEY.encode() not in second


@pytest.mark.parametrize("place", PLACES)
def test_what_remains_after_the_answer_does_not_print_the_key(
    caller: Caller, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs, reprs, errors and copies made of the request are free of it."""
    use, data, _ = PLACES[place]
    caller.fake.put("placed", data, use=use)
    with caplog.at_level(logging.DEBUG):
        response = caller.send(
            "GET", f"{HOME}/a", name="placed", handler=lambda _: caller.library.Response(404)
        )
    request = response.request
    with pytest.raises(caller.library.HTTPStatusError) as caught:
        response.raise_for_status()
    texts = [caplog.text, repr(response), repr(request), repr(request.headers), str(response.url)]
    texts += [repr(response.url), str(caught.value), repr(dict(request.headers))]
    texts += [repr(request.headers.copy().raw), repr(list(request.headers.items()))]
    for whole in (copy.deepcopy(request), pickle.loads(pickle.dumps(response)).request):
        texts += [repr(whole.headers.raw), repr(whole.url.raw_path)]
    texts += [repr(request.headers.multi_items()), repr(request.url.join("/b").raw_path)]
    encoded = base64.b64encode(f"user:{KEY}".encode()).decode()
    assert not [text for text in texts if KEY in text or encoded in text]


@pytest.mark.parametrize("secret", [f"{KEY}\n", f" {KEY}", f"{KEY}\r\nX-Evil: 1", ""])
@pytest.mark.parametrize("place", ["prefix", "bearer", "cookie"])
def test_a_value_that_cannot_stand_there_is_an_error_that_does_not_quote_it(
    caller: Caller, secret: str, place: str
) -> None:
    """The libraries would put an illegal header, key and all, into their exception."""
    use, _, _ = PLACES[place]
    caller.fake.put("odd", {"k": secret}, use={**use, "prefix": ""})
    with pytest.raises(CredentialMalformed) as caught:
        caller.send("GET", f"{HOME}/search", name="odd")
    assert KEY not in f"{caught.value!r}{caught.value.remedy}"
    assert caller.upstream.seen == []


@pytest.mark.parametrize("use", [None, header("x-api-key")], ids=["no use", "no origin"])
def test_a_credential_that_says_no_origin_is_an_error(
    caller: Caller, use: UseDocument | None
) -> None:
    """Better loud than a request without its key."""
    caller.fake.put("aimless", {"k": KEY}, use=use)
    with pytest.raises(CredentialMalformed, match="to which origins"):
        caller.send("GET", f"{HOME}/search", name="aimless")


def test_the_brokers_errors_come_through(caller: Caller) -> None:
    """Without a credential nothing is sent."""
    with pytest.raises(CredentialUnknown):
        caller.send("GET", f"{HOME}/search", name="unknown")
    assert caller.upstream.seen == []


def test_the_authors_request_stays_as_it_was(library: Any) -> None:
    """The request object that an author built never holds the key."""
    caller = Caller(library, "sync")
    with library.Client(
        transport=library.MockTransport(caller.upstream),
        auth=caller.fake.broker().auth("search-api"),
    ) as client:
        request = client.build_request("GET", f"{HOME}/search")
        client.send(request)
    assert caller.upstream.seen[0][2] == KEY
    assert "x-api-key" not in request.headers


def test_an_auth_made_before_httpx_was_imported_refuses_instead_of_sending_no_key() -> None:
    """The library would take the object for a function; it is told so."""
    program = (
        "from broker.client.testing import FakeBroker\n"
        "auth = FakeBroker().broker().auth('search-api')\n"
        "import httpx\n"
        "try: httpx.Client(auth=auth).get('http://127.0.0.1:9/')\n"
        "except TypeError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Import httpx before calling broker.auth")


def test_an_auth_of_a_sync_broker_refuses_an_async_client() -> None:
    """A SyncBroker has no way to wait on the event loop."""
    auth = FakeBroker(clock=ManualClock()).sync().auth("search-api")

    async def send() -> None:
        async with httpx2.AsyncClient(auth=auth) as client:
            await client.get(HOME)

    with pytest.raises(TypeError, match="needs a Broker"):
        asyncio.run(send())


def test_a_handler_that_asks_the_url_sees_a_key_in_the_query(caller: Caller) -> None:
    """Query and parameters are those of the wire; the text of the URL is not."""
    use, _, _ = PLACES["query"]
    caller.fake.put("placed", {"k": "a b&c"}, use=use)

    def handler(request: Any) -> Any:
        assert dict(request.url.params) == {"q": "x", "key": "a b&c"}
        assert request.url.query == b"q=x&key=a%20b%26c"
        assert str(request.url) == f"{HOME}/a?q=x"
        return caller.library.Response(200)

    assert caller.send("GET", f"{HOME}/a?q=x", name="placed", handler=handler).status_code == 200


def test_a_library_whose_copies_would_leak_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that copies headers by their wire form is found out before the first key."""

    class Headers(httpx2.Headers):
        def __init__(self, headers: Any = None, encoding: str | None = None) -> None:
            super().__init__(headers.raw if isinstance(headers, Headers) else headers, encoding)

    leaky = ModuleType("leaky")
    leaky.__dict__.update(vars(httpx2), Headers=Headers)
    monkeypatch.setitem(sys.modules, "leaky", leaky)
    with pytest.raises(ClientError, match="This version of leaky copies headers"):
        Library("leaky")
