"""``vault.responses`` and ``vault.refusals``: Vault's JSON as results and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import errors
from broker.errors import VaultError, VaultMalformed
from broker.secret import SecretValue
from broker.vault import responses
from broker.vault.refusals import refusal, retry_after
from broker.vault.responses import UNDER_A_SECOND, Answer

WALL = 1_800_000_000.0
CANARY = "canary-5up3r"

AUTH = {
    "client_token": CANARY,
    "accessor": "acc",
    "lease_duration": 60,
    "renewable": True,
    "token_type": "service",
    "num_uses": 0,
    "policies": ["default", "broker"],
}
INFO = {
    "accessor": "acc",
    "ttl": 60,
    "expire_time": "2026-11-22T13:02:54Z",
    "renewable": True,
    "type": "service",
    "num_uses": 0,
    "explicit_max_ttl": 90,
    "period": 30,
    "policies": ["default"],
}
METADATA = {
    "created_time": "2026-11-22T13:01:52Z",
    "custom_metadata": {"expires_at": "2027-01-01"},
    "deletion_time": "",
    "destroyed": False,
    "version": 3,
}
LEASE = {
    "lease_id": "database/creds/x/1",
    "lease_duration": 60,
    "renewable": True,
    "data": {"username": "u", "password": CANARY},
}
HEALTH = {"initialized": True, "sealed": False, "standby": False, "version": "2.7.2"}


def said(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode())


def revealed(data: Any) -> dict[str, str]:
    return {key: value.reveal() for key, value in data.items()}


class TestResults:
    """Good answers, as OpenBao 2.7.2 gives them."""

    def test_token_grant(self) -> None:
        """A login's ``auth`` becomes a grant that counts from ``sent_at``."""
        grant = responses.token_grant(said({"auth": AUTH}), 7.0)
        assert grant.token == SecretValue(CANARY)
        assert (grant.ttl, grant.renewable, grant.kind, grant.sent_at) == (60, True, "service", 7)
        assert grant.policies == ("default", "broker")

    def test_a_batch_token_has_no_accessor(self) -> None:
        """A batch token is known as one."""
        batch = {**AUTH, "token_type": "batch", "accessor": "", "renewable": False}
        grant = responses.token_grant(said({"auth": batch}), 0.0)
        assert (grant.kind, grant.accessor) == ("batch", "")

    def test_a_token_at_its_very_end_is_not_taken_for_one_that_never_expires(self) -> None:
        """Vault rounds a last half second down to 0, which for a root token means: never."""
        grant = responses.token_grant(said({"auth": {**AUTH, "lease_duration": 0}}), 0.0)
        assert grant.ttl == UNDER_A_SECOND
        dying = responses.token_info(said({"data": {**INFO, "ttl": 0}}), 0.0)
        assert dying.ttl == UNDER_A_SECOND
        root = responses.token_info(said({"data": {**INFO, "ttl": 0, "expire_time": None}}), 0.0)
        assert root.ttl == 0

    def test_token_info(self) -> None:
        """A look-up tells life, period, limit and uses."""
        info = responses.token_info(said({"data": INFO}), 1.0)
        assert (info.ttl, info.period, info.explicit_max_ttl, info.num_uses) == (60, 30, 90, 0)

    def test_kv2(self) -> None:
        """Version, metadata and values; what is no string is its JSON text."""
        data = {"a": CANARY, "n": 1, "f": 1.5, "b": True, "z": None, "o": {"x": ["ü", 1]}, "e": ""}
        value = responses.kv2_value(said({"data": {"data": data, "metadata": METADATA}}), 1.0)
        assert revealed(value.data) == {
            "a": CANARY,
            "n": "1",
            "f": "1.5",
            "b": "true",
            "z": "null",
            "o": '{"x":["ü",1]}',
            "e": "",
        }
        assert (value.version, value.created_time) == (3, "2026-11-22T13:01:52Z")
        assert value.custom_metadata == {"expires_at": "2027-01-01"}

    def test_kv1(self) -> None:
        """KV version 1 has values only."""
        value = responses.kv1_value(said({"data": {"k": "v"}, "lease_duration": 2764800}), 1.0)
        assert (revealed(value.data), value.version) == ({"k": "v"}, None)

    def test_lease_and_renewal(self) -> None:
        """A lease with its value; a renewal without."""
        lease = responses.lease_grant(said(LEASE), 1.0)
        assert (lease.lease_id, lease.duration, lease.renewable) == ("database/creds/x/1", 60, True)
        assert lease.data["password"] == SecretValue(CANARY)
        renewal = responses.lease_renewal(said({**LEASE, "lease_duration": 5, "data": None}), 1.0)
        assert renewal.duration == 5

    def test_a_path_without_a_lease(self) -> None:
        """An empty lease id says that there is none."""
        answer = said({"lease_id": "", "lease_duration": 0, "renewable": False, "data": {"a": "b"}})
        assert responses.lease_grant(answer, 0.0).lease_id == ""

    def test_months_are_no_problem(self) -> None:
        """Lives of months and years are read as they are."""
        lease = responses.lease_grant(said({**LEASE, "lease_duration": 20 * 365 * 86400}), 0.0)
        assert lease.duration == 20 * 365 * 86400

    def test_health(self) -> None:
        """Health is read whatever the status."""
        assert responses.health(said({**HEALTH, "sealed": True}, 503)).sealed

    def test_nothing_shows_a_secret(self) -> None:
        """Answers and results do not print what they hold."""
        answer = said(LEASE)
        assert CANARY not in repr(answer) + repr(responses.lease_grant(answer, 0.0))
        assert CANARY not in repr(responses.token_grant(said({"auth": AUTH}), 0.0))
        assert CANARY not in repr(responses.minted(said({"auth": AUTH})))


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


