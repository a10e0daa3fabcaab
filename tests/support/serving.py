"""An ASGI application on a port, on the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from tests.support.patience import eventually


def bound(port: int = 0) -> socket.socket:
    """A port of loopback, taken before anybody serves on it; 0: any."""
    # Only with the protocol named does asyncio switch Nagle's algorithm off, which costs 40 ms.
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", port))
    return taken


@asynccontextmanager
async def served(app: Any, taken: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve ``app``, with its lifespan; gives its origin."""
    taken = bound() if taken is None else taken
    config = uvicorn.Config(
        app,
        log_config=None,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=1,
        # uvicorn's 5 s end a connection that a client on a busy machine is about to use again.
        timeout_keep_alive=75,
    )
    server = uvicorn.Server(config)
    # Not ``serve``, which would take the test's signals.
    task = asyncio.create_task(server._serve(sockets=[taken]))
    try:
        await eventually(lambda: server.started or task.done())
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        taken.close()
