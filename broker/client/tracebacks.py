"""Tracebacks that Python prints by itself: of a process or a thread that ends by an error.

Duty: mask them on their way to standard error.
Not its duty: those in log records (``redaction``).
Rule: one without a secret goes to whoever had the hook before, unchanged.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any


class MaskingHook:
    """In place of ``sys.excepthook``."""

    def __init__(self, mask: Callable[[str], str], inner: Callable[..., Any]) -> None:
        self._mask, self._inner = mask, inner

    def __call__(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """See ``sys.excepthook``."""
        text = "".join(traceback.format_exception(kind, error, trace))
        if not _printed(self._mask, text):
            self._inner(kind, error, trace)


class MaskingThreadHook:
    """In place of ``threading.excepthook``."""

    def __init__(self, mask: Callable[[str], str], inner: Callable[..., Any]) -> None:
        self._mask, self._inner = mask, inner

    def __call__(self, args: threading.ExceptHookArgs, /) -> None:
        """See ``threading.excepthook``."""
        name = args.thread.name if args.thread is not None else "of unknown name"
        told = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
        if not _printed(self._mask, f"Exception in thread {name}:\n{''.join(told)}"):
            self._inner(args)


def install(mask: Callable[[str], str]) -> None:
    """Mask what both hooks print; a second call changes nothing."""
    if not isinstance(sys.excepthook, MaskingHook):
        sys.excepthook = MaskingHook(mask, sys.excepthook)
    if not isinstance(threading.excepthook, MaskingThreadHook):
        threading.excepthook = MaskingThreadHook(mask, threading.excepthook)


def _printed(mask: Callable[[str], str], text: str) -> bool:
    """Print ``text`` masked, if it holds a secret."""
    masked = mask(text)
    if masked != text and sys.stderr is not None:
        sys.stderr.write(masked)
    return masked != text
