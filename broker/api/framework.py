"""What the three planes have in common: applications, errors, answers in prepared bytes.

Duty: make a FastAPI application in which every error is a problem document, every answer
carries its request id and ``Cache-Control: no-store``, and nothing is answered that no route
declares.
Not its duty: the routes (``data``, ``admin``, ``operations``).
Rules:

* no route answers by accident: no documentation pages, no redirects for slashes, no CORS;
* what a route raises is answered here; a traceback goes to the log, never to a client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from broker import __version__
from broker.api.door import PEER, Peer
from broker.api.problems import REQUEST_ID_FIELD, Headers, Problems
from broker.errors import BrokerError, MethodNotAllowed, RequestMalformed, RouteUnknown
from broker.protocol.names import JSON

T = TypeVar("T")
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

NO_STORE: Final = (b"cache-control", b"no-store")


class Prepared(Response):
    """An answer whose headers and body are bytes already.

    Args:
        status: of the answer.
        headers: with lower-case names, ``content-length`` included where one belongs.
        body: all of it.
    """

    def __init__(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        super().__init__(status_code=status)
        self.body = body
        self.raw_headers = list(headers)


def document(content: Mapping[str, Any], status: int = 200) -> Prepared:
    """An answer with a JSON document."""
    body = json.dumps(content, separators=(",", ":")).encode()
    headers: Headers = (
        NO_STORE,
        (b"content-type", JSON.encode("ascii")),
        (b"content-length", str(len(body)).encode("ascii")),
    )
    return Prepared(status, headers, body)


def request_id(request: Request) -> str:
    """The broker's id of the request."""
    return str(request.scope["state"]["request_id"])


def path_value(request: Request, name: str) -> str:
    """What stands in the path in place of ``{name}``."""
    return str(request.path_params[name])


def peer(request: Request) -> Peer:
    """Who is connected, as the protocol class found out."""
    found = request.scope["extensions"][PEER]
    assert isinstance(found, Peer)
    return found


def create_app(title: str, description: str, problems: Problems) -> FastAPI:
    """An application without routes."""
    app = FastAPI(
        title=title,
        description=description,
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )

    def answer(request: Request, error: Exception) -> Prepared:
        return Prepared(*problems.answer(error, request_id(request)))

    async def broker_error(request: Request, error: Exception) -> Response:
        return answer(request, error)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return answer(request, MethodNotAllowed(allow=_allowed(app, request)))
        if error.status_code == 404:
            return answer(request, RouteUnknown())
        return answer(request, RequestMalformed())

    app.add_exception_handler(BrokerError, broker_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_middleware(_Guard, problems=problems)
    return app


def _allowed(app: FastAPI, request: Request) -> tuple[str, ...]:
    """Methods of all routes for the path; the framework would name the first route's only."""
    methods: set[str] = set()
    for route in app.router.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return tuple(sorted(methods))


class _Guard:
    """Inside the framework's own last resort, which answers in plain text, and around the rest."""

    def __init__(self, app: Any, problems: Problems) -> None:
        self._app = app
        self._problems = problems

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = self._problems.ids.next()
        scope["state"]["request_id"] = request_id
        started = False

        async def identified(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [
                    *message["headers"],
                    (REQUEST_ID_FIELD, request_id.encode("ascii")),
                ]
            await send(message)

        try:
            await self._app(scope, receive, identified)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:
            # Also logs it; an answer that has begun ends with its connection.
            status, headers, body = self._problems.answer(error, request_id)
            if started:
                raise
            await Prepared(status, headers, body)(scope, receive, identified)


async def gone(receive: Receive) -> None:
    """Return when the peer has gone; for requests whose body has been read or has none."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do ``work``, but give it up when the peer goes.

    Raises:
        ClientDisconnect: the peer went first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
