"""Problem documents: one table, nothing from inside."""

from __future__ import annotations

import json

import pytest

from broker import errors
from broker.errors import BrokerError
from broker.protocol.models import format_time
from broker.protocol.problems import (
    DEFAULT_RETRY_AFTER,
    LONGEST_RETRY_AFTER,
    TABLE,
    TYPE_PREFIX,
    problem_for,
    problem_type,
    read_problem,
)

WALL = 1_800_000_000.0
CANARY = "canary-7b1f"


def classes(root: type[BrokerError] = BrokerError) -> list[type[BrokerError]]:
    return [root, *(each for below in root.__subclasses__() for each in classes(below))]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.RequestMalformed(), 400),
        (errors.CallerUnauthenticated(), 401),
        (errors.CallerForbidden(), 403),
        (errors.CredentialUnknown(), 404),
        (errors.RouteUnknown(), 404),
        (errors.MethodNotAllowed(), 405),
        (errors.RequestTooSlow(), 408),
        (errors.ReportConflict(), 409),
        (errors.RequestTooLarge(), 413),
        (errors.RequestMisdirected(), 421),
        (errors.TooManyRequests(CANARY, reason=CANARY), 429),
        (errors.TooManyFailures(CANARY, reason=CANARY), 429),
        (errors.HeadersTooLarge(), 431),
        (errors.TaskEnded(), 500),
        (ValueError(CANARY), 500),
        (errors.VaultDenied(CANARY), 502),
        (errors.CredentialUnavailable(), 503),
        (errors.AuditUnavailable(CANARY), 503),
        (errors.VaultTimeout(CANARY), 503),
        (errors.LoginFailed(CANARY), 503),
        (errors.BrokerBusy(), 503),
        (errors.BrokerStopping(), 503),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_has_its_status_and_tells_nothing_from_inside(
    error: Exception, status: int
) -> None:
    """The status of issue and design; no text of an error that is not meant for clients."""
    problem = problem_for(error, request_id="r-1", wall=WALL)
    document = json.loads(problem.body())
    assert (problem.status, document["status"]) == (status, status)
    assert document["request_id"] == "r-1"
    assert document["type"] == TYPE_PREFIX + document["code"]
    assert document["remedy"]
    assert CANARY not in problem.body().decode()


@pytest.mark.parametrize("error", classes(), ids=lambda error: error.__name__)
def test_every_error_of_the_tree_has_a_line(error: type[BrokerError]) -> None:
    """Each class is found by itself or by its nearest ancestor; retrying agrees with the status."""
    kind = problem_type(error)
    assert kind.code in {ancestor.code for ancestor in error.__mro__ if hasattr(ancestor, "code")}
    if kind.status == 503:
        assert error.retryable or not kind.tells


def test_every_line_of_the_table_belongs_to_an_error() -> None:
    """No line is dead, and a status is an error's."""
    assert TABLE.keys() <= {error.code for error in classes()}
    assert all(400 <= kind.status <= 599 for kind in TABLE.values())


def test_unknown_and_not_allowed_look_the_same() -> None:
    """Nobody learns by the answer what exists."""
    bodies = {
        problem_for(errors.CredentialUnknown(text, reason=reason), request_id="r", wall=WALL).body()
        for text, reason in (("no such one", "unknown"), ("not yours", "not_allowed"))
    }
    assert len(bodies) == 1


