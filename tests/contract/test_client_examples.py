"""The examples in ``docs/examples`` do what they say, against the real API."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from broker.api.sockets import TcpAddress, UnixAddress
from broker.credentials.model import CredentialKey, Snapshot, Use
from broker.secret import SecretValue
from tests.support.broker import SECRET, TOKEN, Assembly, serving
from tests.support.patience import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NEWER = "newer-value-of-the-search-api"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")


@dataclass
class Ready:
    """A broker with a value, on both kinds of socket, and the environment of a caller."""

    assembly: Assembly
    unix: dict[str, str]
    tcp: dict[str, str]


@pytest.fixture
async def ready(tmp_path: Path) -> AsyncIterator[Ready]:
    assembly = Assembly(tmp_path)
    assembly.publish()
    token = tmp_path / "client-token"
    token.write_text(TOKEN + "\n")
    path = tmp_path / "broker.sock"
    async with serving(assembly) as running:
        await running.start(assembly.listener(UnixAddress(path, mode=0o660), client="search-mcp"))
        tcp = await running.start(assembly.listener(TcpAddress("127.0.0.1", 0)))
        yield Ready(
            assembly,
            {"BROKER_URL": f"unix://{path}"},
            {"BROKER_URL": f"http://127.0.0.1:{tcp.port}", "BROKER_TOKEN_FILE": str(token)},
        )


async def run(environment: dict[str, str], *command: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:9", **environment},
        cwd=EXAMPLES,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def newer(assembly: Assembly) -> None:
    """A report will find a newer version."""
    now = assembly.clock.now()
    snapshot = Snapshot(
        CredentialKey("search-api"),
        "v2",
        MappingProxyType({"api_key": SecretValue(NEWER)}),
        obtained_at=now,
        validated_at=now,
    )
    assembly.keepers.ready.append(assembly.entry(snapshot=snapshot))


@needs_curl
@pytest.mark.parametrize("over", ["unix", "tcp"])
async def test_curl(ready: Ready, over: str) -> None:
    """A hand-out, a confirmation, a report, the list, whoami, and an error."""
    environment = ready.unix if over == "unix" else ready.tcp

    async def curl(*arguments: str) -> tuple[int, str, str]:
        return await run(environment, "sh", "curl.sh", *arguments)

    code, out, err = await curl("get", "search-api")
    assert (code, err) == (0, "")
    assert json.loads(out)["data"] == {"api_key": SECRET}
    assert await curl("get", "search-api", "v1") == (0, "", "")
    assert json.loads((await curl("wait", "search-api", "5"))[1])["version"] == "v1"
    newer(ready.assembly)
    assert json.loads((await curl("report", "search-api", "v1"))[1])["version"] == "v2"
    assert json.loads((await curl("get", "search-api", "v1"))[1])["data"] == {"api_key": NEWER}
    listed = json.loads((await curl("list"))[1])["credentials"]
    assert [one["name"] for one in listed] == ["orders-db", "search-api"]
    assert json.loads((await curl("whoami"))[1])["client"] == "search-mcp"
    code, out, _ = await curl("get", "nothing")
    assert (code, json.loads(out)["code"]) == (22, "credential_unknown")
    assert (await curl("burn"))[0] == 64


@needs_curl
async def test_curl_keeps_the_token_off_the_command_line(ready: Ready, tmp_path: Path) -> None:
    """Arguments are seen by every process of the machine."""
    spy = tmp_path / "curl"
    spy.write_text('#!/bin/sh\necho "$@"\n')
    spy.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    _, out, _ = await run({**ready.tcp, **path}, "sh", "curl.sh", "get", "search-api")
    assert "/v1/credentials/search-api" in out
    assert TOKEN not in out


@dataclass
class Upstream:
    """A search API that takes one key, or redirects."""

    key: str
    location: str = ""
    seen: list[str] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        found = re.search(r"^x-api-key: (.*)\r$", head, re.MULTILINE | re.IGNORECASE)
        key = found[1] if found else ""
        self.seen.append(key)
        status = "302 Found" if self.location else "200 OK" if key == self.key else "401 No"
        lines = f"Location: {self.location}\r\n" if self.location else ""
        lines += "Content-Length: 5\r\nConnection: close\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{lines}\r\nhello".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def upstream(ready: Ready) -> AsyncIterator[Upstream]:
    """An upstream whose origin ``search-api`` is meant for."""
    upstream = Upstream(SECRET)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    async with server:
        upstream.port = server.sockets[0].getsockname()[1]
        use = Use(name="x-api-key", field="api_key", origins=(f"http://127.0.0.1:{upstream.port}",))
        specs = ready.assembly.specs
        ready.assembly.service.reconfigure(
            {**specs, "search-api": replace(specs["search-api"], use=use)}
        )
        yield upstream


async def fetch(ready: Ready, url: str) -> tuple[int, str, str]:
    return await run(ready.tcp, "node", "fetch.mjs", "search-api", url)


@needs_node
async def test_fetch_uses_the_key(ready: Ready, upstream: Upstream) -> None:
    """The upstream gets the key and nobody prints it."""
    code, out, err = await fetch(ready, f"http://127.0.0.1:{upstream.port}/search")
    assert (code, out, err) == (0, "200 hello\n", "")
    assert upstream.seen == [SECRET]


@needs_node
async def test_fetch_reports_a_401_and_tries_again(ready: Ready, upstream: Upstream) -> None:
    """A key changed behind the broker's back costs one refused call."""
    upstream.key = NEWER
    newer(ready.assembly)
    code, out, _ = await fetch(ready, f"http://127.0.0.1:{upstream.port}/search")
    assert (code, out) == (0, "200 hello\n")
    assert upstream.seen == [SECRET, NEWER]


@needs_node
async def test_fetch_returns_a_401_when_nothing_is_newer(ready: Ready, upstream: Upstream) -> None:
    """Reported once, called once."""
    upstream.key = "another"
    code, out, _ = await fetch(ready, f"http://127.0.0.1:{upstream.port}/search")
    assert (code, out) == (0, "401 hello\n")
    assert upstream.seen == [SECRET]


@needs_node
async def test_fetch_carries_the_key_nowhere_else(ready: Ready, upstream: Upstream) -> None:
    """Not to another origin, not by a redirect."""
    code, _, err = await fetch(ready, f"http://localhost:{upstream.port}/search")
    assert code == 1
    assert "is not for" in err
    upstream.location = f"http://localhost:{upstream.port}/stolen"
    code, _, err = await fetch(ready, f"http://127.0.0.1:{upstream.port}/search")
    assert code == 1
    assert upstream.seen == [SECRET]
    assert SECRET not in err


@needs_node
async def test_fetch_says_what_is_missing(ready: Ready, upstream: Upstream) -> None:
    """A problem of the broker's is told with its remedy."""
    ready.assembly.unavailable()
    code, _, err = await fetch(ready, f"http://127.0.0.1:{upstream.port}/search")
    assert code == 1
    assert "search-api" in err
    assert "Wait for the next attempt" in err
