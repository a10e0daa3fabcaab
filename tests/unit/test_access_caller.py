"""Who is calling: every combination of proofs."""

from __future__ import annotations

from hashlib import sha256

import pytest

from broker.access.caller import Callers, ClientSpec
from broker.access.principal import Caller, Proof
from broker.errors import CallerUnauthenticated, SettingsError
from tests.simulators.clock import ManualClock

OWN_UID = 65532
SEARCH = ClientSpec("search", proof="token")
ORDERS = ClientSpec("orders", proof="uid", uid=1001)
BILLING = ClientSpec("billing", proof="token_and_uid", uid=1002)


def digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def callers(clock: ManualClock) -> Callers:
    """Three clients, each with a token of its own, whatever proves it."""
    callers = Callers(clock, [SEARCH, ORDERS, BILLING], own_uid=OWN_UID)
    for name in ("search", "orders", "billing"):
        callers.accept(name, digest(f"{name}-token"))
    return callers


@pytest.mark.parametrize(
    ("bearer", "uid", "socket", "who"),
    [
        ("search-token", None, None, "search"),
        (b"search-token", None, None, "search"),
        ("search-token", 5, "search", "search"),
        (None, 1001, "orders", "orders"),
        ("orders-token", 1001, "orders", "orders"),
        ("billing-token", 1002, "billing", "billing"),
    ],
)
def test_a_right_proof_names_its_client(
    callers: Callers, bearer: str | bytes | None, uid: int | None, socket: str | None, who: str
) -> None:
    """Token, uid, or both, where the client's configuration asks for it."""
    assert callers.authenticate(bearer, uid, socket).name == who


@pytest.mark.parametrize(
    ("bearer", "uid", "socket", "reason", "presented"),
    [
        (None, None, None, "no_proof", False),
        (None, 1001, None, "no_proof", False),
        ("wrong", None, None, "token_unknown", True),
        ("", None, None, "token_unknown", True),
        ("\udcff", None, None, "token_unknown", True),
        (b"\xff", None, None, "token_unknown", True),
        (None, 5, "search", "token_missing", False),
        ("billing-token", 5, "search", "token_of_another_client", True),
        ("search-token", 1001, "orders", "token_of_another_client", True),
        ("wrong", 1001, "orders", "token_unknown", True),
        (None, 1002, "orders", "uid_wrong", False),
        (None, None, "orders", "uid_wrong", False),
        ("orders-token", 1001, None, "not_on_own_socket", True),
        (None, 1002, "billing", "token_missing", False),
        ("billing-token", 1001, "billing", "uid_wrong", True),
        ("billing-token", None, None, "not_on_own_socket", True),
        (None, 1001, "nobody", "client_unknown", False),
        ("search-token", 1001, "nobody", "token_of_another_client", True),
    ],
)
def test_anything_else_is_nobody(
    callers: Callers,
    bearer: str | bytes | None,
    uid: int | None,
    socket: str | None,
    reason: str,
    presented: bool,
) -> None:
    """No proof, a wrong one, or a right one in the wrong place: the audit learns which."""
    with pytest.raises(CallerUnauthenticated) as refusal:
        callers.authenticate(bearer, uid, socket)
    assert (refusal.value.reason, refusal.value.presented) == (reason, presented)


def test_the_caller_says_how_it_was_proved(callers: Callers) -> None:
    """For ``whoami``."""
    assert callers.authenticate(None, 1001, "orders") == Caller("orders", "uid")


def test_a_replaced_token_is_good_for_the_overlap(callers: Callers, clock: ManualClock) -> None:
    """Both tokens are taken during the overlap, then only the new one."""
    callers.accept("search", digest("new"), overlap=30.0)
    assert callers.authenticate("search-token", None, None).name == "search"
    assert callers.authenticate("new", None, None).name == "search"
    clock.advance(30.0)
    with pytest.raises(CallerUnauthenticated) as refusal:
        callers.authenticate("search-token", None, None)
    assert refusal.value.reason == "token_replaced"
    assert callers.authenticate("new", None, None).name == "search"


def test_replacing_often_neither_lengthens_an_overlap_nor_grows(
    callers: Callers, clock: ManualClock
) -> None:
    """A token's end is set once; what has ended is forgotten at the next replacement."""
    for number in range(10):
        callers.accept("search", digest(f"new-{number}"), overlap=30.0)
        clock.advance(10.0)
    for token in ("search-token", "new-0", "new-6"):
        with pytest.raises(CallerUnauthenticated):
            callers.authenticate(token, None, None)
    assert callers.authenticate("new-7", None, None).name == "search"
    assert callers.authenticate("billing-token", 1002, "billing").name == "billing"
    assert len(callers._tokens) == 2 + 4


def test_a_new_configuration_keeps_the_tokens_of_those_who_stay(callers: Callers) -> None:
    """A client that is gone loses its token at once; another's changed proof counts at once."""
    callers.configure([ClientSpec("search", proof="token_and_uid", uid=7), BILLING])
    with pytest.raises(CallerUnauthenticated):
        callers.authenticate("orders-token", 1001, "orders")
    with pytest.raises(CallerUnauthenticated):
        callers.authenticate("search-token", None, None)
    assert callers.authenticate("search-token", 7, "search").proof == "token_and_uid"


@pytest.mark.parametrize("proof", ["uid", "token_and_uid"])
@pytest.mark.parametrize(("uid", "says"), [(None, "needs a uid"), (OWN_UID, "the broker's own")])
def test_a_uid_that_proves_nothing_is_a_start_up_error(
    proof: Proof, uid: int | None, says: str
) -> None:
    """No uid, or the broker's own, where the uid is the proof."""
    spec = ClientSpec("orders", proof=proof, uid=uid)
    with pytest.raises(SettingsError, match=says):
        Callers(ManualClock(), [spec], own_uid=OWN_UID)


def test_a_bad_configuration_changes_nothing(callers: Callers) -> None:
    """After a refused reload everybody is who he was."""
    with pytest.raises(SettingsError):
        callers.configure([ClientSpec("orders", proof="uid", uid=OWN_UID)])
    assert callers.authenticate("search-token", None, None).name == "search"
