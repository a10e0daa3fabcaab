"""How long after a promotion those who wait for it are told, in the process that rotates.

Duty: one broker with real OpenBao and search API; many waiters on ``Prefer: wait``; rotations
on demand, one by one; the time of each answer.
Not its duty: passing or failing; hand-outs (``contestants``).
Rules:

* promotion is the instant that Vault itself gives the readers' new version
  (``created_time``): nothing that comes after it is left out, neither Vault's own write to
  disk nor the broker's re-read. Both sides read ``CLOCK_REALTIME`` of one machine;
* a waiter is told when the last byte of a good answer with another version is there;
* OpenBao and the broker share one core; the waiters have the other, with the search API,
  which has nothing to do from the promotion on;
* each rotation is of a credential of its own, and its overlap outlasts the run: the end of an
  old key falls into no other's promotion. The keys look as if a rotation had made them before:
  none is due by itself.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml

from broker.app.vault_policy import hcl, rules
from broker.credentials.reserved import Note, with_note
from broker.demo.openbao import OpenBao
from broker.demo.process import Child, PartError, free_port
from broker.demo.search_api import SearchApi
from broker.rotation.model import Label
from broker.settings.load import load
from tests.bench.backend import pinned
from tests.bench.contestants import environment, wait_for
from tests.bench.report import Waits
from tests.support.rotating import sections, vault_section

WAITERS: Final = 64
ROTATIONS: Final = 20
_INSTALLATION: Final = "here"
_CLIENT: Final = "search-mcp"
_SETTLE: Final = 0.2
"""Seconds from the last question until the rotation is asked for: all wait by then."""
_PATIENCE: Final = 20.0
_LOOK: Final = 0.2
_OVERLAP, _POLL, _STALENESS = "10m", "60s", "2m"
_REST: Final = 2.0
"""Seconds after the start until the broker may send its burst of requests again."""
_PAUSE: Final = 0.4
"""Seconds between two rotations: one makes 22 requests to Vault, of 50 a second that a
broker allows itself. More rotations than that wait for each other."""


@dataclass(frozen=True, slots=True)
class _Told:
    at: float
    """Unix seconds."""
    status: int
    version: str


class _Waiter(asyncio.Protocol):
    """One kept connection that asks one thing at a time, and notes when the answer was there."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._seen = b""
        self._told: asyncio.Future[_Told] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[_Told]:
        """Send a request; the answer comes with the future."""
        assert self._transport is not None
        self._seen = b""
        self._told = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._told

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self._seen += data
        head, end, body = self._seen.partition(b"\r\n\r\n")
        if not end or self._told is None or self._told.done():
            return
        first, *lines = head.decode("ascii").split("\r\n")
        fields = {name.lower(): text.strip() for name, _, text in (s.partition(":") for s in lines)}
        if len(body) >= int(fields.get("content-length", "0")):
            self._told.set_result(_Told(now, int(first.split()[1]), fields.get("etag", "")))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._told is not None and not self._told.done():
            self._told.set_exception(exc or ConnectionError("the broker hung up"))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What runs, and how to ask it."""

    openbao: OpenBao
    port: int
    admin: str
    token: str


def measure(directory: Path, core: int) -> Waits:
    """Start all, rotate, and tell how long each waiter waited for the news.

    Raises:
        PartError: a part does not start, or an answer was none.
    """
    with _running(directory, core) as parts:
        return Waits(WAITERS, ROTATIONS, asyncio.run(_rotations(parts)))


@contextmanager
def _running(directory: Path, core: int) -> Iterator[_Parts]:
    openbao, search = OpenBao(directory), SearchApi()
    child: Child | None = None
    try:
        with pinned(core):
            openbao.start()
        openbao.admin.enable_kv("secret")
        search.start()
        data, operations = free_port(), free_port()
        file = directory / "broker.yaml"
        file.write_text(
            yaml.safe_dump(_configuration(openbao, search, directory, data, operations))
        )
        openbao.admin.policy("waiters", hcl(rules(load(str(file), {}).settings, "broker")))
        token = openbao.admin.create_token(["waiters"], ttl="1h").reveal()
        (directory / "vault-token").write_text(token)
        argv = [sys.executable, "-m", "broker", "run", "--config", str(file)]
        child = Child("broker", argv, log=directory / "broker.log", env=environment(directory))
        with pinned(core):
            child.start()
        with httpx2.Client(base_url=f"http://127.0.0.1:{operations}", trust_env=False) as http:
            wait_for(child, lambda: _rested(http))
        client_token = (directory / "run" / _CLIENT / "client-token").read_text().strip()
        yield _Parts(openbao, data, str(directory / "admin" / "admin.sock"), client_token)
    finally:
        if child is not None:
            child.stop()
        search.stop()
        openbao.stop()


def _rested(http: httpx2.Client) -> bool:
    """Whether the broker is ready, and has taken every key over as it found it."""
    time.sleep(_LOOK)
    try:
        if http.get("/readyz", timeout=5.0).status_code != 200:
            return False
        metrics = http.get("/metrics", timeout=5.0).text
    except httpx2.TransportError:
        return False
    taken = [line for line in metrics.splitlines() if 'step="adopted"' in line]
    return len([line for line in taken if line.endswith(" 1")]) == ROTATIONS


def _name(number: int) -> str:
    return f"search-{number}"


def _configuration(
    openbao: OpenBao, search: SearchApi, directory: Path, data: int, operations: int
) -> Mapping[str, Any]:
    made = sections(search, _name(0))
    model = made["credentials"].pop("search-api")
    admin = search.admin.key.reveal()
    openbao.admin.kv_write("secret", f"{_name(0)}-admin", {"token": admin})
    model["source"] |= {"poll": _POLL, "max_staleness": _STALENESS}
    model["rotation"]["overlap"] = _OVERLAP
    for number in range(ROTATIONS):
        name = _name(number)
        _made_before(openbao, search, name)
        made["credentials"][name] = deepcopy(model)
        made["credentials"][name]["source"]["path"] = name
    names = [_name(number) for number in range(ROTATIONS)]
    return made | {
        "clients": {_CLIENT: {"credentials": names}},
        "vault": vault_section(openbao, "to come", directory),
        "listeners": {
            "socket_directory": str(directory / "run"),
            "tcp": [f"127.0.0.1:{data}"],
            "operations": f"127.0.0.1:{operations}",
            "admin_socket": str(directory / "admin" / "admin.sock"),
        },
        "audit": {"file": str(directory / "audit.jsonl")},
    }


def _made_before(openbao: OpenBao, search: SearchApi, name: str) -> None:
    label = Label(_INSTALLATION, name, "before")
    key, text = search.keys.mint(label.text)
    note = Note(_INSTALLATION, label.rotation, key.id, time.time())
    value = with_note({"api_key": text}, note)
    openbao.admin.kv_write("secret", name, {part: one.reveal() for part, one in value.items()})


async def _rotations(parts: _Parts) -> list[float]:
    loop = asyncio.get_running_loop()
    waiters = [
        (await loop.create_connection(_Waiter, "127.0.0.1", parts.port))[1] for _ in range(WAITERS)
    ]
    seconds: list[float] = []
    try:
        transport = httpx2.AsyncHTTPTransport(uds=parts.admin)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as admin:
            await asyncio.sleep(_REST)
            for number in range(ROTATIONS):
                async with asyncio.timeout(_PATIENCE):
                    seconds += await _rotation(_name(number), parts, waiters, admin)
                await asyncio.sleep(_PAUSE)
    except (TimeoutError, OSError, httpx2.TransportError) as error:
        raise PartError(f"the waiters were not told: {error!r}") from error
    finally:
        for waiter in waiters:
            waiter.close()
    return seconds


async def _rotation(
    name: str, parts: _Parts, waiters: list[_Waiter], admin: httpx2.AsyncClient
) -> list[float]:
    before = await waiters[0].ask(_request(name, parts))
    wait = _request(name, parts, f"If-None-Match: {before.version}", "Prefer: wait=30")
    asked = [waiter.ask(wait) for waiter in waiters]
    await asyncio.sleep(_SETTLE)
    if any(one.done() for one in asked):
        raise PartError(f"a waiter did not wait: {[one.result() for one in asked if one.done()]}")
    done = await admin.post(f"/v1/credentials/{name}/rotate", timeout=_PATIENCE)
    if done.status_code != 200:
        raise PartError(f"not rotated: {done.status_code} {done.text}")
    told = await asyncio.gather(*asked)
    if any(one.status != 200 or one.version == before.version for one in told):
        raise PartError("a waiter was told nothing new")
    found = await asyncio.to_thread(parts.openbao.admin.request, "GET", f"secret/data/{name}")
    promoted = datetime.fromisoformat(found["data"]["metadata"]["created_time"]).timestamp()
    return [one.at - promoted for one in told]


def _request(name: str, parts: _Parts, *lines: str) -> bytes:
    head = (
        f"GET /v1/credentials/{name} HTTP/1.1",
        f"Host: 127.0.0.1:{parts.port}",
        f"Authorization: Bearer {parts.token}",
        *lines,
    )
    return "\r\n".join((*head, "", "")).encode("ascii")
