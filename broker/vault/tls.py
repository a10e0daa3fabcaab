"""TLS towards Vault: what to trust and what to show.

Duty: files → ``ssl.SSLContext``; notice when the files have changed.
Not its duty: connections (``transport``).
Rules:

* always verified; only ``unsafe_skip_verify`` turns that off;
* with ``ca_file`` or ``ca_path`` nothing else is trusted;
* nothing from the environment but what OpenSSL itself reads for the system's roots.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import certifi

from broker.errors import VaultTlsFailed


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """TLS towards Vault. Empty strings mean: not given."""

    ca_file: str = ""
    """PEM bundle of trusted roots."""
    ca_path: str = ""
    """Directory of roots, named by hash (``openssl rehash``)."""
    cert_file: str = ""
    """Client certificate with its chain, PEM."""
    key_file: str = ""
    server_name: str = ""
    """Name asked for (SNI) and verified, instead of the address's host."""
    unsafe_skip_verify: bool = False


def fingerprint(options: TlsOptions) -> bytes:
    """Digest over the content of all files; a missing one counts as a content of its own."""
    digest = hashlib.sha256()
    paths = [Path(name) for name in (options.ca_file, options.cert_file, options.key_file) if name]
    if options.ca_path:
        directory = Path(options.ca_path)
        paths += sorted(directory.iterdir()) if directory.is_dir() else [directory]
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            content = f"errno {error.errno}".encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.digest()


def context(options: TlsOptions) -> ssl.SSLContext:
    """A client context for these options.

    Raises:
        VaultTlsFailed: a file is missing or not what it should be.
    """
    # Not ssl.create_default_context: what it demands of certificates differs by Python version.
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.unsafe_skip_verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        _trust(made, options)
    if options.cert_file:
        try:
            # With a password given, OpenSSL does not ask the terminal for one.
            made.load_cert_chain(options.cert_file, options.key_file or None, password="")
        except (OSError, ssl.SSLError) as error:
            raise VaultTlsFailed(
                "The client certificate or its key cannot be used.",
                remedy="Check vault.tls.cert_file and key_file: readable PEM, one pair.",
            ) from error
    return made


def _trust(made: ssl.SSLContext, options: TlsOptions) -> None:
    if options.ca_file or options.ca_path:
        try:
            made.load_verify_locations(options.ca_file or None, options.ca_path or None)
            if options.ca_path:
                any(Path(options.ca_path).iterdir())  # OpenSSL looks into it only when it verifies
        except (OSError, ssl.SSLError) as error:
            raise VaultTlsFailed(
                "The trusted roots cannot be used.",
                remedy="Check vault.tls: ca_file is a readable PEM bundle, ca_path a directory.",
            ) from error
        return
    system = ssl.get_default_verify_paths()
    if system.cafile or system.capath:
        made.set_default_verify_paths()
    else:  # a small image without the system's roots
        made.load_verify_locations(certifi.where())
