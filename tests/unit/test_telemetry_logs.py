"""The log: masked lines, in order, from every source, and never a wait for whoever logs."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker.protocol.redaction import CUT, Redactor
from broker.secret import SecretValue
from broker.telemetry import lines, logs
from tests.support.patience import PATIENCE

CANARY = "canary-7f3a9b!value"
GAP = " log lines were dropped: standard error took none"


class Pipe:
    """A pipe in place of standard error; read only when the test says so."""

    def __init__(self) -> None:
        self.out, self.write = os.pipe()

    def read(self) -> str:
        """All that was written so far."""
        os.set_blocking(self.out, False)
        text = b""
        while True:
            try:
                part = os.read(self.out, 1 << 16)
            except BlockingIOError:
                break
            if not part:
                break
            text += part
        return text.decode()

    def close(self) -> None:
        os.close(self.out)
        os.close(self.write)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def redactor() -> Redactor:
    made = Redactor()
    made.learn(SecretValue(CANARY))
    return made


Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def read(pipe: Pipe, redactor: Redactor) -> Iterator[Read]:
    """Set JSON logging up on the pipe; returns what was logged since the last call."""
    setup = logs.configure("info", "json", redactor, descriptor=pipe.write)

    def parsed() -> list[dict[str, Any]]:
        assert setup.flush(PATIENCE)
        return [json.loads(line) for line in pipe.read().splitlines()]

    yield parsed
    setup.close()


log = logging.getLogger("broker.test")


def test_a_json_line_has_time_level_logger_message_and_fields(read: Read) -> None:
    """Numbers stay numbers; the time is RFC 3339 in UTC."""
    log.warning("leases: %d", 3, extra={"credential": "orders-db", "seconds": 1.5, "ok": True})
    (line,) = read()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "broker.test",
        "message": "leases: 3",
        "credential": "orders-db",
        "seconds": 1.5,
        "ok": True,
    }


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_live_value_is_masked_in_every_part_of_a_record(
    pipe: Pipe, redactor: Redactor, form: Any
) -> None:
    """Message, arguments, fields, exception, its cause and notes, and the stack are masked."""
    setup = logs.configure("info", form, redactor, descriptor=pipe.write)
    try:
        log.warning(f"in the message {CANARY}")  # noqa: G004 - the fault to survive
        log.warning("in the arguments %s %r", CANARY, {"key": CANARY})
        log.warning("in a field", extra={"detail": f"key={CANARY}", "data": {"key": [CANARY]}})
        log.warning("as base64 %s", base64.b64encode(CANARY.encode()).decode())
        cause = ValueError(CANARY)
        cause.add_note(f"note {CANARY}")
        error = RuntimeError(f"outer {CANARY}")
        error.__cause__ = cause
        log.warning("failed", exc_info=error, stack_info=True)
        assert setup.flush(PATIENCE)
    finally:
        setup.close()
    text = pipe.read()
    assert text.count("***") == 9
    assert CANARY not in text
    assert "canary" not in text
    assert base64.b64encode(CANARY.encode()).decode()[2:10] not in text


def test_an_exception_shows_its_trace_and_its_cause(read: Read) -> None:
    """What failed and why is in the line, cut to the innermost frames."""

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise KeyError("inner")

    try:
        try:
            deep(100)
        except KeyError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        log.exception("failed")
    (line,) = read()
    assert "RuntimeError: outer" in line["exception"]
    assert "KeyError: 'inner'" in line["exception"]
    assert f"line repeated {lines.FRAMES - 4} more times" in line["exception"]


def test_a_long_text_is_cut(read: Read) -> None:
    """A line's cost is bounded: what is past the limit is not looked at, and says so."""
    log.warning("x" * 100_000)
    (line,) = read()
    assert line["message"].endswith(CUT)
    assert len(line["message"]) <= lines.LIMIT + len(CUT)


def test_a_field_cannot_take_the_place_of_the_line_s_own(read: Read) -> None:
    """Time, level and logger are the record's, whatever a field is called."""
    log.warning("real", extra={"level": "none", "logger": "forged", "time": "never"})
    (line,) = read()
    assert line["level"] == "warning"
    assert line["logger"] == "broker.test"
    assert line["time"] != "never"


