"""Why Vault, which answers, gives no token [pure].

Duty: an error of the login, and the claims of the service-account token, to a diagnosis.
Not its duty: the other layers (``diagnosis``); logging in (``check``).
Rules:

* claims are read without checking the token's signature: good enough to explain a
  refusal, never to grant anything;
* OpenBao says 403 "permission denied" to any trouble between it and TokenReview, and where
  no auth method is mounted: what remains when all else looks right is TokenReview.

Sources: RFC 7519; https://developer.hashicorp.com/vault/docs/auth/kubernetes,
https://openbao.org/docs/auth/kubernetes/ ; the answers were compared with OpenBao 2.7.2.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass

from broker.app.diagnosis import Diagnosis, Layer, of_connection, span
from broker.errors import (
    BrokerError,
    TokenFileUnusable,
    TokenUnfit,
    VaultError,
    VaultTimeout,
    VaultUnavailable,
)
from broker.secret import SecretValue
from broker.settings.domain import AuthSettings


@dataclass(frozen=True, slots=True)
class Claims:
    """What a service-account token says of itself, unverified (RFC 7519)."""

    subject: str = ""
    audiences: tuple[str, ...] = ()
    expires_wall: float | None = None
    """Unix time."""


def claims(token: SecretValue) -> Claims | None:
    """Read the claims of a JWT without verifying it; None when it is none."""
    try:
        part = token.reveal().split(".")[1]
        body = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, IndexError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    audience, expiry = body.get("aud"), body.get("exp")
    listed = [audience] if isinstance(audience, str) else audience
    return Claims(
        subject=_plain(body.get("sub", "")),
        audiences=tuple(map(_plain, listed)) if isinstance(listed, list) else (),
        expires_wall=float(expiry) if isinstance(expiry, int | float) else None,
    )


def _plain(claim: object) -> str:
    """A claim for a terminal: whoever wrote the file may have put anything into it."""
    return re.sub(r"[^\x20-\x7e]", "?", str(claim))[:200]


def of_login(
    error: BrokerError,
    auth: AuthSettings,
    *,
    token: Claims | None,
    wall: float,
    mount_exists: bool | None = None,
) -> Diagnosis:
    """Why Vault, which answers, gives no token.

    Args:
        error: of the login; the refusal of Vault is its cause.
        auth: how the broker logs in.
        token: claims of the service-account token; None when there are none to read.
        wall: Unix time.
        mount_exists: whether a kubernetes auth method stands at the mount; None: unknown.
    """
    if isinstance(error, TokenFileUnusable):
        return Diagnosis(Layer.TOKEN, str(error), error.remedy)
    if isinstance(error, TokenUnfit):
        return Diagnosis(Layer.ROLE, str(error), error.remedy)
    cause = error.__cause__ if isinstance(error.__cause__, VaultError) else error
    reason = cause.reason if isinstance(cause, VaultError) else ""
    if auth.method == "token_file" and not isinstance(cause, VaultUnavailable):
        return Diagnosis(Layer.VAULT_TOKEN, str(error), error.remedy)
    where = f"auth/{auth.mount}"
    if isinstance(cause, VaultTimeout) or reason == "token_review":
        return _token_review(f"Vault answers, but not to a login at {where}")
    if isinstance(cause, VaultUnavailable):
        return of_connection(cause)
    if reason == "role":
        return Diagnosis(
            Layer.ROLE,
            f"there is no role {auth.role} at {where}",
            f"Correct vault.auth.role, or create the role: {where}/role/{auth.role}.",
        )
    if reason in {"service_account", "service_account_namespace"}:
        bound = {"service_account": "names", "service_account_namespace": "namespaces"}[reason]
        who = token.subject if token and token.subject else "this service account"
        return Diagnosis(
            Layer.ROLE,
            f"role {auth.role} at {where} is not for {who}",
            f"Add it to the role's bound_service_account_{bound}.",
        )
    if reason == "not_configured" or mount_exists is False:
        what = "not configured" if reason == "not_configured" else "no kubernetes auth method"
        return Diagnosis(
            Layer.AUTH_MOUNT,
            f"{where} is {what}" if mount_exists is not False else f"there is {what} at {where}",
            "Correct vault.auth.mount or vault.namespace, or set the auth method up there.",
        )
    return _of_token(auth, token, wall, reason) or _token_review(
        f"the login at {where} is refused, though token, audience and role look right"
    )


def _of_token(
    auth: AuthSettings, token: Claims | None, wall: float, reason: str
) -> Diagnosis | None:
    """What is wrong with the service-account token by its own claims and Vault's word."""
    if token is None:
        return Diagnosis(
            Layer.TOKEN,
            f"{auth.token_file} holds no service-account token",
            "Check the projected volume and vault.auth.token_file.",
        )
    expired = token.expires_wall is not None and token.expires_wall <= wall
    if expired or reason == "expired":
        ago = (
            ""
            if not expired or token.expires_wall is None
            else (f" {span(wall - token.expires_wall)} ago")
        )
        return Diagnosis(
            Layer.TOKEN,
            f"the service-account token in {auth.token_file} expired{ago}",
            "The kubelet replaces a projected token in time: use a projected volume, not a copy; "
            "and compare the clocks of this node and of Vault.",
        )
    listed = ", ".join(token.audiences) or "none"
    if auth.audience and auth.audience not in token.audiences:
        return Diagnosis(
            Layer.AUDIENCE,
            f"the service-account token is for {listed}, not for {auth.audience}",
            f"Set audience: {auth.audience} in the projected serviceAccountToken.",
        )
    if reason == "audience":
        return Diagnosis(
            Layer.AUDIENCE,
            f"the service-account token is for {listed}, and role {auth.role} asks for another",
            "Make the audience of the projected serviceAccountToken, the role's audience and "
            "vault.auth.audience the same.",
        )
    return None


def _token_review(sentence: str) -> Diagnosis:
    return Diagnosis(
        Layer.TOKEN_REVIEW,
        f"{sentence}: Vault could not have the service-account token reviewed, or was told no",
        "In the auth method's config check kubernetes_host, kubernetes_ca_cert and "
        "token_reviewer_jwt; its reviewer needs the ClusterRole system:auth-delegator; and this "
        "service account must still exist.",
    )
