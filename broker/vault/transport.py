"""HTTP to Vault, blocking: one call is one ``Exchange``.

Duty: connections, TLS, the redirect a standby answers with, caps; failures of the
network as errors of the tree.
Not its duty: what Vault says (``responses``, ``refusals``), threads and deadlines
(``calls``).
Rules:

* no proxy, no ``.netrc``, nothing from the environment; no retry;
* a redirect is followed only as 307, only to configured origins; elsewhere the token
  does not go;
* an answer is read to ``MAX_ANSWER`` bytes and not decoded: no gzip bomb;
* an exchange can be broken off from another thread, whatever the server does.

With ``connections`` and ``network`` the only importer of urllib3. hvac's own adapters use
requests, which asks the environment for proxies and ``.netrc`` and brings its own roots
(docs/decisions/0002).
"""

from __future__ import annotations

import http.client
import logging
import re
import socket
import threading
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import inf
from typing import Final

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from broker.errors import (
    SettingsError,
    VaultMalformed,
    VaultStandby,
    VaultTimeout,
    VaultTlsFailed,
)
from broker.vault import tls
from broker.vault.connections import PlainPool, TlsPool, running
from broker.vault.network import network_error
from broker.vault.responses import Answer
from broker.vault.tls import TlsOptions

logger = logging.getLogger("broker.vault")

# It warns of header lines it cannot parse, and quotes them.
logging.getLogger("urllib3").setLevel(logging.ERROR)

MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes. Vault's storage takes entries of 1 MiB."""

TLS_INTERVAL: Final = 10.0
"""Seconds between two looks at the TLS files."""

_HOPS: Final = 2
"""Redirects followed in one exchange: to the leader, and once more in an election."""

_CHUNK: Final = 65_536
_KEPT_HEADERS: Final = ("location", "retry-after")
_ORIGIN: Final = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")


def origin_of(address: str) -> str:
    """``scheme://host:port`` of an http(s) URL, in lower case, the port always told.

    Returns:
        "" when the URL is not http(s), has no plain host, or names a user.
    """
    found = _ORIGIN.match(address)
    if found is None or address[found.end() : found.end() + 1] not in ("", "/", "?"):
        return ""
    scheme, host, port = found.groups()
    return f"{scheme}://{host.lower()}:{int(port) if port else {'http': 80, 'https': 443}[scheme]}"