GRANT_CASES: list[object] = [
    without(AUTH, "client_token"),
    without(AUTH, "lease_duration"),
    without(AUTH, "renewable"),
    {**AUTH, "client_token": ""},
    {**AUTH, "client_token": 7},
    {**AUTH, "lease_duration": -1},
    {**AUTH, "lease_duration": "60"},
    {**AUTH, "lease_duration": 60.5},
    {**AUTH, "lease_duration": True},
    {**AUTH, "lease_duration": None},
    {**AUTH, "lease_duration": 10**30},
    {**AUTH, "renewable": 1},
    {**AUTH, "token_type": "other"},
    {**AUTH, "num_uses": -1},
    {**AUTH, "policies": "root"},
    {**AUTH, "policies": [1]},
    None,
    [],
    CANARY,
]


class TestMalformed:
    """What is not as promised is an error, and not quoted."""

    @pytest.mark.parametrize("auth", GRANT_CASES)
    def test_token_grant(self, auth: object) -> None:
        """A grant with any field missing or wrong is no grant."""
        with pytest.raises(VaultMalformed) as caught:
            responses.token_grant(said({"auth": auth}), 0.0)
        assert CANARY not in str(caught.value)

    @pytest.mark.parametrize(
        ("read", "document"),
        [
            (responses.token_info, {"data": {**INFO, "ttl": -1}}),
            (responses.token_info, {"data": {**INFO, "period": "1h"}}),
            (responses.token_info, {"data": {**INFO, "explicit_max_ttl": 1.5}}),
            (responses.token_info, {"data": None}),
            (responses.lease_grant, {**LEASE, "lease_duration": "1m"}),
            (responses.lease_grant, {**LEASE, "lease_id": None}),
            (responses.lease_grant, {**LEASE, "data": None}),
            (responses.lease_grant, {**LEASE, "data": ["a"]}),
            (responses.lease_renewal, {**LEASE, "lease_id": ""}),
            (responses.lease_renewal, {**LEASE, "renewable": "true"}),
            (responses.kv1_value, {"data": None}),
            (responses.kv2_value, {"data": {"data": {}, "metadata": {**METADATA, "version": 0}}}),
            (responses.kv2_value, {"data": {"data": {}, "metadata": {**METADATA, "version": "3"}}}),
            (responses.kv2_value, {"data": {"data": [], "metadata": METADATA}}),
            (responses.kv2_value, {"data": {"data": None, "metadata": METADATA}}),
            (
                responses.kv2_value,
                {"data": {"data": {}, "metadata": {**METADATA, "custom_metadata": {"a": 1}}}},
            ),
            (lambda answer, _: responses.health(answer), {**HEALTH, "sealed": "no"}),
        ],
    )
    def test_other_results(self, read: Callable[[Answer, float], object], document: object) -> None:
        """So with every other result."""
        with pytest.raises(VaultMalformed):
            read(said(document), 0.0)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b'"x"',
            b"{",
            b"<html>",
            b"\xff{}",
            b'{"a": NaN}',
            b'{"a": Infinity}',
            b'{"a": 1e999}',
            b'{"a": ' + b"9" * 5000 + b"}",
            b'{"a":' * 50_000,
        ],
    )
    def test_bodies(self, body: bytes) -> None:
        """A body that is not one JSON object, in numbers a computer knows, is not read."""
        with pytest.raises(VaultMalformed) as caught:
            responses.document(Answer(200, body))
        assert caught.value.__context__ is None

    @settings(max_examples=50)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from([*AUTH, *INFO, *METADATA, *LEASE, "auth", "metadata"]), inner
                )
            ),
            max_leaves=10,
        )
    )
    def test_no_document_raises_anything_else(self, document: Any) -> None:
        """Whatever JSON arrives, reading it gives a result or a ``VaultError``."""
        answer = said(document)
        for read in (
            responses.token_grant,
            responses.token_info,
            responses.kv1_value,
            responses.kv2_value,
            responses.lease_grant,
            responses.lease_renewal,
        ):
            try:
                read(answer, 0.0)
            except VaultError:
                continue
        assert isinstance(refusal(said(document, 404), "x", wall=WALL), VaultError)
        assert isinstance(refusal(said(document, 400), "x", wall=WALL), VaultError)
        responses.minted(answer)


