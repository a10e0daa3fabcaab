"""The keys of one issuer.

Duty: find the key that a token names; fetch keys when there is a reason to.
Not its duty: fetching safely (``fetching``), verifying a signature (``jwts``).
Rules:

* one fetch at a time, whoever waits; after one, none for ``COOLDOWN``, whatever key ids are
  invented: strangers cannot make the guard ask the issuer as often as they like;
* keys are fetched anew when they are ``FRESH`` no more, beside the requests; while that
  fails the old ones are good until ``STALE``, then nobody's token is;
* a key is used for what it says it is for, and only if it is a public one: a symmetric or
  private key in the set is skipped.

Source: RFC 7517 (JWK), RFC 8414 and OpenID Connect Discovery (metadata)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from broker.client.mcp.issuer import Issuer
from broker.clock import Clock
from broker.errors import BearerRefused, IssuerUnavailable

log = logging.getLogger("broker.client.mcp")

FRESH: Final = 900.0
"""Seconds until keys are fetched anew."""
STALE: Final = 4 * 3600.0
"""Seconds for which keys are good while they cannot be fetched."""
COOLDOWN: Final = 30.0
"""Seconds between two fetches while there are keys."""
RETRY: Final = 5.0
"""Seconds between two fetches while there are none."""
MOST_KEYS: Final = 100
LONGEST_KID: Final = 256

_FAMILIES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}


class Documents(Protocol):
    """``fetching.Fetcher``."""

    async def document(self, url: str) -> dict[str, Any]:
        """The JSON object at ``url``; ``IssuerUnavailable`` without one."""
        ...


class IssuerKeys:
    """The keys of one issuer.

    Args:
        issuer: whose.
        documents: fetches.
        clock: time.
    """

    def __init__(self, issuer: Issuer, documents: Documents, clock: Clock) -> None:
        self._issuer = issuer
        self._documents = documents
        self._clock = clock
        self._keys: Sequence[Mapping[str, Any]] = ()
        self._fetched_at = -inf
        self._tried_at = -inf
        self._flight: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> PyJWK:
        """The key for a token.

        Args:
            kid: as its header names it; None: it names none, then only one key may fit.
            algorithm: one of the issuer's.

        Raises:
            BearerRefused: the issuer has no such key.
            IssuerUnavailable: nobody knows what keys it has.
        """
        age = self._clock.now() - self._fetched_at
        if age >= STALE:
            await self._fetched()
        elif age >= FRESH:
            self._begin()
        key = self._match(kid, algorithm)
        if key is None and self._clock.now() - self._tried_at >= COOLDOWN:
            await self._fetched()
            key = self._match(kid, algorithm)
        if key is None:
            raise BearerRefused(reason="key_unknown")
        return key

    async def _fetched(self) -> None:
        """Wait for a fetch. Raises ``IssuerUnavailable`` when there are no keys to go on with."""
        flight = self._begin()
        if flight is not None:
            await asyncio.shield(flight)
        if self._clock.now() - self._fetched_at >= STALE:
            raise IssuerUnavailable(f"The keys of {self._issuer.url} cannot be had.")

    def _begin(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, begun now if it may be."""
        if self._flight is None:
            now = self._clock.now()
            pause = RETRY if now - self._fetched_at >= STALE else COOLDOWN
            if now - self._tried_at < pause:
                return None
            self._tried_at = now
            loop = asyncio.get_running_loop()
            self._flight = loop.create_task(self._fetch(), name=f"keys of {self._issuer.url}")
        return self._flight

    async def _fetch(self) -> None:
        asked_at = self._clock.now()
        try:
            keys = await self._read()
        except IssuerUnavailable as error:
            log.warning("%s %s", error, error.remedy)
        except Exception:
            log.exception("the keys of %s could not be fetched", self._issuer.url)
        else:
            self._keys, self._fetched_at = keys, asked_at
        finally:
            self._flight = None

    async def _read(self) -> Sequence[Mapping[str, Any]]:
        document = await self._documents.document(self._issuer.jwks_uri or await self._discover())
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise IssuerUnavailable(f"What {self._issuer.url} publishes is no set of keys.")
        return [key for key in keys[:MOST_KEYS] if isinstance(key, dict) and _is_public(key)]

    async def _discover(self) -> str:
        """Where the keys are, by the issuer's own metadata."""
        trouble = IssuerUnavailable(f"{self._issuer.url} has no metadata.")
        for url in metadata_urls(self._issuer.url):
            try:
                document = await self._documents.document(url)
            except IssuerUnavailable as error:
                trouble = error
                continue
            # Else one issuer could have its tokens verified by another's keys (RFC 8414, 3.3).
            if document.get("issuer") != self._issuer.url:
                raise IssuerUnavailable(f"The metadata at {url} is of another issuer.")
            found = document.get("jwks_uri")
            if isinstance(found, str):
                return found
        raise trouble

    def _match(self, kid: str | None, algorithm: str) -> PyJWK | None:
        found = [key for key in self._keys if _fits(key, algorithm)]
        if kid is not None:
            found = [key for key in found if key.get("kid") == kid][:1]
        if len(found) != 1:
            return None
        try:
            return PyJWK(dict(found[0]), algorithm)
        except PyJWTError:
            return None


def metadata_urls(issuer: str) -> Iterator[str]:
    """Where an issuer's metadata may be: OpenID Connect's place, then RFC 8414's."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    yield f"{origin}{path}/.well-known/openid-configuration"
    yield f"{origin}/.well-known/oauth-authorization-server{path}"


def _is_public(key: Mapping[str, Any]) -> bool:
    return key.get("kty") in _FAMILIES.values() and "d" not in key and "k" not in key


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    operations = key.get("key_ops")
    return (
        key.get("kty") == _FAMILIES[algorithm[:2]]
        and key.get("crv") == _CURVES.get(algorithm, key.get("crv"))
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
    )
