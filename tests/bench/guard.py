"""``python -m tests.bench.guard``: what the guard adds to a tool call.

Duty: call one tool of one MCP server, bare and behind the guard, with an issuer's JWT and with
a scoped token of the broker, and print the differences.
Not its duty: passing or failing; hand-outs (``tests.bench``).
Rules:

* the same server in the same process answers all; its broker is the one that is shipped
  (``broker run``, before a real OpenBao), asked over its Unix socket for a decision at each call
  behind the guard. What it said of the scoped token is kept by the guard as in production: asked
  again every five seconds, and dropped by a revocation;
* server and broker share one core, the caller has another; rounds alternate, medians count;
* beside the time that an agent waits stands the time on a processor of server and broker
  together, which other work on the machine changes little.
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
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any, Final

import httpx2
import psutil
from mcp.server import MCPServer
from rich.console import Console
from rich.table import Table

from broker.client.aio import Broker
from broker.client.mcp import Guard, Issuer, install
from broker.demo.openbao import OpenBao
from broker.demo.process import free_port
from tests.bench.backend import KV_MOUNT, KV_PATH, KV_POLICY, Backend, pinned
from tests.bench.contestants import CLIENT, Contestant, start_beside_a_guard
from tests.simulators.authorization_server import AuthorizationServer
from tests.support.guarded import call_body, call_headers
from tests.support.serving import bound, served

CASES: Final = ("bare", "guarded_jwt", "guarded_scoped")
WARM_UP: Final = 50
PATIENCE: Final = 30.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guard", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds a case; the median counts")
    parser.add_argument("--calls", type=int, default=100, help="calls a round, one by one")
    parser.add_argument("--part", choices=("server",), help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ports", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "server":
        asyncio.run(_server(options.directory, *map(int, options.ports.split(","))))
    else:
        _show(_measure(options.rounds, options.calls))
    return 0


# --- parts ----------------------------------------------------------------------------------


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
        broker=Broker(f"unix://{directory}/run/{CLIENT}/broker.sock"),
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
        (directory / "jwt").write_text(token)
        await asyncio.Event().wait()


# --- measuring --------------------------------------------------------------------------------


@dataclass(slots=True)
class Measured:
    """One case. Times are seconds."""

    rounds: list[list[float]] = field(default_factory=list)
    """What an agent waited, call by call."""
    cpu: list[float] = field(default_factory=list)
    """On a processor, a call: the mean of each round."""


def _measure(rounds: int, calls: int) -> dict[str, Measured]:
    available = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        directory = Path(name)
        ports = [free_port() for _ in range(3)]
        with (
            _broker(directory, available[0]) as (broker, scoped),
            _part("server", directory, ports) as server,
        ):
            os.sched_setaffinity(0, {available[-1]})
            try:
                processes = [psutil.Process(pid) for pid in (broker, server)]
                return asyncio.run(_rounds(directory, ports, processes, scoped, rounds, calls))
            finally:
                os.sched_setaffinity(0, available)


@contextmanager
def _broker(directory: Path, core: int) -> Iterator[tuple[int, str]]:
    """``broker run`` before OpenBao; gives its process and a scoped token of it."""
    (directory / "openbao").mkdir()
    openbao = OpenBao(directory / "openbao")
    try:
        with pinned(core):
            openbao.start()
        openbao.admin.enable_kv(KV_MOUNT)
        openbao.admin.kv_write(KV_MOUNT, KV_PATH, {"api_key": "bench-key-of-usual-length-0000000"})
        openbao.admin.policy("bench", KV_POLICY)
        token = openbao.admin.create_token(["bench"], ttl="1h")
        file = directory / "token"
        file.touch(mode=0o600)
        file.write_text(token.reveal())
        contestant = start_beside_a_guard(Backend(openbao.address, file), directory, core)
        try:
            assert contestant.child.pid is not None
            yield contestant.child.pid, _minted(contestant)
        finally:
            contestant.child.stop()
    finally:
        openbao.stop()


def _minted(contestant: Contestant) -> str:
    base = contestant.urls["base"]
    wish = {"subject": "ada", "tools": ["ping"], "credentials": ["search-api"]}
    with httpx2.Client(headers=dict(contestant.headers), trust_env=False) as http:
        answer = http.post(f"{base}/v1/tokens", json=wish)
    answer.raise_for_status()
    return str(answer.json()["token"])


@contextmanager
def _part(part: str, directory: Path, ports: list[int]) -> Iterator[int]:
    argv = [sys.executable, "-m", "tests.bench.guard", "--part", part, "--directory"]
    process = subprocess.Popen([*argv, str(directory), "--ports", ",".join(map(str, ports))])
    os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


async def _rounds(
    directory: Path,
    ports: list[int],
    processes: list[psutil.Process],
    scoped: str,
    rounds: int,
    calls: int,
) -> dict[str, Measured]:
    signed = directory / "jwt"
    deadline = time.monotonic() + PATIENCE
    while not signed.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("a part does not start")
        await asyncio.sleep(0.05)
    accept = {"Accept": "application/json, text/event-stream"}
    bare, guarded, _ = ports
    cases = {
        "bare": (bare, scoped),  # which nobody looks at there
        "guarded_jwt": (guarded, signed.read_text()),
        "guarded_scoped": (guarded, scoped),
    }
    measured = {case: Measured() for case in CASES}
    async with AsyncExitStack() as stack:
        agents = {}
        for case, (_, bearer) in cases.items():
            headers = call_headers("ping") | accept | {"Authorization": f"Bearer {bearer}"}
            http = httpx2.AsyncClient(headers=headers, trust_env=False)
            agents[case] = await stack.enter_async_context(http)
        for number in range(rounds + 1):
            for case, (port, _) in cases.items():
                before = _on_a_processor(processes)
                times = await _calls(agents[case], port, calls if number else WARM_UP)
                if number:
                    measured[case].rounds.append(times)
                    measured[case].cpu.append((_on_a_processor(processes) - before) / calls)
    return measured


def _on_a_processor(processes: list[psutil.Process]) -> float:
    spent = [one.cpu_times() for one in processes]
    return float(sum(one.user + one.system for one in spent))


async def _calls(http: httpx2.AsyncClient, port: int, calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        before = time.perf_counter()
        response = await http.post(f"http://127.0.0.1:{port}/mcp", json=call_body("ping"))
        times.append(time.perf_counter() - before)
        assert response.status_code == 200, response.text
        assert "pong" in response.text
    return times


def _show(measured: dict[str, Measured]) -> None:
    table = Table(title="one tool call after another over loopback (medians of rounds)")
    for heading in ("case", "p50 µs", "p90 µs", "CPU µs"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    middle, cpu = {}, {}
    for case, one in measured.items():
        middle[case] = median(median(times) for times in one.rounds) * 1e6
        slow = median(quantiles(times, n=10)[-1] for times in one.rounds) * 1e6
        # The system counts in hundredths of a second: a round is too short for a median of them.
        cpu[case] = fmean(one.cpu) * 1e6
        table.add_row(case, f"{middle[case]:,.0f}", f"{slow:,.0f}", f"{cpu[case]:,.0f}")
    console = Console()
    console.print(table)
    for case in CASES[1:]:
        added, spent = middle[case] - middle["bare"], cpu[case] - cpu["bare"]
        console.print(
            f"{case}: {added:,.0f} µs more than bare (p50), of a processor {spent:,.0f} µs, "
            "the question to the broker included"
        )


if __name__ == "__main__":
    sys.exit(main())
