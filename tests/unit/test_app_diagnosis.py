"""Which layer is broken: a table of failures with the sentence a person gets."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from broker.app import diagnosis, diagnosis_login
from broker.app.diagnosis import Layer
from broker.app.diagnosis_login import Claims
from broker.errors import (
    BrokerError,
    CredentialMalformed,
    LoginFailed,
    TokenFileUnusable,
    TokenUnfit,
    VaultDenied,
    VaultError,
    VaultFailed,
    VaultInvalid,
    VaultMalformed,
    VaultNameUnresolved,
    VaultNotFound,
    VaultSealed,
    VaultStandby,
    VaultThrottled,
    VaultTimeout,
    VaultTlsFailed,
    VaultUnreachable,
    VaultValueDeleted,
)
from broker.secret import SecretValue
from broker.settings.domain import AuthSettings, SourceSettings
from broker.vault.interface import MountInfo

WALL = 1_800_000_000.0
AUTH = AuthSettings(role="tools", audience="vault")
ACCOUNT = "system:serviceaccount:mcp:search"
GOOD = Claims(ACCOUNT, ("vault",), WALL + 3600)
KV = SourceSettings(kind="kv", mount="secret", path="mcp/search")
KV1 = replace(KV, kv_version=1)
LEASED = SourceSettings(kind="leased", path="database/creds/orders")


@pytest.mark.parametrize(
    ("error", "layer"),
    [
        (VaultNameUnresolved(), Layer.NAME),
        (VaultUnreachable(), Layer.NETWORK),
        (VaultTimeout(), Layer.NETWORK),
        (VaultTlsFailed(), Layer.TLS),
        (VaultSealed(), Layer.VAULT),
        (VaultStandby(), Layer.VAULT),
        (VaultThrottled(), Layer.VAULT),
        (VaultFailed(), Layer.VAULT),
        (VaultMalformed(), Layer.VAULT),
        (VaultDenied(), Layer.VAULT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, VaultError) else "",
)
def test_connection(error: VaultError, layer: Layer) -> None:
    """Each way of not being heard has its layer, with the error's own words."""
    found = diagnosis.of_connection(error)

    assert (found.layer, found.sentence, found.remedy) == (layer, str(error), error.remedy)


def refused(cause: BrokerError) -> LoginFailed:
    error = LoginFailed("Vault refused the login")
    error.__cause__ = cause
    return error


LOGINS = {
    "no token file": (TokenFileUnusable("no file"), None, Layer.TOKEN, "no file"),
    "limited token": (TokenUnfit("3 uses"), GOOD, Layer.ROLE, "3 uses"),
    "unknown role": (
        refused(VaultInvalid(reason="role")),
        GOOD,
        Layer.ROLE,
        "no role tools at auth/kubernetes",
    ),
    "other account": (
        refused(VaultDenied(reason="service_account")),
        GOOD,
        Layer.ROLE,
        f"is not for {ACCOUNT}",
    ),
    "other namespace": (
        refused(VaultDenied(reason="service_account_namespace")),
        Claims(),
        Layer.ROLE,
        "is not for this service account",
    ),
    "said to be expired": (
        refused(VaultDenied(reason="expired")),
        GOOD,
        Layer.TOKEN,
        "expired",
    ),
    "expired by its claims": (
        refused(VaultDenied()),
        replace(GOOD, expires_wall=WALL - 7200),
        Layer.TOKEN,
        "expired 2h ago",
    ),
    "no claims": (refused(VaultDenied()), None, Layer.TOKEN, "holds no service-account token"),
    "other audience than configured": (
        refused(VaultDenied()),
        replace(GOOD, audiences=("api", "other")),
        Layer.AUDIENCE,
        "is for api, other, not for vault",
    ),
    "no audience": (
        refused(VaultDenied()),
        replace(GOOD, audiences=()),
        Layer.AUDIENCE,
        "is for none, not for vault",
    ),
    "other audience than the role's": (
        refused(VaultDenied(reason="audience")),
        GOOD,
        Layer.AUDIENCE,
        "role tools asks for another",
    ),
    "method not set up": (
        refused(VaultInvalid(reason="not_configured")),
        GOOD,
        Layer.AUTH_MOUNT,
        "auth/kubernetes is not configured",
    ),
    "nothing to see": (refused(VaultDenied()), GOOD, Layer.TOKEN_REVIEW, "look right"),
    "review named": (VaultFailed(reason="token_review"), GOOD, Layer.TOKEN_REVIEW, "not to a"),
    "hanging login": (VaultTimeout(), GOOD, Layer.TOKEN_REVIEW, "Vault answers, but"),
    "sealed meanwhile": (VaultSealed(), GOOD, Layer.VAULT, "sealed"),
}


@pytest.mark.parametrize(("error", "token", "layer", "words"), LOGINS.values(), ids=LOGINS.keys())
def test_login(error: BrokerError, token: Claims | None, layer: Layer, words: str) -> None:
    """Each refusal of a login is explained by Vault's reason, then by the token's claims."""
    found = diagnosis_login.of_login(error, AUTH, token=token, wall=WALL)

    assert found.layer == layer
    assert words in found.sentence
    assert found.remedy


def test_login_where_no_method_is_mounted() -> None:
    """A 403 without a kubernetes auth method at the mount is about the mount."""
    found = diagnosis_login.of_login(
        refused(VaultDenied()), AUTH, token=GOOD, wall=WALL, mount_exists=False
    )

    assert found.layer == Layer.AUTH_MOUNT
    assert found.sentence == "there is no kubernetes auth method at auth/kubernetes"


