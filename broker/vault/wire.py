"""What stands under hvac's API classes in place of hvac's own adapters.

Duty: one request of hvac's → one ``Exchange``, with the headers Vault wants.
Not its duty: reading the answer.
Rules: answers every status with an ``Answer``; raises only ``VaultError``; never sends
a token that is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import urlencode

from broker.errors import VaultDenied
from broker.secret import SecretValue
from broker.vault.interface import JsonValue
from broker.vault.responses import Answer
from broker.vault.transport import Exchange

Body: TypeAlias = Mapping[str, JsonValue]


class Wire:
    """An adapter, as hvac's API classes call one, for one request.

    Not a sub-class of hvac's: that makes a ``requests.Session`` with defaults we do not want.

    Args:
        exchange: carries the request out.
        token: sent with it; None for none.
        namespace: Vault namespace, or empty.

    Raises:
        VaultDenied: what should be a token cannot be one.
    """

    def __init__(self, exchange: Exchange, *, token: SecretValue | None, namespace: str) -> None:
        self._exchange = exchange
        self._headers = {
            "X-Vault-Request": "true",
            "Accept-Encoding": "identity",
            "User-Agent": "mcp-secrets-broker",
        }
        if namespace:
            self._headers["X-Vault-Namespace"] = namespace
        if token is not None:
            # http.client would quote a header value it dislikes in its error.
            if not (token and fits_header(token.reveal())):
                raise VaultDenied("What should be a Vault token is none: empty, or odd characters.")
            self._headers["X-Vault-Token"] = token.reveal()

    def get(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        raise_exception: bool = False,  # noqa: ARG002  # refusals are read later
    ) -> Answer:
        """Read."""
        return self._send("GET", f"{url}?{urlencode(params)}" if params else url, None)

    def post(
        self,
        url: str,
        json: Body | None = None,
        wrap_ttl: None = None,  # noqa: ARG002  # hvac's, never asked for
    ) -> Answer:
        """Write."""
        return self._send("POST", url, json)

    def put(self, url: str, json: Body | None = None) -> Answer:
        """Write."""
        return self._send("PUT", url, json)

    def login(
        self,
        url: str,
        use_token: Literal[False],  # noqa: ARG002  # the answer's token is not kept here
        json: Body,
    ) -> Answer:
        """Log in."""
        return self._send("POST", url, json)

    def _send(self, method: str, url: str, document: Body | None) -> Answer:
        if document is None:
            return self._exchange.send(method, url, headers=self._headers, body=None)
        return self._exchange.send(
            method,
            url,
            headers={**self._headers, "Content-Type": "application/json"},
            body=json.dumps(document, allow_nan=False).encode(),
        )


def fits_header(text: str) -> bool:
    """Whether a header can carry the text: printable ASCII."""
    return text.isascii() and text.isprintable()
