"""A small authorization server: metadata, keys, and tokens for clients with a secret."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.client.mcp import Issuer
from tests.support.serving import bound, served


@cache
def rsa_key(number: int = 1) -> rsa.RSAPrivateKey:
    """A key; making one takes a while, so each is made once."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def weak_key() -> rsa.RSAPrivateKey:
    """A key that is too short."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    """A key for ES256."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    """A key for EdDSA."""
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, **members: Any) -> dict[str, Any]:
    """The public half of a key."""
    kinds: dict[type, Any] = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }
    algorithm = next(made for kind, made in kinds.items() if isinstance(key, kind))
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig", **members}


@dataclass
class Storage:
    """What a client keeps between two flows."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@dataclass
class AuthorizationServer:
    """Grants client_credentials to ``agent``."""

    url: str
    audience: str = ""
    asked: list[str] = field(default_factory=list)
    """Scopes of each token request."""
    granted: set[str] | None = None
    """Scopes that are granted; None: all."""
    keys: list[dict[str, Any]] = field(default_factory=lambda: [jwk(rsa_key(), "k1")])
    fetched: list[str] = field(default_factory=list)

    def issuer(self, **options: Any) -> Issuer:
        """The description an author writes."""
        return Issuer(self.url, unsafe_loopback=True, **options)

    def client(self, resource: str) -> httpx2.Auth:
        """The SDK's own provider."""
        auth: httpx2.Auth = ClientCredentialsOAuthProvider(
            resource, Storage(), "agent", "agents-secret", issuer=self.url
        )
        return auth

    def app(self) -> Starlette:
        """Its routes."""
        path = "/as"
        return Starlette(
            routes=[
                Route(f"/.well-known/oauth-authorization-server{path}", self._metadata),
                Route(f"{path}/jwks", self._jwks),
                Route(f"{path}/token", self._token, methods=["POST"]),
            ]
        )

    async def _metadata(self, request: Request) -> Response:
        del request
        return JSONResponse(
            {
                "issuer": self.url,
                "token_endpoint": f"{self.url}/token",
                "authorization_endpoint": f"{self.url}/authorize",
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["code"],
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        )

    async def _jwks(self, request: Request) -> Response:
        self.fetched.append(str(request.url))
        return JSONResponse({"keys": self.keys})

    async def _token(self, request: Request) -> Response:
        form = {name: one[0] for name, one in parse_qs((await request.body()).decode()).items()}
        basic = b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        if [unquote(one) for one in basic.split(":")] != ["agent", "agents-secret"]:
            return JSONResponse({"error": "invalid_client"}, 401)
        if form.get("resource") != self.audience:
            return JSONResponse({"error": "invalid_target"}, 400)
        asked = form.get("scope", "")
        self.asked.append(asked)
        scopes = [one for one in asked.split() if self.granted is None or one in self.granted]
        token = self.sign(scope=" ".join(scopes))
        return JSONResponse(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": " ".join(scopes),
            }
        )

    def sign(self, **claims: Any) -> str:
        """A token of this server."""
        now = int(time.time())
        said = {
            "iss": self.url,
            "sub": "agent",
            "client_id": "agent",
            "aud": self.audience,
            "iat": now,
            "exp": now + 300,
            **claims,
        }
        return jwt.encode(said, rsa_key(), "RS256", {"kid": "k1", "typ": "at+jwt"})


@asynccontextmanager
async def authorization_server() -> AsyncIterator[AuthorizationServer]:
    """One that answers on loopback."""
    taken = bound()
    server = AuthorizationServer(f"http://127.0.0.1:{taken.getsockname()[1]}/as")
    async with served(server.app(), taken):
        yield server
