"""Vault as a provider: one call with whatever token is good now.

Duty: the token; one retry when it had died. Not its duty: what is called (the drivers).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from broker.clock import Clock
from broker.errors import LoginError, UpstreamUnavailable, VaultDenied
from broker.secret import SecretValue
from broker.vault.interface import ChangePort, SessionPort, VaultPort

PATIENCE: Final = 10.0
"""Seconds a call waits for a usable Vault token."""

T = TypeVar("T")


class Port(VaultPort, ChangePort, Protocol):
    """Both ports to Vault."""


async def with_token(
    session: SessionPort, clock: Clock, call: Callable[[SecretValue], Awaitable[T]]
) -> T:
    """``call`` with the current Vault token; once more with a newer one when that one had died.

    Raises:
        UpstreamUnavailable: there is no usable token now.
        VaultError: of ``call``.
    """
    try:
        generation = await session.ready(clock.now() + PATIENCE)
    except LoginError as error:
        raise UpstreamUnavailable(
            "The broker has no usable Vault token now.", unclear=False
        ) from error
    try:
        return await call(generation.token)
    except VaultDenied:
        newer = await session.denied(generation)
        if newer is None:
            raise
        return await call(newer.token)
