"""The supervisor: one task that ends unasked is told by name."""

from __future__ import annotations

import asyncio

import pytest

from broker.app.tasks import Tasks
from broker.errors import TaskEnded
from tests.support.patience import PATIENCE


class Fault(Exception):
    """Something nobody foresaw."""


async def _break() -> None:
    raise Fault


async def _return() -> None:
    """Ends well, which is a fault as well."""


async def _for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("work", "cause"), [(_break, Fault), (_return, type(None))])
async def test_a_task_that_ends_is_named(
    work: object, cause: type[object], caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it failed or just returned; its own error is the cause."""
    tasks = Tasks()
    tasks.start("keeper of stars", _for_ever())
    tasks.start("teller of tales", work())  # type: ignore[operator]
    ended = await asyncio.wait_for(tasks.ended(), PATIENCE)
    assert isinstance(ended, TaskEnded)
    assert "'teller of tales'" in str(ended)
    assert isinstance(ended.__cause__, cause)
    assert "'teller of tales'" in caplog.text
    await tasks.close()


async def test_closing_ends_all_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """An end that was asked for is no fault."""
    tasks = Tasks()
    tasks.start("keeper of stars", _for_ever())
    await tasks.close()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "keeper of stars"] == []
    assert caplog.text == ""
