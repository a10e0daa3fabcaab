"""``broker.auth`` on real connections: what two real servers receive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx2
import pytest

from broker.client.testing import FakeBroker, header

KEY = "canary-api-key-1"
NEWER = "canary-api-key-2"


@dataclass
class Server:
    """Answers by path: ``/to?URL`` redirects with 307, all else wants the key."""

    key: str
    origin: str = ""
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                lines = head.lower().split("\r\n")
                size = [line[15:] for line in lines if line.startswith("content-length:")]
                await reader.readexactly(int(size[0]) if size else 0)
                path, _, location = head.split(" ")[1].partition("?")
                if path == "/to":
                    answer = f"307 Temporary Redirect\r\nLocation: {location}"
                else:
                    answer = "200 OK" if f"x-api-key: {self.key}" in lines else "401 Unauthorized"
                writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 2\r\n\r\n[]".encode())
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()


@pytest.fixture
async def servers() -> AsyncIterator[tuple[Server, Server]]:
    """The listed origin and another."""
    home, elsewhere = Server(KEY), Server("none")
    async with (
        await asyncio.start_server(home.serve, "127.0.0.1", 0) as one,
        await asyncio.start_server(elsewhere.serve, "127.0.0.1", 0) as two,
    ):
        home.origin = f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}"
        elsewhere.origin = f"http://127.0.0.1:{two.sockets[0].getsockname()[1]}"
        yield home, elsewhere


async def post(library: Any, kind: str, auth: Any, url: str, *, follow: bool) -> Any:
    if kind == "async":
        async with library.AsyncClient(auth=auth, follow_redirects=follow) as client:
            return await client.post(url, json={"q": "x"})

    def send() -> Any:
        with library.Client(auth=auth, follow_redirects=follow) as client:
            return client.post(url, json={"q": "x"})

    return await asyncio.to_thread(send)


@pytest.mark.parametrize("who", ["client", "auth"])
@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("library", [httpx2, httpx], ids=["httpx2", "httpx"])
async def test_out_and_back_over_real_connections(
    servers: tuple[Server, Server], library: Any, kind: str, who: str
) -> None:
    """The stranger never sees the key, the last hop has it, a 401 is healed on the way."""
    home, elsewhere = servers
    fake = FakeBroker()
    fake.put("search-api", {"api_key": KEY}, use=header("x-api-key", home.origin))
    fake.put_on_report("search-api", {"api_key": NEWER})
    home.key = NEWER
    url = f"{home.origin}/to?{elsewhere.origin}/to?{home.origin}/search"
    auth = fake.broker().auth("search-api", follow_redirects=who == "auth")
    response = await post(library, kind, auth, url, follow=who == "client")
    assert response.status_code == 200
    assert str(response.url) == f"{home.origin}/search"
    assert f"x-api-key: {KEY}" in home.heads[0]
    assert f"x-api-key: {NEWER}" in home.heads[-1]
    assert elsewhere.heads
    assert not [head for head in elsewhere.heads if "canary" in head or "x-api-key" in head]
    assert [report.version for report in fake.reported] == ["v1"]
    if who == "auth":
        assert all("x-api-key" in head for head in home.heads)
