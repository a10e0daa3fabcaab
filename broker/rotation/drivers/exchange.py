"""One request to a provider, and what its answer means.

Duty: TLS, deadline, size, allowed origins; place the key; sort the answer by its status.
Not its duty: what is in a request or an answer (``documents``), what is asked for (``http``).
Rules:

* a key goes to the origins of its own ``use``, checked again for every request, and nowhere
  else: no redirect is followed, no proxy is taken from the environment;
* the deadline is over the whole exchange, connecting and reading included: a trickling
  provider cannot hold it up;
* no error quotes a URL's query, a header or a body. Causes are cut off (``from None``), for the
  HTTP library's own exceptions carry the request and may quote a header.

Source: RFC 9110 section 15 (status), section 10.2.3 (Retry-After).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

import httpx2

from broker.client import credential as client
from broker.client.keyed import library_of
from broker.client.placement import is_listed, place
from broker.clock import Clock
from broker.credentials.model import CredentialKey, Use
from broker.credentials.store import CredentialStore
from broker.errors import (
    ClientError,
    CredentialMalformed,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    VaultTlsFailed,
)
from broker.rotation.drivers.documents import FilledRequest
from broker.secret import SecretValue
from broker.vault.tls import TlsOptions, context

log = logging.getLogger("broker.rotation")

MAX_BODY: Final = 1_048_576
"""Bytes of an answer; a page of a thousand keys has some 300,000."""
MAX_RETRY_AFTER: Final = 3600.0
_TEMPORARY: Final = frozenset({408, 409, 425, 429})
_UNTOUCHED: Final = frozenset({409, 425, 429})
"""Answers of a provider that has done nothing."""


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """A provider's answer. Has no repr: the body may hold a key."""

    status: int
    body: bytes
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key to send along: its fields, and where they go."""

    name: str
    data: Mapping[str, SecretValue]
    use: Use


class KeySource(Protocol):
    """Where the key comes from that may manage keys."""

    def __call__(self) -> HeldKey:
        """The key as it is now.

        Raises:
            UpstreamError: there is none.
        """
        ...


def stored_key(store: CredentialStore, name: str, use: Use, clock: Clock) -> KeySource:
    """A credential of this broker, read from the store at each use."""

    def read() -> HeldKey:
        entry = store.get(CredentialKey(name))
        if entry is None or entry.snapshot is None or not entry.usable(clock.now()):
            raise UpstreamUnavailable(
                f"The credential {name}, which may manage keys, has no usable value now.",
                remedy=f"See why {name} has no value: /readyz, 'broker check'.",
                unclear=False,
            )
        return HeldKey(name, entry.snapshot.data, use)

    return read


class Exchange:
    """Sends requests of one credential's provider or upstream.

    Args:
        timeout: seconds for one whole exchange.
        ca_file: PEM roots to trust instead of the system's; empty for those.
    """

    def __init__(self, *, clock: Clock, timeout: float, ca_file: str = "") -> None:
        self._clock, self._timeout, self._ca_file = clock, timeout, ca_file

    async def send(self, request: FilledRequest, key: HeldKey, what: str) -> Reply:
        """Send and read one answer, whatever its status.

        Args:
            request: to one of the origins of ``key.use``.
            key: goes where its ``use`` says.
            what: is asked for, in words, for errors.

        Raises:
            UpstreamUnavailable: no answer within the deadline.
            UpstreamRefused: it must not or cannot be sent.
            UpstreamMalformed: an answer that is too large or no HTTP.
        """
        dressed = self._dress(request, key, what)
        try:
            async with asyncio.timeout(self._timeout):
                trust = await self._trust(request.url)
                async with httpx2.AsyncClient(
                    verify=trust, trust_env=False, follow_redirects=False, timeout=self._timeout
                ) as http:
                    return await self._read(http, dressed, what)
        except TimeoutError:
            raise UpstreamUnavailable(
                f"No whole answer to {what} within {self._timeout:g} s."
            ) from None
        except httpx2.HTTPError as error:
            raise _unreachable(error, what) from None

    def _dress(self, request: FilledRequest, key: HeldKey, what: str) -> httpx2.Request:
        use = _client_use(key.use)
        if not is_listed(use, request.url):
            raise UpstreamRefused(
                f"The URL of {what} is not at an origin that {key.name} may be sent to.",
                remedy=f"Correct the URL, or credentials.{key.name}.use.origins.",
            )
        try:
            placed = place(_client_credential(key, use))
            plain = httpx2.Request(
                request.method, request.url, headers=dict(request.headers), content=request.content
            )
            dressed = library_of(plain).dress(plain, placed)
        except CredentialMalformed as error:
            raise UpstreamMalformed(str(error)) from None
        except (ClientError, httpx2.InvalidURL):
            raise UpstreamRefused(f"The request of {what} cannot be sent.") from None
        assert isinstance(dressed, httpx2.Request)
        return dressed

    async def _trust(self, url: str) -> ssl.SSLContext | bool:
        if not url.startswith("https://"):
            return False  # loopback without TLS: nothing to verify
        try:
            # In a thread: reading the system's roots takes tens of milliseconds.
            return await asyncio.to_thread(context, TlsOptions(ca_file=self._ca_file))
        except VaultTlsFailed:
            raise UpstreamRefused(
                "The provider's trusted roots cannot be used.",
                remedy="Check ca_file of the driver or proof: a readable PEM bundle.",
            ) from None

    async def _read(self, http: httpx2.AsyncClient, request: httpx2.Request, what: str) -> Reply:
        reply = await http.send(request, stream=True)
        try:
            chunks, size = [], 0
            async for chunk in reply.aiter_bytes():
                size += len(chunk)
                if size > MAX_BODY:
                    raise UpstreamMalformed(
                        f"The answer to {what} is larger than {MAX_BODY} bytes."
                    )
                chunks.append(chunk)
        finally:
            await reply.aclose()
        after = _retry_after(reply.headers.get("Retry-After"), self._clock.wall())
        return Reply(reply.status_code, b"".join(chunks), after)


def good(reply: Reply, what: str) -> Reply:
    """The answer, when its status says that all went well (2xx).

    Raises:
        UpstreamUnavailable: 409, 429 and the like, 5xx: later perhaps.
        UpstreamRefused: 401, 403 and every other refusal.
        UpstreamMalformed: a redirect, or a status that is none.
    """
    if 200 <= reply.status < 300:
        return reply
    raise refusal(reply, what)


def refusal(reply: Reply, what: str) -> UpstreamError:
    """The error that a status other than 2xx means."""
    status = reply.status
    if status in _TEMPORARY or status >= 500:
        return UpstreamUnavailable(
            f"The provider answered {status} to {what}.",
            retry_after=reply.retry_after,
            unclear=status not in _UNTOUCHED,
        )
    if status in {401, 403}:
        return UpstreamRefused(
            f"The provider answered {status} to {what}.",
            remedy="Check the rights of the key that the request is sent with.",
        )
    if 300 <= status < 400:
        return UpstreamMalformed(
            f"The provider answered {what} with a redirect, which is not followed.",
            remedy="Write the URL that it leads to.",
        )
    return UpstreamRefused(f"The provider answered {status} to {what}.")


def _unreachable(error: httpx2.HTTPError, what: str) -> UpstreamError:
    text = str(error)
    connected = not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSL" in text:
        return UpstreamUnavailable(
            f"No trusted TLS connection for {what}.",
            remedy="Check ca_file, and the dates and names of the provider's certificate.",
            unclear=connected,
        )
    if isinstance(error, httpx2.DecodingError):
        return UpstreamMalformed(f"The answer to {what} is not encoded as it says.")
    if isinstance(error, httpx2.TimeoutException):
        return UpstreamUnavailable(f"No whole answer to {what} in time.", unclear=connected)
    return UpstreamUnavailable(f"No answer to {what}: {type(error).__name__}.", unclear=connected)


def _retry_after(text: str | None, wall: float) -> float | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, moment.timestamp() - wall), MAX_RETRY_AFTER)


def _client_use(use: Use) -> client.Use:
    return client.Use(
        place=use.place,
        name=use.name,
        field=use.field,
        prefix=use.prefix,
        scheme=use.scheme,
        username_field=use.username_field,
        password_field=use.password_field,
        origins=use.origins,
    )


def _client_credential(key: HeldKey, use: client.Use) -> client.Credential:
    return client.Credential(
        name=key.name,
        version="",
        data=key.data,
        use=use,
        state="",
        asked_at=0.0,
        issued_at=0.0,
        expires_at=None,
        use_until=0.0,
        deadline=0.0,
    )
