"""Answers of the broker that are none, as errors [pure].

Duty: problem document in, an error of the tree out.
Not its duty: asking again (``core``).
Rule: what the broker says is told on; a status that nobody expected is named, never guessed at.
"""

from __future__ import annotations

from broker.client.steps import Reply
from broker.errors import (
    BrokerAnswerInvalid,
    BrokerError,
    CallerForbidden,
    CallerUnauthenticated,
    CredentialUnavailable,
    CredentialUnknown,
    InsufficientScope,
    RouteUnknown,
    SubjectTokenRefused,
    TokensUnavailable,
    TooManyFailures,
    TooManyRequests,
)
from broker.protocol.problems import read_problem


def refusal(reply: Reply, name: str, wall: float) -> BrokerError:
    """The error that a refusal is.

    Args:
        reply: any but a good one.
        name: the credential that was asked for.
        wall: Unix time now.
    """
    problem = read_problem(
        reply.document(), status=reply.status, retry_after=reply.headers.get("retry-after", "")
    )
    remedy = problem.remedy or None
    if reply.status == 401:
        return CallerUnauthenticated("The broker does not know this caller.", remedy=remedy)
    if problem.kind.code == InsufficientScope.code:
        return InsufficientScope(problem.detail, scope=problem.scope, remedy=remedy)
    if problem.kind.code == SubjectTokenRefused.code:
        return SubjectTokenRefused(remedy=remedy)
    if problem.kind.code == TokensUnavailable.code:
        return TokensUnavailable(remedy=remedy)
    if reply.status == 403:
        return CallerForbidden(f"This caller may not have {name} for this.", remedy=remedy)
    if reply.status == 429:
        kind = TooManyFailures if problem.kind.code == TooManyFailures.code else TooManyRequests
        return kind(
            f"The broker was asked for {name} too often.",
            retry_after=float(problem.retry_after or 0),
            remedy=remedy,
        )
    # A name that cannot stand in a path leads to no route at all.
    if problem.kind.code in {CredentialUnknown.code, RouteUnknown.code}:
        return CredentialUnknown(f"There is no credential {name} for this caller.", remedy=remedy)
    if reply.status == 503 and problem.kind.code:
        next_attempt_at = problem.next_attempt_at
        if next_attempt_at is None and problem.retry_after is not None:
            next_attempt_at = wall + problem.retry_after
        return CredentialUnavailable(
            problem.detail or f"{name} has no usable value now.",
            name=name,
            reason=problem.reason or problem.kind.code,
            since=problem.since,
            next_attempt_at=next_attempt_at,
            remedy=remedy,
        )
    return BrokerAnswerInvalid(
        f"The broker answered {reply.status} {problem.kind.code or 'without saying why'}."
    )


def is_unknown(reply: Reply) -> bool:
    """Whether the broker did not know the client token; too many such answers become a 429."""
    if reply.status == 429:
        return read_problem(reply.document(), status=429).kind.code == TooManyFailures.code
    return reply.status == 401