def test_login_with_a_dead_given_token() -> None:
    """With a token by file there is no TokenReview to suspect."""
    auth = AuthSettings(method="token_file", token_file="/token")

    found = diagnosis_login.of_login(refused(VaultDenied()), auth, token=None, wall=WALL)

    assert found.layer == Layer.VAULT_TOKEN


CREDENTIALS = {
    "denied": (VaultDenied(), KV, None, Layer.POLICY, "read on secret/data/mcp/search"),
    "denied, KV 1": (VaultDenied(), KV1, None, Layer.POLICY, "read on secret/mcp/search"),
    "denied, lease": (VaultDenied(), LEASED, None, Layer.POLICY, "read on database/creds/orders"),
    "denied, written": (
        VaultDenied(),
        replace(LEASED, method="write"),
        None,
        Layer.POLICY,
        "update on database/creds/orders",
    ),
    "denied for the version": (
        VaultDenied(),
        KV1,
        MountInfo("kv", 2),
        Layer.KV_VERSION,
        "is KV version 2, the configuration says 1",
    ),
    "absent for the version": (
        VaultNotFound(),
        KV,
        MountInfo("kv", 1),
        Layer.KV_VERSION,
        "is KV version 1, the configuration says 2",
    ),
    "told by a warning": (
        VaultNotFound(reason="kv_version"),
        KV1,
        None,
        Layer.KV_VERSION,
        "not KV version 1",
    ),
    "absent": (VaultNotFound(), KV, MountInfo("kv", 2), Layer.PATH, "nothing at secret/data/mcp"),
    "absent, nothing known": (VaultNotFound(), KV, None, Layer.PATH, "nothing at secret/data"),
    "no mount": (VaultNotFound(reason="no_mount"), KV, None, Layer.MOUNT, "mounted at secret"),
    "no mount, lease": (
        VaultNotFound(reason="no_mount"),
        LEASED,
        None,
        Layer.MOUNT,
        "mounted at database",
    ),
    "no namespace": (VaultNotFound(reason="no_namespace"), KV, None, Layer.MOUNT, "nothing is"),
    "another engine": (
        VaultNotFound(),
        KV,
        MountInfo("database"),
        Layer.MOUNT,
        "a mount of database",
    ),
    "unknown engine role": (
        VaultInvalid(reason="engine_role"),
        LEASED,
        None,
        Layer.PATH,
        "does not know database/creds/orders",
    ),
    "wrong method": (VaultInvalid(reason="method"), LEASED, None, Layer.ENGINE, "refuses"),
    "database away": (VaultFailed(), LEASED, None, Layer.ENGINE, "engine behind database/creds"),
    "Vault fails": (VaultFailed(), KV, None, Layer.VAULT, "server error"),
    "Vault gone": (VaultUnreachable(), KV, None, Layer.NETWORK, "No connection"),
    "withdrawn": (VaultValueDeleted(), KV, MountInfo("kv", 2), Layer.VALUE, "deleted"),
    "field absent": (CredentialMalformed("needs key"), KV, None, Layer.VALUE, "needs key"),
    "ours": (BrokerError("odd"), KV, None, Layer.BROKER, "odd"),
}


@pytest.mark.parametrize(
    ("error", "source", "mount", "layer", "words"), CREDENTIALS.values(), ids=CREDENTIALS.keys()
)
def test_credential(
    error: BrokerError, source: SourceSettings, mount: MountInfo | None, layer: Layer, words: str
) -> None:
    """Each failed read is put on policy, mount, KV version, path, engine or value."""
    found = diagnosis.of_credential(
        error,
        source,
        mount_kind=mount.kind if mount else "",
        mount_version=mount.kv_version if mount else None,
    )

    assert found.layer == layer
    assert words in found.sentence
    assert found.remedy


@pytest.mark.parametrize(
    ("error", "own", "layer", "words"),
    [
        (VaultDenied(), True, Layer.POLICY, "the check's Vault token"),
        (VaultDenied(), False, Layer.POLICY, "a lease"),
        (VaultUnreachable(), True, Layer.NETWORK, "the check's Vault token"),
    ],
)
def test_clean_up(error: VaultError, own: bool, layer: Layer, words: str) -> None:
    """What could not be revoked is named."""
    found = diagnosis.of_clean_up(error, own=own)

    assert found.layer == layer
    assert words in found.sentence


@pytest.mark.parametrize(("initialized", "words"), [(True, "sealed"), (False, "initialised")])
def test_seal(initialized: bool, words: str) -> None:
    """A Vault that answers but cannot serve says which of the two it is."""
    assert words in diagnosis.of_seal(initialized=initialized).sentence


def jwt(payload: object) -> SecretValue:
    part = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return SecretValue(f"eyJhbGciOiJub25lIn0.{part}.x")


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (jwt({"sub": "a", "aud": "x", "exp": 5}), Claims("a", ("x",), 5.0)),
        (jwt({"aud": ["x", "y"]}), Claims("", ("x", "y"), None)),
        (jwt({"sub": "a\x1b[2Jb", "aud": 7, "exp": "soon"}), Claims("a?[2Jb", (), None)),
        (jwt([1]), None),
        (SecretValue("abc"), None),
        (SecretValue("a.b"), None),
        (SecretValue("a.!!!.c"), None),
        (SecretValue("a." + base64.urlsafe_b64encode(b"[" * 100_000).decode() + ".c"), None),
    ],
)
def test_claims(token: SecretValue, expected: Claims | None) -> None:
    """Claims are read leniently, and made harmless for a terminal."""
    assert diagnosis_login.claims(token) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0s"), (59.0, "59s"), (90.0, "2m"), (7200.0, "2h"), (3e5, "3d")]
)
def test_spans(seconds: float, expected: str) -> None:
    """Durations for people are rough."""
    assert diagnosis.span(seconds) == expected
