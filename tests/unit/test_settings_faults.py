"""Each kind of wrong shape in words, with its line and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import SettingsErrors
from broker.settings.load import load
from tests.unit.test_settings_load import HEAD, faults, read

KV = "source: {kind: kv, mount: secret, path: a"

SHAPES = {
    "unknown section": ("logs: {}", "logs", "not a key", "Did you mean log?"),
    "unknown key": ("log: {levle: info}", "log.levle", "not a key", "Did you mean level?"),
    "far from any key": ("log: {zzz: 1}", "log.zzz", "not a key", "level, format"),
    "unknown key of use": (
        f"credentials: {{a: {{{KV}}}, use: {{where: header, field: f}}}}}}",
        "credentials.a.use.where",
        "not a key",
        "in, name, field",
    ),
    "place is spelled in": (
        f"credentials: {{a: {{{KV}}}, use: {{place: header, field: f}}}}}}",
        "credentials.a.use.place",
        "not a key",
        "in, name",
    ),
    "key of the other kind": (
        f"credentials: {{a: {{{KV}, increment: 1h}}}}}}",
        "credentials.a.source.increment",
        "belongs to sources of kind leased",
        "kind: leased",
    ),
    "key of the other kind, leased": (
        "credentials: {a: {source: {kind: leased, path: p, mount: m}}}",
        "credentials.a.source.mount",
        "belongs to sources of kind kv",
        "kind: kv",
    ),
    "no source": ("credentials: {a: {hold: 5s}}", "credentials.a.source", "missing", "Where its"),
    "no kind": ("credentials: {a: {source: {path: p}}}", "credentials.a.source", "kind", "kv"),
    "unknown kind": (
        "credentials: {a: {source: {kind: kb}}}",
        "credentials.a.source",
        "kind",
        "kind: kv",
    ),
    "no mount": (
        "credentials: {a: {source: {kind: kv, path: p}}}",
        "credentials.a.source.mount",
        "missing",
        "Mount of the KV engine",
    ),
    "expiry without place": (
        f"credentials: {{a: {{{KV}, expiry: {{skew: 1s}}}}}}}}",
        "credentials.a.source.expiry",
        "one place",
        "custom_metadata",
    ),
    "expiry with two places": (
        f"credentials: {{a: {{{KV}, expiry: {{field: a, custom_metadata: b}}}}}}}}",
        "credentials.a.source.expiry",
        "one place",
        "not both",
    ),
    "choice": ("log: {level: inf}", "log.level", "debug, info, warning or error", "mean info?"),
    "choice, far": ("log: {level: loud}", "log.level", "must be", "Write debug, info"),
    "number choice": (
        f"credentials: {{a: {{{KV}, version: 3}}}}}}",
        "credentials.a.source.version",
        "must be 1 or 2",
        "Write 1 or 2",
    ),
    "empty choice": (
        f"credentials: {{a: {{{KV}}}, use: {{scheme: digest, field: f}}}}}}",
        "credentials.a.use.scheme",
        "must be bearer or basic",
        "bearer or basic",
    ),
    "truth": ("listeners: {unix: yes}", "listeners.unix", "neither true nor false", "quotes"),
    "whole number": ("clients: {a: {group: 1.5}}", "clients.a.group", "whole number", "whole"),
    "text for a number": ("clients: {a: {group: x}}", "clients.a.group", "whole number", "whole"),
    "number": ("vault.tls: x", "vault.tls", "not a key", "vault"),
    "negative": ("clients: {a: {uid: -1}}", "clients.a.uid", "at least 0", "at least 0"),
    "too large": ("clients: {a: {uid: 4294967295}}", "clients.a.uid", "at most", "at most"),
    "text": ("audit: {file: 1}", "audit.file", "not a text", "quotes"),
    "list": ("listeners: {tcp: 127.0.0.1:1}", "listeners.tcp", "not a list", "brackets"),
    "mapping": ("log: info", "log", "not a mapping", "indented"),
    "mapping of names": ("clients: [a]", "clients", "not a mapping", "indented"),
    "empty section": ("log:", "log", "is empty", "remove the key"),
    "empty value": ("log: {level: }", "log.level", "is empty", "remove the key"),
    "empty optional": (
        f"credentials: {{a: {{{KV}, expiry: }}}}}}",
        "credentials.a.source.expiry",
        "is empty",
        "remove the key",
    ),
    "empty item": ("listeners: {tcp: [~]}", "listeners.tcp.0", "is empty", "remove"),
    "empty text": ("listeners: {socket_directory: ''}", "listeners.socket_directory", "empty", ""),
    "empty path": (
        "credentials: {a: {source: {kind: leased, path: ''}}}",
        "credentials.a.source.path",
        "empty",
        "without a leading slash",
    ),
    "bare number": ("stop: {delay: 5}", "stop.delay", "wrong unit: 5 alone", "5s"),
    "unknown unit": ("stop: {delay: 5w}", "stop.delay", "not a duration", "1h30m"),
    "truth for a duration": ("stop: {delay: true}", "stop.delay", "not a text", "quotes"),
    "client's name": ("clients: {A/b: {}}", "clients.A/b", "usable name", "lower-case"),
    "name that leaves its directory": ("clients: {..: {}}", "clients...", "usable name", ""),
    "long name": (f"clients: {{{'a' * 64}: {{}}}}", f"clients.{'a' * 64}", "usable name", "63"),
    "field's name": (
        f"credentials: {{a: {{{KV}}}, fields: {{'a b': x}}}}}}",
        "credentials.a.fields.a b",
        "field name",
        "letters",
    ),
    "control character": (r'audit: {file: "a\nb"}', "audit.file", "control character", "one line"),
    "origin with a path": (
        f"credentials: {{a: {{{KV}}}, use: {{field: f, origins: ['https://a.example/x']}}}}}}",
        "credentials.a.use.origins.0",
        "after the host",
        "https://api.example",
    ),
    "password in a place of its own": (
        f"credentials: {{a: {{{KV}}}, password: correct-horse}}}}",
        "credentials.a.password",
        "literal secret",
        "Vault",
    ),
    "password section": ("vault_token: {}", "vault_token", "place for a secret", "Vault"),
    "secret parameter": (
        "credentials: {a: {source: {kind: leased, path: p, parameters: {secret_id: x}}}}",
        "credentials.a.source.parameters.secret_id",
        "literal secret",
        "Vault",
    ),
}


@pytest.mark.parametrize(("extra", "key", "words", "remedy"), SHAPES.values(), ids=SHAPES.keys())
def test_shapes(extra: str, key: str, words: str, remedy: str) -> None:
    """Each wrong shape is one fault: its line, its dotted key, words and a remedy."""
    found = faults(HEAD + extra + "\n")

    assert [(fault.line, fault.key) for fault in found] == [(4, key)]
    assert words in found[0].message
    assert remedy in found[0].remedy
    assert "correct-horse" not in str(found[0])


def test_an_empty_file_says_what_is_missing() -> None:
    """Without anything, the first needed section is named."""
    found = faults("")

    assert [(fault.file, fault.line, fault.key) for fault in found] == [
        ("broker.yaml", None, "vault")
    ]


@pytest.mark.parametrize("vault", ["", "vault: x\n", "vault:\n", "vault: {address: 5}\n"])
def test_a_faulty_vault_does_not_hide_the_rest(vault: str) -> None:
    """Without a usable vault section the others are still checked to the end."""
    found = faults(vault + "stop: {delay: 1h}\nclients: {c: {credentials: [x]}}\n")

    assert [fault.key for fault in found if not fault.key.startswith("vault")] == [
        "stop.delay",
        "clients.c.credentials.0",
    ]


def test_a_missing_address_is_told_once() -> None:
    """A needed key of a section stands at the section's line."""
    found = faults("# comment\nvault:\n  auth: {role: r}\n")

    assert [(fault.line, fault.key) for fault in found] == [(2, "vault.address")]


