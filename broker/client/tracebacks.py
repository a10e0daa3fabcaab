"""What Python prints by itself: tracebacks of what ends by an error, and warnings.

Duty: mask them on their way to standard error: of a process, of a thread, of what cannot be
raised (in ``__del__``); texts of warnings.
Not its duty: those in log records (``redaction``).
Rule: one without a secret goes to whoever had the hook before, unchanged.
"""

from __future__ import annotations

import sys
import threading
import traceback
import warnings
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


class MaskingUnraisableHook:
    """In place of ``sys.unraisablehook``."""

    def __init__(self, mask: Callable[[str], str], inner: Callable[..., Any]) -> None:
        self._mask, self._inner = mask, inner

    def __call__(self, args: sys.UnraisableHookArgs, /) -> None:
        """See ``sys.unraisablehook``."""
        told = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
        try:
            where = repr(args.object)
        except Exception:
            where = "what cannot be written"
        text = f"{args.err_msg or 'Exception ignored in'}: {where}\n{''.join(told)}"
        if not _printed(self._mask, text):
            self._inner(args)


class MaskingWarnings:
    """In place of ``warnings.showwarning``."""

    def __init__(self, mask: Callable[[str], str], inner: Callable[..., Any]) -> None:
        self._mask, self._inner = mask, inner

    def __call__(self, message: Warning | str, *args: Any, **kwargs: Any) -> None:
        """See ``warnings.showwarning``."""
        text = str(message)
        masked = self._mask(text)
        self._inner(message if masked == text else masked, *args, **kwargs)


def install(mask: Callable[[str], str]) -> None:
    """Mask what the hooks print; a second call changes nothing."""
    if not isinstance(sys.excepthook, MaskingHook):
        sys.excepthook = MaskingHook(mask, sys.excepthook)
    if not isinstance(threading.excepthook, MaskingThreadHook):
        threading.excepthook = MaskingThreadHook(mask, threading.excepthook)
    if not isinstance(sys.unraisablehook, MaskingUnraisableHook):
        sys.unraisablehook = MaskingUnraisableHook(mask, sys.unraisablehook)
    if not isinstance(warnings.showwarning, MaskingWarnings):
        warnings.showwarning = MaskingWarnings(mask, warnings.showwarning)  # made to be replaced


def _printed(mask: Callable[[str], str], text: str) -> bool:
    """Print ``text`` masked, if it holds a secret."""
    masked = mask(text)
    if masked != text and sys.stderr is not None:
        sys.stderr.write(masked)
    return masked != text
