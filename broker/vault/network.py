"""Failures of the network as errors of the tree.

Duty: one exception of urllib3, http.client or a socket → one ``VaultUnavailable``.
Not its duty: what Vault says (``refusals``).
Rule: messages hold the library's or the system's own words, never an answer's.
"""

from __future__ import annotations

import http.client
import ssl

from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from broker.errors import (
    VaultMalformed,
    VaultNameUnresolved,
    VaultTimeout,
    VaultTlsFailed,
    VaultUnavailable,
    VaultUnreachable,
)


def network_error(error: Exception) -> VaultUnavailable:
    """The error of the tree for one of the network."""
    cause = error.args[-1] if isinstance(error, (SSLError, ProtocolError)) and error.args else error
    if isinstance(error, NameResolutionError):
        return VaultNameUnresolved("The host name of Vault does not resolve.")
    # urllib3 counts a refused connection as a kind of connect timeout.
    refused = isinstance(error, NewConnectionError)
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError, TimeoutError)) and not refused:
        return VaultTimeout("Vault did not answer in time.")
    if isinstance(cause, (ssl.SSLError, ssl.CertificateError)):
        return VaultTlsFailed(f"The TLS handshake with Vault failed: {_tls_reason(cause)}.")
    if isinstance(cause, http.client.HTTPException) and not isinstance(cause, OSError):
        if isinstance(cause, http.client.IncompleteRead):
            return VaultUnreachable("The connection ended in the middle of the answer.")
        return VaultMalformed("The answer is not HTTP.")
    if isinstance(cause, http.client.RemoteDisconnected):
        return VaultUnreachable("Vault closed the connection without an answer.")
    return VaultUnreachable(f"No connection to Vault: {_os_reason(cause)}.")


def _tls_reason(error: BaseException) -> str:
    """OpenSSL's own words, which name certificates' faults and hosts but hold no data."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return "the certificate does not fit the name"


def _os_reason(error: object) -> str:
    seen = error if isinstance(error, BaseException) else None
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__