@pytest.mark.parametrize("arguments", [(CANARY,), (1, CANARY), ({"key": CANARY},)])
def test_a_broken_format_loses_neither_line_nor_secret(
    redactor: Redactor, arguments: tuple[Any, ...]
) -> None:
    """Wrong placeholders show the message without its arguments."""
    record = logging.LogRecord("broker", logging.INFO, "", 1, "value %d", arguments, None)
    line = json.loads(lines.JsonLines(redactor.mask).format(record))
    assert line["message"] == "value %d (arguments unshown: TypeError)"


def test_a_record_that_cannot_be_shown_is_named(pipe: Pipe, redactor: Redactor) -> None:
    """An object whose text cannot be made costs its line, not the process."""

    class Unshowable:
        def __str__(self) -> str:
            raise RuntimeError(CANARY)

    setup = logs.configure("info", "json", redactor, descriptor=pipe.write)
    log.warning("field", extra={"odd": Unshowable()})
    assert setup.flush(PATIENCE)
    setup.close()
    text = pipe.read()
    assert text.startswith("a log line of broker.test:")
    assert text.endswith(" failed: RuntimeError\n")


def test_a_console_line_cannot_be_forged(pipe: Pipe, redactor: Redactor) -> None:
    """Line feeds and terminal codes in a text are shown, not obeyed."""
    setup = logs.configure("info", "console", redactor, descriptor=pipe.write)
    log.info("one\n12:00:00.000 INFO     broker: forged", extra={"tool": "a\r\x1b[2Jb"})
    log.warning("failed", exc_info=ValueError("bell \a"))
    assert setup.flush(PATIENCE)
    setup.close()
    first, second, *block = pipe.read().splitlines()
    assert first[12:] == (
        r" INFO     broker.test: one\n12:00:00.000 INFO     broker: forged tool=a\r\x1b[2Jb"
    )
    assert second.endswith("broker.test: failed")
    assert block == [r"    ValueError: bell \x07"]


def test_levels_hold_for_the_broker_and_libraries_are_quiet(read: Read) -> None:
    """The configured level is the broker's; libraries speak from WARNING or ERROR on."""
    log.debug("no")
    log.info("broker")
    logging.getLogger("somelibrary").info("no")
    logging.getLogger("somelibrary").warning("library")
    logging.getLogger("uvicorn.access").critical("no")
    logging.getLogger("uvicorn.error").info("no")
    logging.getLogger("uvicorn.error").error("uvicorn")
    logging.getLogger("urllib3.connectionpool").warning("no: /v1/sys/leases/renew")
    logging.getLogger("hvac").warning("no")
    logging.getLogger("asyncio").error("loop")
    assert [line["message"] for line in read()] == ["broker", "library", "uvicorn", "loop"]


