"""What a caller may have."""

from __future__ import annotations

import pytest

from broker.access.authorizer import ListAuthorizer
from broker.access.caller import Caller, ClientSpec
from broker.credentials.model import CredentialKey
from broker.errors import CredentialUnknown

AUTHORIZER = ListAuthorizer(
    [ClientSpec("search", credentials=("web", "gone", "maps")), ClientSpec("idle")],
    ["web", "maps", "orders-db"],
)
SEARCH, IDLE, STRANGER = (Caller(name, "token") for name in ("search", "idle", "stranger"))


def test_a_listed_credential_is_allowed() -> None:
    """The key of the store comes back, the same object each time."""
    key = AUTHORIZER.authorize(SEARCH, "web", tool="")
    assert key == CredentialKey("web")
    assert AUTHORIZER.authorize(SEARCH, "web", tool="any") is key


@pytest.mark.parametrize(
    ("caller", "name", "reason"),
    [
        (SEARCH, "orders-db", "not_allowed"),
        (SEARCH, "nothing", "unknown"),
        (SEARCH, "gone", "unknown"),
        (SEARCH, "", "unknown"),
        (IDLE, "web", "not_allowed"),
        (STRANGER, "web", "not_allowed"),
    ],
)
def test_everything_else_is_unknown(caller: Caller, name: str, reason: str) -> None:
    """Outside one refusal, inside the true reason."""
    with pytest.raises(CredentialUnknown) as refusal:
        AUTHORIZER.authorize(caller, name, tool="")
    assert refusal.value.reason == reason
    assert str(refusal.value) == str(CredentialUnknown())


def test_a_caller_sees_what_it_may_have() -> None:
    """In a stable order; nobody sees anything by default."""
    assert AUTHORIZER.credentials(SEARCH) == (CredentialKey("maps"), CredentialKey("web"))
    assert AUTHORIZER.credentials(IDLE) == ()
    assert AUTHORIZER.credentials(STRANGER) == ()
