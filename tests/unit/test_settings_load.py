"""The configuration from its text to settings, or to every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import SettingsError, SettingsErrors
from broker.settings.domain import (
    ClientSettings,
    CredentialSettings,
    ExpirySettings,
    LimitSettings,
    Settings,
    SourceSettings,
    UseSettings,
)
from broker.settings.load import Loaded, load, parse_settings

EXAMPLE = Path(__file__).parent.parent / "data" / "broker.yaml"

HEAD = """\
vault:
  address: https://vault.example:8200
  auth: {role: tools}
"""


def read(text: str, *, uid: int | None = None, **environ: str) -> Loaded:
    return parse_settings(text, file="broker.yaml", environ=environ, uid=uid)


def faults(text: str, *, uid: int | None = None, **environ: str) -> list[SettingsError]:
    with pytest.raises(SettingsErrors) as caught:
        read(text, uid=uid, **environ)
    return list(caught.value.faults)


def test_the_example_has_neither_faults_nor_advice() -> None:
    """The example file loads, and nothing needs to be said about it."""
    loaded = load(EXAMPLE, {})

    assert loaded.advice == ()
    assert list(loaded.settings.credentials) == ["search-api", "orders-db"]
    assert loaded.settings.credentials["orders-db"].source.increment == 3600.0
    assert loaded.settings.clients["search-mcp"].credentials == ("search-api", "orders-db")


def test_what_is_not_written_has_the_defaults_of_the_domain() -> None:
    """A file with the needed keys only gives the domain's own defaults elsewhere."""
    settings, expected = read(HEAD).settings, Settings()

    assert settings.listeners == expected.listeners
    assert settings.audit == expected.audit
    assert settings.tokens == expected.tokens
    assert settings.log == expected.log
    assert settings.stop == expected.stop
    assert settings.vault.limits == expected.vault.limits
    assert settings.vault.tls == expected.vault.tls
    assert settings.vault.timeout == expected.vault.timeout


def test_everything_written_reaches_the_domain() -> None:
    """Durations become seconds, paths lose their slashes, origins their capitals."""
    settings = read(
        """\
vault:
  address: HTTPS://Vault.Example:8200/
  namespace: /team/a/
  redirect_addresses: ["https://Vault-0.example"]
  auth: {mount: k8s/, role: tools, audience: vault}
  limits: {requests_per_second: 2.5, burst: 3, concurrency: 4}
listeners: {hosts: [Broker.Local], socket_directory: /run/x/, max_wait: 5m}
credentials:
  a:
    source:
      kind: kv
      mount: /secret/
      path: a/b/
      version: 2
      poll: 1m30s
      max_staleness: 2h
      expiry: {custom_metadata: ends, skew: 1m}
    hold: 1500ms
  b:
    source: {kind: leased, path: pki/issue/b, method: write, parameters: {ttl: 1h, n: [1]}}
    fields: {pem: "{certificate}{private_key}"}
    use: {scheme: basic, username_field: pem, password_field: pem, origins: ["https://U.example"]}
    required: false
clients: {c: {credentials: [a, b], proof: uid, uid: 7, group: 8}}
"""
    ).settings

    assert settings.vault.address == "https://vault.example:8200"
    assert settings.vault.namespace == "team/a"
    assert settings.vault.redirect_addresses == ("https://vault-0.example",)
    assert settings.vault.auth.mount == "k8s"
    assert settings.vault.limits == LimitSettings(2.5, 3, 4)
    assert settings.listeners.hosts == ("broker.local",)
    assert settings.listeners.socket_directory == "/run/x"
    assert settings.listeners.max_wait == 300.0
    a, b = settings.credentials["a"], settings.credentials["b"]
    assert (a.source.mount, a.source.path) == ("secret", "a/b")
    assert (a.source.poll, a.source.max_staleness, a.hold) == (90.0, 7200.0, 1.5)
    assert a.source.expiry == ExpirySettings("custom_metadata", "ends", 60.0)
    assert (b.source.method, b.source.parameters) == ("write", {"ttl": "1h", "n": [1]})
    assert b.use == UseSettings(
        scheme="basic",
        username_field="pem",
        password_field="pem",
        origins=("https://u.example",),
    )
    assert b.required is False
    assert settings.clients["c"] == ClientSettings("c", ("a", "b"), "uid", 7, 8)


def test_defaults_of_credentials_are_those_of_the_domain() -> None:
    """A credential with the needed keys only has the domain's own defaults."""
    credentials = read(
        HEAD
        + "credentials:\n"
        + "  a: {source: {kind: kv, mount: m, path: p}, use: {field: f}}\n"
        + "  b: {source: {kind: leased, path: p}}\n"
    ).settings.credentials

    assert credentials["a"] == CredentialSettings(
        "a", SourceSettings(kind="kv", path="p", mount="m"), use=UseSettings(field="f")
    )
    assert credentials["b"] == CredentialSettings("b", SourceSettings(kind="leased", path="p"))


def test_all_faults_are_reported_at_once_in_the_order_of_the_file() -> None:
    """One run names every fault: shape, contradiction, literal secret and variable."""
    found = faults(
        HEAD
        + """\
  timeout: 10
credentials:
  a:
    source: {kind: kv, mount: secret, path: a, pol: 5s}
  b:
    source: {kind: leased, path: database/creds/b}
    password: correct-horse
clients:
  one: {credentials: [a, b, c], proof: uid}
stop: {delay: 30s}
""",
        BROKER__VAULT__ADRESS="https://elsewhere.example",
    )

    assert [(fault.file, fault.line, fault.key) for fault in found] == [
        ("broker.yaml", 4, "vault.timeout"),
        ("broker.yaml", 7, "credentials.a.source.pol"),
        ("broker.yaml", 10, "credentials.b.password"),
        ("broker.yaml", 12, "clients.one.uid"),
        ("broker.yaml", 12, "clients.one.credentials.2"),
        ("broker.yaml", 13, "stop.delay"),
        ("BROKER__VAULT__ADRESS", None, "vault.adress"),
    ]
    assert all(fault.remedy for fault in found)
    assert "correct-horse" not in "".join(map(repr, found))
