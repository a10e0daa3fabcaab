"""The exit codes of the ``broker`` command.

Duty: one number for each kind of end, and which error means which.
Not its duty: messages. docs/configuration.md shows this table; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from broker.errors import (
    AuditUnreadable,
    CallerError,
    ClientError,
    CredentialError,
    LoginError,
    RequestError,
    RotationError,
    SettingsError,
    TokenError,
    TokensUnavailable,
    VaultError,
)


class ExitCode(IntEnum):
    """How a command ended: sysexits.h where it fits; from 128 on a signal, as usual."""

    OK = 0
    DENIED = 1
    USAGE = 64
    CREDENTIAL = 65
    NO_INPUT = 66
    BROKER = 68
    VAULT = 69
    FAULT = 70
    TOKEN = 73
    ROTATION = 75
    AUDIT = 76
    LOGIN = 77
    SETTINGS = 78


MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "Done. `broker run`: stopped in order after SIGTERM or SIGINT.",
    ExitCode.DENIED: "`broker policy explain`: it is refused. `broker policy test`: a case "
    "does not hold.",
    ExitCode.USAGE: "Wrong arguments.",
    ExitCode.CREDENTIAL: "`broker check`: a credential, or what replicas share of scoped tokens, "
    "cannot be read: policy, mount, path, value.",
    ExitCode.NO_INPUT: "`broker audit verify`, `broker explain`: a file cannot be read, or no "
    "record names the request.",
    ExitCode.BROKER: "`broker rotate`, `broker rotation`, `broker token`: no broker answers at the "
    "admin socket, or not as one.",
    ExitCode.VAULT: "Vault cannot be reached or is not ready: name, network, TLS, sealed.",
    ExitCode.FAULT: "The process could not go on: an address is taken, a task ended unasked, or "
    "a fault of the broker itself.",
    ExitCode.TOKEN: "`broker token`: not done: wrong or refused, unknown, too many, not confirmed.",
    ExitCode.ROTATION: "`broker rotate`, `broker rotation`: not done: rolled back, frozen, "
    "unknown, no outcome in time.",
    ExitCode.AUDIT: "`broker audit verify`: a record was edited, dropped, inserted or moved, or "
    "the recorded head is not there.",
    ExitCode.LOGIN: "Vault gave no token that will do: token file, audience, role, TokenReview.",
    ExitCode.SETTINGS: "The configuration cannot be used; every fault is on standard error.",
}


def exit_code(error: BaseException) -> ExitCode:
    """The exit code that an error ends a command with."""
    for kind, code in (
        (SettingsError, ExitCode.SETTINGS),
        (LoginError, ExitCode.LOGIN),
        (CredentialError, ExitCode.CREDENTIAL),
        (VaultError, ExitCode.VAULT),
        (RotationError, ExitCode.ROTATION),
        (TokenError, ExitCode.TOKEN),
        (TokensUnavailable, ExitCode.TOKEN),
        (CallerError, ExitCode.TOKEN),
        (RequestError, ExitCode.TOKEN),
        (ClientError, ExitCode.BROKER),
        (AuditUnreadable, ExitCode.NO_INPUT),
    ):
        if isinstance(error, kind):
            return code
    return ExitCode.FAULT
