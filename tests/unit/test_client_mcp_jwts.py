"""``client.mcp.jwts``, ``issuer`` and ``jwks``: attacks on tokens of external issuers."""

from __future__ import annotations

import asyncio
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from broker.client.mcp.issuer import Issuer
from broker.client.mcp.jwks import COOLDOWN, FRESH, RETRY, STALE, metadata_urls
from broker.client.mcp.jwts import Jwts
from broker.errors import BearerRefused, IssuerUnavailable, SettingsError
from tests.simulators.authorization_server import ec_key, ed_key, jwk, rsa_key, weak_key
from tests.simulators.clock import EPOCH, ManualClock

URL = "https://as.example/tenant"
OTHER = "https://other.example"
RESOURCE = "https://mcp.example/mcp"
NOW = EPOCH


class Documents:
    """What issuers publish."""

    def __init__(self, published: dict[str, Any]) -> None:
        self.published = published
        self.fetched: list[str] = []
        self.held: asyncio.Event | None = None

    async def document(self, url: str) -> dict[str, Any]:
        self.fetched.append(url)
        if self.held is not None:
            await self.held.wait()
        found = self.published.get(url)
        if found is None:
            raise IssuerUnavailable(f"{url} is not there.")
        document: dict[str, Any] = found
        return document


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=0.0)


@pytest.fixture
def documents() -> Documents:
    """Two issuers whose keys have the same id."""
    return Documents(
        {
            f"{URL}/jwks": {
                "keys": [
                    jwk(rsa_key(), "k1"),
                    jwk(ec_key(), "e1"),
                    jwk(ed_key(), "d1"),
                    jwk(weak_key(), "weak"),
                    jwk(rsa_key(3), "k2"),
                    jwk(rsa_key(2), "for-encryption", use="enc"),
                    jwk(rsa_key(2), "for-pss", alg="PS256"),
                    {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMw", "kid": "h1"},
                ]
            },
            f"{OTHER}/jwks": {"keys": [jwk(rsa_key(2), "k1")]},
        }
    )


@pytest.fixture
def jwts(documents: Documents, clock: ManualClock) -> Jwts:
    issuers = [
        Issuer(URL, jwks_uri=f"{URL}/jwks"),
        Issuer(OTHER, jwks_uri=f"{OTHER}/jwks", audience="https://elsewhere.example"),
    ]
    return Jwts(issuers, resource=RESOURCE, clock=clock, documents=lambda _: documents)


def claims(**changes: Any) -> dict[str, Any]:
    """Good ones, changed; None takes a claim away."""
    said = {"iss": URL, "aud": RESOURCE, "sub": "ada", "iat": NOW, "exp": NOW + 300, **changes}
    return {name: value for name, value in said.items() if value is not None}


def signed(
    key: Any = None, algorithm: str = "RS256", header: dict[str, Any] | None = None, **changes: Any
) -> str:
    """A token."""
    said = {"kid": "k1", **(header or {})}
    if said["kid"] is None:
        del said["kid"]
    return jwt.encode(claims(**changes), key or rsa_key(), algorithm, said)


def raw(header: dict[str, Any], said: dict[str, Any], signature: Callable[[bytes], bytes]) -> str:
    """A token by hand, as no library makes it."""

    def encoded(part: bytes) -> bytes:
        return urlsafe_b64encode(part).rstrip(b"=")

    text = encoded(json.dumps(header).encode()) + b"." + encoded(json.dumps(said).encode())
    return (text + b"." + encoded(signature(text))).decode()


def public_pem() -> bytes:
    return (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def hs256(key: bytes) -> Callable[[bytes], bytes]:
    return lambda text: hmac.new(key, text, sha256).digest()


# --- good ones ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        lambda: signed(),
        lambda: signed(ec_key(), "ES256", {"kid": "e1"}),
        lambda: signed(ed_key(), "EdDSA", {"kid": "d1"}),
        lambda: signed(aud=["https://x.example", RESOURCE]),
        lambda: signed(header={"typ": "at+jwt"}),
        lambda: signed(header={"typ": "application/AT+JWT"}),
        lambda: signed(header={"typ": None}),
        lambda: signed(exp=NOW - 29),
        lambda: signed(nbf=NOW + 29, iat=NOW + 29),
        lambda: signed(iat=None),
        # Whatever these point to, nobody looks.
        lambda: signed(header={"jku": "https://evil.example/jwks", "x5u": "https://evil.example"}),
        lambda: signed(header={"jwk": jwk(rsa_key(2), "k1"), "x5c": ["MIIB"]}),
        lambda: signed(ec_key(), "ES256", {"kid": None}),  # the only key that fits
    ],
)
async def test_good_tokens(jwts: Jwts, documents: Documents, token: Callable[[], str]) -> None:
    """What an issuer signed for this server, within the leeway; only its keys were fetched."""
    issuer, accepted = await jwts.verify(token())
    assert (issuer.url, accepted.subject) == (URL, "ada")
    assert documents.fetched == [f"{URL}/jwks"]