def test_an_unavailable_credential_says_since_when_and_when_to_ask_again() -> None:
    """The document of a 503, whole."""
    error = errors.CredentialUnavailable(
        "search-api has no usable value.",
        name="search-api",
        reason="vault_sealed",
        since=WALL - 60,
        next_attempt_at=WALL + 7.2,
    )
    problem = problem_for(error, request_id="r-1", wall=WALL)
    assert problem.document() == {
        "type": "urn:mcp-secrets-broker:problem:credential_unavailable",
        "title": "The credential has no usable value now",
        "status": 503,
        "detail": "search-api has no usable value.",
        "code": "credential_unavailable",
        "request_id": "r-1",
        "remedy": errors.CredentialUnavailable.remedy,
        "retryable": True,
        "since": format_time(WALL - 60),
        "next_attempt_at": format_time(WALL + 7.2),
        "reason": "vault_sealed",
    }
    assert problem.headers == (("Retry-After", "8"),)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.CredentialUnavailable(next_attempt_at=WALL - 10), 1),
        (errors.CredentialUnavailable(next_attempt_at=WALL + 1e9), LONGEST_RETRY_AFTER),
        (errors.CredentialUnavailable(), DEFAULT_RETRY_AFTER),
        (errors.VaultThrottled(retry_after=17), 17),
        (errors.AuditUnavailable(), DEFAULT_RETRY_AFTER),
        (errors.TooManyRequests(retry_after=0.001), 1),
        (errors.TooManyRequests(retry_after=59.0), 59),
        (errors.TooManyRequests(retry_after=59.000001), 60),
        (errors.TooManyRequests(retry_after=86400.0), 86400),
    ],
)
def test_retry_after_is_whole_seconds_within_bounds(error: BrokerError, seconds: int) -> None:
    """At least one second, at most an hour but for our own limits, five when nobody knows."""
    assert problem_for(error, request_id="r", wall=WALL).retry_after == seconds


def test_nothing_known_is_null_rather_than_absent() -> None:
    """A client may read the two members of a 503 always."""
    document = problem_for(errors.CredentialUnavailable(), request_id="r", wall=WALL).document()
    assert (document["since"], document["next_attempt_at"]) == (None, None)


@pytest.mark.parametrize(
    ("presented", "challenge"),
    [
        (False, 'Bearer realm="mcp-secrets-broker"'),
        (True, 'Bearer realm="mcp-secrets-broker", error="invalid_token"'),
    ],
)
def test_a_401_carries_a_challenge(presented: bool, challenge: str) -> None:
    """RFC 6750: no error code for who sent nothing; the reason stays inside."""
    error = errors.CallerUnauthenticated(reason="token_of_another_client", presented=presented)
    problem = problem_for(error, request_id="r", wall=WALL)
    assert problem.headers == (("WWW-Authenticate", challenge),)
    assert b"another" not in problem.body()


def test_a_405_says_what_is_allowed() -> None:
    """RFC 9110 wants the Allow header."""
    error = errors.MethodNotAllowed(allow=("GET", "HEAD"))
    assert problem_for(error, request_id="r", wall=WALL).headers == (("Allow", "GET, HEAD"),)


def test_a_conflict_says_what_is_known() -> None:
    """The reporter learns version, state and the next refresh."""
    error = errors.ReportConflict(version="v1", state="suspect", next_attempt_at=WALL + 30)
    document = problem_for(error, request_id="r", wall=WALL).document()
    assert document["version"] == "v1"
    assert document["state"] == "suspect"
    assert document["next_attempt_at"] == format_time(WALL + 30)


@pytest.mark.parametrize(
    "error",
    [
        errors.CredentialUnavailable(reason="vault_sealed", since=WALL, next_attempt_at=WALL + 5),
        errors.ReportConflict(version="v1", state="suspect", next_attempt_at=WALL + 30),
        errors.CredentialUnknown(),
    ],
)
def test_what_is_written_can_be_read(error: BrokerError) -> None:
    """A client reads back the problem that the broker wrote."""
    written = problem_for(error, request_id="r-9", wall=WALL)
    retry_after = dict(written.headers).get("Retry-After", "")
    read = read_problem(json.loads(written.body()), status=written.status, retry_after=retry_after)
    assert read.document() == written.document()
    assert read.retry_after == written.retry_after


@pytest.mark.parametrize(
    "document",
    [None, [], "no", {"code": 7, "since": "soon", "retryable": "yes", "remedy": None}],
)
def test_anything_can_be_read(document: object) -> None:
    """What some proxy answered in the broker's place is a problem without a code."""
    problem = read_problem(document, status=502, retry_after="Wed, 21 Oct 2026 07:28:00 GMT")
    assert (problem.status, problem.kind.code, problem.retryable) == (502, "", False)
    assert (problem.since, problem.retry_after) == (None, None)


def test_an_unknown_code_keeps_its_status() -> None:
    """A newer broker may know errors that this client does not."""
    problem = read_problem({"code": "from_the_future", "title": "New"}, status=418)
    assert (problem.status, problem.kind.code, problem.kind.title) == (
        418,
        "from_the_future",
        "New",
    )