class TestKvVersions:
    """A mount of the other KV version is told apart."""

    def test_version_1_read_as_2(self) -> None:
        """A path ``data/...`` of a version 1 mount answers without a version."""
        with pytest.raises(errors.VaultNotFound) as caught:
            responses.kv2_value(said({"data": {"data": {"k": "v"}}}), 0.0)
        assert "version: 1 in source" in caught.value.remedy

    def test_version_2_read_as_1(self) -> None:
        """A path ``data/...`` read as version 1 brings the frame of version 2."""
        with pytest.raises(errors.VaultInvalid) as caught:
            responses.kv1_value(said({"data": {"data": {"k": "v"}, "metadata": METADATA}}), 0.0)
        assert "version: 2 in source" in caught.value.remedy

    def test_version_1_may_hold_the_same_names(self) -> None:
        """A version 1 value with fields ``data`` and ``metadata`` of its own is a value."""
        value = responses.kv1_value(said({"data": {"data": "a", "metadata": "b"}}), 0.0)
        assert revealed(value.data) == {"data": "a", "metadata": "b"}

    def test_version_2_mount_asked_as_1(self) -> None:
        """Vault warns of the versioned engine in a 404 without errors."""
        warning = "Invalid path for a versioned K/V secrets engine. See the API docs"
        error = refusal(said({"data": None, "warnings": [warning]}, 404), "read", wall=WALL)
        assert isinstance(error, errors.VaultNotFound)
        assert "version: 2 in source" in error.remedy

    @pytest.mark.parametrize(
        "metadata",
        [{**METADATA, "deletion_time": "2026-11-22T13:01:52Z"}, {**METADATA, "destroyed": True}],
    )
    def test_a_withdrawn_version(self, metadata: object) -> None:
        """Deleted and destroyed versions answer 404 with their metadata."""
        body = {"data": {"data": None, "metadata": metadata}}
        error = refusal(said(body, 404), "read", wall=WALL)
        assert isinstance(error, errors.VaultValueDeleted)
        with pytest.raises(errors.VaultValueDeleted):
            responses.kv2_value(said(body), 0.0)

    def test_a_deletion_that_is_still_to_come(self) -> None:
        """With ``delete_version_after`` the time of deletion lies ahead: the value is there."""
        metadata = {**METADATA, "deletion_time": "2099-01-01T00:00:00Z"}
        body = {"data": {"data": {"k": "v"}, "metadata": metadata}}
        assert revealed(responses.kv2_value(said(body), 0.0).data) == {"k": "v"}


# status, Vault's words, the error, a word of the remedy
REFUSALS = [
    (400, "lease not found", errors.VaultLeaseExpired, ""),
    (400, "lease expired", errors.VaultLeaseExpired, ""),
    (400, "lease is not renewable", errors.VaultInvalid, "new lease"),
    (400, 'invalid role name "x"', errors.VaultInvalid, "vault.auth.role"),
    (400, "unknown role: x", errors.VaultInvalid, "last part"),
    (
        400,
        "failed to renew entry: err: past the max TTL, cannot renew",
        errors.VaultInvalid,
        "anew",
    ),
    (500, "1 error occurred: past the max TTL, cannot renew", errors.VaultInvalid, "anew"),
    (400, "missing jwt", errors.VaultInvalid, ""),
    (400, "Upgrading from non-versioned to versioned data.", errors.VaultFailed, ""),
    (401, "no", errors.VaultDenied, ""),
    (403, "1 error occurred:\n\t* permission denied\n\n", errors.VaultDenied, "policy"),
    (403, "namespace not authorized", errors.VaultDenied, "bound_service_account_namespaces"),
    (403, "service account name not authorized", errors.VaultDenied, "bound_service_account_names"),
    (403, "invalid audience (aud) claim", errors.VaultDenied, "audience"),
    (404, 'no handler for route "x/y". route entry not found.', errors.VaultNotFound, "mounted"),
    (404, "namespace not found", errors.VaultNotFound, "vault.namespace"),
    (405, "1 error occurred:\n\t* unsupported operation\n\n", errors.VaultInvalid, "method"),
    (412, "required index state not present", errors.VaultFailed, ""),
    (429, 'request path "x": rate limit quota exceeded', errors.VaultThrottled, ""),
    (472, "", errors.VaultStandby, ""),
    (473, "", errors.VaultStandby, ""),
    (500, "local node not active but active cluster node not found", errors.VaultStandby, ""),
    (500, "could not load backend configuration", errors.VaultFailed, "not configured"),
    (500, f"cannot connect to postgres://u:{CANARY}@db", errors.VaultFailed, ""),
    (503, "Vault is sealed", errors.VaultSealed, ""),
    (503, "OpenBao is sealed", errors.VaultSealed, ""),
    (503, "something else", errors.VaultFailed, ""),
    (304, "what", VaultMalformed, ""),
]


