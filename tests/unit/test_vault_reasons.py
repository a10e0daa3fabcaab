"""Why Vault says no, as far as its answers tell: the words ``broker check`` goes by."""

from __future__ import annotations

import json

import pytest

from broker.errors import VaultMalformed
from broker.vault.interface import MountInfo
from broker.vault.refusals import refusal
from broker.vault.responses import Answer, mount_info

SAID = [
    # Seen at OpenBao 2.7.2.
    (400, 'invalid role name "nope"', "role"),
    (403, "service account name not authorized", "service_account"),
    (403, "namespace not authorized", "service_account_namespace"),
    (403, "invalid audience (aud) claim: audience claim does not match", "audience"),
    (403, "invalid expiration time (exp) claim: token is expired", "expired"),
    (403, "permission denied", ""),
    (404, 'no handler for route "a/b". route entry not found.', "no_mount"),
    (400, "unknown role: nobody", "engine_role"),
    (405, "1 error occurred:\n\t* unsupported operation\n\n", "method"),
    # In the source of HashiCorp's kubernetes auth plugin.
    (500, "could not load backend configuration", "not_configured"),
    (500, "Post https://k8s/apis/authentication.k8s.io/v1/tokenreviews: refused", "token_review"),
    (500, "something else", ""),
]


@pytest.mark.parametrize(("status", "text", "reason"), SAID)
def test_reasons(status: int, text: str, reason: str) -> None:
    """A known text becomes a stable word; the text itself is never repeated."""
    answer = Answer(status, json.dumps({"errors": [text]}).encode())

    error = refusal(answer, "login", wall=0.0)

    assert error.reason == reason
    assert text not in str(error)


def test_a_warning_of_kv_version_2_is_a_reason() -> None:
    """A version 2 mount that is asked as version 1 answers 404 with a warning."""
    body = {"data": None, "warnings": ["Invalid path for a versioned K/V secrets engine."]}

    assert refusal(Answer(404, json.dumps(body).encode()), "read", wall=0.0).reason == "kv_version"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"type": "kv", "options": {"version": "2"}}, MountInfo("kv", 2)),
        ({"type": "kv", "options": {"version": "1"}}, MountInfo("kv", 1)),
        ({"type": "kv", "options": None}, MountInfo("kv", 1)),
        ({"type": "database", "options": {}}, MountInfo("database")),
    ],
)
def test_mounts(data: object, expected: MountInfo) -> None:
    """The kind of engine and, of KV, the version."""
    assert mount_info(Answer(200, json.dumps({"data": data}).encode())) == expected


def test_a_mount_without_a_type_is_malformed() -> None:
    """What is not as promised is refused, not guessed."""
    with pytest.raises(VaultMalformed):
        mount_info(Answer(200, b'{"data": {}}'))
