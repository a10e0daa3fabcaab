"""The upstream of the demo: a small search API that wants a key.

Duty: answer ``GET /search?q=…`` for a good key in ``x-api-key``, 401 for any other,
and remember every call: when, who, which key, with what outcome.
Not its duty: minting keys (``keyring``), managing them by HTTP (``search_admin``).
Rules: the log knows keys by their id only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.clock import Clock, SystemClock
from broker.demo.certificates import CertificateFiles
from broker.demo.facts import SearchCall
from broker.demo.keyring import KeyRing
from broker.demo.search_admin import KeyAdmin
from broker.demo.serving import ServedApp
from broker.secret import SecretValue


@dataclass(frozen=True, slots=True)
class Page:
    """One thing that can be found."""

    title: str
    url: str
    text: str


PAGES: Final = (
    Page(
        "Leases",
        "https://example.org/leases",
        "A lease is a promise with an end: a secret that expires unless it is renewed.",
    ),
    Page(
        "Rotation",
        "https://example.org/rotation",
        "Rotation replaces a key before somebody else has had it for too long.",
    ),
    Page(
        "Environment variables",
        "https://example.org/environment",
        "A process reads its environment once, at its start, and passes it on to its children.",
    ),
    Page(
        "Model Context Protocol",
        "https://example.org/mcp",
        "A server offers tools to an agent; each tool call may need a key of its own.",
    ),
    Page(
        "Sidecars",
        "https://example.org/sidecar",
        "A second container in the same pod, which does one chore for the first.",
    ),
    Page(
        "Just in time",
        "https://example.org/just-in-time",
        "Ask for a secret when it is needed, use it, and forget it.",
    ),
)


class SearchApi:
    """The API, on a port of its own.

    ``keys`` mints and revokes; ``admin`` does it over HTTP; ``calls`` lists what was seen;
    ``on_call`` is told of each call on the serving thread.
    """

    def __init__(
        self,
        keys: KeyRing | None = None,
        *,
        clock: Clock | None = None,
        on_call: Callable[[SearchCall], None] | None = None,
        tls: CertificateFiles | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._clock = clock or SystemClock()
        self.keys = keys or KeyRing(self._clock)
        self.on_call = on_call
        self._calls: list[SearchCall] = []
        self._lock = threading.Lock()
        self.admin = KeyAdmin(self.keys, self._clock)
        routes = [Route("/search", self._search), *self.admin.routes]
        self._served = ServedApp(Starlette(routes=routes), tls=tls, host=host)
        self.address = self._served.address
        """Origin, such as ``http://127.0.0.1:23456``."""

    @property
    def calls(self) -> list[SearchCall]:
        """All calls so far, oldest first."""
        with self._lock:
            return list(self._calls)

    def start(self) -> None:
        """Serve."""
        self._served.start()

    def stop(self) -> None:
        """End."""
        self._served.stop()

    async def _search(self, request: Request) -> Response:
        shown = request.headers.get("x-api-key")
        key_id, verdict = self.keys.check(None if shown is None else SecretValue(shown))
        consumer = request.headers.get("user-agent", "")
        call = SearchCall(self._clock.wall(), consumer, key_id, verdict)
        with self._lock:
            self._calls.append(call)
        if self.on_call is not None:
            self.on_call(call)
        if verdict != "ok":
            return JSONResponse(
                {"error": f"API key {verdict}"},
                status_code=401,
                headers={"WWW-Authenticate": 'ApiKey header="x-api-key"'},
            )
        words = request.query_params.get("q", "").lower().split()
        try:
            limit = min(max(int(request.query_params.get("limit", "5")), 1), 20)
        except ValueError:
            return JSONResponse({"error": "limit is no number"}, status_code=400)
        return JSONResponse({"results": [asdict(page) for page in find(words)[:limit]]})


def find(words: list[str]) -> list[Page]:
    """The pages that hold at least one of ``words`` (lower case), best first."""

    def score(page: Page) -> int:
        text = f"{page.title} {page.text}".lower()
        return sum(text.count(word) for word in words)

    return sorted((page for page in PAGES if score(page)), key=score, reverse=True)
