"""A raw HTTP client: sends any bytes, reads answers, so that tests can misbehave."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE


@dataclass(frozen=True)
class Reply:
    """One answer as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The only field of that name, or None."""
        values = [value for known, value in self.headers if known == name.lower()]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def tcp(cls, port: int, host: str = "127.0.0.1") -> Wire:
        """Connect to a TCP port."""
        return cls(*await asyncio.open_connection(host, port))

    @classmethod
    async def unix(cls, path: Path) -> Wire:
        """Connect to a Unix socket."""
        return cls(*await asyncio.open_unix_connection(path))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def get(self, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Reply:
        """Send a well-formed request, with further header lines, and read the answer."""
        length = [f"Content-Length: {len(body)}"] if body else []
        head = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: localhost", *length, *lines))
        await self.send(head.encode("latin-1") + b"\r\n\r\n" + body)
        return await self.reply(head_only=method == "HEAD")

    async def reply(self, *, head_only: bool = False) -> Reply:
        """Read one answer.

        Raises:
            asyncio.IncompleteReadError: the connection ended before a whole answer.
        """
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = []
            for line in lines:
                name, _, value = line.partition(":")
                headers.append((name.lower(), value.strip()))
            status = int(first.split()[1])
            fields = dict(headers)
            if head_only or status in {204, 304}:
                body = b""
            elif fields.get("transfer-encoding") == "chunked":
                body = b"".join([chunk async for chunk in self.chunks()])
            else:
                body = await self.reader.readexactly(int(fields["content-length"]))
            return Reply(status, tuple(headers), body)

    async def chunks(self) -> Any:
        """Yield the chunks of a chunked body."""
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)

    async def ended(self) -> bool:
        """Whether the other side has closed, without sending anything more."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        """Close."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionResetError, BrokenPipeError):
            pass
