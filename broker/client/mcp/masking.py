"""No key in what a server answers: results, errors, and what is told of them on the way.

Duty: mask every text of every result (text, structured content, ``_meta``, resources, prompts)
and of every error that leaves a request's handler, in both eras of the protocol.
Not its duty: knowing the keys (``broker.client.redaction``); log records (there too); sending
notifications and questions to the client (``outgoing``).
Rules:

* an answer without a secret passes as the object it was;
* an error with one is replaced by one of its class without the chain behind it, which would
  bring the secret along; the masked traceback is a note on it, so that logs tell as much;
* stands inside the SDK's tracing, so that no span sees a secret, and outside of all else;
* a long answer is masked in a thread: the loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, TypeAlias

from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.types import ErrorData

from broker.client import redaction
from broker.client.mcp.outgoing import masking_session
from broker.secret import MASK

AT_ONCE: Final = 4_000
"""Characters looked at on the loop: some half a millisecond's work, as measured."""
DEEPEST: Final = 100
"""Levels of a result that are looked at one by one; what is deeper is masked whole or not."""


Mask: TypeAlias = Callable[[str], str]


class Knows(Protocol):
    """The part of ``redaction.Memory`` that is needed here."""

    def mask(self, text: str) -> str:
        """Every live value in a text as ``***``."""
        ...

    def tells(self, texts: Sequence[str]) -> bool:
        """Whether there is a live value in one of them."""
        ...


class Masking:
    """Middleware: no live value leaves in the result or the error of any request.

    Args:
        memory: knows the live values.
    """

    def __init__(self, memory: Knows = redaction.MEMORY) -> None:
        self._memory = memory

    async def __call__(
        self,
        ctx: ServerRequestContext[Any, Any],
        call_next: Callable[[ServerRequestContext[Any, Any]], Awaitable[Any]],
    ) -> Any:
        """See ``mcp.server.context.ServerMiddleware``."""
        try:
            session = masking_session(ctx.session, self.clean)
            if session is not ctx.session:
                ctx = replace(ctx, session=session)
            return await self._result(await call_next(ctx))
        except Exception as error:
            clean = masked_error(self._memory.mask, error)
            if clean is error:
                raise
        # Out here it is not raised "while handling" the one that tells.
        raise clean

    async def _result(self, result: Any) -> Any:
        clean = await self.clean(result)
        if clean is not result and isinstance(result, ErrorData):
            return ErrorData.model_validate(clean)
        return clean

    async def clean(self, result: Any) -> Any:
        """``result`` itself, or what it is as plain data without secrets."""
        dump = getattr(result, "model_dump", None)
        plain = result if dump is None else dump(by_alias=True, mode="json", exclude_none=True)
        texts = list(_texts(plain))
        if sum(map(len, texts)) <= AT_ONCE:
            clean = self._clean(plain, texts)
        else:
            clean = await asyncio.to_thread(self._clean, plain, texts)
        return result if clean is plain else clean

    def _clean(self, plain: Any, texts: Sequence[str]) -> Any:
        # Nearly all answers tell nothing: one look at all texts together is enough for these.
        return masked(self._memory.mask, plain) if self._memory.tells(texts) else plain


def masked(mask: Mask, value: Any, depth: int = 0) -> Any:
    """``value`` itself, or a copy of it in which no text, key or number tells a secret."""
    if isinstance(value, str):
        clean: Any = mask(value)
        return value if clean == value else clean
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) or depth > DEEPEST:
        text = repr(value)
        return value if mask(text) == text else MASK
    if isinstance(value, Mapping):
        keys = [masked(mask, key, depth + 1) for key in value]
        values = [masked(mask, one, depth + 1) for one in value.values()]
        same = _same(keys, value) and _same(values, value.values())
        return value if same else dict(zip(keys, values, strict=True))
    if isinstance(value, list | tuple):
        items = [masked(mask, one, depth + 1) for one in value]
        return value if _same(items, value) else items
    return value


def _same(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(new, old, strict=True))


def _texts(value: Any) -> Iterator[str]:
    """Every text, key and number in ``value``."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            left += one.keys()
            left += one.values()
        elif isinstance(one, list | tuple):
            left += one
        elif one is not None and not isinstance(one, bool):
            yield repr(one)


def masked_error(mask: Mask, error: Exception) -> Exception:
    """``error`` itself, or one of its class that tells no secret and has no chain."""
    if not _tells(mask, error):
        return error
    clean = _rebuilt(mask, error)
    clean.add_note(f"Masked: {mask(''.join(traceback.format_exception(error)))}")
    return clean


def _tells(mask: Mask, error: BaseException) -> bool:
    """Whether a traceback of ``error``, or its data, shows a secret."""
    if isinstance(error, MCPError):
        data = error.error.data
        if masked(mask, data) is not data:
            return True
    # One that cannot be written fails whoever writes it, with a text of its own.
    return not _written(error) or any(mask(text) != text for text in _told(error))


def _told(error: BaseException) -> Iterator[str]:
    """What a traceback tells of ``error``, of those behind it and of those within it."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield _text(str, one)
        yield _text(repr, one.args)
        yield from map(str, getattr(one, "__notes__", ()))
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def _text(written: Callable[[Any], str], value: Any) -> str:
    try:
        return written(value)
    except Exception:
        return ""


def _written(error: BaseException) -> bool:
    try:
        str(error)
    except Exception:
        return False
    return True


def _rebuilt(mask: Mask, error: Exception) -> Exception:
    """Of the same class where that can be made without a secret."""
    kind = type(error)
    try:
        clean = kind.__new__(kind)
        for name, value in vars(error).items():
            if name != "__notes__":
                setattr(clean, name, _attribute(mask, value))
        clean.args = tuple(masked(mask, argument) for argument in error.args)
        if not _tells(mask, clean):
            return clean
    except Exception:  # noqa: S110 - a class that cannot be made so is replaced
        pass
    return RuntimeError(mask(f"{kind.__name__}: {_text(str, error)}"))


def _attribute(mask: Mask, value: Any) -> Any:
    if isinstance(value, ErrorData):
        return ErrorData.model_validate(masked(mask, value.model_dump(exclude_unset=True)))
    return masked(mask, value)