# --- attacks ------------------------------------------------------------------------------

ATTACKS: dict[str, tuple[Callable[[], str], str]] = {
    "alg none": (lambda: raw({"alg": "none", "kid": "k1"}, claims(), lambda _: b""), "algorithm"),
    "alg None": (lambda: raw({"alg": "None", "kid": "k1"}, claims(), lambda _: b""), "algorithm"),
    "no alg": (lambda: raw({"kid": "k1"}, claims(), lambda _: b""), "algorithm"),
    "alg is a list": (
        lambda: raw({"alg": ["RS256"], "kid": "k1"}, claims(), lambda _: b""),
        "algorithm",
    ),
    "HS256 with the RSA public key": (
        lambda: raw({"alg": "HS256", "kid": "k1"}, claims(), hs256(public_pem())),
        "algorithm",
    ),
    "HS256 with a symmetric key of the set": (
        lambda: raw(
            {"alg": "HS256", "kid": "h1"}, claims(), hs256(b"secret-secret-secret-secret-123")
        ),
        "algorithm",
    ),
    "RS512 is not in the list": (lambda: signed(algorithm="RS512"), "algorithm"),
    "another key": (lambda: signed(rsa_key(2)), "signature"),
    "the key of the other issuer": (lambda: signed(rsa_key(2), iss=URL), "signature"),
    "our key, in the other's name": (lambda: signed(iss=OTHER), "signature"),
    "an algorithm that the key is not for": (
        lambda: signed(rsa_key(2), "RS256", {"kid": "for-pss"}),
        "key_unknown",
    ),
    "a key for encryption": (
        lambda: signed(rsa_key(2), "RS256", {"kid": "for-encryption"}),
        "key_unknown",
    ),
    "a key too short": (
        lambda: raw(
            {"alg": "RS256", "kid": "weak"},
            claims(),
            lambda text: weak_key().sign(text, PKCS1v15(), SHA256()),
        ),
        "signature",
    ),
    "EC in the place of RSA": (
        lambda: raw({"alg": "RS256", "kid": "e1"}, claims(), lambda _: b"x" * 64),
        "key_unknown",
    ),
    "no kid where two keys fit": (lambda: signed(header={"kid": None}), "key_unknown"),
    "kid unknown": (lambda: signed(header={"kid": "k9"}), "key_unknown"),
    "kid with a path": (lambda: signed(header={"kid": "../../etc/passwd"}), "key_unknown"),
    "kid with SQL": (lambda: signed(header={"kid": "k1' OR '1'='1"}), "key_unknown"),
    "kid endless": (lambda: signed(header={"kid": "k" * 300}), "key_unknown"),
    "kid is a number": (lambda: raw({"alg": "RS256", "kid": 1}, claims(), bytes), "malformed"),
    "jwk of the attacker": (
        lambda: signed(rsa_key(2), header={"jwk": jwk(rsa_key(2), "k1")}),
        "signature",
    ),
    "jku of the attacker": (
        lambda: signed(rsa_key(2), header={"jku": f"{OTHER}/jwks"}),
        "signature",
    ),
    "crit": (
        lambda: raw({"alg": "RS256", "kid": "k1", "crit": ["exp"]}, claims(), bytes),
        "malformed",
    ),
    "crit b64": (
        lambda: raw(
            {"alg": "RS256", "kid": "k1", "crit": ["b64"], "b64": True}, claims(), lambda _: b""
        ),
        "extension",
    ),
    "typ of a logout token": (lambda: signed(header={"typ": "logout+jwt"}), "type"),
    "typ of a proof": (lambda: signed(header={"typ": "dpop+jwt"}), "type"),
    "typ is a number": (lambda: raw({"alg": "RS256", "typ": 1}, claims(), bytes), "type"),
    "iss unknown": (lambda: signed(iss="https://evil.example"), "issuer_unknown"),
    "iss with a slash more": (lambda: signed(iss=URL + "/"), "issuer_unknown"),
    "iss in capitals": (lambda: signed(iss=URL.upper()), "issuer_unknown"),
    "iss missing": (lambda: signed(iss=None), "issuer_unknown"),
    "iss is a list": (
        lambda: raw({"alg": "RS256", "kid": "k1"}, claims(iss=[URL]), lambda _: b""),
        "issuer_unknown",
    ),
    "aud of another server": (lambda: signed(aud="https://mcp.example/other"), "audience"),
    "aud a prefix of ours": (lambda: signed(aud="https://mcp.example"), "audience"),
    "aud missing": (lambda: signed(aud=None), "audience"),
    "aud empty": (lambda: signed(aud=[]), "audience"),
    "aud of the other issuer's": (
        lambda: signed(rsa_key(2), iss=OTHER, aud=RESOURCE),
        "audience",
    ),
    "expired": (lambda: signed(exp=NOW - 31), "expired"),
    "exp missing": (lambda: signed(exp=None), "exp_missing"),
    "exp is a text": (lambda: signed(exp="9999999999"), "exp_malformed"),
    "exp is true": (lambda: signed(exp=True), "exp_malformed"),
    "exp is endless": (lambda: signed(exp=10**400), "exp_malformed"),
    "exp is no number": (lambda: signed(exp=float("nan")), "exp_malformed"),
    "nbf ahead": (lambda: signed(nbf=NOW + 31), "nbf_ahead"),
    "iat ahead": (lambda: signed(iat=NOW + 31), "iat_ahead"),
    "iat is a text": (lambda: signed(iat="now"), "iat_malformed"),
    "sub missing": (lambda: signed(sub=None), "subject"),
    "sub empty": (lambda: signed(sub=""), "subject"),
    "sub endless": (lambda: signed(sub="s" * 256), "subject"),
    "sub with a line end": (lambda: signed(sub="ada\nroot"), "subject"),
    "oversized": (lambda: signed(padding="p" * 8192), "too_long"),
    "two parts": (lambda: "eyJhbGciOiJSUzI1NiJ9.e30", "malformed"),
    "four parts": (lambda: signed() + ".x", "malformed"),
    "no base64": (lambda: "a!.b.c", "malformed"),
    "a padded part": (lambda: signed() + "=", "malformed"),
    "header is a list": (lambda: "W10.e30.", "malformed"),
    "payload is a list": (lambda: "eyJhbGciOiJSUzI1NiJ9.W10.", "malformed"),
    "nothing": (lambda: "..", "malformed"),
    "signature short": (
        lambda: raw({"alg": "RS256", "kid": "k1"}, claims(), lambda _: b"x"),
        "signature",
    ),
    "payload changed": (
        lambda: ".".join(
            [
                (good := signed().split("."))[0],
                signed(sub="root").split(".")[1],
                good[2],
            ]
        ),
        "signature",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_attacks(jwts: Jwts, documents: Documents, attack: tuple[Any, str]) -> None:
    """Refused, for the reason it should be; nothing but the issuers' own address was asked."""
    make, reason = attack
    with pytest.raises(BearerRefused) as caught:
        await jwts.verify(make())
    assert caught.value.reason == reason
    assert set(documents.fetched) <= {f"{URL}/jwks", f"{OTHER}/jwks"}


# --- what claims say about tools -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said", "tools"),
    [
        ({}, {"scope": "openid tool:web_search tool:orders%20all"}, ("web_search", "orders all")),
        ({}, {"scp": ["tool:a", "b"]}, ("a",)),
        ({}, {}, ()),
        ({}, {"scope": 7}, ()),
        ({"scopes": {"search": ["web_*"]}}, {"scope": "search"}, ("web_*",)),
        ({"tools_claim": "tools"}, {"tools": ["a", 1, "b"]}, ("a", "b")),
        ({}, {"tools": ["a"]}, ()),
    ],
)
async def test_tools_of_a_token(
    documents: Documents,
    clock: ManualClock,
    options: dict[str, Any],
    said: dict[str, Any],
    tools: tuple[str, ...],
) -> None:
    """By scopes, by a mapping of foreign scopes, by a claim that was named; else none."""
    issuer = Issuer(URL, jwks_uri=f"{URL}/jwks", **options)
    jwts = Jwts([issuer], resource=RESOURCE, clock=clock, documents=lambda _: documents)
    _, accepted = await jwts.verify(signed(**said))
    assert accepted.tools == tools


def test_a_scope_to_ask_for_is_the_issuers_own() -> None:
    """Where a mapping covers a tool, the challenge names the foreign scope."""
    issuer = Issuer(URL, scopes={"search": ["web_*"]})
    assert issuer.scope_for("web_search") == "search"
    assert issuer.scope_for("orders") == "tool:orders"


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://as.example"},
        {"jwks_uri": "http://as.example/jwks"},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"leeway": -1},
        {"leeway": 3600},
        {"networks": ["nonsense"]},
        {"scopes": {"a b": ["x"]}},
    ],
)
def test_an_issuer_that_could_not_be_safe_is_a_start_up_error(options: dict[str, Any]) -> None:
    """With the key and what to write."""
    with pytest.raises(SettingsError) as caught:
        Issuer(**{"url": URL, **options})
    assert caught.value.key == next(iter(options))
    assert caught.value.remedy


