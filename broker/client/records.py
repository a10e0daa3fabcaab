"""Log records without keys, whoever logs and whatever writes them down.

Duty: mask message, arguments, names, ``extra``, traceback and stack of every record.
Not its duty: knowing the keys (``redaction``); tracebacks outside of records (``tracebacks``).
Rules:

* records are masked where they are made, so that it does not matter which logger, handler or
  formatter comes after, nor when it was configured; what ``extra`` adds later too, since the
  record's attributes are kept in a mapping that masks. What a filter or another factory sets
  by itself is masked by the filters of the usual handlers;
* a record without a secret passes unchanged, arguments and all;
* masking never makes a call to a logger fail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

Mask: TypeAlias = Callable[[str], str]

LOGGERS: Final = ("", "mcp", "mcp.server", "uvicorn", "uvicorn.error", "uvicorn.access")
"""Loggers whose handlers get a filter too; the first is the root."""
DEEPEST: Final = 8
"""Levels of containers in which texts are looked at one by one."""

_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NAMES: Final = ("name", "threadName", "processName", "taskName")


def install(mask: Mask) -> None:
    """Mask every record of this process from now on; twice is as once."""
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _MaskingFactory):
        logging.setLogRecordFactory(_MaskingFactory(factory, mask))
    handlers = [h for name in LOGGERS for h in logging.getLogger(name).handlers]
    for handler in handlers:
        if not any(isinstance(known, _ExtraFilter) for known in handler.filters):
            handler.addFilter(_ExtraFilter(mask))


class _MaskingFactory:
    """Makes records as another factory does, and masks them."""

    def __init__(self, inner: Any, mask: Mask) -> None:
        self._inner, self._mask = inner, mask

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._inner(*args, **kwargs)
        _mask_names(self._mask, record)
        _mask_message(self._mask, record)
        _mask_traceback(self._mask, record)
        record.__dict__ = _Attributes(self._mask, vars(record))
        return record


class _Attributes(dict[str, Any]):
    """A record's attributes: ``Logger.makeRecord`` adds ``extra`` to them by their keys."""

    def __init__(self, mask: Mask, known: Mapping[str, Any]) -> None:
        super().__init__(known)
        self._mask = mask

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value if key in _USUAL else masked(self._mask, value))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle is a plain mapping: it is masked already."""
        return dict, (dict(self),)


class _ExtraFilter(logging.Filter):
    """Masks what others set on a record."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def filter(self, record: logging.LogRecord) -> bool:
        for key, value in list(vars(record).items()):
            if key not in _USUAL:
                clean = masked(self._mask, value)
                if clean is not value:
                    setattr(record, key, clean)
        return True


def masked(mask: Mask, value: Any, within: tuple[int, ...] = ()) -> Any:
    """``value`` itself, or what to show instead when one of its texts holds a secret.

    Args:
        mask: see ``install``.
        value: anything.
        within: ids of the containers around it.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        clean: Any = mask(value)
        return value if clean == value else clean
    if isinstance(value, Mapping | list | tuple | set | frozenset) and len(within) < DEEPEST:
        if id(value) in within:
            return value
        within = (*within, id(value))
        if isinstance(value, Mapping):
            keys, values = list(value), list(value.values())
            new_keys = [masked(mask, one, within) for one in keys]
            new_values = [masked(mask, one, within) for one in values]
            same = _same(keys, new_keys) and _same(values, new_values)
            return value if same else dict(zip(new_keys, new_values, strict=True))
        items = list(value)
        new = [masked(mask, one, within) for one in items]
        return value if _same(items, new) else new
    try:
        texts = dict.fromkeys((repr(value), str(value)))
    except Exception:
        return value  # nobody else can write it down either
    return next((clean for text in texts if (clean := mask(text)) != text), value)


def _same(old: list[Any], new: list[Any]) -> bool:
    return all(one is other for one, other in zip(old, new, strict=True))


def _mask_names(mask: Mask, record: logging.LogRecord) -> None:
    for key in _NAMES:
        text = getattr(record, key, None)
        if isinstance(text, str) and (clean := mask(text)) != text:
            setattr(record, key, clean)


def _mask_message(mask: Mask, record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except Exception:
        # Logging will complain on stderr and quote the arguments.
        record.msg = mask(_text(str, record.msg))
        record.args = (mask(_text(repr, record.args)),)
        return
    clean = mask(message)
    # What the message shows was looked at just now; some writers show the arguments as well.
    args = _arguments(mask, record.args, shown=message if clean == message else "")
    if clean == message and args is record.args:
        return
    # Formatters such as uvicorn's read the arguments: keep as many as there were.
    record.args, record.msg = args, masked(mask, record.msg)
    try:
        again = record.getMessage()
    except Exception:  # "%d" of what is a text now
        again = None
    if again is None or mask(again) != again:
        record.msg, record.args = clean, ()


def _arguments(mask: Mask, args: Any, *, shown: str) -> Any:
    if isinstance(args, Mapping):
        return masked(mask, args)
    old = list(args or ())
    new = [one if isinstance(one, str) and one in shown else masked(mask, one) for one in old]
    return args if _same(old, new) else tuple(new)


def _mask_traceback(mask: Mask, record: logging.LogRecord) -> None:
    if record.stack_info:
        record.stack_info = mask(record.stack_info)
    if not record.exc_info or not any(record.exc_info):
        return
    text = logging.Formatter().formatException(record.exc_info)
    clean = mask(text)
    if clean != text:
        # As part of the message: some handlers format the exception anew.
        record.msg, record.args = f"{_text(_message, record)}\n{clean}", ()
        record.exc_info = record.exc_text = None


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        return f"{record.msg} {record.args}"


def _text(written: Callable[[Any], str], value: Any) -> str:
    try:
        return written(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be written>"
