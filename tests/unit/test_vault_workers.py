"""``vault.workers``: threads for calls that block."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.clock import SystemClock
from broker.errors import VaultUnavailable
from broker.secret import SecretValue
from broker.vault.client import VaultClient
from broker.vault.limiter import Budget, Limiter
from broker.vault.workers import Workers
from tests.support.patience import PATIENCE


@contextmanager
def no_threads() -> Iterator[None]:
    """The system refuses new threads: it cannot give them stacks of this size."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


async def test_results_and_errors_come_back() -> None:
    """What the work returns or raises is the future's."""
    workers = Workers(2, name="test")
    assert await workers.submit(lambda: 6 * 7) == 42
    with pytest.raises(ZeroDivisionError):
        await workers.submit(lambda: 1 // 0)
    workers.close()


async def test_no_more_threads_than_allowed_and_none_before_it_is_needed() -> None:
    """One call after the other needs one thread; many at once get as many as allowed."""
    workers = Workers(3, name="counted")
    names: set[str] = set()

    def work() -> None:
        names.add(threading.current_thread().name)

    for _ in range(5):
        await workers.submit(work)
    assert names == {"counted-1"}
    together = threading.Barrier(3)
    await asyncio.gather(*(workers.submit(lambda: together.wait(5)) for _ in range(3)))
    await asyncio.gather(*(workers.submit(work) for _ in range(30)))
    assert names <= {"counted-1", "counted-2", "counted-3"}
    workers.close()


async def test_without_a_thread_the_call_fails_and_the_slot_is_free() -> None:
    """A system that gives no thread is unavailability; when it gives one again, all goes on."""
    limiter = Limiter(Budget(rate=1000, burst=100, concurrency=3), clock=SystemClock())
    client = VaultClient("http://127.0.0.1:1", clock=SystemClock(), limiter=limiter)
    with no_threads():
        for _ in range(5):
            with pytest.raises(VaultUnavailable, match="no thread"):
                await client.lookup_self(SecretValue("x"))
    with pytest.raises(VaultUnavailable, match="refused"):
        await client.lookup_self(SecretValue("x"))
    with no_threads(), pytest.raises(VaultUnavailable, match="refused"):
        await client.lookup_self(SecretValue("x"))  # in the one thread that exists
    await client.aclose()


def test_a_hung_call_does_not_hold_up_the_exit() -> None:
    """A process ends although a call hangs where nothing can break it off."""
    program = (
        "import asyncio, time\n"
        "from broker.vault.workers import Workers\n"
        "async def main():\n"
        "    Workers(1, name='hung').submit(lambda: time.sleep(600))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=PATIENCE, check=False)
    assert done.returncode == 0