def test_an_issuer_stands_once(clock: ManualClock) -> None:
    """Two descriptions of one issuer would be two sets of rules."""
    with pytest.raises(SettingsError):
        Jwts([Issuer(URL), Issuer(URL)], resource=RESOURCE, clock=clock)


# --- keys ----------------------------------------------------------------------------------


async def test_unknown_key_ids_cost_the_issuer_little(
    jwts: Jwts, documents: Documents, clock: ManualClock
) -> None:
    """Whatever ids are invented: one fetch in a cooldown. A new key is found after it."""
    for number in range(50):
        with pytest.raises(BearerRefused):
            await jwts.verify(signed(header={"kid": f"invented-{number}"}))
    assert len(documents.fetched) == 1
    documents.published[f"{URL}/jwks"]["keys"].append(jwk(rsa_key(4), "k3"))
    clock.advance(COOLDOWN)
    await jwts.verify(signed(rsa_key(4), header={"kid": "k3"}, iat=None))
    assert len(documents.fetched) == 2


async def test_a_hundred_who_wait_for_keys_make_one_fetch(jwts: Jwts, documents: Documents) -> None:
    """Single flight."""
    documents.held = asyncio.Event()
    waiting = [asyncio.create_task(jwts.verify(signed())) for _ in range(100)]
    await asyncio.sleep(0.01)
    documents.held.set()
    await asyncio.gather(*waiting)
    assert len(documents.fetched) == 1


