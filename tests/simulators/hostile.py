"""A small HTTP server that answers as it is told: late, cut, too much, elsewhere.

For tests of ``vault.client`` against what real networks and proxies do. Real sockets on
loopback, served by the test's own event loop. Speaks HTTP/1.1 with keep-alive.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.support.patience import PATIENCE


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that arrived. Header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script: TypeAlias = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


class HostileServer:
    """Serves ``script`` to every request; ``seen`` holds what arrived."""

    def __init__(self, scheme: str, port: int) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        """Made so far; ``open`` of them are there now."""
        self.open = 0
        self.sent = 0
        """Bytes of bodies handed to the socket by ``pour``."""
        self.script: Script = answer({})
        self.port = port
        self.scheme = scheme

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def asked(self, target: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.target == target]

    async def arrived(self, target: str, count: int = 1) -> Seen:
        """Wait until ``count`` requests for ``target`` have arrived; the newest of them."""
        async with asyncio.timeout(PATIENCE):
            while len(self.asked(target)) < count:
                await asyncio.sleep(0.005)
        return self.asked(target)[count - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                pairs = (line.split(": ", 1) for line in head[1:] if line)
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                seen = Seen(method, target, headers, body)
                self.seen.append(seen)
                await self.script(seen, writer)
                await writer.drain()
                if writer.is_closing():
                    return


@asynccontextmanager
async def hostile_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[HostileServer]:
    """A running server on a free port; ended, with all connections cut, at the exit."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        hostile.open += 1
        try:
            await hostile.serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the exit below
        finally:
            tasks.discard(task)
            hostile.open -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    hostile = HostileServer("https" if tls else "http", port)
    try:
        yield hostile
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def raw(data: bytes, *, close: bool = False) -> Script:
    """Send these bytes as they are."""

    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            writer.close()

    return script


def response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a whole answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Script:
    """Send a JSON document."""
    return raw(response(status, json.dumps(document).encode(), headers))


def trickle(data: bytes, *, each: float) -> Script:
    """One byte every ``each`` seconds: no single read takes long."""

    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(each)

    return script


def pour(hostile: HostileServer, size: int) -> Script:
    """A body of ``size`` bytes, as fast as it is taken."""

    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        while hostile.sent < size:
            writer.write(b"x" * 65_536)
            await writer.drain()
            hostile.sent += 65_536

    return script


def after(wait: Callable[[], Awaitable[object]], then: Script) -> Script:
    """Wait, then go on with another script."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await wait()
        await then(seen, writer)

    return script


def routes(table: Mapping[str, Script], otherwise: Script | None = None) -> Script:
    """Choose by target."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        chosen = table.get(seen.target, otherwise)
        assert chosen is not None, f"unexpected request for {seen.target}"
        await chosen(seen, writer)

    return script
