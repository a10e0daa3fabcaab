"""Every error the broker raises, as one tree.

Duty: name what can go wrong; say whether trying again can help and what a
person should do. Not its duty: status codes of the local API (``protocol.problems``).
Rules:

* foreign errors are mapped once, at the edge, with ``from``; nothing else
  leaves a package;
* ``code`` is stable and shown to users; ``retryable`` means the same call may
  succeed later without anybody changing anything; ``remedy`` is for a person;
* no message holds a secret, nor a body of unknown shape.

The tree (a test compares it with the classes)::

    BrokerError
    ├── SettingsError
    │   └── SettingsErrors
    ├── VaultError
    │   ├── VaultUnavailable
    │   │   ├── VaultUnreachable
    │   │   │   ├── VaultNameUnresolved
    │   │   │   └── VaultTimeout
    │   │   ├── VaultTlsFailed
    │   │   ├── VaultSealed
    │   │   ├── VaultStandby
    │   │   ├── VaultThrottled
    │   │   ├── VaultFailed
    │   │   └── VaultMalformed
    │   └── VaultRefused
    │       ├── VaultDenied
    │       ├── VaultNotFound
    │       ├── VaultValueDeleted
    │       ├── VaultInvalid
    │       ├── VaultConflict
    │       └── VaultLeaseExpired
    ├── LoginError
    │   ├── TokenFileUnusable
    │   ├── LoginFailed
    │   └── TokenUnfit
    ├── CredentialError
    │   ├── CredentialUnknown
    │   ├── CredentialUnavailable
    │   ├── CredentialMalformed
    │   └── ProofFailed
    ├── RotationError
    │   ├── RotationUnknown
    │   ├── RotationConflict
    │   ├── RotationFrozen
    │   ├── RotationRolledBack
    │   ├── RotationStateUnreadable
    │   ├── RotationKeyMissing
    │   └── UpstreamError
    │       ├── UpstreamUnavailable
    │       ├── UpstreamRefused
    │       └── UpstreamMalformed
    ├── KubernetesError
    │   ├── KubernetesUnavailable
    │   ├── KubernetesRefused
    │   ├── KubernetesNotFound
    │   └── KubernetesConflict
    ├── CallerError
    │   ├── CallerUnauthenticated
    │   ├── CallerForbidden
    │   │   ├── InsufficientScope
    │   │   └── SubjectTokenRefused
    │   └── TooManyRequests
    │       └── TooManyFailures
    ├── TokensUnavailable
    ├── TokenError
    │   ├── TokenUnknown
    │   ├── TokensExhausted
    │   └── RevocationFailed
    ├── RequestError
    │   ├── RequestMalformed
    │   ├── RequestTooLarge
    │   ├── HeadersTooLarge
    │   ├── RequestTooSlow
    │   ├── RequestMisdirected
    │   ├── RouteUnknown
    │   ├── MethodNotAllowed
    │   └── ReportConflict
    ├── ListenerUnusable
    ├── BrokerBusy
    ├── BrokerStopping
    ├── AuditUnavailable
    ├── AuditUnreadable
    ├── TaskEnded
    └── ClientError
        ├── BrokerUnreachable
        ├── BrokerAnswerInvalid
        ├── BearerRefused
        └── IssuerUnavailable
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class BrokerError(Exception):
    """Root of the tree.

    Args:
        message: one sentence for a person; never holds a secret.
        remedy: what to do, when this instance knows better than its class.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    remedy: str = "Report this with the request id; it is a fault of the broker."

    def __init__(self, message: str = "", *, remedy: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])
        if remedy is not None:
            self.remedy = remedy


# --- configuration -----------------------------------------------------------


class SettingsError(BrokerError):
    """The configuration cannot be used.

    Args:
        message: what is wrong.
        file: the file it stands in, or the environment variable.
        line: 1-based line, when known.
        key: dotted key, such as ``credentials.search-api.source.poll``.
        remedy: what to write instead.
    """

    code = "settings_invalid"
    remedy = "Correct the configuration and start again."

    def __init__(
        self,
        message: str,
        *,
        file: str = "",
        line: int | None = None,
        key: str = "",
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.message, self.file, self.line, self.key = message, file, line, key

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key, super().__str__()) if part)


class SettingsErrors(SettingsError):
    """The configuration cannot be used, for every reason in ``faults``.

    Args:
        faults: one error a fault, at least one, in the order of the file.
    """

    code = "settings_faults"

    def __init__(self, faults: Sequence[SettingsError]) -> None:
        super().__init__(f"{len(faults)} faults", file=faults[0].file, remedy=faults[0].remedy)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "; ".join(map(str, self.faults))