async def test_keys_outlast_an_outage_and_not_for_ever(
    jwts: Jwts, documents: Documents, clock: ManualClock
) -> None:
    """Old keys are good for some hours; then nobody can say, which is no refusal."""
    await jwts.verify(signed())
    kept = documents.published.pop(f"{URL}/jwks")
    clock.advance(FRESH)
    later: dict[str, Any] = {"exp": NOW + 10 * STALE, "iat": None}
    for _ in range(20):
        await jwts.verify(signed(**later))
        await asyncio.sleep(0)
    assert len(documents.fetched) == 2
    clock.advance(STALE)
    with pytest.raises(IssuerUnavailable):
        await jwts.verify(signed(**later))
    with pytest.raises(IssuerUnavailable):
        await jwts.verify(signed(**later))
    assert len(documents.fetched) == 3  # not asked again within a moment
    documents.published[f"{URL}/jwks"] = kept
    clock.advance(RETRY)
    await jwts.verify(signed(**later))


async def test_a_key_taken_back_is_refused_once_keys_are_fetched(
    jwts: Jwts, documents: Documents, clock: ManualClock
) -> None:
    """An issuer that rotates its keys is followed."""
    await jwts.verify(signed())
    documents.published[f"{URL}/jwks"] = {"keys": [jwk(rsa_key(4), "k3")]}
    clock.advance(FRESH)
    later: dict[str, Any] = {"exp": NOW + 2 * FRESH, "iat": None}
    await jwts.verify(signed(**later))  # begins the fetch, does not wait for it
    await asyncio.sleep(0.01)
    with pytest.raises(BearerRefused):
        await jwts.verify(signed(**later))


