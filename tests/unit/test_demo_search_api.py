"""The demo's search API judges keys as a provider does, and remembers each call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from broker.clock import Clock
from broker.demo.keyring import KeyRing
from broker.demo.search_api import SearchApi
from broker.secret import SecretValue


class HandClock(Clock):
    """A clock moved by hand; the API runs on a thread with real time."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def api(clock: HandClock) -> Iterator[SearchApi]:
    api = SearchApi(clock=clock)
    api.start()
    yield api
    api.stop()


def search(api: SearchApi, key: SecretValue | None, **params: str) -> httpx2.Response:
    headers = {"user-agent": "test"} | ({} if key is None else {"x-api-key": key.reveal()})
    with httpx2.Client(trust_env=False) as client:
        return client.get(f"{api.address}/search", params=params, headers=headers)


def test_two_keys_are_good_at_once_until_one_is_revoked(api: SearchApi) -> None:
    """Keys live side by side; revoking one leaves the other."""
    first, first_text = api.keys.mint("first")
    second, second_text = api.keys.mint("second")
    assert search(api, first_text, q="lease").is_success
    assert search(api, second_text, q="lease").is_success
    api.keys.revoke(first.id)
    assert search(api, first_text, q="lease").status_code == 401
    assert search(api, second_text, q="lease").is_success
    seen = [(call.key_id, call.verdict, call.consumer) for call in api.calls]
    assert seen == [
        (first.id, "ok", "test"),
        (second.id, "ok", "test"),
        (first.id, "revoked", "test"),
        (second.id, "ok", "test"),
    ]


def test_a_key_dies_at_its_own_expiry(api: SearchApi, clock: HandClock) -> None:
    """A key with a life of its own is refused from its last second on."""
    _, text = api.keys.mint(ttl=10)
    clock.time += 9.9
    assert search(api, text, q="lease").is_success
    clock.time += 0.1
    assert search(api, text, q="lease").status_code == 401
    assert [call.dead_key for call in api.calls] == [False, True]


def test_no_key_and_an_unknown_key_are_refused_and_logged_without_their_text(
    api: SearchApi,
) -> None:
    """The log tells a missing from an unknown key, and holds no key's text."""
    stranger = SecretValue("sk-demo-nobody-minted-this")
    assert search(api, None, q="lease").status_code == 401
    assert search(api, stranger, q="lease").status_code == 401
    assert [call.verdict for call in api.calls] == ["missing", "unknown"]
    assert stranger.reveal() not in repr(api.calls)


def test_results_are_the_pages_with_the_words_best_first(api: SearchApi) -> None:
    """A search finds what holds the words, at most ``limit`` of them."""
    _, text = api.keys.mint()
    found = search(api, text, q="key tool", limit="1").json()["results"]
    assert [page["title"] for page in found] == ["Model Context Protocol"]
    assert search(api, text, q="zebra").json() == {"results": []}
    assert search(api, text, q="key", limit="many").status_code == 400


def test_revoking_twice_keeps_the_first_time(clock: HandClock) -> None:
    """A second revocation changes nothing; an unknown id is an error."""
    ring = KeyRing(clock)
    key, _ = ring.mint()
    first = ring.revoke(key.id)
    clock.time += 5
    assert ring.revoke(key.id) == first
    with pytest.raises(KeyError):
        ring.revoke("key-none")


def manage(api: SearchApi, method: str, path: str = "", **options: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {api.admin.key.reveal()}"}
    with httpx2.Client(trust_env=False) as client:
        return client.request(method, f"{api.address}/admin/keys{path}", headers=headers, **options)


def test_keys_are_managed_over_http(api: SearchApi) -> None:
    """Create with label and expiry, list by label, revoke; the key is told once."""
    made = manage(api, "POST", json={"label": "a/1", "expires_in": 60}).json()
    manage(api, "POST", json={"label": "b/1"})
    assert made["expires_at"] == "2027-01-15T08:01:00+00:00"
    assert search(api, SecretValue(made["key"]), q="lease").is_success

    listed = manage(api, "GET", params={"label_prefix": "a/"}).json()["keys"]

    assert [(key["id"], "key" in key) for key in listed] == [(made["id"], False)]
    assert manage(api, "DELETE", f"/{made['id']}").status_code == 204
    assert manage(api, "DELETE", f"/{made['id']}").status_code == 404
    assert [key.label for key in api.keys.live()] == ["b/1"]
    assert search(api, SecretValue(made["key"]), q="lease").status_code == 401


def test_keys_are_managed_with_the_admin_key_only(api: SearchApi) -> None:
    """A key that may search may not make keys, and the admin key may not search."""
    _, text = api.keys.mint()
    with httpx2.Client(trust_env=False) as client:
        for shown in ("", f"Bearer {text.reveal()}"):
            headers = {"authorization": shown} if shown else {}
            answer = client.post(f"{api.address}/admin/keys", json={"label": "x"}, headers=headers)
            assert answer.status_code == 401
    assert search(api, api.admin.key, q="lease").status_code == 401
    assert manage(api, "POST", content=b"{}").status_code == 400
    assert manage(api, "GET", params={"limit": "many"}).status_code == 400


def test_the_next_new_key_can_be_spoiled(api: SearchApi) -> None:
    """A mishap for the story: one key fails its proof, the next one is good again."""
    api.keys.spoil_next()
    bad, good = (manage(api, "POST", json={"label": "x"}).json()["key"] for _ in range(2))
    with httpx2.Client(trust_env=False) as client:
        shown = [
            client.get(f"{api.address}/key", headers={"x-api-key": key}).status_code
            for key in (bad, good)
        ]
    assert shown == [401, 200]
    assert [proof.verdict for proof in api.admin.proofs] == ["unknown", "ok"]
    assert api.calls == []