class Exchange:
    """One call to Vault, in a thread of its own; ``abort`` may come from any thread."""

    def __init__(self, transport: Transport, now: float) -> None:
        self._transport = transport
        self._now = now
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None
        self._ended = False
        self._aborted = False

    def send(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """Send one request and read the answer, whatever its status.

        Raises:
            VaultUnavailable: there is no answer, or one that is none of Vault's.
        """
        transport = self._transport
        url = transport.address + path
        running.user = self
        try:
            transport.look_at_tls(self._now)
            for _ in range(_HOPS):
                answer = transport.once(method, url, headers=headers, body=body)
                if not 300 <= answer.status < 400:
                    return answer
                url = transport.redirect(answer)
            raise VaultStandby("Vault's nodes redirect in a circle.")
        finally:
            del running.user
            with self._lock:
                self._ended = True
                self._connection = None

    def abort(self) -> None:
        """Break the call off: its thread comes back with an error at once."""
        with self._lock:
            self._aborted = True
            sock = self._connection.sock if self._connection and not self._ended else None
            if sock is not None:
                # The plain socket's method: SSLSocket's would disturb the thread that reads.
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def attach(self, connection: HTTPConnection) -> None:
        """The exchange is about to use this connection."""
        with self._lock:
            if self._aborted:
                raise VaultTimeout("The call was given up before it was sent.")
            self._connection = connection


class Transport:
    """Connections to one Vault. Thread-safe.

    Args:
        address: ``https://host:port``, perhaps with a path in front of ``/v1``.
        redirects: further origins a 307 may lead to.
        options: TLS.
        connect_timeout: seconds to connect and shake hands, for each address of the host.
        read_timeout: seconds without a byte; the deadline over all is the caller's.
        connections: kept open at most.

    Raises:
        SettingsError: the address is no http(s) URL.
    """

    def __init__(
        self,
        address: str,
        *,
        redirects: Iterable[str] = (),
        options: TlsOptions,
        connect_timeout: float,
        read_timeout: float,
        connections: int,
    ) -> None:
        self.address = address.rstrip("/")
        self._origins = {origin_of(each) for each in (address, *redirects)}
        if "" in self._origins:
            raise SettingsError("not an http or https URL", key="vault.address")
        self._tls = options
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        self._connections = connections
        self._lock = threading.Lock()
        self._fingerprint = b""
        self._looked_at = -inf
        self._pools: urllib3.PoolManager | None = None
        if options.unsafe_skip_verify:
            logger.warning(
                "vault.tls.unsafe_skip_verify is set: whoever answers at vault.address "
                "can read every secret the broker fetches"
            )
            # Said once above; urllib3 would say it at every connection.
            warnings.filterwarnings("ignore", category=InsecureRequestWarning)

    def exchange(self, now: float) -> Exchange:
        """A new call, at this ``Clock.now()``."""
        return Exchange(self, now)

    def look_at_tls(self, now: float) -> None:
        """``reload_tls``, when the last look is long enough ago."""
        if self._pools is None or now - self._looked_at >= TLS_INTERVAL:
            self._looked_at = now
            self.reload_tls()

    def reload_tls(self) -> bool:
        """Read the TLS files again, if their content has changed since.

        New connections use them; calls under way end on the old ones. Files that
        cannot be used leave the last good ones in force, and the log says so.

        Returns:
            Whether new files are in force.

        Raises:
            VaultTlsFailed: they cannot be used and there are no good ones yet.
        """
        with self._lock:
            found = tls.fingerprint(self._tls)
            if self._pools is not None and found == self._fingerprint:
                return False
            before, self._fingerprint = self._pools, found
            try:
                self._pools = self._new_pools()
            except VaultTlsFailed as error:
                if before is None:
                    raise
                logger.error("new TLS files for Vault are not used: %s", error)
                return False
        if before is not None:
            logger.info("new TLS files for Vault are in force")
            before.clear()
        return True

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            if self._pools is not None:
                self._pools.clear()

    def once(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """One request, no redirect. Called through ``Exchange.send`` only."""
        assert self._pools is not None  # look_at_tls came before
        try:
            return _read(
                self._pools.request(
                    method,
                    url,
                    headers=headers,
                    body=body,
                    timeout=self._timeout,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
            )
        except (HTTPError, OSError, http.client.HTTPException) as error:
            failure = network_error(error)
        # Outside, so that nothing hangs on to the library's error: some quote what they read.
        raise failure

    def redirect(self, answer: Answer) -> str:
        """Where a 3xx answer leads, if we go there.

        Raises:
            VaultStandby: to an origin that is not configured.
            VaultMalformed: it is no redirect of Vault's.
        """
        location = answer.headers.get("location", "")
        origin = origin_of(location)
        if answer.status != 307 or not origin:
            raise VaultMalformed(
                f"HTTP {answer.status} leads elsewhere, which Vault's API does not do.",
                remedy="Check vault.address: scheme, host, port, no proxy that asks for a login.",
            )
        if origin not in self._origins:
            raise VaultStandby(
                f"This node is a standby and sends to {origin}, which is not configured.",
                remedy="Point vault.address at the active node's Service, "
                "or list that origin under vault.redirect_addresses.",
            )
        return location

    def _new_pools(self) -> urllib3.PoolManager:
        pools = urllib3.PoolManager(
            num_pools=len(self._origins),
            maxsize=self._connections,
            ssl_context=tls.context(self._tls),
            server_hostname=self._tls.server_name or None,
        )
        pools.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
        return pools


def _read(response: urllib3.BaseHTTPResponse) -> Answer:
    """The whole answer, within ``MAX_ANSWER``; the connection goes back to the pool."""
    body = bytearray()
    whole = False
    try:
        while len(body) <= MAX_ANSWER and not whole:
            chunk = response.read(_CHUNK)
            body += chunk
            whole = not chunk
    finally:
        if whole:
            response.release_conn()
        else:
            response.close()
    if not whole:
        raise VaultMalformed(f"The answer is longer than {MAX_ANSWER} bytes.")
    kept = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return Answer(status=response.status, body=bytes(body), headers=kept)