def test_warnings_are_logged_and_masked(read: Read) -> None:
    """A Python warning is a log line like any other."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn(f"old {CANARY}", UserWarning, stacklevel=1)
    (line,) = read()
    assert line["logger"] == "py.warnings"
    assert "old ***" in line["message"]


def test_an_unread_pipe_blocks_nobody(pipe: Pipe, redactor: Redactor) -> None:
    """While standard error takes nothing, logging returns, memory is bounded, drops are counted.

    Once it is read again, the line after the gap says how many are missing.
    """
    dropped: list[None] = []
    setup = logs.configure(
        "info", "json", redactor, descriptor=pipe.write, dropped=lambda: dropped.append(None)
    )
    text = "x" * 8000

    def work() -> None:
        for _ in range(200):
            log.info(text)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(PATIENCE)
    assert not worker.is_alive()
    # 64 KiB in the pipe and one MiB in the buffer hold some 140 lines of 8 KiB.
    assert 50 <= len(dropped) <= 80
    assert not setup.flush(0.01)

    shown = ""
    while not setup.flush(0.01):
        shown += pipe.read()
    # The last lines may have filled the pipe again: room for the next ones.
    shown += pipe.read()
    log.info("after")
    assert setup.flush(PATIENCE)
    shown += pipe.read()
    setup.close()
    written = shown.splitlines()
    # A writer that comes late makes room in the middle, and a gap of its own before it.
    gaps = [int(line.split()[0]) for line in written if line.endswith(GAP)]
    assert sum(gaps) == len(dropped)
    assert len(written) - len(gaps) == 200 - len(dropped) + 1
    assert json.loads(written[-1])["message"] == "after"


def test_a_non_blocking_descriptor_is_waited_for(pipe: Pipe, redactor: Redactor) -> None:
    """Another owner of the same file may have made it non-blocking: no line is torn."""
    os.set_blocking(pipe.write, False)
    setup = logs.configure("info", "json", redactor, descriptor=pipe.write)
    for number in range(40):
        log.info("%d %s", number, "y" * 4000)
    shown = ""
    while not setup.flush(0.01):
        shown += pipe.read()
    setup.close()
    shown += pipe.read()
    messages = [json.loads(line)["message"] for line in shown.splitlines()]
    assert [str(number) for number in range(40)] == [text.split()[0] for text in messages]


def test_a_closed_pipe_harms_nobody(redactor: Redactor) -> None:
    """Nobody at the other end: lines are lost, the process goes on and ends."""
    out, write = os.pipe()
    os.close(out)
    setup = logs.configure("info", "json", redactor, descriptor=write)
    log.info("lost")
    assert setup.flush(PATIENCE)
    setup.close()
    log.info("after the end")
    os.close(write)


def test_closing_does_not_wait_for_ever(pipe: Pipe, redactor: Redactor) -> None:
    """With a full pipe that nobody reads closing ends before the writing does."""
    setup = logs.configure("info", "json", redactor, descriptor=pipe.write)
    for _ in range(30):
        log.info("x" * 8000)
    (writer,) = [thread for thread in threading.enumerate() if thread.name == "log writer"]
    setup.close()
    assert writer.is_alive()
    while writer.is_alive():
        pipe.read()
        writer.join(0.01)


def test_a_second_set_up_replaces_the_first(pipe: Pipe, redactor: Redactor) -> None:
    """No line is written twice."""
    first = logs.configure("info", "json", redactor, descriptor=pipe.write)
    second = logs.configure("warning", "console", redactor, descriptor=pipe.write)
    log.info("no")
    log.warning("once")
    assert second.flush(PATIENCE)
    second.close()
    first.close()
    assert pipe.read().count("once") == 1


def test_whatever_python_prints_by_itself_is_masked() -> None:
    """Uncaught exceptions in main, in a thread, in a task, in a finalizer: all through the mask."""
    program = f"""
        import asyncio, sys, threading
        from broker.protocol.redaction import Redactor
        from broker.secret import SecretValue
        from broker.telemetry import logs

        canary = {CANARY!r}
        redactor = Redactor()
        redactor.learn(SecretValue(canary))
        logs.configure("info", "json", redactor)

        class Finalizer:
            def __del__(self):
                raise ValueError("finalizer " + canary)

        async def forgotten():
            raise ValueError("task " + canary)

        async def main():
            task = asyncio.create_task(forgotten())
            await asyncio.sleep(0)
            del task

        def fail(text):
            raise ValueError(text + canary)

        Finalizer()
        thread = threading.Thread(target=fail, args=("thread ",))
        thread.start()
        thread.join()
        asyncio.run(main())
        fail("main ")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert CANARY not in done.stderr + done.stdout
    exceptions = [json.loads(line)["exception"] for line in done.stderr.splitlines()]
    ends = [text.splitlines()[-1] for text in exceptions]
    expected = ["finalizer", "thread", "task", "main"]
    assert [f"ValueError: {where} ***" for where in expected] == ends


def test_an_interrupt_is_no_traceback() -> None:
    """Ctrl-C at the wrong moment is one line."""
    program = """
        from broker.protocol.redaction import Redactor
        from broker.telemetry import logs
        logs.configure("info", "console", Redactor())
        raise KeyboardInterrupt
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr.splitlines()[0].endswith("broker: interrupted")
    assert "Traceback" not in done.stderr