class TestRefusals:
    """What Vault says when it says no."""

    @pytest.mark.parametrize(("status", "words", "expected", "remedy"), REFUSALS)
    def test_in_vaults_words(
        self, status: int, words: str, expected: type[VaultError], remedy: str
    ) -> None:
        """Status and known words choose the error and its remedy; nothing is quoted."""
        error = refusal(said({"errors": [words]}, status), "read of a/b", wall=WALL)
        assert type(error) is expected
        assert remedy in error.remedy
        assert str(error).startswith("read of a/b: HTTP ")
        assert CANARY not in str(error)

    def test_a_login_page_in_place_of_vault(self) -> None:
        """Refusals are believed in Vault's own form only."""
        for status in (400, 401, 403, 404, 405):
            error = refusal(Answer(status, b"<html>no</html>"), "read", wall=WALL)
            assert isinstance(error, VaultMalformed)
            assert error.retryable
            error = refusal(said({"message": "no"}, status), "read", wall=WALL)
            assert not isinstance(error, errors.VaultDenied | errors.VaultInvalid)

    def test_plain_http_to_a_tls_port(self) -> None:
        """Go's answer to plain HTTP on a TLS port says what to change."""
        body = b"Client sent an HTTP request to an HTTPS server.\n"
        error = refusal(Answer(400, body), "read", wall=WALL)
        assert isinstance(error, errors.VaultTlsFailed)
        assert "https://" in error.remedy

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("0", 0.0),
            ("2", 2.0),
            ("1.5", 1.5),
            (" 30 ", 30.0),
            (formatdate(WALL + 90, usegmt=True), 90.0),
            (formatdate(WALL - 90, usegmt=True), 0.0),
            (formatdate(WALL + 90), 90.0),
            ("3601", None),
            ("-1", None),
            ("nan", None),
            ("1e400", None),
            ("tomorrow", None),
            ("Sun, 99 Nov 2026 13:01:53 GMT", None),
            ("", None),
        ],
    )
    def test_retry_after(self, value: str, expected: float | None) -> None:
        """Seconds or a date; nonsense and more than an hour count as nothing."""
        answer = Answer(429, b"", {"retry-after": value})
        assert retry_after(answer, wall=WALL) == expected

    def test_retry_after_reaches_every_unavailability(self) -> None:
        """A 503 may say when, too."""
        answer = Answer(503, b'{"errors": ["x"]}', {"retry-after": "4"})
        error = refusal(answer, "read", wall=WALL)
        assert isinstance(error, errors.VaultUnavailable)
        assert error.retry_after == 4


class TestMinted:
    """What an answer has created is found even when it cannot be used."""

    @pytest.mark.parametrize(
        ("document", "token", "lease_id"),
        [
            ({"auth": AUTH}, CANARY, ""),
            ({"auth": {**AUTH, "lease_duration": "x"}}, CANARY, ""),
            (LEASE, None, "database/creds/x/1"),
            ({**LEASE, "data": None}, None, "database/creds/x/1"),
            ({"auth": {"client_token": ""}, "lease_id": ""}, None, ""),
            ({"auth": [], "lease_id": 7}, None, ""),
            ([], None, ""),
        ],
    )
    def test_minted(self, document: object, token: str | None, lease_id: str) -> None:
        """A token or a lease id, whatever else the answer holds."""
        found = responses.minted(said(document))
        assert (found.token.reveal() if found.token else None, found.lease_id) == (token, lease_id)
        assert bool(found) == bool(token or lease_id)