# --- Vault --------------------------------------------------------------------


class VaultError(BrokerError):
    """Vault could not do what was asked.

    Args:
        message: one sentence.
        reason: why, as a stable word, when Vault's answer tells more than its status:
            see ``vault.refusals``; ``broker check`` names the broken layer by it.
    """

    code = "vault_error"
    remedy = "See the broker's log for the request that failed."

    def __init__(self, message: str = "", *, remedy: str | None = None, reason: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class VaultUnavailable(VaultError):
    """Vault cannot answer now; the same request may succeed later."""

    code = "vault_unavailable"
    retryable = True
    remedy = "Nothing, if it passes; else look at Vault's own health."

    def __init__(
        self,
        message: str = "",
        *,
        remedy: str | None = None,
        retry_after: float | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy, reason=reason)
        self.retry_after = retry_after
        """Seconds Vault asked to wait (Retry-After), or None."""


class VaultUnreachable(VaultUnavailable):
    """No connection to Vault."""

    code = "vault_unreachable"
    remedy = "Check vault.address, the NetworkPolicy and the Vault Service."


class VaultNameUnresolved(VaultUnreachable):
    """The host name of Vault does not resolve."""

    code = "vault_name_unresolved"
    remedy = "Check the host in vault.address and the cluster's DNS."


class VaultTimeout(VaultUnreachable):
    """Vault did not answer within the deadline."""

    code = "vault_timeout"
    remedy = "Look at Vault's load and at the network between."


class VaultTlsFailed(VaultUnavailable):
    """The TLS handshake with Vault failed."""

    code = "vault_tls_failed"
    remedy = "Check vault.tls.ca_file, server_name and the dates of the certificates."


class VaultSealed(VaultUnavailable):
    """Vault is sealed."""

    code = "vault_sealed"
    remedy = "Unseal Vault; the broker goes on by itself."


class VaultStandby(VaultUnavailable):
    """This Vault node is a standby, or has no active node yet."""

    code = "vault_standby"
    remedy = "Point vault.address at the active node's Service, or wait for an election."


class VaultThrottled(VaultUnavailable):
    """Vault asks to slow down (429, a rate-limit quota)."""

    code = "vault_throttled"
    remedy = "Raise the rate-limit quota or lower vault.limits."


class VaultFailed(VaultUnavailable):
    """Vault answered with a server error."""

    code = "vault_failed"
    remedy = "Look at Vault's own log."


class VaultMalformed(VaultUnavailable):
    """Vault's answer is not what its API promises."""

    code = "vault_malformed"
    remedy = "Check that vault.address is a Vault and no proxy answers in its place."


class VaultRefused(VaultError):
    """Vault understood and refused; the same request will be refused again."""

    code = "vault_refused"
    remedy = "Correct the Vault policy, role or path."


class VaultDenied(VaultRefused):
    """Vault denied permission (403)."""

    code = "vault_denied"
    remedy = "Allow this path in the policy of the broker's Vault role."


class VaultNotFound(VaultRefused):
    """Nothing exists at this Vault path (404)."""

    code = "vault_not_found"
    remedy = "Check mount, path and KV version."


class VaultValueDeleted(VaultRefused):
    """The newest KV version was deleted or destroyed on purpose.

    Args:
        message: one sentence.
        version: number of that version, against which the next write checks; None when unknown.
    """

    code = "vault_value_deleted"
    remedy = "Write a new version, or undelete this one."

    def __init__(
        self,
        message: str = "",
        *,
        remedy: str | None = None,
        reason: str = "",
        version: int | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, reason=reason)
        self.version = version


class VaultInvalid(VaultRefused):
    """Vault calls the request invalid (400, 405)."""

    code = "vault_invalid"
    remedy = "Check the parameters of the source against the engine's API."


class VaultConflict(VaultRefused):
    """Somebody else wrote this KV secret first: check-and-set does not match."""

    code = "vault_conflict"
    remedy = "Read the newest version and decide again."


class VaultLeaseExpired(VaultRefused):
    """The lease is unknown to Vault: expired or revoked."""

    code = "vault_lease_expired"
    remedy = "Nothing: the broker takes out a new lease."


# --- login --------------------------------------------------------------------


class LoginError(BrokerError):
    """The broker has no usable Vault token."""

    code = "login_error"
    retryable = True
    remedy = "Run 'broker check': it names the failing layer."


class TokenFileUnusable(LoginError):
    """The token file is missing, empty, unreadable or not a token."""

    code = "token_file_unusable"
    remedy = "Check the projected volume and vault.auth.token_file."


class LoginFailed(LoginError):
    """Vault refused the login."""

    # OpenBao answers 403 for any trouble with TokenReview: retried like an outage.
    code = "login_failed"
    remedy = "Check role, bound service account, audience and Vault's TokenReview."


class TokenUnfit(LoginError):
    """The Vault token cannot serve a broker, such as one with a use limit."""

    code = "token_unfit"
    retryable = False
    remedy = "Set token_num_uses to 0 on the Vault role."


# --- credentials --------------------------------------------------------------


class CredentialError(BrokerError):
    """A credential cannot be handed out."""

    code = "credential_error"


class CredentialUnknown(CredentialError):
    """No such credential for this caller.

    Args:
        message: one sentence.
        reason: why, for the audit only; outside, unknown and not allowed look the same.
    """

    code = "credential_unknown"
    remedy = "Check the name, and the caller's list of credentials."

    def __init__(self, message: str = "", *, reason: str = "", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class CredentialUnavailable(CredentialError):
    """The credential has no usable value now.

    Args:
        message: one sentence.
        name: the credential.
        reason: code of the error behind it.
        since: Unix time since when, or None.
        next_attempt_at: Unix time of the next attempt, or None.
    """

    code = "credential_unavailable"
    retryable = True
    remedy = "Wait for the next attempt; see /readyz for the reason."

    def __init__(
        self,
        message: str = "",
        *,
        name: str = "",
        reason: str = "",
        since: float | None = None,
        next_attempt_at: float | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.name, self.reason = name, reason
        self.since, self.next_attempt_at = since, next_attempt_at


class CredentialMalformed(CredentialError):
    """The value in Vault lacks a field that the configuration names."""

    code = "credential_malformed"
    remedy = "Compare the keys in Vault with fields, use and expiry in the configuration."


class ProofFailed(CredentialError):
    """The upstream does not accept the new value."""

    code = "proof_failed"
    retryable = True
    remedy = "Check the key at the provider."


# --- rotation -------------------------------------------------------------------


class RotationError(BrokerError):
    """A rotation of an upstream key could not go on."""

    code = "rotation_error"
    remedy = "See 'broker rotation status'."


class RotationUnknown(RotationError):
    """No rotation is configured for this credential."""

    code = "rotation_unknown"
    remedy = "Configure a rotation for the credential, or check the name."


class RotationConflict(RotationError):
    """Another replica changed the rotation's state first."""

    code = "rotation_conflict"
    retryable = True
    remedy = "Nothing: the newest state is read and the step decided again."


class RotationFrozen(RotationError):
    """The rotation is frozen or pinned by an operator."""

    code = "rotation_frozen"
    remedy = "Run 'broker rotation unfreeze' when the key may change again."


class RotationRolledBack(RotationError):
    """The new key failed its proof; the old one stays."""

    code = "rotation_rolled_back"
    retryable = True
    remedy = "Look at the proof and at the provider; the broker tries again by itself."


class RotationStateUnreadable(RotationError):
    """The rotation's state is not a document this version understands."""

    code = "rotation_state_unreadable"
    remedy = "Update the broker, or restore the state's last good version in Vault."


class RotationKeyMissing(RotationError):
    """The provider does not list the key that readers have."""

    code = "rotation_key_missing"
    remedy = (
        "Somebody ended it at the provider, or Vault was restored from a backup older than the "
        "key: see 'broker rotation history', then 'broker rotate'."
    )


class UpstreamError(RotationError):
    """The provider of keys could not do what was asked."""

    code = "upstream_error"
    remedy = "See the provider's key management, and the driver's configuration."


class UpstreamUnavailable(UpstreamError):
    """The provider cannot answer now; the same request may succeed later."""

    code = "upstream_unavailable"
    retryable = True
    remedy = "Nothing, if it passes; else look at the provider's own health."

    def __init__(
        self,
        message: str = "",
        *,
        remedy: str | None = None,
        retry_after: float | None = None,
        unclear: bool = True,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after
        """Seconds the provider asked to wait (Retry-After), or None."""
        self.unclear = unclear
        """Whether it may have been done nevertheless; no with a 429 or without a connection."""


class UpstreamRefused(UpstreamError):
    """The provider understood and refused."""

    code = "upstream_refused"
    remedy = "Check the driver's authorization, its URL and its body template."


class UpstreamMalformed(UpstreamError):
    """The provider's answer is not what the driver's configuration says."""

    code = "upstream_malformed"
    remedy = "Compare the JSON pointers of the driver with the provider's API."


# --- Kubernetes -----------------------------------------------------------------


class KubernetesError(BrokerError):
    """The Kubernetes API could not do what was asked."""

    code = "kubernetes_error"
    remedy = "See the API server's answer and its audit log."


class KubernetesUnavailable(KubernetesError):
    """The Kubernetes API cannot answer now."""

    code = "kubernetes_unavailable"
    retryable = True
    remedy = "Nothing, if it passes; else check the API server's address, its CA and the network."


class KubernetesRefused(KubernetesError):
    """The Kubernetes API understood and refused."""

    code = "kubernetes_refused"
    remedy = (
        "Check the Role of the pod's service account: get, create and update of leases, create "
        "of events; and that the token's audience is the API server's."
    )


class KubernetesNotFound(KubernetesError):
    """The Kubernetes API knows no such object."""

    code = "kubernetes_not_found"
    remedy = "Check the namespace and the name."


class KubernetesConflict(KubernetesError):
    """Somebody else changed the object first."""

    code = "kubernetes_conflict"
    retryable = True
    remedy = "Nothing: the newest object is read and the step decided again."


# --- callers and requests -----------------------------------------------------


class CallerError(BrokerError):
    """The caller may not do this."""

    code = "caller_error"


class CallerUnauthenticated(CallerError):
    """The caller gave no proof of who it is, or a wrong one.

    Args:
        message: one sentence.
        reason: which proof failed, for the audit only.
        presented: a token was sent, so the challenge says ``invalid_token`` (RFC 6750).
    """

    code = "caller_unauthenticated"
    remedy = "Send the content of the client-token file as bearer; read it again after a 401."

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        presented: bool = False,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.reason, self.presented = reason, presented


class CallerForbidden(CallerError):
    """The caller is known but may not do this."""

    code = "caller_forbidden"
    remedy = "Ask the platform team to allow it in the broker's configuration."

    def __init__(self, message: str = "", *, reason: str = "", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason
        """Why, for the audit only."""


class InsufficientScope(CallerForbidden):
    """The scoped token is good, but not for this (RFC 6750 ``insufficient_scope``).

    Args:
        message: one sentence.
        scope: the scopes that would do, separated by spaces.
        reason: for the audit only.
    """

    code = "insufficient_scope"
    remedy = "Ask for a token with the scope that the answer names."

    def __init__(
        self,
        message: str = "",
        *,
        scope: str = "",
        reason: str = "",
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, reason=reason, remedy=remedy)
        self.scope = scope


class SubjectTokenRefused(CallerForbidden):
    """The scoped token is unknown, expired or revoked: which one, only the audit tells."""

    code = "subject_token_refused"
    remedy = "Get a new scoped token."


class TooManyRequests(CallerError):
    """The caller asked more often than it may.

    Args:
        message: one sentence.
        reason: which limit, for the audit only.
        retry_after: seconds until the next request is allowed; exact, not rounded.
    """

    code = "too_many_requests"
    retryable = True
    remedy = "Ask again after Retry-After; keep a value until its use_until instead of asking."

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        retry_after: float = 0.0,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.reason, self.retry_after = reason, retry_after


class TooManyFailures(TooManyRequests):
    """Too many authentications failed; a right proof is taken all the same."""

    code = "too_many_failures"
    remedy = "Read the client-token file again: a right token is never refused for this."


class TokensUnavailable(BrokerError):
    """Nobody can say now whether a scoped token is revoked, so none is good."""

    code = "tokens_unavailable"
    retryable = True
    remedy = "Wait until the broker can read the revocations in Vault again."


class TokenError(BrokerError):
    """A scoped token could not be made, found or revoked."""

    code = "token_error"
    remedy = "See docs/tokens.md."


class TokenUnknown(TokenError):
    """No such scoped token of this caller."""

    code = "token_unknown"
    remedy = "Check the id; tokens that have expired are gone."


class TokensExhausted(TokenError):
    """The caller has as many scoped tokens alive as one may have.

    Args:
        message: one sentence.
        next_attempt_at: Unix time at which the next one expires, or None.
    """

    code = "tokens_exhausted"
    retryable = True
    remedy = "Revoke tokens that are not needed, ask for shorter lives, or raise tokens.max_tokens."

    def __init__(
        self,
        message: str = "",
        *,
        next_attempt_at: float | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.next_attempt_at = next_attempt_at


class RevocationFailed(TokenError):
    """The revocation could not be written, so it may not be honoured anywhere."""

    code = "revocation_failed"
    retryable = True
    remedy = "Try again until it is confirmed; when there are too many, revoke by caller, or all."


class RequestError(BrokerError):
    """The request itself is wrong."""

    code = "request_error"
    remedy = "Correct the request; see the API's description."


class RequestMalformed(RequestError):
    """The request cannot be understood."""

    code = "request_malformed"


class RequestTooLarge(RequestError):
    """The body is too large."""

    code = "request_too_large"


class HeadersTooLarge(RequestError):
    """The request's headers are too large."""

    code = "headers_too_large"


class RequestTooSlow(RequestError):
    """The request did not arrive in time."""

    code = "request_too_slow"
    retryable = True
    remedy = "Send the request at once, headers and body."


class RequestMisdirected(RequestError):
    """The Host header does not name this listener."""

    code = "request_misdirected"
    remedy = "Call the broker as 127.0.0.1, [::1] or localhost."


class RouteUnknown(RequestError):
    """No such resource."""

    code = "route_unknown"


class MethodNotAllowed(RequestError):
    """This resource does not know this method.

    Args:
        message: one sentence.
        allow: the methods it knows, such as ``("GET",)``.
    """

    code = "method_not_allowed"

    def __init__(
        self, message: str = "", *, allow: tuple[str, ...] = (), remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.allow = allow


class ReportConflict(RequestError):
    """The report brought nothing newer than the reported version.

    Args:
        message: one sentence.
        version: the current version, which is the reported one.
        state: the credential's state after the report.
        next_attempt_at: Unix time of the next refresh, or None.
    """

    code = "report_conflict"
    retryable = True
    remedy = "Keep using what was handed out, or wait for the next version."

    def __init__(
        self,
        message: str = "",
        *,
        version: str = "",
        state: str = "",
        next_attempt_at: float | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.version, self.state = version, state
        self.next_attempt_at = next_attempt_at


# --- the process ----------------------------------------------------------------


class ListenerUnusable(BrokerError):
    """A socket of the local API cannot be had."""

    code = "listener_unusable"
    remedy = "Correct listeners in the configuration, or free the address."


class BrokerBusy(BrokerError):
    """As many connections or requests are open as one listener takes."""

    code = "broker_busy"
    retryable = True
    remedy = "Close connections that are not used, and try again."


class BrokerStopping(BrokerError):
    """The broker is stopping and begins nothing that waits."""

    code = "broker_stopping"
    retryable = True
    remedy = "Try again when the broker has started anew."


class AuditUnavailable(BrokerError):
    """The audit record could not be written, so nothing was handed out."""

    code = "audit_unavailable"
    retryable = True
    remedy = "Free the disk or the pipe that takes the audit records."


class AuditUnreadable(BrokerError):
    """An audit file cannot be read, so nothing can be said about it."""

    code = "audit_unreadable"
    remedy = "Check the path and who may read it: audit files have mode 0600."


class TaskEnded(BrokerError):
    """A task that should run for ever ended."""

    code = "task_ended"


# --- the client's side ------------------------------------------------------------


class ClientError(BrokerError):
    """The client could not get an answer it can use."""

    code = "client_error"


class BrokerUnreachable(ClientError):
    """No connection to the broker."""

    code = "broker_unreachable"
    retryable = True
    remedy = "Check BROKER_URL and that the broker runs in this pod."


class BrokerAnswerInvalid(ClientError):
    """The broker's answer is not what its API promises."""

    code = "broker_answer_invalid"
    remedy = "Check that BROKER_URL is a broker and the versions fit."


class BearerRefused(ClientError):
    """The agent's bearer is missing or not good; which one, only the log tells.

    Args:
        message: one sentence.
        reason: what is wrong with it, for the log.
    """

    code = "bearer_refused"
    remedy = "Get a new token for this MCP server from its authorization server."

    def __init__(self, message: str = "", *, reason: str = "", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class IssuerUnavailable(ClientError):
    """The keys of an issuer cannot be had, so nobody can say which of its tokens are good."""

    code = "issuer_unavailable"
    retryable = True
    remedy = "Check the issuer's address, its certificate, and the way to it."
