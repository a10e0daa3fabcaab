"""The part of a Kubernetes API server that OpenBao's kubernetes auth talks to.

Duty: issue signed, audience-bound, expiring service-account tokens; answer
TokenReview requests about them; fail on demand.
Not its duty: anything else of Kubernetes.
Rules: like the real one it needs a reviewer that may review (``system:auth-delegator``),
checks signature, issuer, life, audience and that the account still is the same one,
and says why when it says no.

Source: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
and https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.clock import Clock, SystemClock
from broker.demo.certificates import Authority
from broker.demo.serving import ServedApp
from broker.secret import SecretValue

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
"""Who signs, and the audience of tokens for the API server itself."""

PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"


class ServiceAccounts:
    """The accounts of a cluster, and the key that signs their tokens."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._uids: dict[str, str] = {}

    def create(self, namespace: str, name: str) -> str:
        """Create an account, or create it anew: its old tokens die. Returns its user name."""
        user = f"system:serviceaccount:{namespace}:{name}"
        self._uids[user] = str(uuid.uuid4())
        return user

    def delete(self, namespace: str, name: str) -> None:
        """Delete an account: its tokens die."""
        self._uids.pop(f"system:serviceaccount:{namespace}:{name}", None)

    def issue(
        self,
        namespace: str,
        name: str,
        *,
        audiences: Sequence[str] = (ISSUER,),
        ttl: float = 3600.0,
        pod: str = "pod-0",
    ) -> SecretValue:
        """A token bound to a pod, for ``audiences``, for ``ttl`` seconds (negative: expired).

        Raises:
            KeyError: there is no such account.
        """
        user = f"system:serviceaccount:{namespace}:{name}"
        now = self._clock.wall()
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": list(audiences),
            "iat": int(now),
            "nbf": int(now) - 1,
            "exp": int(now + ttl),
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": namespace,
                "pod": {"name": pod, "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, pod))},
                "serviceaccount": {"name": name, "uid": self._uids[user]},
            },
        }
        return SecretValue(jwt.encode(claims, self._key, algorithm="RS256"))

    def project(self, file: Path, namespace: str, name: str, **fields: Any) -> None:
        """Write a token as the kubelet does: a whole new file, put in place at once."""
        token = self.issue(namespace, name, **fields)
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(token.reveal())
        new.replace(file)

    def review(self, token: str, audiences: Sequence[str]) -> dict[str, Any]:
        """The ``status`` of a TokenReview."""
        wanted = list(audiences) or [ISSUER]
        try:
            claims = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=["RS256"],
                issuer=ISSUER,
                audience=wanted,
                options={"require": ["exp", "aud", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            return {"authenticated": False, "error": f"invalid bearer token, {error}"}
        user, bound = claims["sub"], claims["kubernetes.io"]
        if self._uids.get(user) != bound["serviceaccount"]["uid"]:
            return {"authenticated": False, "error": "service account UID does not match"}
        namespace = bound["namespace"]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
        return {
            "authenticated": True,
            "audiences": [audience for audience in wanted if audience in claims["aud"]],
            "user": {
                "username": user,
                "uid": bound["serviceaccount"]["uid"],
                "groups": [*groups, "system:authenticated"],
                "extra": {"authentication.kubernetes.io/pod-name": [bound["pod"]["name"]]},
            },
        }


class TokenReviewServer:
    """The endpoint, over TLS with a CA of its own.

    Args:
        directory: takes the certificate files.
        accounts: whose tokens are reviewed.
        host: IPv4 address to listen on.
    """

    def __init__(
        self,
        directory: Path,
        accounts: ServiceAccounts | None = None,
        *,
        host: str = "127.0.0.1",
    ) -> None:
        self.accounts = accounts or ServiceAccounts()
        self.behaviour: Literal["answer", "hang"] | int = "answer"
        """``answer``; ``hang`` until changed; or a status to fail with, such as 403 or 500."""
        self.reviews = 0
        """Requests so far, failed ones included."""
        authority = Authority(directory, name="cluster CA")
        self.ca_pem = authority.ca_pem
        self._reviewer = self.accounts.create("vault", "reviewer")
        app = Starlette(routes=[Route(PATH, self._post, methods=["POST"])])
        tls = authority.issue("apiserver", ("localhost", host))
        self._served = ServedApp(app, tls=tls, host=host)
        self.address = self._served.address

    def reviewer_token(self, ttl: float = 86_400.0) -> SecretValue:
        """What OpenBao shows when it asks (``token_reviewer_jwt``)."""
        return self.accounts.issue("vault", "reviewer", ttl=ttl)

    def start(self) -> None:
        """Serve."""
        self._served.start()

    def stop(self) -> None:
        """End."""
        self.behaviour = "answer"
        self._served.stop()

    async def _post(self, request: Request) -> Response:
        self.reviews += 1
        while self.behaviour == "hang":
            await asyncio.sleep(0.05)
        if isinstance(self.behaviour, int):
            return _failure(self.behaviour, "failing on demand")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        reviewer = self.accounts.review(bearer, ())
        if not reviewer["authenticated"]:
            return _failure(401, "Unauthorized")
        if reviewer["user"]["username"] != self._reviewer:
            return _failure(403, "tokenreviews.authentication.k8s.io is forbidden")
        try:
            spec = (await request.json())["spec"]
            token, audiences = str(spec["token"]), list(spec.get("audiences") or ())
        except (ValueError, KeyError, TypeError):
            return _failure(400, "the body is no TokenReview")
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": spec,
            "status": self.accounts.review(token, audiences),
        }
        return JSONResponse(body, status_code=201)


def _failure(code: int, message: str) -> Response:
    body = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "message": message,
        "code": code,
    }
    return JSONResponse(body, status_code=code)
