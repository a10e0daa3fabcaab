"""What a caller may have."""

from __future__ import annotations

import pytest

from broker.access.authorizer import ListAuthorizer
from broker.access.caller import ClientSpec
from broker.access.principal import Caller, Grant, Principal, narrow
from broker.credentials.model import CredentialKey
from broker.errors import CallerForbidden, CredentialUnknown, InsufficientScope

AUTHORIZER = ListAuthorizer(
    [ClientSpec("search", credentials=("web", "gone", "maps")), ClientSpec("idle")],
    ["web", "maps", "orders-db"],
)
SEARCH, IDLE, STRANGER = (
    Principal(Caller(name, "token")) for name in ("search", "idle", "stranger")
)


def test_a_listed_credential_is_allowed() -> None:
    """The key of the store comes back, the same object each time."""
    decision = AUTHORIZER.authorize(SEARCH, "web", tool="")
    assert decision.key == CredentialKey("web")
    assert decision.policies == ("clients.search",)
    assert decision.lasting
    assert AUTHORIZER.authorize(SEARCH, "web", tool="any") is decision


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
def test_everything_else_is_unknown(caller: Principal, name: str, reason: str) -> None:
    """Outside one refusal, inside the true reason."""
    with pytest.raises(CredentialUnknown) as refusal:
        AUTHORIZER.authorize(caller, name, tool="")
    assert refusal.value.reason == reason
    assert str(refusal.value) == str(CredentialUnknown())


async def test_a_caller_sees_what_it_may_have() -> None:
    """In a stable order; nobody sees anything by default."""
    assert await AUTHORIZER.credentials(SEARCH) == (CredentialKey("maps"), CredentialKey("web"))
    assert await AUTHORIZER.credentials(IDLE) == ()
    assert await AUTHORIZER.credentials(STRANGER) == ()
    assert AUTHORIZER.tools(SEARCH) is None


def test_a_client_with_a_list_may_call_any_tool() -> None:
    """One without may call none."""
    assert AUTHORIZER.authorize_tool(SEARCH, "web_search") == ("clients.search",)
    for nobody in (IDLE, STRANGER):
        with pytest.raises(CallerForbidden):
            AUTHORIZER.authorize_tool(nobody, "web_search")


def test_a_new_configuration_moves_the_generation() -> None:
    """Decisions that were said to last end with it."""
    authorizer = ListAuthorizer([ClientSpec("search", credentials=("web",))], ["web"])
    before = authorizer.generation
    authorizer.configure([ClientSpec("search")], ["web"])
    assert authorizer.generation != before
    with pytest.raises(CredentialUnknown):
        authorizer.authorize(SEARCH, "web", tool="")


GRANT = Grant("t1", "alice", "search", "", ("web_*",), ("web",), 0.0, 60.0)


@pytest.mark.parametrize(
    ("name", "tool", "refusal"),
    [
        ("web", "web_search", None),
        ("web", "map_search", InsufficientScope),
        ("web", "", InsufficientScope),
        ("maps", "web_search", CredentialUnknown),
    ],
)
def test_a_scoped_token_narrows(name: str, tool: str, refusal: type[Exception] | None) -> None:
    """To its tools, which must be named, and to its credentials."""
    if refusal is None:
        narrow(GRANT, name, tool)
        return
    with pytest.raises(refusal):
        narrow(GRANT, name, tool)


def test_the_missing_scope_is_named() -> None:
    """So that a client can ask for it."""
    with pytest.raises(InsufficientScope) as refusal:
        narrow(GRANT, "web", "drop table")
    assert refusal.value.scope == "tool:drop%20table"
