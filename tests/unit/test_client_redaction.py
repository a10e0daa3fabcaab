"""Keys that were handed out do not reach a log of the client's process."""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest
from uvicorn.logging import AccessFormatter

from broker.client import redaction
from broker.client.credential import Credential
from broker.client.redaction import KEPT_VERSIONS, Memory
from broker.client.tracebacks import MaskingWarnings
from broker.secret import SecretValue

KEY = "canary-key-for-redaction"


def credential(value: str, version: str = "v1", name: str = "logged-api") -> Credential:
    data = MappingProxyType({"api_key": SecretValue(value)})
    return Credential(name, version, data, None, "fresh", 0.0, None, 30.0, 30.0, 0.0)


class Json(logging.Formatter):
    """Writes every attribute of a record, as JSON formatters do."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return json.dumps({**vars(record), "text": text}, default=repr)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a handler on the SDK's logger writes, added before the masking was installed."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json())
    logger, factory = logging.getLogger("mcp"), logging.getLogRecordFactory()
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    logger.addHandler(handler)
    redaction.learn(credential(KEY))
    redaction.install()
    redaction.install()
    yield stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(factory)
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks


log = logging.getLogger("mcp.some.module")


class Holder:
    """An object whose repr tells."""

    def __repr__(self) -> str:
        return f"Holder({KEY})"


@pytest.mark.parametrize(
    ("message", "args"),
    [
        (f"key={KEY}", ()),
        ("key=%s", (KEY,)),
        ("%s and %r", (1, Holder())),
        ("%(key)s", ({"key": KEY},)),
        ("header %s", (base64.b64encode(f"user:{KEY}".encode()).decode(),)),
        (f"split {KEY[:10]}%s", (KEY[10:],)),
        (Holder(), ()),
        (f"%d {KEY}", ("no number",)),
    ],
    ids=["text", "argument", "object", "mapping", "basic", "split", "object as message", "misfit"],
)
def test_no_message_shows_the_key(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str], message: Any, args: tuple[Any, ...]
) -> None:
    """In the text, in an argument, in both together, in what logging says of a misfit."""
    (handler,) = logging.getLogger("mcp").handlers
    # Given to the handler itself, since pytest's raises for a misfit instead of printing it.
    handler.handle(log.makeRecord("mcp.some.module", 30, "f", 1, message, args, None))
    written = stream.getvalue() + capsys.readouterr().err
    assert KEY not in written
    assert base64.b64encode(KEY.encode()).decode()[4:20] not in written
    assert "***" in written


PIN = "73591846"


class Told:
    """An object whose text tells, but not its repr."""

    def __str__(self) -> str:
        return KEY

    def __repr__(self) -> str:
        return "Told()"


class Broken:
    """An object that cannot be written."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("message", "args", "told"),
    [
        ("pin %d", (int(PIN),), "pin ***"),
        ("pin %x", (int(PIN),), f"pin {int(PIN):x}"),
        ("begins with %.3s", (KEY,), "begins with ***"),
        ("%(a)s", ({"a": 1, "unused": KEY},), "1"),
        ("%(a)s", ({"a": 1, "b": [{"c": Told()}]},), "1"),
        ("object %s", (Told(),), "object ***"),
        (
            "group %s",
            (ExceptionGroup("a", [ValueError(KEY)]),),
            "group ExceptionGroup('a', [ValueError('***')])",
        ),
    ],
)
def test_no_argument_shows_the_key(
    stream: io.StringIO, message: str, args: tuple[Any, ...], told: str
) -> None:
    """Also where the message does not; and whatever is masked, the call is no error."""
    redaction.learn(credential(PIN, name="pin-api"))
    log.warning(message, *args)
    written = stream.getvalue()
    assert json.loads(written)["text"] == told
    assert KEY not in written
    assert PIN not in written


@pytest.mark.parametrize("args", [("no number",), (Broken(),), (1, 2)])
def test_a_misfit_with_a_traceback_is_no_error(stream: io.StringIO, args: tuple[Any, ...]) -> None:
    """Logging itself complains of it later, with what was masked."""
    trouble = (ValueError, ValueError(KEY), None)
    record = log.makeRecord("mcp.some.module", 30, "f", 1, "%d", args, trouble)
    assert KEY not in repr(vars(record))
    assert "ValueError: ***" in record.getMessage()
    assert stream.getvalue() == ""


