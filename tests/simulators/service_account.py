"""Unsigned service-account tokens, to be read by the simulated Vault alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from math import inf

from broker.vault.interface import JsonValue


def jwt_claims(jwt: str) -> Mapping[str, JsonValue] | None:
    """Payload of a JWT (RFC 7519), its signature not looked at; None when it is none."""
    try:
        _, payload, _ = jwt.split(".")
        decoded = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) else None


def service_account_jwt(
    *, subject: str = "broker", audience: str = "vault", expires_wall: float = inf
) -> str:
    """An unsigned service-account token, for set-ups and token files."""
    claims: dict[str, JsonValue] = {"sub": subject, "aud": [audience]}
    if expires_wall != inf:
        claims["exp"] = expires_wall
    parts = [{"alg": "none"}, claims, {}]
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
    )
