"""A document from an issuer, fetched so that its address cannot lead elsewhere.

Duty: one JSON object from an ``https`` address, within bounds of size and time.
Not its duty: what it says (``jwks``), how often it is fetched.
Rules:

* the name is resolved once, every address is looked at, and the connection goes to an
  address that was looked at: a second answer of the DNS changes nothing;
* no address in a private, loopback, link-local or reserved network, unless the issuer's
  ``networks`` name it; also not behind IPv4-mapped, 6to4, Teredo or NAT64 addresses;
* no redirect is followed, no proxy of the environment believed, no encoding undone;
* plain ``http`` is for loopback alone, and only when the issuer says ``unsafe_loopback``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import httpx2

from broker.client.mcp.issuer import Issuer
from broker.errors import IssuerUnavailable

LARGEST: Final = 256 * 1024
"""Bytes of a document: some hundred keys."""
WITHIN: Final = 5.0
"""Seconds for the whole exchange."""

Address: TypeAlias = IPv4Address | IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[Iterable[str]]]
"""Of a host and a port, its addresses."""

_NAT64: Final = IPv6Network("64:ff9b::/96")
_PORTS: Final = {"https": 443, "http": 80}
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For ``http`` on loopback."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


class Fetcher:
    """Fetches what one issuer publishes.

    Args:
        issuer: says which networks and certificates are its own.
        resolver: finds addresses.
    """

    def __init__(self, issuer: Issuer, *, resolver: Resolve = resolve) -> None:
        self._issuer = issuer
        self._networks = tuple(map(ip_network, issuer.networks))
        self._resolve = resolver
        self._tls: ssl.SSLContext | None = None

    async def document(self, url: str) -> dict[str, Any]:
        """The JSON object at ``url``.

        Raises:
            IssuerUnavailable: there is none that may be taken; says why, with no answer's text.
        """
        try:
            async with asyncio.timeout(WITHIN):
                return await self._document(url)
        except (httpx2.TransportError, OSError, TimeoutError) as error:
            kind = type(error).__name__
            raise IssuerUnavailable(f"{url} cannot be fetched: {kind}.") from error
        except ValueError as error:
            raise IssuerUnavailable(f"{url} is no JSON object.") from error

    async def _document(self, url: str) -> dict[str, Any]:
        parts = urlsplit(url)
        host, port = self._checked(parts)
        address = await self._address(parts.scheme, host, port)
        literal = f"[{address}]" if address.version == 6 else str(address)
        request = httpx2.Request(
            "GET",
            f"{parts.scheme}://{literal}:{port}{parts.path or '/'}"
            + (f"?{parts.query}" if parts.query else ""),
            headers={
                "Host": parts.netloc,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            extensions={"sni_hostname": host, "timeout": httpx2.Timeout(WITHIN).as_dict()},
        )
        async with httpx2.AsyncHTTPTransport(
            verify=self._context(parts.scheme), trust_env=False
        ) as transport:
            response = await transport.handle_async_request(request)
            try:
                return await _read(response, url)
            finally:
                await response.aclose()

    def _checked(self, parts: SplitResult) -> tuple[str, int]:
        loopback = self._issuer.unsafe_loopback and parts.scheme == "http"
        if parts.scheme != "https" and not loopback:
            raise IssuerUnavailable("Keys are fetched by https alone.")
        if not parts.hostname or parts.username is not None or parts.fragment:
            raise IssuerUnavailable("This is no address of a document.")
        return parts.hostname, parts.port or _PORTS[parts.scheme]

    async def _address(self, scheme: str, host: str, port: int) -> Address:
        found = [ip_address(one.partition("%")[0]) for one in await self._resolve(host, port)]
        for address in found:
            good = address.is_loopback if scheme == "http" else self._may_connect(address)
            if not good:
                raise IssuerUnavailable(
                    f"{host} leads into a network that keys are not fetched from.",
                    remedy="If that is where the issuer is, name the network in Issuer(networks=).",
                )
        if not found:
            raise IssuerUnavailable(f"{host} has no address.")
        return found[0]

    def _may_connect(self, address: Address) -> bool:
        if any(
            address.version == network.version and address in network for network in self._networks
        ):
            return True
        if self._issuer.unsafe_loopback and address.is_loopback:
            return True
        return all(
            one.is_global and not one.is_multicast and not one.is_reserved
            for one in (address, *_behind(address))
        )

    def _context(self, scheme: str) -> ssl.SSLContext:
        if scheme == "http":
            return _NO_TLS
        if self._tls is None:
            own = self._issuer.ca_file
            self._tls = (
                ssl.create_default_context(cafile=own)
                if own
                else httpx2.create_ssl_context(trust_env=False)
            )
        return self._tls


def _behind(address: Address) -> Iterable[IPv4Address]:
    """IPv4 addresses that a translator may make of an IPv6 address."""
    if isinstance(address, IPv4Address):
        return ()
    teredo = address.teredo or ()
    nat64 = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    return [one for one in (address.ipv4_mapped, address.sixtofour, nat64, *teredo) if one]


async def _read(response: httpx2.Response, url: str) -> dict[str, Any]:
    if response.status_code != 200 or response.headers.get("content-encoding"):
        raise IssuerUnavailable(f"{url} answers {response.status_code}, or encoded.")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > LARGEST:
            raise IssuerUnavailable(f"{url} is larger than {LARGEST} bytes.")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("no object")  # noqa: TRY004 - told like any other text that is none
    return document