@pytest.fixture
def late(stream: io.StringIO) -> Iterator[logging.Logger]:
    """A logger of its own with a handler that came after the masking was installed."""
    logger = logging.getLogger("late.some.module")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json())
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (KEY, "***"),
        (Told(), "***"),
        (Holder(), "Holder(***)"),
        ({"a": [{"b": KEY}], "c": 1}, {"a": [{"b": "***"}], "c": 1}),
        ({KEY: 1}, {"***": 1}),
        ((KEY, 1), ["***", 1]),
        (f"https://h/?k={KEY}".encode(), "b'https://h/?k=***'"),
        ({"status": 401}, {"status": 401}),
    ],
)
def test_extra_is_masked_whatever_came_first(
    late: logging.Logger, stream: io.StringIO, value: Any, shown: Any
) -> None:
    """By whichever logger, handler, formatter or adapter it is written."""
    late.warning("called", extra={"field": value})
    logging.LoggerAdapter(late, {"field": value}).warning("called")
    for line in stream.getvalue().splitlines():
        assert json.loads(line)["field"] == shown
    assert KEY not in stream.getvalue()


def test_extra_that_cannot_be_written_or_has_no_end_is_left_alone(
    late: logging.Logger, stream: io.StringIO
) -> None:
    """Masking does not make a call to a logger fail, nor last."""
    around: dict[str, Any] = {"name": "root"}
    around["children"] = [{"parent": around} for _ in range(50)]
    late.handlers[0].setFormatter(logging.Formatter("%(message)s"))
    late.warning("called", extra={"broken": Broken(), "around": around})
    assert stream.getvalue() == "called\n"


def test_a_record_can_be_copied_and_pickled(late: logging.Logger) -> None:
    """As handlers with queues and sockets do; the other side needs nothing of ours."""
    record = late.makeRecord("late", 30, "f", 1, "a %s", (KEY,), None, extra={"field": KEY})
    for again in (copy.copy(record), pickle.loads(pickle.dumps(record))):
        assert again.getMessage() == "a ***"
        assert vars(again)["field"] == "***"
    assert b"broker" not in pickle.dumps(record)


def test_names_do_not_show_the_key(stream: io.StringIO) -> None:
    """Of a logger, or of a thread that was called after what it fetches."""
    thread = threading.Thread(target=lambda: log.warning("called"), name=f"GET /?k={KEY}")
    thread.start()
    thread.join()
    assert json.loads(stream.getvalue())["threadName"] == "GET /?k=***"


