"""The least Vault policy for each process, as text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker.app.vault_policy import Rule, hcl, rules
from broker.cli.exit_codes import ExitCode
from broker.cli.main import main
from broker.errors import SettingsError
from broker.settings.processes import Process, held
from tests.unit.test_settings_load import HEAD, read
from tests.unit.test_settings_rotation import FILE, STATIC, changed

OWN = {
    "auth/token/lookup-self": ("read",),
    "auth/token/renew-self": ("update",),
    "auth/token/revoke-self": ("update",),
}
READ = {f"secret/data/{name}": ("read",) for name in ("a", "b")}
CHANGE = ("create", "read", "update")
ROTATING = {
    **OWN,
    "secret/data/a": CHANGE,
    "secret/data/b": CHANGE,
    "secret/data/admin": ("read",),
    "secret/delete/a": ("update",),
    "secret/delete/b": ("update",),
    "secret/data/broker/rotation/a": CHANGE,
    "secret/destroy/broker/rotation/a": ("update",),
    "secret/data/broker/rotation/b": CHANGE,
    "secret/destroy/broker/rotation/b": ("update",),
    "secret/data/b-accepted": CHANGE,
}


@pytest.mark.parametrize(
    ("mode", "process", "paths"),
    [
        pytest.param("off", "broker", {**OWN, **READ}, id="nobody rotates"),
        pytest.param("rotator", "broker", {**OWN, **READ}, id="sidecar beside a rotator"),
        pytest.param("sidecar", "broker", ROTATING, id="sidecar that rotates"),
        pytest.param("rotator", "rotator", ROTATING, id="rotator"),
    ],
)
def test_the_paths_of_each_process(mode: str, process: Process, paths: dict[str, object]) -> None:
    """Who does not rotate writes nothing, and does not see the key that manages keys."""
    found = rules(read(changed("rotation.mode", mode)).settings, process)

    assert {rule.path: rule.capabilities for rule in found} == paths
    assert len({rule.path for rule in found}) == len(found)


def test_every_kind_of_source() -> None:
    """KV 1 and 2, leases by reading and writing; leases are renewed and revoked."""
    text = (
        HEAD
        + """
credentials:
  one: {source: {kind: kv, mount: kv1, path: a/b, version: 1}}
  two: {source: {kind: kv, mount: team/kv, path: a/b}}
  three: {source: {kind: leased, path: database/creds/x}}
  four: {source: {kind: leased, path: pki/issue/x, method: write}}
clients: {c: {credentials: [one, two, three, four]}}
"""
    )
    found = {rule.path: rule.capabilities for rule in rules(read(text).settings, "broker")}

    assert found == {
        **OWN,
        "kv1/a/b": ("read",),
        "team/kv/data/a/b": ("read",),
        "database/creds/x": ("read",),
        "pki/issue/x": ("update",),
        "sys/leases/renew": ("update",),
        "sys/leases/revoke": ("update",),
    }


def test_a_static_role_is_read_and_replaced() -> None:
    """In place of a path to write there is one that acts."""
    found = {
        rule.path: rule.capabilities
        for rule in rules(read(changed("credentials.b", STATIC)).settings, "broker")
    }

    assert found["database/static-creds/b"] == ("read",)
    assert found["database/rotate-role/b"] == ("update",)
    assert not any(path.startswith("sys/leases") or "delete/b" in path for path in found)
    assert not any(path.startswith("secret/destroy") and path.endswith("/b") for path in found)


def test_shared_tokens_are_read_and_written_by_the_broker_alone() -> None:
    """The key is made once and never changed; revocations change; a rotator touches neither."""
    shared = "tokens: {store: shared, mount: kv, path: here/tokens}\n"
    found = {rule.path: rule.capabilities for rule in rules(read(HEAD + shared).settings, "broker")}

    assert found == {
        **OWN,
        "kv/data/here/tokens/key": ("create", "read"),
        "kv/data/here/tokens/revocations": CHANGE,
    }
    tokens = read(HEAD + shared).settings.tokens
    settings = replace(read(changed("rotation.mode", "rotator")).settings, tokens=tokens)
    assert not any("tokens" in rule.path for rule in rules(settings, "rotator"))


def test_a_given_token_is_neither_renewed_nor_revoked() -> None:
    """With ``token_file`` somebody else looks after the token."""
    text = "vault: {address: 'https://v.example', auth: {method: token_file, token_file: /t}}\n"

    assert [rule.path for rule in rules(read(text).settings, "broker")] == [
        "auth/token/lookup-self"
    ]


def test_a_key_that_both_a_client_and_a_driver_use_is_held() -> None:
    """What is handed out is held, whoever else uses it."""
    text = changed("clients.c.credentials", ["a", "admin"]).replace("sidecar", "rotator")

    assert held(read(text).settings, "broker") == ("a", "b", "admin")


def test_a_rotator_without_work_is_an_error() -> None:
    """A policy for a process that must not run would be a right for nobody."""
    with pytest.raises(SettingsError, match="nothing to do"):
        rules(read(FILE).settings, "rotator")


@pytest.mark.parametrize("path", ["team/*", "a/+/b", "+", "x{{identity.entity.id}}"])
def test_a_path_that_is_a_pattern_is_refused(path: str) -> None:
    """A policy would open more than this one path."""
    text = changed("credentials.admin.source.path", path)

    with pytest.raises(SettingsError, match="pattern"):
        rules(read(text).settings, "broker")


def test_hcl() -> None:
    """One stanza a path, with a comment that says what for."""
    assert hcl((Rule("a/b", ("read",), "why"), Rule('c"d', ("create", "update"), "so"))) == (
        '# why\npath "a/b" {\n  capabilities = ["read"]\n}\n\n'
        '# so\npath "c\\"d" {\n  capabilities = ["create", "update"]\n}\n'
    )


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is the policy and nothing else."""
    file = tmp_path / "broker.yaml"
    file.write_text(FILE)

    assert main(["policy", "vault", "--config", str(file)]) == ExitCode.OK
    assert capsys.readouterr().out == hcl(rules(read(FILE).settings, "broker"))
    assert main(["policy", "vault", "--config", str(file), "--process", "rotator"]) == (
        ExitCode.SETTINGS
    )
    assert "rotation.mode" in capsys.readouterr().err
