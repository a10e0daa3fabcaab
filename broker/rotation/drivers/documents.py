"""Requests from templates, and values out of answers [pure].

Duty: fill URL, header and body templates; follow JSON pointers; read points in time.
Not its duty: sending (``exchange``), what is asked for (``http``).
Rules:

* what is put into a URL is percent-encoded (RFC 3986 section 2.1), into a body encoded by
  the JSON or form encoder, into a header refused when it would break the line: no value can
  become syntax;
* an answer that lacks what a pointer names, or has another kind there, is
  ``UpstreamMalformed``, which says where and never what.

Source: RFC 6901 (JSON pointers), RFC 3339 (dates).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from string import Formatter
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from broker.errors import UpstreamMalformed, UpstreamRefused
from broker.secret import SecretValue

Times = Literal["rfc3339", "unix", "unix_ms"]

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and halves of a pair that no encoding carries."""
_LONGEST_SECRET: Final = 65_536
_LONGEST_ID: Final = 512
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
# Beyond it seconds were read as milliseconds, or the other way round.


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """One request to a provider; the texts hold placeholders in braces."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    encoding: Literal["json", "form"] = "json"


@dataclass(frozen=True, slots=True)
class FilledRequest:
    """A request that can be sent. Holds no secret."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None = None


def filled(template: RequestTemplate, words: Mapping[str, str]) -> FilledRequest:
    """Put ``words`` into a template.

    Raises:
        UpstreamRefused: a placeholder without a word, or a word that a header cannot carry.
    """
    headers = {name: _fill(text, words) for name, text in template.headers.items()}
    for name, text in headers.items():
        if _CONTROL.search(text) or not text.isascii():
            raise UpstreamRefused(f"The header {name} cannot carry what belongs into it.")
    content: bytes | None = None
    if template.body is not None:
        body = _fill_all(template.body, words)
        if template.encoding == "form":
            content = urlencode({key: _form(value) for key, value in body.items()}).encode()
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        else:
            content = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
    headers.setdefault("Accept", "application/json")
    encoded = {name: quote(word, safe="") for name, word in words.items()}
    return FilledRequest(template.method, _fill(template.url, encoded), headers, content)


def with_parameter(url: str, name: str, value: str) -> str:
    """``url`` with one more query parameter."""
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}{urlencode({name: value}, quote_via=quote, safe='')}"


def _fill(template: str, words: Mapping[str, str]) -> str:
    parts: list[str] = []
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        if name not in words:
            raise UpstreamRefused(f"A template needs {name}, which is not known here.")
        parts.append(words[name])
    return "".join(parts)


def _fill_all(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _fill(value, words)
    if isinstance(value, Mapping):
        return {key: _fill_all(inner, words) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill_all(inner, words) for inner in value]
    return value


def _form(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# --- answers --------------------------------------------------------------------


def parsed(body: bytes, what: str) -> Any:
    """The JSON of an answer.

    Args:
        body: the whole body.
        what: was asked for, in words, for the error.

    Raises:
        UpstreamMalformed: no JSON text.
    """
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        # The decoder's own words quote the text, which may hold the key.
        raise UpstreamMalformed(f"The answer to {what} is no JSON.") from None


_ABSENT: Final = object()


def found(document: Any, pointer: str) -> Any:
    """What a pointer leads to; a value of its own when nothing is there (see ``is_absent``)."""
    value = document
    for raw in pointer.split("/")[1:]:
        step = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(step, _ABSENT)
        elif isinstance(value, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", step):
            value = value[int(step)] if int(step) < len(value) else _ABSENT
        else:
            return _ABSENT
    return value


def is_absent(value: Any) -> bool:
    """Whether ``found`` found nothing, or null."""
    return value is _ABSENT or value is None


def secret(document: Any, pointer: str, what: str) -> SecretValue:
    """The secret text at a pointer.

    Raises:
        UpstreamMalformed: no text, an empty one, or one that no field can hold.
    """
    value = found(document, pointer)
    if not isinstance(value, str) or not value or value.strip() != value:
        raise UpstreamMalformed(f"The answer to {what} has no usable text at {pointer!r}.")
    if len(value) > _LONGEST_SECRET or _CONTROL.search(value):
        raise UpstreamMalformed(f"The answer to {what} has no key at {pointer!r}.")
    return SecretValue(value)


def identifier(document: Any, pointer: str, what: str) -> str:
    """The id at a pointer: a text, or a whole number as text.

    Raises:
        UpstreamMalformed: neither.
    """
    value = found(document, pointer)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID or _CONTROL.search(value):
        raise UpstreamMalformed(f"The answer to {what} has no id at {pointer!r}.")
    return value


def moment(document: Any, pointer: str | None, times: Times, what: str) -> float | None:
    """The point in time at a pointer as Unix seconds; None for no pointer, nothing or null.

    Raises:
        UpstreamMalformed: something else than a point in time.
    """
    value = _ABSENT if pointer is None else found(document, pointer)
    if is_absent(value):
        return None
    try:
        seconds = _seconds(value, times)
    except (ValueError, TypeError, OverflowError):
        seconds = None
    if seconds is None or not isfinite(seconds) or not 0 <= seconds < _LATEST:
        raise UpstreamMalformed(
            f"The answer to {what} has no point in time at {pointer!r} that is {times}."
        )
    return seconds


def _seconds(value: Any, times: Times) -> float | None:
    if times == "rfc3339":
        read = datetime.fromisoformat(value)
        return None if read.tzinfo is None else read.timestamp()
    if isinstance(value, bool):
        return None
    return float(value) / (1000.0 if times == "unix_ms" else 1.0)


def rfc3339(wall: float) -> str:
    """Unix seconds as ``2026-01-02T03:04:05Z``."""
    return datetime.fromtimestamp(int(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
