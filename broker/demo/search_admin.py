"""Key management of the demo's search API, as providers offer it.

Duty: ``POST``, ``GET /admin/keys`` and ``DELETE /admin/keys/{id}`` for the one admin key; ``GET
/key`` tells a key about itself.
Not its duty: the keys (``keyring``), the search (``search_api``).
Rules:

* only the first answer to a creation holds the key; it can never be asked for again;
* ``mishap`` makes it behave as providers do on bad days; the work is done all the same
  where a real one's would be.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.clock import Clock, SystemClock
from broker.demo.facts import SearchCall
from broker.demo.keyring import ApiKey, KeyRing
from broker.secret import SecretValue

PAGE: Final = 100


@dataclass(slots=True)
class Mishap:
    """How key management behaves; all off: well."""

    delay: float = 0.0
    """Seconds before each answer."""
    garbage: bool = False
    """200 and a body that is no JSON."""
    repeat: bool = False
    """A creation answers with the key of the one before."""
    lost: bool = False
    """The work is done, and a gateway answers 504 in its place."""
    throttle: int = 0
    """429 with this many seconds in Retry-After, and nothing is done."""


class KeyAdmin:
    """The routes.

    ``mishap`` may be changed at any time; ``proofs`` lists what ``GET /key`` was shown.
    """

    def __init__(self, keys: KeyRing, clock: Clock) -> None:
        self._keys, self._clock = keys, clock
        self.key = SecretValue("sk-admin-" + secrets.token_urlsafe(24))
        """The admin key."""
        self.mishap = Mishap()
        self.proofs: list[SearchCall] = []
        self._last: dict[str, Any] = {}
        self.routes = [
            Route("/admin/keys", self._guarded(self._create), methods=["POST"]),
            Route("/admin/keys", self._guarded(self._list), methods=["GET"]),
            Route("/admin/keys/{id}", self._guarded(self._revoke), methods=["DELETE"]),
            Route("/key", self._show),
        ]

    def _guarded(
        self, work: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            shown = request.headers.get("authorization", "").removeprefix("Bearer ")
            if SecretValue(shown) != self.key:
                return JSONResponse({"error": "not the admin key"}, status_code=401)
            mishap = self.mishap
            # Real seconds, whatever clock the keys live by.
            await SystemClock().sleep(mishap.delay)
            if mishap.throttle:
                after = {"Retry-After": str(mishap.throttle)}
                return JSONResponse({"error": "slow down"}, status_code=429, headers=after)
            done = await work(request)
            if mishap.lost:
                return JSONResponse({"error": "gateway timeout"}, status_code=504)
            return Response(b"<html>Welcome</html>") if mishap.garbage else done

        return answer

    async def _create(self, request: Request) -> Response:
        try:
            wanted = json.loads(await request.body())
            label, ttl = str(wanted["label"]), wanted.get("expires_in")
            ttl = None if ttl is None else float(ttl)
        except (ValueError, TypeError, KeyError, AttributeError):
            return JSONResponse({"error": "label is missing"}, status_code=400)
        if self.mishap.repeat and self._last:
            return JSONResponse(self._last, status_code=201)
        key, text = self._keys.mint(label, ttl=ttl)
        self._last = {**_public(key), "key": text.reveal()}
        return JSONResponse(self._last, status_code=201)

    async def _list(self, request: Request) -> Response:
        prefix = request.query_params.get("label_prefix", "")
        after = request.query_params.get("after", "")
        try:
            limit = min(max(int(request.query_params.get("limit", PAGE)), 1), PAGE)
        except ValueError:
            return JSONResponse({"error": "limit is no number"}, status_code=400)
        keys = [key for key in self._keys.live() if key.label.startswith(prefix)]
        ids = [key.id for key in keys]
        start = ids.index(after) + 1 if after in ids else 0
        page = keys[start : start + limit]
        more = start + limit < len(keys)
        body = {"keys": [_public(key) for key in page], "next": page[-1].id if more else None}
        return JSONResponse(body)

    async def _revoke(self, request: Request) -> Response:
        key_id = request.path_params["id"]
        if key_id not in {key.id for key in self._keys.live()}:
            return JSONResponse({"error": "no such key"}, status_code=404)
        self._keys.revoke(key_id)
        return Response(status_code=204)

    async def _show(self, request: Request) -> Response:
        shown = request.headers.get("x-api-key")
        key_id, verdict = self._keys.check(None if shown is None else SecretValue(shown))
        consumer = request.headers.get("user-agent", "")
        self.proofs.append(SearchCall(self._clock.wall(), consumer, key_id, verdict))
        if verdict != "ok":
            return JSONResponse({"error": f"API key {verdict}"}, status_code=401)
        return JSONResponse({"id": key_id})


def _public(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "label": key.label,
        "created_at": _date(key.created_at),
        "expires_at": None if key.expires_at is None else _date(key.expires_at),
    }


def _date(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat()