def test_faults_of_shape_do_not_hide_contradictions() -> None:
    """What has a fault is set aside, and the rest is still checked."""
    found = faults(
        HEAD
        + "listeners: {tcp: ['0.0.0.0:1'], max_wait: 5}\n"
        + f"credentials:\n  a: {{{KV}, poll: 1ms}}, hold: 1}}\n  b: 7\n"
        + "clients: {c: {credentials: [a, b, d], proof: nope}}\n"
    )

    assert [(fault.line, fault.key) for fault in found] == [
        (4, "listeners.max_wait"),
        (4, "listeners.tcp.0"),
        (6, "credentials.a.hold"),
        (6, "credentials.a.source.poll"),
        (7, "credentials.b"),
        (8, "clients.c.proof"),
        (8, "clients.c.credentials.2"),
    ]


def test_the_error_reads_as_its_faults() -> None:
    """The error that carries the faults is readable alone, in one line."""
    with pytest.raises(SettingsErrors) as one:
        read(HEAD + "log: {level: loud}\n")
    with pytest.raises(SettingsErrors, match="must be debug") as two:
        read(HEAD + "log: {level: loud, format: x}\n")

    assert str(one.value).startswith("broker.yaml:4: log.level: must be")
    assert str(two.value) == "; ".join(map(str, two.value.faults))
    assert len(two.value.faults) == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.yaml", None, "cannot be read: No such file"),
        ("bytes.yaml", b"a: \xff\n", "not UTF-8"),
        ("large.yaml", b"#" * 1_000_001, "larger than"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    """A file that is missing or no text is a fault like any other."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(SettingsErrors, match=words) as caught:
        load(file, {})

    assert caught.value.faults[0].file == str(file)
    assert caught.value.faults[0].remedy


def test_the_digest_tells_files_apart(tmp_path: Path) -> None:
    """Equal bytes have equal digests, so that a touched file is no change."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text(HEAD)
    other.write_text("\ufeff" + HEAD + "# a comment\n")

    assert load(one, {}).digest == load(one, {}).digest
    assert load(one, {}).digest != load(other, {}).digest
    assert load(one, {}).settings == load(other, {}).settings
