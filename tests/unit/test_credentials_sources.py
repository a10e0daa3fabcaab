"""From Vault's results to snapshots: fields, expiry, sameness."""

from __future__ import annotations

import pytest

from broker.credentials.model import (
    CredentialKey,
    CredentialSpec,
    KvExpiry,
    KvSource,
    LeasedSource,
    Use,
)
from broker.credentials.sources import (
    assemble,
    kv_snapshot,
    leased_snapshot,
    parse_expiry,
    placeholders,
    same_value,
)
from broker.errors import CredentialMalformed
from broker.secret import SecretValue
from broker.vault.generation import Generation
from broker.vault.interface import KvValue, LeaseGrant

KEY = CredentialKey("search-api")


def kv(**data: str) -> KvValue:
    return KvValue({k: SecretValue(v) for k, v in data.items()}, sent_at=10.0, version=3)


def spec(source: KvSource | LeasedSource, **more: object) -> CredentialSpec:
    return CredentialSpec(key=KEY, source=source, **more)  # type: ignore[arg-type]


def revealed(data: object) -> dict[str, str]:
    assert isinstance(data, dict)
    return {name: value.reveal() for name, value in data.items()}


def test_fields_encode_what_they_put_into_a_url() -> None:
    """A password with reserved characters cannot change what the URL means."""
    data = {"username": SecretValue("v-user"), "password": SecretValue("p@ss/w:rd?#")}
    fields = {"dsn": "postgresql://{username}:{password}@orders/db", "user": "{username}"}
    assert revealed(assemble(fields, data)) == {
        "dsn": "postgresql://v-user:p%40ss%2Fw%3Ard%3F%23@orders/db",
        "user": "v-user",
    }


def test_fields_outside_urls_are_verbatim_and_braces_can_be_written() -> None:
    """Only URLs are encoded, and doubled braces stand for braces."""
    assembled = assemble({"json": '{{"key": "{api_key}"}}'}, {"api_key": SecretValue("a/b")})
    assert revealed(assembled) == {"json": '{"key": "a/b"}'}


def test_a_missing_key_is_named_without_any_value() -> None:
    """The message names the key that is absent and repeats no value."""
    with pytest.raises(CredentialMalformed) as caught:
        assemble({"dsn": "{username}:{password}"}, {"username": SecretValue("canary-u")})
    assert "'password'" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("template", ["{", "}", "{}", "{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{0}"])
def test_a_placeholder_is_a_plain_name(template: str) -> None:
    """Anything but a name in braces is refused, so that no template reaches into objects."""
    with pytest.raises(ValueError):
        placeholders(template)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1800000000", 1_800_000_000.0),
        ("2027-01-15T08:00:00Z", 1_800_000_000.0),
        ("2027-01-15T08:00:00.123456789+00:00", 1_800_000_000.123456),
        ("2027-01-15T10:00:00+02:00", 1_800_000_000.0),
    ],
)
def test_an_expiry_is_a_date_with_a_zone_or_unix_time(text: str, expected: float) -> None:
    """Both spellings name the same instant."""
    assert parse_expiry(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "soon", "2027-01-15T08:00:00", "nan", "-1", "inf", "1800000000000"]
)
def test_an_unclear_expiry_is_malformed(text: str) -> None:
    """No zone is guessed and no nonsense is taken for eternity."""
    with pytest.raises(CredentialMalformed):
        parse_expiry(text)


def test_an_unclear_expiry_is_not_held_on_to() -> None:
    """It may be a key, when the wrong field was configured: no error below ours quotes it."""
    with pytest.raises(CredentialMalformed) as told:
        parse_expiry("canary-key-1")
    assert told.value.__context__ is None
    assert "canary" not in repr(told.value)


def test_a_kv_expiry_comes_from_a_field_or_from_custom_metadata() -> None:
    """Either place works, less the skew allowance."""
    by_field = KvSource("secret", "s", expiry=KvExpiry("field", "until", skew=30))
    snapshot = kv_snapshot(spec(by_field), by_field, kv(api_key="k", until="1000"), version="v")
    assert snapshot.own_expiry_wall == 970.0

    source = KvSource("secret", "s", expiry=KvExpiry("custom_metadata", "until", skew=0))
    value = KvValue({"k": SecretValue("v")}, 1.0, 1, custom_metadata={"until": "1000"})
    assert kv_snapshot(spec(source), source, value, version="v").own_expiry_wall == 1000.0


def test_a_configured_expiry_that_is_absent_is_malformed() -> None:
    """A key whose end should be known is not handed out as one without an end."""
    source = KvSource("secret", "s", expiry=KvExpiry("custom_metadata", "until"))
    with pytest.raises(CredentialMalformed, match="until"):
        kv_snapshot(spec(source), source, kv(api_key="k"), version="v")


def test_use_must_name_a_field_that_is_there() -> None:
    """A value the client could not place is refused here, not at the first tool call."""
    source = KvSource("secret", "s")
    with pytest.raises(CredentialMalformed, match="'api_key'"):
        kv_snapshot(
            spec(source, use=Use(name="x-api-key", field="api_key")),
            source,
            kv(key="k"),
            version="v",
        )


def test_a_lease_is_bound_to_its_generation_and_counts_from_the_sending() -> None:
    """Its life starts before the request was sent and ends with the token."""
    generation = Generation(1, SecretValue("t"), expires_at=50.0, renewable=True)
    grant = LeaseGrant({"username": SecretValue("u")}, "lease/1", 60.0, renewable=True, sent_at=10)
    snapshot = leased_snapshot(spec(LeasedSource("db/creds/x")), grant, generation, version="v")
    assert snapshot.lease is not None
    assert snapshot.lease.expires_at == 70.0
    assert snapshot.expires_at(now=20, wall=0) == 50.0


@pytest.mark.parametrize(("lease_id", "duration"), [("", 60.0), ("lease/1", 0.0)])
def test_an_answer_without_a_lease_or_life_is_malformed(lease_id: str, duration: float) -> None:
    """A static answer under kind leased is said to be so."""
    generation = Generation(1, SecretValue("t"), expires_at=50.0, renewable=True)
    grant = LeaseGrant({"u": SecretValue("u")}, lease_id, duration, renewable=True, sent_at=10)
    with pytest.raises(CredentialMalformed):
        leased_snapshot(spec(LeasedSource("db/creds/x")), grant, generation, version="v")


def test_the_same_version_number_with_other_data_is_not_the_same() -> None:
    """A path that was destroyed and written anew starts again at version 1."""
    source = KvSource("secret", "s")
    one = kv_snapshot(spec(source), source, kv(k="a"), version="1")
    assert same_value(one, kv_snapshot(spec(source), source, kv(k="a"), version="2"))
    assert not same_value(one, kv_snapshot(spec(source), source, kv(k="b"), version="3"))
