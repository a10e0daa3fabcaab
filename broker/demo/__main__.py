"""``make demo``: tell the story on real parts.

Usage: ``python -m broker.demo [--hold] [--report FILE]``. Exit code 0 when the broker kept
its promises and all that should happen did, 1 when not, 2 when a part did not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from broker.clock import Clock, SystemClock
from broker.demo.facts import BROKER, ENVIRONMENT, Facts
from broker.demo.judge import counters, document, faults
from broker.demo.process import PartError
from broker.demo.stage import Stage
from broker.demo.story import Story, end
from broker.demo.timeline import Timeline
from broker.demo.watch import Watch

FAILED, BROKEN, INTERRUPTED = 1, 2, 130
"""Exit codes beside 0; the last one as shells have it for Ctrl-C."""


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make demo", description="The broker on real parts.")
    parser.add_argument("--hold", action="store_true", help="leave all running at the end")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the counters as JSON")
    options = parser.parse_args(arguments)
    clock = SystemClock()
    stage = Stage()
    try:
        return asyncio.run(_run(stage, clock, hold=options.hold, report=options.report))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except (PartError, ExceptionGroup) as error:
        faults_of_parts, rest = _split(error)
        if rest is not None:
            raise
        print(*faults_of_parts, sep="\n", file=sys.stderr)
        return BROKEN
    finally:
        stage.stop()


def _split(error: Exception) -> tuple[list[Exception], Exception | None]:
    """What parts of the demo did wrong, and what is left: a fault of the demo itself."""
    if not isinstance(error, ExceptionGroup):
        return [error], None
    parts, rest = error.split(PartError)
    return list(parts.exceptions) if parts else [], rest


async def _run(stage: Stage, clock: Clock, *, hold: bool, report: Path | None) -> int:
    # SIGTERM ends it as Ctrl-C does, also where a shell has SIGINT ignored, as in the background.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    timeline = Timeline(clock)
    timeline.chapter("The parts start")
    await stage.start(lambda what: timeline.tell("stage", what))
    timeline.begin()
    watch = Watch(stage, clock=clock, tell=timeline.tell)
    story = Story(stage, watch, timeline, clock=clock)
    async with story.running():
        await story.tell()
        if hold:
            code = _conclude(watch.settle(), [], timeline, report)
            timeline.lines("All of it goes on running until Ctrl-C", _to_try(stage))
            await _ctrl_c()
            return code
    wrong = await end(stage, watch, timeline, clock)
    return _conclude(watch.settle(), wrong, timeline, report)


async def _ctrl_c() -> None:
    """Wait for SIGINT or SIGTERM, which are a cancellation of this task."""
    task = asyncio.current_task()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if task is not None:
            task.uncancel()  # asked for: the exit code is that of the story


def _conclude(facts: Facts, wrong: list[str], timeline: Timeline, report: Path | None) -> int:
    found = faults(facts) + wrong
    editions = {edition: counters(facts, edition) for edition in (BROKER, ENVIRONMENT)}
    timeline.table(editions, facts.events)
    timeline.verdict(found)
    if report is not None:
        report.write_text(json.dumps(document(facts), indent=2) + "\n")
    return FAILED if found else 0


def _to_try(stage: Stage) -> list[str]:
    """Lines to copy into another terminal."""
    bearer = f'-H "Authorization: Bearer $(cat {stage.client_token})"'
    root = stage.directory / "root-token"
    root.touch(mode=0o600)
    root.write_text(stage.openbao.root_token.reveal())
    vault = f"VAULT_ADDR={stage.openbao.address} VAULT_TOKEN=$(cat {root})"
    bao = Path(sys.executable).with_name("bao")
    tcp = f"http://127.0.0.1:{stage.tcp_port}"
    return [
        "# a key, just in time, over the MCP server's own socket",
        f"curl -i --unix-socket {stage.socket} {bearer} http://localhost/v1/credentials/search-api",
        "# the same over TCP; what it may have; without the token",
        f"curl {bearer} {tcp}/v1/credentials/orders-db",
        f"curl {bearer} {tcp}/v1/credentials",
        f"curl -i {tcp}/v1/credentials/search-api",
        "# what operations see",
        f"curl {stage.operations}/readyz",
        f"curl {stage.operations}/metrics",
        f"tail -f {stage.audit_file} {stage.broker_log}",
        "# a wrong key behind its back: watch it being reported; and the good one again",
        f"{vault} {bao} kv put secret/search-api api_key=wrong",
        f"{vault} {bao} kv rollback -version=2 secret/search-api",
        "# for your own agent: the MCP server with the broker, and the one without",
        stage.mcp_url(BROKER),
        stage.mcp_url(ENVIRONMENT),
    ]


if __name__ == "__main__":
    sys.exit(main())
