"""An ASGI application served on a thread of its own.

Duty: give the demo's small HTTP parts a port, and an end, whatever event loop
the caller has or has not.
Not its duty: the applications.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from types import TracebackType
from typing import Any, Self

import uvicorn

from broker.demo.certificates import CertificateFiles
from broker.demo.process import PartError, free_port


class ServedApp:
    """One application on an address of this machine; a context manager.

    Args:
        app: the ASGI application.
        tls: certificate for https; None for http.
        lifespan: whether the application has a lifespan to run.
        host: IPv4 address to listen on.
    """

    def __init__(
        self,
        app: Any,
        *,
        tls: CertificateFiles | None = None,
        lifespan: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        # Bound here, so that the port is known and taken before the thread runs.
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = free_port()
        self._socket.bind((host, self.port))
        self.address = f"{'https' if tls else 'http'}://{host}:{self.port}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="on" if lifespan else "off",
            timeout_graceful_shutdown=1,
            # uvicorn's 5 s end a connection that a client on a busy machine is about to use.
            timeout_keep_alive=75,
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name=f"http:{self.port}", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve; the port answers when this returns."""
        self._socket.listen(128)
        self._thread.start()

    def stop(self) -> None:
        """End open requests within a second, and the thread."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(10.0)
            if self._thread.is_alive():
                raise PartError(f"the server on port {self.port} does not end")
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))
