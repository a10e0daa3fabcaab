"""Secrets written into the configuration are found and never repeated."""

from __future__ import annotations

import pytest

from broker.settings import literals
from tests.unit.test_settings_load import HEAD, faults

B62 = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
SECRETS = {
    "vault service token": "hvs." + B62,
    "vault batch token": "hvb." + B62,
    "legacy vault token": "s." + B62[:24],
    "jwt": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0." + B62,
    "private key": "-----BEGIN RSA PRIVATE KEY-----",
    "github": "ghp_" + B62,
    "github fine-grained": "github_pat_" + B62,
    "gitlab": "glpat-" + B62[:20],
    "slack": "xoxb-" + B62[:12],
    "stripe": "sk_live_" + B62[:24],
    "anthropic": "sk-ant-" + B62[:24],
    "openai": "sk-" + B62,
    "tavily": "tvly-" + B62[:20],
    "google": "AIza" + B62[:35],
    "aws": "AKIA" + "ABCDEFGHIJKLMNOP",
    "url": "postgresql://app:correct-horse@db/orders",
    "url with part of a placeholder": "postgresql://app:horse{password}@db/orders",
    "inside a text": "Bearer hvs." + B62,
}
HARMLESS = [
    "",
    "search-api",
    "secret/mcp",
    "https://vault.vault.svc:8200",
    "postgresql://{username}:{password}@db/orders",
    "postgresql://app:{password}@db/orders",
    "https://user@host/path",
    "s.example.com",
    "services.internal.example.com",
    "b.very-long-name-of-a-bucket.example",
    "http://a/b:c@d",
    "database/creds/orders",
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
]


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_shapes_of_secrets(text: str) -> None:
    """A text with a secret's shape is told, wherever it stands."""
    found = list(literals.find({"a": {"b": [text]}}))

    assert [path for path, _ in found] == [("a", "b", "0")]
    assert text not in found[0][1]


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_texts(text: str) -> None:
    """Paths, hosts and templates raise no alarm."""
    assert literals.shape(text) is None


@pytest.mark.parametrize(
    "key",
    ["password", "api_key", "apiKey", "client_secret", "SECRET_ID", "token", "db-password", "dsn"],
)
def test_places_for_secrets(key: str) -> None:
    """A value under a name that says 'secret' is one, whatever it looks like."""
    assert [path for path, _ in literals.find({"x": {key: "v"}})] == [("x", key)]
    assert [path for path, _ in literals.find({"x": {key: 1234}})] == [("x", key)]
    assert list(literals.find({"x": {key: ""}})) == []
    assert list(literals.find({"x": {key: True}})) == []


@pytest.mark.parametrize(
    "key", ["token_file", "key_file", "token_ttl", "num_uses", "password_field", "keys", "path"]
)
def test_names_that_only_sound_like_one(key: str) -> None:
    """A file, a life or a field of a secret is no secret."""
    assert list(literals.find({key: "v"})) == []


def test_templates_are_references() -> None:
    """A field called password may be a template, but not a constant."""
    fields = {"password": "{password}", "dsn": "x://{username}:{password}@h", "host": "db"}
    assert list(literals.find({"credentials": {"a": {"fields": fields}}})) == []

    constant = {"credentials": {"a": {"fields": {"password": "pre{{fix}}"}}}}
    assert [path[-1] for path, _ in literals.find(constant)] == ["password"]


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_a_literal_secret_is_one_fault_without_its_value(text: str) -> None:
    """The broker does not start, says where, and repeats nothing of it."""
    found = faults(HEAD + f"audit: {{file: '{text}'}}\n")

    assert [(fault.line, fault.key) for fault in found] == [(4, "audit.file")]
    shown = str(found[0]) + found[0].remedy + repr(found[0])
    assert text not in shown
    assert B62[:12] not in shown
    assert "horse" not in shown


def test_a_secret_in_the_place_of_a_key_is_masked() -> None:
    """A secret written before the colon is not repeated as a dotted key."""
    token = SECRETS["vault service token"]

    found = faults(HEAD + f"log: {{{token}: info}}\n")

    assert [fault.key for fault in found] == ["log.***"]
    assert token not in "".join(str(fault) + fault.remedy for fault in found)


@pytest.mark.parametrize(
    "extra",
    [
        "log: {level: correct-horse}",
        "log: {format: [correct-horse]}",
        "listeners: {tcp: [correct-horse]}",
        "listeners: {unix: correct-horse}",
        "listeners: {max_wait: correct-horse}",
        "stop: correct-horse",
        "credentials: {a: {source: {kind: correct-horse}}}",
        "credentials: {a: {source: {kind: kv, mount: 'correct horse', path: x}}}",
        "clients: {a: {uid: correct-horse, proof: correct-horse}}",
        "clients: {a: {credentials: ['Correct-horse']}}",
    ],
)
def test_no_wrong_value_is_repeated(extra: str) -> None:
    """Whatever stands where it does not belong may be a secret: it is not printed."""
    found = faults(HEAD + extra + "\n")

    assert found
    assert "orse" not in "".join(str(fault) + fault.remedy for fault in found)