@pytest.mark.parametrize("published", [{}, {"keys": 7}, {"keys": {}}])
async def test_what_is_no_set_of_keys(
    documents: Documents, jwts: Jwts, published: dict[str, Any]
) -> None:
    """Nobody can say then, which is no refusal."""
    documents.published[f"{URL}/jwks"] = published
    with pytest.raises(IssuerUnavailable):
        await jwts.verify(signed())


async def test_odd_keys_in_a_set_are_skipped(documents: Documents, jwts: Jwts) -> None:
    """Private and symmetric keys, foreign kinds, nonsense: the good one is still found."""
    odd: list[Any] = [
        None,
        7,
        {"kty": "RSA", "kid": "k1", "n": "!", "e": "AQAB", "key_ops": ["encrypt"]},
        {**jwk(rsa_key(2), "k1"), "d": "x"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"},
        {"kty": "XXX", "kid": "k1"},
    ]
    documents.published[f"{URL}/jwks"] = {"keys": [*odd, jwk(rsa_key(), "k1")]}
    await jwts.verify(signed())


@pytest.mark.parametrize(
    "place",
    [
        f"{URL}/.well-known/openid-configuration",
        "https://as.example/.well-known/oauth-authorization-server/tenant",
    ],
)
async def test_keys_are_found_by_the_issuers_metadata(
    documents: Documents, clock: ManualClock, place: str
) -> None:
    """OpenID Connect's place or RFC 8414's."""
    assert place in list(metadata_urls(URL))
    documents.published[place] = {"issuer": URL, "jwks_uri": f"{URL}/jwks"}
    jwts = Jwts([Issuer(URL)], resource=RESOURCE, clock=clock, documents=lambda _: documents)
    await jwts.verify(signed())


async def test_metadata_of_another_issuer_is_not_believed(
    documents: Documents, clock: ManualClock
) -> None:
    """Else one issuer's tokens could be verified by another's keys (mix-up)."""
    for place in metadata_urls(URL):
        documents.published[place] = {"issuer": OTHER, "jwks_uri": f"{OTHER}/jwks"}
    jwts = Jwts([Issuer(URL)], resource=RESOURCE, clock=clock, documents=lambda _: documents)
    with pytest.raises(IssuerUnavailable):
        await jwts.verify(signed(rsa_key(2)))
    assert f"{OTHER}/jwks" not in documents.fetched


async def test_an_issuers_own_audience_wins(documents: Documents, clock: ManualClock) -> None:
    """Where the issuer names one, the resource is not good in its place."""
    issuer = replace(Issuer(URL, jwks_uri=f"{URL}/jwks"), audience="api://search")
    jwts = Jwts([issuer], resource=RESOURCE, clock=clock, documents=lambda _: documents)
    await jwts.verify(signed(aud="api://search"))
    with pytest.raises(BearerRefused):
        await jwts.verify(signed())
