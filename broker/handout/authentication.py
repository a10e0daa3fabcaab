"""Who asks: the caller, its scoped token, and what failures cost.

Duty: authenticate a request; record each refusal, a flood of failures together.
Not its duty: proofs (``access.caller``), tokens (``access.tokens``), what one may have
(``service``).
Rule: an error of any kind while authenticating is a refusal.
"""

from __future__ import annotations

from broker.access.caller import Callers
from broker.access.failed_authentications import peer
from broker.access.principal import Principal, SubjectTokens
from broker.errors import CallerUnauthenticated, TooManyFailures
from broker.handout.ports import Failures, Recorder
from broker.handout.records import Records
from broker.handout.request import Request


class Authentication:
    """Says who asks.

    Args:
        callers: identifies clients.
        tokens: verifies scoped tokens.
        failures: bounds what failed authentications cost.
        records: takes the refusals.
        metrics: counts those over the limit.
    """

    def __init__(
        self,
        callers: Callers,
        tokens: SubjectTokens,
        failures: Failures,
        records: Records,
        metrics: Recorder,
    ) -> None:
        self._callers, self._tokens, self._failures = callers, tokens, failures
        self._records, self._metrics = records, metrics

    def authenticate(
        self,
        bearer: str | bytes | None,
        peer_uid: int | None,
        socket_client: str | None,
        request: Request,
        subject_token: bytes | None,
    ) -> Principal:
        """See ``HandoutService.authenticate``."""
        caller = None
        try:  # not ``refusals``: this is the hot path, and a context manager costs a microsecond
            caller = self._callers.authenticate(bearer, peer_uid, socket_client)
            if subject_token is None:
                return Principal(caller)
            return Principal(caller, self._tokens.verify(subject_token, caller))
        except CallerUnauthenticated as error:
            raise self._failure(error, socket_client, request) from None
        except Exception as error:
            principal = None if caller is None else Principal(caller)
            self._records.refusal(error, request, principal=principal, name="")
            raise

    def _failure(
        self, error: CallerUnauthenticated, socket_client: str | None, request: Request
    ) -> CallerUnauthenticated | TooManyFailures:
        """What a failed authentication is answered with; recorded, a flood of them together."""
        who = peer(socket_client, request.peer_uid, request.address)
        seconds = self._failures.failed(who)
        if not seconds:
            self._records.refusal(error, request, principal=None, name="")
            return error
        refusal = TooManyFailures(reason=error.reason, retry_after=seconds)
        self._metrics.failure_limited()
        count = self._failures.to_record(who)
        if count:
            self._records.refusal(refusal, request, principal=None, name="", count=count)
        return refusal
