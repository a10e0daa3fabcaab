"""Threads of the port's own, for a library that blocks.

Duty: run blocking calls beside the event loop.
Not its duty: how many at once (``limiter``), how long (``client``).
Rules:

* at most ``threads``, started when first needed and kept;
* daemon threads: one that hangs in the system's resolver cannot hold up the end of
  the process. The threads of ``concurrent.futures`` are joined at exit, and the
  event loop's default executor is shared with everybody: hence neither is used.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from broker.errors import VaultUnavailable

T = TypeVar("T")


class Workers:
    """A small pool of daemon threads.

    Args:
        threads: most threads.
        name: of the threads, for a person who looks at them.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        self._most = threads
        self._name = name
        self._threads = 0
        self._busy = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``work`` in a thread. The future cannot stop it; cancelling only forgets it.

        Raises:
            VaultUnavailable: there is no thread, and the system gives none.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            self._busy -= 1
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # T when no error

        def job() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:
                error = caught
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:
                pass  # the loop is closed: nobody is left to be told

        if self._busy >= self._threads and self._threads < self._most:
            self._start_one()
        self._busy += 1
        self._jobs.put(job)
        return future

    def close(self) -> None:
        """Let the idle threads end, and the busy ones after their call. Waits for none."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _start_one(self) -> None:
        name = f"{self._name}-{self._threads + 1}"
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except RuntimeError as error:  # the container's limit of processes, or its memory
            if not self._threads:
                raise VaultUnavailable("The system gives no thread to call Vault in.") from error
        else:
            self._threads += 1

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it holds the last answer: no longer than needed