def test_warnings_and_what_cannot_be_raised_show_no_key(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both go to standard error by hooks of Python."""
    sys.unraisablehook(_Unraisable(ValueError(KEY), Holder()))  # type: ignore[arg-type]
    assert isinstance(warnings.showwarning, MaskingWarnings)
    shown: list[Any] = []
    show = MaskingWarnings(redaction.mask, lambda *args: shown.append(args))
    plain = UserWarning("plain")
    show(UserWarning(f"old {KEY}"), UserWarning, "f.py", 1)
    show(plain, UserWarning, "f.py", 1)
    assert shown == [("old ***", UserWarning, "f.py", 1), (plain, UserWarning, "f.py", 1)]
    told = capsys.readouterr().err
    assert KEY not in told
    assert "Exception ignored in: Holder(***)\nValueError: ***" in told
    assert stream.getvalue() == ""


class _Unraisable:
    """As ``sys.UnraisableHookArgs``, which cannot be made."""

    def __init__(self, error: Exception, holder: object) -> None:
        self.exc_type, self.exc_value, self.exc_traceback = type(error), error, None
        self.err_msg, self.object = None, holder


def test_no_traceback_shows_the_key(stream: io.StringIO) -> None:
    """Nor does the exception behind it."""

    def search() -> None:
        try:
            int(f"bad key {KEY}")
        except ValueError as error:
            raise RuntimeError("search failed") from error

    try:
        search()
    except RuntimeError:
        log.exception("it broke", stack_info=True)
    written = stream.getvalue()
    assert KEY not in written
    assert "bad key ***" in written
    assert "RuntimeError: search failed" in written


def test_no_extra_shows_the_key(stream: io.StringIO) -> None:
    """Fields that structured logging adds are masked by the handler's filter."""
    log.warning("called", extra={"url": f"https://h/?k={KEY}", "holder": Holder(), "status": 401})
    record = json.loads(stream.getvalue())
    assert KEY not in stream.getvalue()
    assert (record["url"], record["status"]) == ("https://h/?k=***", 401)


def test_a_record_without_a_secret_is_left_alone(stream: io.StringIO) -> None:
    """Arguments and exceptions stay objects for those who format them themselves."""
    held, error = object(), ValueError("plain")
    trouble = (ValueError, error, None)
    record = log.makeRecord("x", 20, "f", 1, "%s and %s", (held, 1), trouble)
    assert isinstance(record.args, tuple)
    assert record.args[0] is held
    assert record.exc_info == trouble
    assert stream.getvalue() == ""


def test_arguments_keep_their_number_for_formatters_that_read_them(stream: io.StringIO) -> None:
    """Uvicorn's access formatter takes the five arguments apart."""
    args = ("127.0.0.1:1", "GET", f"/search?key={KEY}", "1.1", 200)
    record = logging.getLogger("uvicorn.access").makeRecord(
        "uvicorn.access", 20, "f", 1, '%s - "%s %s HTTP/%s" %d', args, None
    )
    line = AccessFormatter('%(client_addr)s "%(request_line)s"', use_colors=False).format(record)
    assert line == '127.0.0.1:1 "GET /search?key=*** HTTP/1.1"'
    assert stream.getvalue() == ""


def test_values_stay_masked_for_as_long_as_somebody_may_use_them() -> None:
    """The newest versions are known, older ones are forgotten, equal ones count once each."""
    memory = Memory()
    keys = [f"canary-version-{number:02}" for number in range(KEPT_VERSIONS + 1)]
    for number, key in enumerate(keys):
        memory.learn(credential(key, f"v{number}"))
        memory.learn(credential(key, f"v{number}"))
    assert memory.mask(" ".join(keys)) == " ".join([keys[0]] + ["***"] * KEPT_VERSIONS)


def test_a_value_in_use_is_not_pushed_out_by_others_of_its_name() -> None:
    """Two brokers may each have a credential of one name; one of them rotates often."""
    memory = Memory()
    for number in range(3 * KEPT_VERSIONS):
        memory.learn(credential(KEY, "steady"))
        memory.learn(credential(f"canary-version-{number:02}", f"v{number}"))
    assert memory.mask(f"<{KEY}>") == "<***>"
    assert memory.mask("canary-version-00") == "canary-version-00"


def test_patterns_mask_in_records_too() -> None:
    """Besides what was handed out; the same one twice counts once."""
    memory = Memory()
    memory.learn(credential(KEY))
    memory.add([r"ghp_\w+"])
    memory.add([r"ghp_\w+", r"(?<=sig=)[0-9a-f]+"])
    assert memory.mask(f"{KEY} ghp_abc sig=0af x") == "*** *** sig=*** x"
    assert memory.tells(["a", "ghp_abc"])
    assert memory.tells(["a", KEY])
    assert not memory.tells(["a", "b"])


DYING = """
import sys, threading
from types import MappingProxyType
from broker.client import redaction
from broker.client.credential import Credential
from broker.secret import SecretValue

key = "canary-" + "key-of-a-dying-process"
data = MappingProxyType({"api_key": SecretValue(key)})
redaction.learn(Credential("a", "v", data, None, "fresh", 0.0, None, 30.0, 30.0, 0.0))
redaction.install(patterns=["ghp_[0-9]+"])
redaction.install()

def fail(text):
    raise ValueError(f"refused: {text}")

for text in (key, "plain", "ghp_1234"):
    thread = threading.Thread(target=fail, args=(text,), name="worker")
    thread.start()
    thread.join()
try:
    fail(key)
except ValueError as error:
    raise RuntimeError("the end") from error
"""


def test_no_traceback_of_a_dying_process_or_thread_shows_the_key() -> None:
    """What Python prints by itself is masked; what tells nothing is printed as ever."""
    done = subprocess.run(
        [sys.executable, "-c", DYING], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "key-of-a-dying-process" not in done.stderr
    assert "ghp_1234" not in done.stderr
    assert done.stderr.count("ValueError: refused: ***") == 3
    assert done.stderr.count("ValueError: refused: plain") == 1
    assert done.stderr.count("Exception in thread worker") == 3
    assert done.stderr.rstrip().endswith("RuntimeError: the end")
