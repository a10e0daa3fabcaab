"""``python -m tests.bench [--case C] [--report FILE] [--rounds N] [--seconds S]``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from broker.demo.process import PartError
from tests.bench import report, waiters, wrk
from tests.bench.backend import Backend, backend, pinned
from tests.bench.contestants import Contestant, start_broker, start_guarded, start_proxy
from tests.bench.report import CASES, CONNECTIONS, Load, Memory, Results, Waits

SETTLE = 2.0
"""Seconds after a start before resident memory counts as idle."""
WARM_UP = 1.0


def main() -> int:
    """Measure, print, write; 0 when everything was measured, 1 when something was not."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--report", type=Path, help="write the figures to this file as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="rounds a case; the median counts")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds a round")
    parser.add_argument(
        "--case", choices=("all", "handouts", "waiters"), default="all", help="what is measured"
    )
    options = parser.parse_args()
    console = Console()
    try:
        results = Results()
        if options.case != "waiters":
            wrk.require()
            results = measure(options.rounds, options.seconds, console)
        if options.case != "handouts":
            results.waits = _waits(console)
    except (wrk.LoadError, PartError) as error:
        console.print(f"[red]{error}[/red]")
        return 1
    report.show(results, console)
    if options.report is not None:
        options.report.write_text(json.dumps(report.rows(results), indent=2) + "\n")
        console.print(f"written: {options.report}")
    return 0


def measure(rounds: int, seconds: float, console: Console) -> Results:
    """Run every case and return the medians."""
    servers, load = _cores(console)
    with tempfile.TemporaryDirectory(prefix="broker-bench-") as name:
        directory = Path(name)
        # PostgreSQL may work as another user below it.
        directory.chmod(0o755)
        with backend(directory, servers) as behind:
            return _measure(behind, directory, (servers, load), rounds, seconds, console)


def _waits(console: Console) -> Waits:
    servers, load = _cores(console)
    with tempfile.TemporaryDirectory(prefix="broker-bench-") as name, pinned(load):
        return waiters.measure(Path(name), servers)


def _measure(
    behind: Backend,
    directory: Path,
    cores: tuple[int, int],
    rounds: int,
    seconds: float,
    console: Console,
) -> Results:
    servers, core = cores
    with _running(behind, directory, servers) as contestants:
        time.sleep(SETTLE)
        idle = {one.name: one.rss_mb() for one in contestants}
        asked = {case: one for one in contestants for case in one.urls}
        loads = Results()

        def load(case: str, connections: int, duration: float) -> wrk.Round:
            contestant = asked[case]
            return wrk.run(
                contestant.urls[case],
                headers=contestant.headers,
                connections=connections,
                seconds=duration,
                core=core,
                directory=directory,
            )

        for case in CASES:
            load(case, 4, WARM_UP)
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}", style="dim")
            for connections in CONNECTIONS:
                for case in CASES:
                    measured = load(case, connections, seconds)
                    loads.loads.setdefault(Load(case, connections), []).append(measured)
        for one in contestants:
            loads.memory[one.name] = Memory(idle[one.name], one.rss_mb(), one.start_to_ready)
        return loads


@contextmanager
def _running(behind: Backend, directory: Path, core: int) -> Iterator[list[Contestant]]:
    started: list[Contestant] = []
    try:
        for start in (start_broker, start_guarded, start_proxy):
            place = directory / start.__name__
            place.mkdir()
            started.append(start(behind, place, core))
        yield started
    finally:
        for one in started:
            one.child.stop()


def _cores(console: Console) -> tuple[int, int]:
    """A CPU for the servers and another for the load."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        console.print("[yellow]one CPU only: servers and load share it[/yellow]")
        return available[0], available[0]
    return available[0], available[1]


if __name__ == "__main__":
    sys.exit(main())
