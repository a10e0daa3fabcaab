"""A request that carries a key which its copies do not.

Duty: dress a request of httpx2 or httpx so that the transport sends the key, and neither a
redirect built from the request nor a log line about it has it.
Not its duty: to whom (``auth``), what (``placement``).
Rules:

* both libraries follow redirects below the auth flow: they copy the request's headers to
  whatever host the answer names and drop ``Authorization`` only, so an ``x-api-key`` would
  travel on. Here the key is laid over the headers, in sight of who asks by name or takes the
  wire form (``raw``), and is not among what a copy takes;
* likewise a key in the query is in ``raw_path``, not in the text of the URL, which is what
  the libraries log and put into exceptions;
* that copies are bare is tried with the installed version before the first use; a library
  that copies otherwise gets no key at all.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from broker.client.placement import Placed
from broker.errors import ClientError
from broker.secret import MASK, SecretValue

if TYPE_CHECKING:
    from httpx2 import URL as _URL
    from httpx2 import Headers as _Headers
    from httpx2 import QueryParams
else:  # mixed with the classes of either library, see Library
    _Headers = _URL = object


class KeyedHeaders(_Headers):
    """Headers with one more line, which copies do not take."""

    _line: tuple[str, SecretValue] | None = None

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """The wire form, the key included."""
        if self._line is None:
            return super().raw
        name, value = self._line[0].encode(), self._line[1].reveal().encode()
        return [*(line for line in super().raw if line[0].lower() != name.lower()), (name, value)]

    def _own(self, key: str) -> str | None:
        if self._line is None or self._line[0].lower() != key.lower():
            return None
        return self._line[1].reveal()

    def __getitem__(self, key: str) -> str:
        own = self._own(key)
        return super().__getitem__(key) if own is None else own

    def __contains__(self, key: Any) -> bool:
        return self._own(key) is not None or super().__contains__(key)

    def get_list(self, key: str, split_commas: bool = False) -> list[str]:
        """All values of a header; see the library's."""
        own = self._own(key)
        return super().get_list(key, split_commas) if own is None else [own]

    def __repr__(self) -> str:
        return super().__repr__() + ("" if self._line is None else f" + {self._line[0]}: {MASK}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and deeply copied without the key."""
        return type(self).__bases__[1], (super().raw,)


class KeyedURL(_URL):
    """A URL with one more query parameter, which its text and copies do not have."""

    _parameter: tuple[str, SecretValue] | None = None

    def _with(self, before: bytes, joint: bytes) -> bytes:
        if self._parameter is None:
            return before
        name, value = self._parameter
        return before + joint + f"{name}={value.reveal()}".encode()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and deeply copied without the key."""
        return type(self).__bases__[1], (str(self),)

    @property
    def query(self) -> bytes:
        """The query on the wire, the key included."""
        before = super().query
        return self._with(before, b"&" if before else b"")

    @property
    def raw_path(self) -> bytes:
        """The request target on the wire, the key included."""
        before = super().raw_path
        return self._with(before, b"&" if b"?" in before else b"?")

    @property
    def params(self) -> QueryParams:
        """The query on the wire, parsed."""
        return type(super().params)(self.query.decode())


class Library:
    """httpx2 or httpx: its classes, and ours mixed with them."""

    def __init__(self, name: str) -> None:
        module = importlib.import_module(name)
        self._request: Any = module.Request
        self._bytes: Any = module.ByteStream
        self._headers: Any = type("KeyedHeaders", (KeyedHeaders, module.Headers), {})
        self._url: Any = type("KeyedURL", (KeyedURL, module.URL), {})
        line, url = self._header({}, "x-key", SecretValue("k")), self._parameter("http://h/", "k")
        if "x-key" in module.Headers(line) or dict(module.Headers(line)) or "k=" in str(url):
            raise ClientError(
                f"This version of {name} copies headers in a way that would leak keys.",
                remedy=f"Use a version of {name} that this release was tested with.",
            )

    def _header(self, headers: object, name: str, value: SecretValue) -> Any:
        keyed = self._headers(headers)
        keyed._line = name, value  # noqa: SLF001 - of this module's own class
        return keyed

    def _parameter(self, url: object, name: str, value: SecretValue = SecretValue("")) -> Any:  # noqa: B008
        keyed = self._url(url)
        keyed._parameter = name, value  # noqa: SLF001
        return keyed

    def dress(self, request: Any, placed: Placed) -> Any:
        """A request like ``request`` that carries the key; the argument stays as it is."""
        dressed = self._request(
            request.method,
            request.url,
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        if self.replayable(request):
            dressed.read()
        if placed.place == "unsafe_query":
            dressed.url = self._parameter(request.url, placed.name, placed.value)
            return dressed
        name, value = placed.name, placed.value
        if placed.place == "cookie":
            others = request.headers.get("Cookie")
            cookies = f"{name}={value.reveal()}"
            name, value = "Cookie", SecretValue(f"{others}; {cookies}" if others else cookies)
        dressed.headers = self._header(request.headers, name, value)
        return dressed

    def replayable(self, request: Any) -> bool:
        """Whether the body can be sent again: bytes can, a stream of the author's cannot."""
        return isinstance(request.stream, self._bytes)


@lru_cache(maxsize=2)
def _library(name: str) -> Library:
    return Library(name)


def library_of(request: object) -> Library:
    """The library whose request this is.

    Raises:
        ClientError: its copies of headers would carry the key.
    """
    return _library(type(request).__module__.partition(".")[0])
