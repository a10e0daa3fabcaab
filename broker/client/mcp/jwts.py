"""JWTs of external issuers.

Duty: a bearer → the claims of the one issuer that it names, if its signature is good.
Not its duty: keys (``jwks``), what the claims allow (``issuer``).
Rules:

* which issuer a token says it is from chooses by whose rules and with whose keys it is
  judged; nothing else in a token chooses anything: ``jku``, ``x5u``, ``jwk`` and ``x5c`` of
  its header are not looked at, ``kid`` is compared and nothing more;
* the algorithm is one of the issuer's list, and fits the key;
* an extension that must be understood (``crit``) is not.

Source: RFC 7515, RFC 8725
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from broker.client.mcp.fetching import Fetcher
from broker.client.mcp.issuer import Accepted, Issuer, takes_type
from broker.client.mcp.jwks import LONGEST_KID, Documents, IssuerKeys
from broker.client.mcp.stray import LONGEST
from broker.clock import Clock
from broker.errors import BearerRefused, SettingsError

_JWS: Final = PyJWS()


class Jwts:
    """Verifies JWTs.

    Args:
        issuers: whose tokens are taken.
        resource: the audience, where an issuer names none.
        clock: time.
        documents: fetches what an issuer publishes.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        resource: str,
        clock: Clock,
        documents: Callable[[Issuer], Documents] = Fetcher,
    ) -> None:
        self._resource = resource
        self._clock = clock
        self._issuers = {one.url: (one, IssuerKeys(one, documents(one), clock)) for one in issuers}
        if len(self._issuers) != len(issuers):
            raise SettingsError(
                "An issuer is configured twice.", file="Guard", key="issuers", remedy="Merge them."
            )

    async def verify(self, token: str) -> tuple[Issuer, Accepted]:
        """Judge a bearer.

        Raises:
            BearerRefused: it is not good, with the reason.
            IssuerUnavailable: nobody can say.
        """
        if len(token) > LONGEST:
            raise BearerRefused(reason="too_long")
        header, claims = _read(token)
        named = claims.get("iss")
        issuer, keys = self._issuers.get(named if isinstance(named, str) else "", (None, None))
        if issuer is None or keys is None:
            raise BearerRefused(reason="issuer_unknown")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise BearerRefused(reason="algorithm")
        if "crit" in header or "b64" in header:
            raise BearerRefused(reason="extension")
        if not takes_type(issuer, header):
            raise BearerRefused(reason="type")
        if kid is not None and len(kid) > LONGEST_KID:
            raise BearerRefused(reason="key_unknown")
        key = await keys.find(kid, algorithm)
        try:
            verified = _JWS.decode_complete(
                token, key, algorithms=[algorithm], options={"enforce_minimum_key_length": True}
            )
        except PyJWTError as error:
            raise BearerRefused(reason="signature") from error
        said = _object(verified["payload"])
        return issuer, issuer.accept(said, audience=self._resource, wall=self._clock.wall())


def _read(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims, believed by nobody yet."""
    try:
        read = _JWS.decode_complete(token, options={"verify_signature": False})
    except (PyJWTError, ValueError) as error:
        raise BearerRefused(reason="malformed") from error
    return read["header"], _object(read["payload"])


def _object(payload: bytes) -> Mapping[str, Any]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BearerRefused(reason="malformed") from error
    if not isinstance(claims, dict):
        raise BearerRefused(reason="malformed")
    return claims
