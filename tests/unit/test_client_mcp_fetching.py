"""``client.mcp.fetching``: an issuer's address cannot lead the guard elsewhere (SSRF)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from broker.client.mcp.fetching import LARGEST, Fetcher
from broker.client.mcp.issuer import Issuer
from broker.demo.certificates import Authority
from broker.demo.serving import ServedApp
from broker.errors import IssuerUnavailable
from tests.support.serving import served

URL = "https://as.example"


class Resolver:
    """Names and addresses; notes what was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Iterable[str] = addresses
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Iterable[str]:
        self.asked.append((host, port))
        return self.addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
    ],
)
async def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    """Private, loopback, link-local, reserved, and IPv4 in the clothes of IPv6."""
    fetcher = Fetcher(Issuer(URL), resolver=Resolver(address))
    with pytest.raises(IssuerUnavailable, match="network that keys are not fetched from"):
        await fetcher.document(f"{URL}/jwks")


async def test_one_bad_address_among_good_ones_is_enough() -> None:
    """Which of them is connected to is not left to chance."""
    fetcher = Fetcher(Issuer(URL), resolver=Resolver("93.184.215.14", "169.254.169.254"))
    with pytest.raises(IssuerUnavailable, match="network"):
        await fetcher.document(f"{URL}/jwks")


async def test_no_address_is_no_document() -> None:
    """A name without addresses."""
    with pytest.raises(IssuerUnavailable, match="no address"):
        await Fetcher(Issuer(URL), resolver=Resolver()).document(f"{URL}/jwks")


@pytest.mark.parametrize(
    "url",
    [
        "http://as.example/jwks",
        "file:///etc/passwd",
        "gopher://as.example/",
        "https:///jwks",
        "https://user:pass@as.example/jwks",
        "https://as.example/jwks#x",
        "https://as.example:99999/jwks",
        "https://[::1/jwks",
        "jwks",
    ],
)
async def test_other_addresses_are_none(url: str) -> None:
    """Only https, without a user, is asked; nothing is resolved for the others."""
    resolver = Resolver("93.184.215.14")
    with pytest.raises(IssuerUnavailable):
        await Fetcher(Issuer(URL), resolver=resolver).document(url)
    assert resolver.asked == []


async def test_http_is_for_loopback_even_where_it_is_allowed() -> None:
    """``unsafe_loopback`` says loopback, and means it."""
    fetcher = Fetcher(Issuer(URL, unsafe_loopback=True), resolver=Resolver("10.0.0.1"))
    with pytest.raises(IssuerUnavailable, match="network"):
        await fetcher.document("http://as.example/jwks")


async def test_an_address_of_numbers_is_looked_at_like_any_other() -> None:
    """No name, no resolver's help: still refused."""
    for host in ("127.0.0.1", "[::1]", "169.254.169.254", "2130706433", "0x7f000001"):
        with pytest.raises(IssuerUnavailable):
            await Fetcher(Issuer(URL)).document(f"https://{host}/jwks")


# --- what answers --------------------------------------------------------------------------


def upstream() -> tuple[Starlette, list[str]]:
    """An issuer that misbehaves."""
    seen: list[str] = []

    async def good(request: Request) -> Response:
        seen.append(f"{request.headers['host']} {request.url.path}?{request.url.query}")
        seen.append(request.headers.get("accept-encoding", ""))
        return JSONResponse({"keys": []})

    async def redirect(request: Request) -> Response:
        del request
        return RedirectResponse("/good")

    async def endless(request: Request) -> Response:
        del request

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(2 * LARGEST // 1024):
                yield b" " * 1024

        return StreamingResponse(chunks())

    def plain(body: bytes, **options: Any) -> Any:
        async def answer(request: Request) -> Response:
            del request
            return Response(body, **options)

        return answer

    routes = [
        Route("/good", good),
        Route("/redirect", redirect),
        Route("/endless", endless),
        Route("/html", plain(b"<html>")),
        Route("/list", plain(b"[]")),
        Route("/error", plain(b"{}", status_code=500)),
        Route("/bomb", plain(b"{}", headers={"Content-Encoding": "gzip"})),
    ]
    return Starlette(routes=routes), seen


@asynccontextmanager
async def loopback() -> AsyncIterator[tuple[Fetcher, str, list[str]]]:
    """The same on a port."""
    app, seen = upstream()
    async with served(app) as origin:
        yield Fetcher(Issuer(origin, unsafe_loopback=True)), origin, seen


@pytest.mark.parametrize("path", ["redirect", "endless", "html", "list", "error", "bomb", "none"])
async def test_what_is_no_document_is_not_taken(path: str) -> None:
    """Redirects are not followed, sizes are bounded, encodings refused."""
    async with loopback() as (fetcher, origin, seen):
        with pytest.raises(IssuerUnavailable):
            await fetcher.document(f"{origin}/{path}")
        assert seen == []


async def test_a_document_is_fetched_from_the_address_that_was_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection goes to the address, the Host field names the name; no proxy is believed."""
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with loopback() as (_, origin, seen):
        port = origin.rpartition(":")[2]
        resolver = Resolver("127.0.0.1")
        fetcher = Fetcher(Issuer(URL, unsafe_loopback=True), resolver=resolver)
        assert await fetcher.document(f"http://as.example:{port}/good?v=1") == {"keys": []}
    assert resolver.asked == [("as.example", int(port))]
    assert seen == [f"as.example:{port} /good?v=1", "identity"]


async def test_a_certificate_must_be_for_the_name(tmp_path: Path) -> None:
    """TLS is verified for the name, though the connection goes to an address."""
    authority = Authority(tmp_path)
    app, seen = upstream()
    with ServedApp(app, tls=authority.issue("server", ("localhost",))) as server:
        options: dict[str, Any] = {"networks": ["127.0.0.0/8"]}

        def fetcher(**more: Any) -> Fetcher:
            return Fetcher(Issuer(URL, **options, **more), resolver=Resolver("127.0.0.1"))

        trusted = fetcher(ca_file=str(authority.ca_file))
        assert await trusted.document(f"https://localhost:{server.port}/good") == {"keys": []}
        assert seen
        with pytest.raises(IssuerUnavailable) as caught:
            await trusted.document(f"https://as.example:{server.port}/good")
        assert isinstance(caught.value.__cause__, Exception)
        with pytest.raises(IssuerUnavailable):
            await fetcher().document(f"https://localhost:{server.port}/good")
