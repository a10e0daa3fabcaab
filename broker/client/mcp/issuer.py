"""An authorization server whose JWTs are taken, and what their claims say [pure].

Duty: the description an author writes; claims of a token whose signature is good → may it be
used here, now, for which tools.
Not its duty: signatures (``jwts``), keys (``jwks``).
Rules:

* a token is judged by the rules of the one issuer it names, exactly as written;
* audience and expiry are required; times have a leeway, nothing else has;
* algorithms are a list of asymmetric ones: ``none`` and HMAC cannot be written down;
* which tools a token is for is said by its scopes (``tool:NAME``, or foreign names by a
  mapping) and, if configured, by a claim that lists tools. Nothing said, nothing allowed.

Source: RFC 7519 section 4.1, RFC 9068, RFC 8725 (best practices), RFC 8707 (audience)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from broker.client.mcp.challenge import is_scope
from broker.errors import BearerRefused, SettingsError
from broker.protocol.names import LONGEST_ASSERTED
from broker.protocol.scopes import covers, tool_scope, tools_of

ALGORITHMS: Final = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)
"""All that can be configured."""
LONGEST_SUBJECT: Final = 255
MOST_SCOPES: Final = 256
LAST: Final = 1e11
"""Unix time past which a number is none."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authorization server.

    Args:
        url: its identifier: the ``iss`` of its tokens, character by character.
        audience: what ``aud`` must hold; empty: the guard's ``resource``.
        algorithms: signatures that are taken.
        jwks_uri: where its keys are; empty: its metadata says so.
        tools_claim: a claim that lists tools and globs; empty: none.
        scopes: foreign names of scopes, each with the tools and globs it stands for.
        leeway: seconds by which clocks may differ.
        types: values of ``typ`` that are taken, in lower case; a token without one is taken.
        networks: private networks its address may be in, such as ``10.0.0.0/8``.
        ca_file: certificates to trust for it; empty: the system's.
        unsafe_loopback: take plain ``http`` on loopback; for tests.

    Raises:
        SettingsError: it could not be safe.
    """

    url: str
    audience: str = ""
    algorithms: Sequence[str] = ("RS256", "ES256", "EdDSA")
    jwks_uri: str = ""
    tools_claim: str = ""
    scopes: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
    leeway: float = 30.0
    types: Sequence[str] = ("at+jwt", "jwt")
    networks: Sequence[str] = ()
    ca_file: str = ""
    unsafe_loopback: bool = False

    def __post_init__(self) -> None:
        if not self.algorithms or not ALGORITHMS.issuperset(self.algorithms):
            raise _unsafe("algorithms", f"Take some of {', '.join(sorted(ALGORITHMS))}.")
        for key, url in (("url", self.url), ("jwks_uri", self.jwks_uri)):
            scheme = urlsplit(url).scheme
            if (url or key == "url") and scheme != "https" and not self.unsafe_loopback:
                raise _unsafe(key, "Write an https address.")
        if "|" in self.url or not self.url.isprintable():
            raise _unsafe("url", "Write its identifier without a bar or control characters.")
        if not 0 <= self.leeway <= 300:
            raise _unsafe("leeway", "Take 0 to 300 seconds.")
        try:
            for network in self.networks:
                ip_network(network)
        except ValueError as error:
            raise _unsafe("networks", "Write networks such as 10.0.0.0/8.") from error
        if not all(map(is_scope, self.scopes)):
            raise _unsafe("scopes", "A scope has no space, quote or backslash (RFC 6749).")

    def scope_for(self, tool: str) -> str:
        """The scope to ask this issuer for, so that a token covers ``tool``."""
        for scope, tools in self.scopes.items():
            if covers(tools, tool):
                return scope
        return tool_scope(tool)

    def accept(self, claims: Mapping[str, Any], *, audience: str, wall: float) -> Accepted:
        """Judge the claims of a token that this issuer signed.

        Args:
            claims: of the token.
            audience: the guard's resource, where this issuer has no audience of its own.
            wall: Unix time now.

        Raises:
            BearerRefused: not for here or not for now, with the reason.
        """
        if claims.get("iss") != self.url:
            raise BearerRefused(reason="issuer")
        if (self.audience or audience) not in _list(claims.get("aud")):
            raise BearerRefused(reason="audience")
        expires_at = _time(claims, "exp", required=True)
        assert expires_at is not None
        if expires_at + self.leeway <= wall:
            raise BearerRefused(reason="expired")
        for name in ("nbf", "iat"):
            begins_at = _time(claims, name)
            if begins_at is not None and begins_at - self.leeway > wall:
                raise BearerRefused(reason=f"{name}_ahead")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
            raise BearerRefused(reason="subject")
        if not subject.isprintable():
            raise BearerRefused(reason="subject")
        if len(self.url) + 1 + len(subject) > LONGEST_ASSERTED:
            raise BearerRefused(reason="subject_too_long")  # the broker would take no question
        client = claims.get("client_id", claims.get("azp", subject))
        scopes = self._scopes(claims)
        return Accepted(
            subject=subject,
            client_id=client if isinstance(client, str) and client else subject,
            scopes=scopes,
            tools=self._tools(scopes, claims),
            expires_at=expires_at,
        )

    def _scopes(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        said = claims.get("scope", claims.get("scp"))
        named = said.split() if isinstance(said, str) else _list(said)
        return tuple(filter(is_scope, named))[:MOST_SCOPES]

    def _tools(self, scopes: Sequence[str], claims: Mapping[str, Any]) -> tuple[str, ...]:
        tools = list(tools_of(" ".join(scopes)))
        for scope in scopes:
            tools += self.scopes.get(scope, ())
        if self.tools_claim:
            tools += _list(claims.get(self.tools_claim))
        return tuple(dict.fromkeys(tools))


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the claims of a good token say."""

    subject: str
    client_id: str
    scopes: tuple[str, ...]
    tools: tuple[str, ...]
    """Names and globs."""
    expires_at: float


def takes_type(issuer: Issuer, header: Mapping[str, Any]) -> bool:
    """Whether ``typ`` of a token's header is one of an access token (RFC 8725 section 3.11)."""
    kind = header.get("typ")
    if kind is None:
        return True
    return isinstance(kind, str) and kind.lower().removeprefix("application/") in issuer.types


def _list(said: object) -> list[str]:
    if isinstance(said, str):
        return [said]
    return [one for one in said if isinstance(one, str)] if isinstance(said, list) else []


def _time(claims: Mapping[str, Any], name: str, *, required: bool = False) -> float | None:
    said = claims.get(name)
    if said is None and not required:
        return None
    # Written so that NaN is none either.
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= LAST:
        raise BearerRefused(reason=f"{name}_missing" if said is None else f"{name}_malformed")
    return float(said)


def _unsafe(key: str, remedy: str) -> SettingsError:
    return SettingsError(
        "An issuer cannot be taken like this.", file="Issuer", key=key, remedy=remedy
    )
