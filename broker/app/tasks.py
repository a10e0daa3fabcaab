"""Named tasks under one supervisor.

Duty: start the tasks that run for ever; tell when one ends; end all.
Not its duty: what they do.
Rules:

* every long-running task has a name that a person can read in the log;
* one that ends unasked, well or not, is a fault of the broker: the process stops, so
  that the kubelet starts it anew, instead of going on without one of its parts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from broker.errors import TaskEnded

log = logging.getLogger("broker.app")


class Tasks:
    """The supervisor."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ended: asyncio.Future[TaskEnded] = asyncio.get_running_loop().create_future()
        self._closing = False

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Run ``work`` under ``name``; it must not end before ``close``."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if self._closing:
            return
        error = None if task.cancelled() else task.exception()
        log.critical("the task %r ended unasked", task.get_name(), exc_info=error)
        if not self._ended.done():
            ended = TaskEnded(f"the task {task.get_name()!r} ended unasked")
            ended.__cause__ = error
            self._ended.set_result(ended)

    async def ended(self) -> TaskEnded:
        """Wait until a task ends unasked; returns the error that tells which."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Cancel all and wait for them."""
        self._closing = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
