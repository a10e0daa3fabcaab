"""The generated driver beside other writers, and without a Vault token."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from random import Random

import pytest

from broker.errors import UpstreamUnavailable, VaultConflict, VaultDenied, VaultUnavailable
from broker.rotation.drivers.generated import ATTEMPTS, GeneratedDriver, KeyForm
from broker.rotation.model import KvPath, Label
from tests.simulators.clock import VirtualClock
from tests.simulators.session import SessionByHand
from tests.simulators.vault import VaultSimulator

pytestmark = pytest.mark.looptime

LABEL = Label("here", "billing", "r1")
PATH = "billing/accepted"


class House:
    """A driver over a simulated Vault."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.vault = VaultSimulator(self.clock)
        self.session = SessionByHand(self.vault)
        self.driver = GeneratedDriver(
            KeyForm("api_key", prefix="bill-"),
            KvPath("secret", PATH),
            publish="sha256",
            vault=self.vault,
            session=self.session,
            clock=self.clock,
            rng=Random(1),
            proof=None,
        )

    def accepted(self) -> Mapping[str, object]:
        secret = self.vault.server.kv.backup(PATH)
        return secret.versions[-1].data if secret else {}


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        (KeyForm("k"), r"[A-Za-z0-9]{43}"),
        (KeyForm("k", "sk-", 22, "hex"), r"sk-[0-9a-f]{22}"),
    ],
)
def test_the_form_of_a_key(form: KeyForm, pattern: str) -> None:
    """Prefix, length and alphabet are as configured, and no two keys are alike."""
    rng = Random(1)
    made = [form.make(rng).reveal() for _ in range(50)]

    assert all(re.fullmatch(pattern, key) for key in made)
    assert Counter(made).most_common(1)[0][1] == 1


async def test_the_service_sees_the_digest_under_the_keys_id() -> None:
    """Nothing that can be used as a key is published, and other entries stay."""
    house = House()
    house.session.log_in()
    house.vault.server.kv.put(PATH, {"by-hand": "abc"})

    key = await house.driver.create(LABEL)

    text = key.fields["api_key"].reveal()
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert house.accepted() == {"by-hand": "abc", key.key_id: digest}
    assert {(one.key_id, one.label) for one in await house.driver.list()} == {
        ("by-hand", "by-hand"),
        (key.key_id, LABEL.text),
    }


async def test_writers_at_the_same_time_lose_nothing() -> None:
    """A check-and-set conflict is answered by reading again."""
    house = House()
    house.session.log_in()
    house.vault.latency[""] = 0.1

    keys = await asyncio.gather(*(house.driver.create(LABEL) for _ in range(3)))
    await asyncio.gather(*(house.driver.retire(key.key_id) for key in keys[:2]))

    assert list(house.accepted()) == [keys[2].key_id]
    outcomes = [call.outcome for call in house.vault.calls if call.operation == "kv_write"]
    assert outcomes.count("ok") == 5
    assert len(outcomes) > 5


async def test_a_path_that_never_rests_is_given_up() -> None:
    """Somebody who writes all the time is no reason to spin."""
    house = House()
    house.session.log_in()
    house.vault.fail(VaultConflict(), operation="kv_write")

    with pytest.raises(UpstreamUnavailable):
        await house.driver.create(LABEL)

    assert sum(call.operation == "kv_write" for call in house.vault.calls) == ATTEMPTS


async def test_retiring_what_is_gone_writes_nothing() -> None:
    """A repeated retirement makes no version."""
    house = House()
    house.session.log_in()
    key = await house.driver.create(LABEL)
    await house.driver.retire(key.key_id)
    before = len(house.vault.calls)

    await house.driver.retire(key.key_id)

    assert [call.operation for call in house.vault.calls[before:]] == ["kv_read"]


async def test_a_dead_token_is_replaced_once() -> None:
    """A 403 because the token died is tried again with a new one."""
    house = House()
    house.session.log_in()
    house.vault.server.revoke(house.vault.server.live_tokens()[-1])

    await house.driver.create(LABEL)

    assert house.session.denials == 1


async def test_a_refusal_of_the_path_is_told() -> None:
    """The driver's caller learns that the policy lacks the path."""
    house = House()
    house.session.log_in()
    house.vault.server.deny(f"secret/data/{PATH}")

    with pytest.raises(VaultDenied):
        await house.driver.create(LABEL)


async def test_without_a_token_or_without_vault_it_may_be_tried_again() -> None:
    """Both are temporary."""
    house = House()
    with pytest.raises(UpstreamUnavailable):
        await house.driver.list()
    house.session.log_in()
    house.vault.outage()
    with pytest.raises(VaultUnavailable):
        await house.driver.list()
