"""Where the broker is, and the proof of who asks.

Duty: read ``BROKER_URL`` and ``BROKER_TOKEN_FILE``; hold the client token.
Not its duty: speaking (``link``); deciding when to read the token again (``core``).
Rules:

* a plain ``http`` address is taken on loopback only: the bearer and the keys go over it;
* the token file is read when first needed and after a 401, never at each request;
* beside a socket the token file is the one in the same directory, unless told otherwise; it
  may be missing there, since the peer's uid may be the proof.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from broker.errors import BrokerUnreachable, CallerUnauthenticated, SettingsError
from broker.protocol import names
from broker.secret import SecretValue

_EXAMPLES: Final = "unix:///run/broker/<client>/broker.sock or http://127.0.0.1:8210"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A way to the broker.

    Args:
        base: origin for requests, such as ``http://127.0.0.1:8210``.
        socket: path of the Unix socket; empty for TCP.
        token_file: path of the client token; empty for none.
        token_required: whether a missing token file is an error.
    """

    base: str
    socket: str = ""
    token_file: str = ""
    token_required: bool = False


def parse_endpoint(url: str, token_file: str = "") -> Endpoint:
    """Understand ``BROKER_URL`` and ``BROKER_TOKEN_FILE``.

    Raises:
        SettingsError: no address, another scheme, a path, or plain ``http`` off loopback.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        socket = unquote(parts.path)
        beside = str(Path(socket).with_name(names.TOKEN_FILE))
        # The Host header must name this listener; "localhost" does on every one.
        return Endpoint("http://localhost", socket, token_file or beside, bool(token_file))
    if _is_loopback_origin(parts):
        return Endpoint(f"http://{parts.netloc}", "", token_file, bool(token_file))
    raise SettingsError(
        "The broker's address is missing or of no use."
        if not url
        else "This is no address of a broker on this machine.",
        file="environment",
        key=names.ENV_URL,
        remedy=f"Write {_EXAMPLES}.",
    )


def _is_loopback_origin(parts: SplitResult) -> bool:
    if (parts.scheme, parts.query, parts.fragment, parts.username) != ("http", "", "", None):
        return False
    try:
        _ = parts.port  # a ValueError if it is none
        host = parts.hostname or ""
        return parts.path in {"", "/"} and (
            host == "localhost" or ipaddress.ip_address(host).is_loopback
        )
    except ValueError:
        return False


class ClientToken:
    """The client token, read from its file and kept until read again."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._token: SecretValue | None = None
        self._read = False

    def get(self) -> SecretValue | None:
        """The token; None when the peer's uid has to do.

        Raises:
            BrokerUnreachable: the file is not there (yet): the broker writes it at its start.
            CallerUnauthenticated: it cannot be read, or is no token.
        """
        if not self._read:
            self._token = self._load()
            self._read = True
        return self._token

    def reread(self) -> bool:
        """Read the file again; whether the token changed. Raises like ``get``."""
        before, self._read = self._token, False
        return self.get() != before

    def _load(self) -> SecretValue | None:
        path = self._endpoint.token_file
        if not path:
            return None
        try:
            text = Path(path).read_text("ascii").strip()
        except FileNotFoundError as error:
            if not self._endpoint.token_required:
                return None
            raise BrokerUnreachable(
                f"The client token file {path} is not there.",
                remedy=f"Check {names.ENV_TOKEN_FILE}, the volume, and that the broker runs.",
            ) from error
        except (OSError, UnicodeError) as error:
            raise CallerUnauthenticated(
                f"The client token file {path} cannot be read: {type(error).__name__}.",
                remedy="Give this container the group of the volume (fsGroup).",
            ) from None  # a UnicodeError quotes what it read
        if not text or not text.isprintable() or " " in text:
            raise CallerUnauthenticated(f"The client token file {path} holds no token.")
        return SecretValue(text)
