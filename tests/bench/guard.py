"""``python -m tests.bench.guard``: what the guard adds to a tool call.

Duty: call one tool of one MCP server, bare and behind the guard, and print the difference.
Not its duty: passing or failing; hand-outs (``tests.bench``).
Rules:

* the same server in the same process answers both; its broker is another process, with the
  real API behind a Unix socket, which is asked for a decision at each call behind the guard;
* both parts share one core, the caller has another; rounds alternate, medians count.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import httpx2
from mcp.server import MCPServer
from rich.console import Console
from rich.table import Table

from broker.api.sockets import UnixAddress
from broker.client.aio import Broker
from broker.client.mcp import Guard, Issuer, install
from broker.demo.process import free_port
from tests.simulators.authorization_server import AuthorizationServer
from tests.support.broker import TOKEN, Assembly, serving
from tests.support.guarded import call_body, call_headers
from tests.support.serving import bound, served

CASES: Final = ("bare", "guarded_jwt")
WARM_UP: Final = 50
PATIENCE: Final = 30.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guard", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds a case; the median counts")
    parser.add_argument("--calls", type=int, default=100, help="calls a round, one by one")
    parser.add_argument("--part", choices=("broker", "server"), help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ports", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "broker":
        asyncio.run(_broker(options.directory))
    elif options.part == "server":
        asyncio.run(_server(options.directory, *map(int, options.ports.split(","))))
    else:
        _show(_measure(options.rounds, options.calls))
    return 0


# --- parts ----------------------------------------------------------------------------------


async def _broker(directory: Path) -> None:
    broker = Assembly(directory)
    broker.publish("search-api")
    async with serving(broker) as open_listeners:
        address = UnixAddress(directory / "broker.sock")
        await open_listeners.start(broker.listener(address, client="search-mcp"))
        await asyncio.Event().wait()


async def _server(directory: Path, bare: int, guarded: int, issuer: int) -> None:
    # Else most of what is measured is the SDK's own log, line by line on a terminal.
    logging.disable(logging.WARNING)
    server: MCPServer[Any] = MCPServer("bench")

    @server.tool()
    async def ping() -> str:
        """Answer."""
        return "pong"

    install(server, redact=False)
    url = f"http://127.0.0.1:{issuer}/as"
    guard = Guard(
        server.streamable_http_app(json_response=True, stateless_http=True),
        resource="https://mcp.example/mcp",
        broker=Broker(f"unix://{directory}/broker.sock"),
        issuers=[Issuer(url, unsafe_loopback=True)],
    )
    plain: MCPServer[Any] = MCPServer("bench")
    plain.tool()(ping)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(served(AuthorizationServer(url).app(), bound(issuer)))
        app = plain.streamable_http_app(json_response=True, stateless_http=True)
        await stack.enter_async_context(served(app, bound(bare)))
        await stack.enter_async_context(served(guard, bound(guarded)))
        token = AuthorizationServer(url, "https://mcp.example/mcp").sign(scope="tool:ping")
        (directory / "token").write_text(token)
        await asyncio.Event().wait()


# --- measuring --------------------------------------------------------------------------------


def _measure(rounds: int, calls: int) -> dict[str, list[list[float]]]:
    available = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="broker-bench-") as name:
        directory = Path(name)
        (directory / "client-token").write_text(TOKEN)
        ports = [free_port() for _ in range(3)]
        with _part("broker", directory, ports), _part("server", directory, ports):
            os.sched_setaffinity(0, {available[-1]})
            try:
                return asyncio.run(_rounds(directory, ports, rounds, calls))
            finally:
                os.sched_setaffinity(0, available)


@contextmanager
def _part(part: str, directory: Path, ports: list[int]) -> Iterator[None]:
    argv = [sys.executable, "-m", "tests.bench.guard", "--part", part, "--directory"]
    process = subprocess.Popen([*argv, str(directory), "--ports", ",".join(map(str, ports))])
    os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


async def _rounds(
    directory: Path, ports: list[int], rounds: int, calls: int
) -> dict[str, list[list[float]]]:
    token = directory / "token"
    deadline = time.monotonic() + PATIENCE
    while not token.exists() or not (directory / "broker.sock").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("a part does not start")
        await asyncio.sleep(0.05)
    headers = call_headers("ping") | {
        "Authorization": f"Bearer {token.read_text()}",
        "Accept": "application/json, text/event-stream",
    }
    measured: dict[str, list[list[float]]] = {case: [] for case in CASES}
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as http:
        for number in range(rounds + 1):
            for case, port in zip(CASES, ports, strict=False):
                times = await _calls(http, port, calls if number else WARM_UP)
                if number:
                    measured[case].append(times)
    return measured


async def _calls(http: httpx2.AsyncClient, port: int, calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        before = time.perf_counter()
        response = await http.post(f"http://127.0.0.1:{port}/mcp", json=call_body("ping"))
        times.append(time.perf_counter() - before)
        assert response.status_code == 200, response.text
        assert "pong" in response.text
    return times


def _show(measured: dict[str, list[list[float]]]) -> None:
    table = Table(title="one tool call after another over loopback (medians of rounds)")
    for heading in ("case", "p50 µs", "p90 µs"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    middle = {}
    for case, rounds in measured.items():
        middle[case] = median(median(times) for times in rounds) * 1e6
        slow = median(quantiles(times, n=10)[-1] for times in rounds) * 1e6
        table.add_row(case, f"{middle[case]:,.0f}", f"{slow:,.0f}")
    console = Console()
    console.print(table)
    added = middle["guarded_jwt"] - middle["bare"]
    console.print(f"the guard adds {added:,.0f} µs to a call (p50), its question to the broker too")


if __name__ == "__main__":
    sys.exit(main())
