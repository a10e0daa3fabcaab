"""The redactor keeps step with what is live: values, what they were made of, Vault tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.app.masking import MEMORY, Masking
from broker.credentials.model import CredentialKey, CredentialSpec, Entry, KvSource, State
from broker.credentials.sources import kv_snapshot
from broker.protocol.redaction import Redactor
from broker.secret import SecretValue
from broker.vault.generation import Generation
from broker.vault.interface import KvValue
from tests.simulators.clock import ManualClock

KEY = CredentialKey("orders-db")
SOURCE = KvSource("secret", "orders")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
def masking(clock: ManualClock, redactor: Redactor) -> Masking:
    return Masking(clock, redactor)


def entry(password: str, **fields: str) -> Entry:
    value = KvValue({"password": SecretValue(password)}, 0.0)
    spec = CredentialSpec(KEY, SOURCE, fields=fields)
    return Entry(KEY, State.FRESH, kv_snapshot(spec, SOURCE, value, version=password))


def test_a_published_value_is_masked_and_so_is_what_it_was_made_of(
    masking: Masking, redactor: Redactor
) -> None:
    """A DSN is handed out; its password alone, as Vault has it, is masked as well."""
    masking.published(None, entry("p@ss-word-1", dsn="postgresql://u:{password}@orders/db"))
    assert redactor.mask("postgresql://u:p%40ss-word-1@orders/db") == "***"
    assert redactor.mask("password 'p@ss-word-1' failed") == "password '***' failed"


def test_a_replaced_value_stays_masked_for_a_while(
    masking: Masking, redactor: Redactor, clock: ManualClock
) -> None:
    """Old values are in flight and in late errors: they go after MEMORY, and not before."""
    first, second, third = (entry(f"password-{n}") for n in (1, 2, 3))
    masking.published(None, first)
    masking.published(first, second)
    clock.advance(MEMORY - 1)
    masking.published(second, third)
    assert redactor.mask("password-1 password-2 password-3") == "*** *** ***"
    clock.advance(1)
    masking.published(third, entry("password-4"))
    assert redactor.mask("password-1 password-2 password-3") == "password-1 *** ***"


def test_a_value_that_is_confirmed_is_not_learned_twice(
    masking: Masking, redactor: Redactor, clock: ManualClock
) -> None:
    """Polls that bring nothing new leave the count as it is."""
    held = entry("password-1")
    assert held.snapshot is not None
    masking.published(None, held)
    confirmed = replace(held, snapshot=replace(held.snapshot, validated_at=60.0))
    masking.published(held, confirmed)
    gone = Entry(KEY, State.WITHDRAWN)
    masking.published(confirmed, gone)
    clock.advance(MEMORY)
    masking.published(gone, entry("password-2"))
    assert redactor.mask("password-1") == "password-1"


def test_the_vault_token_is_masked(
    masking: Masking, redactor: Redactor, clock: ManualClock
) -> None:
    """Each generation's token, and the one before it for a while."""
    one, two = (
        Generation(n, SecretValue(f"s.token-number-{n}"), 900.0, renewable=True) for n in (1, 2)
    )
    masking.token(None)
    masking.token(one)
    masking.token(one)
    masking.token(two)
    assert redactor.mask("s.token-number-1 s.token-number-2") == "*** ***"
    clock.advance(MEMORY)
    masking.published(None, entry("password-1"))
    assert redactor.mask("s.token-number-1 s.token-number-2") == "s.token-number-1 ***"
