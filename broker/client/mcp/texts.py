"""What a model reads when a credential is not to be had.

Duty: say what is missing, since when, and whether to try again.
Not its duty: raising it (``naming``); masking (``broker.client.redaction``).
Rules: no name of a file, a host or a path; no remedy either, since no model can follow it.
"""

from __future__ import annotations

from math import ceil

from broker.errors import BrokerError, CredentialUnavailable, TooManyRequests
from broker.protocol.models import format_time


def text_for_model(error: BrokerError, *, wall: float) -> str:
    """What a model can do something with: what is missing, since when, whether to try again.

    Args:
        error: from the client.
        wall: Unix time now.
    """
    if isinstance(error, TooManyRequests) and error.retry_after > 0:
        return f"{error} Trying again in {ceil(error.retry_after)} s can help."
    if not isinstance(error, CredentialUnavailable):
        return f"{error} {_again(error.retryable)}"
    parts = [f"The credential {error.name} is unavailable"]
    if error.since is not None:
        parts.append(f" since {format_time(error.since)}")
    parts.append(". ")
    if error.next_attempt_at is not None:
        seconds = max(0.0, error.next_attempt_at - wall)
        parts.append(
            f"The next attempt is in {seconds:.0f} s, at {format_time(error.next_attempt_at)}. "
        )
    return "".join(parts) + _again(error.retryable)


def _again(retryable: bool) -> str:
    return "Trying again later can help." if retryable else "Trying again will not help."
