r"""From a log record to one line of text, masked.

Duty: JSON or console lines; every part of a record goes through the mask.
Not its duty: where lines go (``logs``).
Rules:

* message, extra fields, exception and stack are masked *before* they are escaped for JSON or
  the console, with the values that are live at the time of the call;
* a part is looked at up to ``LIMIT`` characters, so that one line costs the loop under a
  millisecond or so whatever is in it;
* control characters never reach the console as they are: no text can forge a line or
  repaint a terminal.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

LIMIT: Final = 8192
"""Characters looked at in each of message, field, exception and stack."""
FRAMES: Final = 20
"""Innermost frames shown of each traceback."""

Mask = Callable[[str], str]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_IN_BLOCK: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the extra fields.

    Args:
        mask: hides live secrets in a text, and cuts it.
    """

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        shown: dict[str, Any] = {
            "time": _moment(record).replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._mask(_message(record)),
        }
        for name, value in _extra(record):
            shown.setdefault(name, value if _is_number(value) else self._mask(str(value)))
        for name, text in _blocks(record):
            shown[name] = self._mask(text)
        return json.dumps(shown, ensure_ascii=False, default=str)


class ConsoleLines(logging.Formatter):
    """One line for a person; tracebacks follow, indented.

    Args:
        mask: hides live secrets in a text, and cuts it.
    """

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        fields = "".join(
            f" {name}={_flat(self._mask(str(value)))}" for name, value in _extra(record)
        )
        head = f"{_moment(record)[11:23]} {record.levelname:<8} {record.name}: "
        line = head + _flat(self._mask(_message(record))) + fields
        for _, text in _blocks(record):
            block = _CONTROL_IN_BLOCK.sub(_visible, self._mask(text))
            line += "\n" + "\n".join(f"    {each}" for each in block.splitlines())
        return line


FORMATS: Final = {"json": JsonLines, "console": ConsoleLines}


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        # A wrong placeholder is a fault of ours, and no reason to lose the line.
        return f"{record.msg} (arguments unshown: {type(error).__name__})"


def _extra(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    for name, value in vars(record).items():
        if name not in _STANDARD and not name.startswith("_"):
            yield name, value


def _blocks(record: logging.LogRecord) -> Iterator[tuple[str, str]]:
    if record.exc_info and record.exc_info[0] is not None:
        yield "exception", trace(*record.exc_info)
    elif record.exc_text:
        yield "exception", record.exc_text
    if record.stack_info:
        yield "stack", record.stack_info


def trace(
    kind: type[BaseException], error: BaseException | None, where: TracebackType | None
) -> str:
    """An exception with its causes, each with its innermost frames; no local variables."""
    return "".join(traceback.format_exception(kind, error, where, limit=-FRAMES)).rstrip("\n")


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _flat(text: str) -> str:
    return _CONTROL.sub(_visible, text)


def _visible(control: re.Match[str]) -> str:
    return control.group().encode("unicode_escape").decode()
