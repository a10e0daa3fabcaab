"""The load: wrk, told by a script that holds the token, answering in JSON.

Source: https://github.com/wg/wrk (SCRIPTING)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOW_TO_GET = "wrk is not on PATH: apt-get install wrk, or brew install wrk"

_DONE = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class LoadError(Exception):
    """The load did not run, or a request of it failed."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured."""

    requests_per_second: float
    p50_us: float
    p99_us: float


def require() -> str:
    """Path of wrk.

    Raises:
        LoadError: it is not installed; says how to get it.
    """
    path = shutil.which("wrk")
    if path is None:
        raise LoadError(HOW_TO_GET)
    return path


def run(
    url: str,
    *,
    headers: Mapping[str, str],
    connections: int,
    seconds: float,
    core: int,
    directory: Path,
) -> Round:
    """Load ``url`` for a while.

    Args:
        url: what is asked for, again and again.
        headers: of each request; kept off the command line, where others could read them.
        connections: kept open at once.
        seconds: how long; wrk counts whole ones.
        core: the CPU the load may use.
        directory: takes the script.

    Raises:
        LoadError: wrk failed, or an answer was no 2xx.
    """
    script = directory / "load.lua"
    script.touch(mode=0o600)
    lines = [f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items()]
    script.write_text("\n".join(lines) + _DONE)
    argv = [require(), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s"]
    done = subprocess.run(
        [*argv, str(script), url],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        told = json.loads(done.stderr)
    except ValueError:
        raise LoadError(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}") from None
    if told["failed"]:
        raise LoadError(f"{told['failed']} of {told['requests']} requests to {url} failed")
    rate = told["requests"] / (told["duration_us"] / 1e6)
    return Round(rate, told["p50_us"], told["p99_us"])
