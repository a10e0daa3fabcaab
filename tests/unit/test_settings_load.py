"""The configuration from its text to settings, or to every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import SettingsError, SettingsErrors
from broker.settings.domain import Settings
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
    assert settings.log == expected.log
    assert settings.stop == expected.stop
    assert settings.vault.limits == expected.vault.limits
    assert settings.vault.tls == expected.vault.tls
    assert settings.vault.timeout == expected.vault.timeout


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
