"""What was measured: rows for a file, a table for a person, targets beside the figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.bench.wrk import Round

CASES: Final = ("handout", "handout_policy", "bao_proxy_cached", "bao_proxy_kv")
CONNECTIONS: Final = (1, 16, 64)
_PROCESSES: Final = {
    "handout": "broker",
    "handout_policy": "broker, policy and limits",
    "bao_proxy_cached": "bao proxy",
}


@dataclass(frozen=True, slots=True)
class Load:
    """A case at a number of connections."""

    case: str
    connections: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in megabytes, and seconds from start to the first good answer."""

    idle_mb: float
    loaded_mb: float
    start_to_ready: float


@dataclass(frozen=True, slots=True)
class Waits:
    """How long after promotions each waiter was told."""

    waiters: int
    rotations: int
    seconds: list[float]

    def at(self, part: float) -> float:
        """Milliseconds within which this part of all answers came."""
        ordered = sorted(self.seconds)
        return 1e3 * ordered[max(0, ceil(part * len(ordered)) - 1)]


@dataclass(slots=True)
class Results:
    """All rounds, and the processes; what was not measured is empty."""

    loads: dict[Load, list[Round]] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    waits: Waits | None = None

    def at(self, case: str, connections: int) -> Round:
        """The median round, each figure by itself."""
        rounds = self.loads[Load(case, connections)]
        return Round(
            median(one.requests_per_second for one in rounds),
            median(one.p50_us for one in rounds),
            median(one.p99_us for one in rounds),
        )


def rows(results: Results) -> list[dict[str, Any]]:
    """The figures for a machine to read."""
    return (_load_rows(results) if results.loads else []) + _waits_rows(results.waits)


def _waits_rows(waits: Waits | None) -> list[dict[str, Any]]:
    if waits is None:
        return []
    return [
        {
            "case": "waiters",
            "waiters": waits.waiters,
            "rotations": waits.rotations,
            "p50_ms": round(waits.at(0.5), 2),
            "p99_ms": round(waits.at(0.99), 2),
            "max_ms": round(waits.at(1.0), 2),
        }
    ]


def _load_rows(results: Results) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for case in CASES:
        for connections in CONNECTIONS:
            measured = results.at(case, connections)
            told.append(
                {
                    "case": case,
                    "connections": connections,
                    "requests_per_second": round(measured.requests_per_second, 1),
                    "p50_us": round(measured.p50_us, 1),
                    "p99_us": round(measured.p99_us, 1),
                }
            )
    for case, process in _PROCESSES.items():
        memory = results.memory[process]
        told.append(
            {
                "case": case,
                "rss_idle_mb": round(memory.idle_mb, 1),
                "rss_loaded_mb": round(memory.loaded_mb, 1),
                "start_to_ready_s": round(memory.start_to_ready, 3),
            }
        )
    return told


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio or figure that was aimed at."""

    text: str
    value: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether this run met it."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def targets(results: Results) -> list[Target]:
    """What was aimed at, with what this run gave."""
    told = _load_targets(results) if results.loads else []
    if (waits := results.waits) is not None:
        text = f"ms from a promotion until the last of {waits.waiters} waiters is told"
        told.append(Target(text, waits.at(1.0), 50.0, False))
    return told


def _load_targets(results: Results) -> list[Target]:
    told = []
    for connections in CONNECTIONS:
        ours, guarded, cached, kv = (results.at(case, connections) for case in CASES)
        at = f"at {connections} connections"
        if connections > 1:
            rate = ours.requests_per_second / cached.requests_per_second
            told.append(Target(f"requests/s against the cached lease {at}", rate, 1.0, True))
            slow = ours.p99_us / cached.p99_us
            told.append(Target(f"p99 against the cached lease {at}", slow, 0.8, False))
            rate = guarded.requests_per_second / cached.requests_per_second
            told.append(Target(f"requests/s with policy and limits {at}", rate, 2.0, True))
            slow = guarded.p99_us / cached.p99_us
            told.append(Target(f"p99 with policy and limits {at}", slow, 0.6, False))
        rate = ours.requests_per_second / kv.requests_per_second
        told.append(Target(f"requests/s against the KV read {at}", rate, 10.0, True))
    broker, proxy = results.memory["broker"], results.memory["bao proxy"]
    idle, loaded = broker.idle_mb / proxy.idle_mb, broker.loaded_mb / proxy.loaded_mb
    told.append(Target("resident memory idle against bao proxy", idle, 1.0, False))
    told.append(Target("resident memory loaded against bao proxy", loaded, 0.6, False))
    told.append(Target("seconds from start to ready", broker.start_to_ready, 1.5, False))
    return told


def show(results: Results, console: Console) -> None:
    """Print tables."""
    if results.loads:
        _show_loads(results, console)
    if (waits := results.waits) is not None:
        table = Table(title=f"{waits.waiters} waiters told of {waits.rotations} promotions")
        for heading in ("case", "p50 ms", "p99 ms", "max ms"):
            table.add_column(heading, justify="left" if heading == "case" else "right")
        table.add_row("waiters", *(f"{waits.at(part):.1f}" for part in (0.5, 0.99, 1.0)))
        console.print(table)
    _show_targets(results, console)


def _show_loads(results: Results, console: Console) -> None:
    table = Table(title="requests to one process on one core (medians)")
    for heading in ("case", "connections", "requests/s", "p50 µs", "p99 µs"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for case in CASES:
        for connections in CONNECTIONS:
            measured = results.at(case, connections)
            table.add_row(
                case,
                str(connections),
                f"{measured.requests_per_second:,.0f}",
                f"{measured.p50_us:,.0f}",
                f"{measured.p99_us:,.0f}",
                end_section=connections == CONNECTIONS[-1],
            )
    console.print(table)
    table = Table(title="processes")
    for heading in ("process", "idle MB", "loaded MB", "start to ready s"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    for process, memory in results.memory.items():
        table.add_row(
            process,
            f"{memory.idle_mb:.1f}",
            f"{memory.loaded_mb:.1f}",
            f"{memory.start_to_ready:.2f}",
        )
    console.print(table)


def _show_targets(results: Results, console: Console) -> None:
    table = Table(title="targets")
    for heading in ("what", "this run", "target", ""):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for target in targets(results):
        table.add_row(
            target.text,
            f"{target.value:.2f}",
            f"{'≥' if target.at_least else '≤'} {target.bound:g}",
            "[green]met[/green]" if target.met else "[red]missed[/red]",
        )
    console.print(table)
