"""Contradictions and dangers of a configuration whose single keys are right."""

from __future__ import annotations

import pytest

from broker.credentials import sources
from broker.settings import rules_credentials
from tests.unit.test_settings_load import HEAD, faults, read

KV = "{kind: kv, mount: secret, path: a}"
LEASED = "{kind: leased, path: database/creds/a}"


def vault(extra: str, *, address: str = "https://vault.example", auth: str = "{role: r}") -> str:
    return f"vault:\n  address: {address}\n  auth: {auth}\n  {extra}\n"


def credential(extra: str = "", *, source: str = KV) -> str:
    return (
        HEAD
        + f"credentials:\n  a:\n    source: {source}\n    {extra}\n"
        + "clients: {c: {credentials: [a]}}\n"
    )


def client(extra: str) -> str:
    return (
        HEAD
        + f"credentials: {{a: {{source: {KV}}}}}\nclients: {{c: {{credentials: [a], {extra}}}}}\n"
    )


def use(extra: str) -> str:
    return credential(f"use: {{origins: ['https://api.example'], {extra}}}")


REFUSED = {
    "plain http": (vault("", address="http://vault.example:8200"), "vault.address", "in clear"),
    "plain http redirect": (
        vault("redirect_addresses: ['https://a.example', 'http://b.example']"),
        "vault.redirect_addresses.1",
        "in clear",
    ),
    "skip verify beside ca_file": (
        vault("tls: {unsafe_skip_verify: true, ca_file: /ca}"),
        "vault.tls.unsafe_skip_verify",
        "switches off",
    ),
    "skip verify beside ca_path": (
        vault("tls: {unsafe_skip_verify: true, ca_path: /ca}"),
        "vault.tls.unsafe_skip_verify",
        "switches off",
    ),
    "small audit files": (
        HEAD + "audit: {file: /a, max_bytes: 4000}\n",
        "audit.max_bytes",
        "some 10 records",
    ),
    "rotated standard output": (
        HEAD + "audit: {max_bytes: 1000000}\n",
        "audit.max_bytes",
        "standard output",
    ),
    "synced standard output": (HEAD + "audit: {sync: true}\n", "audit.sync", "standard output"),
    "kept without rotation": (
        HEAD + "audit: {file: /a, keep: 3}\n",
        "audit.keep",
        "nothing is rotated",
    ),
    "key and records in one file": (
        HEAD + "audit: {file: /a, key_file: /a}\n",
        "audit.key_file",
        "appended to",
    ),
    "audit within a client's reach": (
        client("proof: token") + "audit: {file: /run/broker/c/audit.log}\n",
        "audit.file",
        "the client c mounts",
    ),
    "key within a client's reach": (
        client("proof: token") + "audit: {key_file: /run/broker/c/key}\n",
        "audit.key_file",
        "the client c mounts",
    ),
    "two CAs": (vault("tls: {ca_file: /a, ca_path: /b}"), "vault.tls.ca_path", "beside"),
    "certificate without key": (
        vault("tls: {cert_file: /a}"),
        "vault.tls.cert_file",
        "key_file is missing",
    ),
    "key without certificate": (
        vault("tls: {key_file: /a}"),
        "vault.tls.key_file",
        "cert_file is missing",
    ),
    "no timeout": (vault("timeout: 0s"), "vault.timeout", "no time"),
    "no role": (vault("", auth="{method: kubernetes}"), "vault.auth.role", "missing"),
    "role without login": (
        vault("", auth="{method: token_file, role: r}"),
        "vault.auth.role",
        "no meaning",
    ),
    "audience without login": (
        vault("", auth="{method: token_file, audience: r}"),
        "vault.auth.audience",
        "no meaning",
    ),
    "no listener": (HEAD + "listeners: {unix: false, tcp: []}\n", "listeners.tcp", "nobody"),
    "not loopback": (
        HEAD + "listeners: {tcp: ['127.0.0.1:1', '0.0.0.0:2']}\n",
        "listeners.tcp.1",
        "beyond this pod, on 0.0.0.0",
    ),
    "one port twice": (
        HEAD + "listeners: {tcp: ['127.0.0.1:1', '127.0.0.1:1']}\n",
        "listeners.tcp.1",
        "port 1",
    ),
    "operations on the data port": (
        HEAD + "listeners: {tcp: ['127.0.0.1:9'], operations: '[::]:9'}\n",
        "listeners.operations",
        "port 9",
    ),
    "relative directory": (
        HEAD + "listeners: {socket_directory: run}\n",
        "listeners.socket_directory",
        "absolute",
    ),
    "relative admin socket": (
        HEAD + "listeners: {admin_socket: admin.sock}\n",
        "listeners.admin_socket",
        "absolute",
    ),
    "long admin socket": (
        HEAD + f"listeners: {{admin_socket: /{'a' * 107}}}\n",
        "listeners.admin_socket",
        "108 bytes",
    ),
    "long client socket": (
        HEAD
        + f"listeners: {{socket_directory: /{'a' * 60}}}\n"
        + f"clients: {{{'c' * 40}: {{proof: token}}}}\n",
        f"clients.{'c' * 40}",
        "bytes",
    ),
    "admin socket among the clients": (
        HEAD + "listeners: {admin_socket: /run/broker/admin/a.sock}\n",
        "listeners.admin_socket",
        "a client could reach it",
    ),
    "uid proof without uid": (client("proof: uid"), "clients.c.uid", "missing"),
    "both proofs without uid": (client("proof: token_and_uid"), "clients.c.uid", "missing"),
    "the broker's own uid": (client("proof: uid, uid: 4711"), "clients.c.uid", "own uid"),
    "unknown credential": (
        client("").replace("[a]", "[a, b]"),
        "clients.c.credentials.1",
        "lists b",
    ),
    "no hold": (credential("hold: 0s"), "credentials.a.hold", "no time"),
    "refused flood": (
        credential("refused_interval: 500ms"),
        "credentials.a.refused_interval",
        "flood",
    ),
    "poll flood": (
        credential(source="{kind: kv, mount: m, path: p, poll: 999ms}"),
        "credentials.a.source.poll",
        "flood",
    ),
    "stale before the next poll": (
        credential(source="{kind: kv, mount: m, path: p, poll: 60s, max_staleness: 64s}"),
        "credentials.a.source.max_staleness",
        "between two polls",
    ),
    "metadata of KV 1": (
        credential(
            source="{kind: kv, mount: m, path: p, version: 1, expiry: {custom_metadata: e}}"
        ),
        "credentials.a.source.expiry.custom_metadata",
        "version 1",
    ),
    "short increment": (
        credential(source="{kind: leased, path: p, increment: 10ms}"),
        "credentials.a.source.increment",
        "1s",
    ),
    "unbalanced braces": (
        credential("fields: {x: '{a'}"),
        "credentials.a.fields.x",
        "no template",
    ),
    "placeholder with a format": (
        credential("fields: {x: '{a:>10}'}"),
        "credentials.a.fields.x",
        "no template",
    ),
    "placeholder that reaches inside": (
        credential("fields: {x: '{a.__class__}'}"),
        "credentials.a.fields.x",
        "no template",
    ),
    "use of an unknown field": (
        credential("fields: {x: '{a}'}\n    use: {in: header, field: y}"),
        "credentials.a.use.field",
        "names y",
    ),
    "use without field": (use("in: header"), "credentials.a.use.field", "missing"),
    "bearer without field": (use("scheme: bearer"), "credentials.a.use.field", "missing"),
    "basic without password": (
        use("scheme: basic, username_field: u"),
        "credentials.a.use.password_field",
        "missing",
    ),
    "basic with a field": (
        use("scheme: basic, username_field: u, password_field: p, field: f"),
        "credentials.a.use.field",
        "no meaning",
    ),
    "password field without basic": (
        use("field: f, password_field: p"),
        "credentials.a.use.password_field",
        "belongs to",
    ),
    "scheme in a cookie": (
        use("scheme: bearer, in: cookie, field: f"),
        "credentials.a.use.in",
        "contradicts",
    ),
    "scheme with a name": (
        use("scheme: bearer, name: x-key, field: f"),
        "credentials.a.use.name",
        "contradicts",
    ),
    "scheme with a prefix": (
        use("scheme: bearer, prefix: x, field: f"),
        "credentials.a.use.prefix",
        "contradicts",
    ),
    "cookie without name": (
        use("in: cookie, field: f"),
        "credentials.a.use.name",
        "a cookie needs",
    ),
    "query without name": (
        use("in: unsafe_query, field: f"),
        "credentials.a.use.name",
        "a query needs",
    ),
    "no header name": (use("name: 'x key', field: f"), "credentials.a.use.name", "no name"),
    "header that routes": (use("name: Host, field: f"), "credentials.a.use.name", "routes"),
    "plain origin": (
        credential("use: {field: f, origins: ['http://api.example']}"),
        "credentials.a.use.origins.0",
        "in clear",
    ),
    "no time to stop": (HEAD + "stop: {delay: 20s, timeout: 20s}\n", "stop.delay", "no time"),
}


@pytest.mark.parametrize(("text", "key", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str, key: str, words: str) -> None:
    """Each contradiction is one fault, at its key, in words and with a remedy."""
    found = faults(text, uid=4711)

    assert [fault.key for fault in found] == [key]
    assert words in found[0].message
    assert found[0].remedy
    assert found[0].line is not None


def test_uid_proof_needs_a_socket() -> None:
    """Without Unix sockets nobody's uid can be seen."""
    text = client("proof: uid, uid: 1") + "listeners: {unix: false}\n"

    assert [(f.key, f.line) for f in faults(text)] == [("clients.c.proof", 5)]


ADVISED = {
    "plain http, spelled out": (
        vault("tls: {unsafe_plain_http: true}", address="http://vault.example"),
        "vault.address",
        "in clear",
    ),
    "skip verify": (
        vault("tls: {unsafe_skip_verify: true}"),
        "vault.tls.unsafe_skip_verify",
        "pose as Vault",
    ),
    "uid without effect": (client("uid: 7"), "clients.c.uid", "no effect"),
    "listed twice": (
        client("").replace("[a]", "[a, a]"),
        "clients.c.credentials.1",
        "twice",
    ),
    "credential nobody may have": (
        client("").replace("[a], ", "[]"),
        "credentials.a",
        "no client may have it",
    ),
    "client that may have nothing": (
        client("").replace("[a], ", "[]"),
        "clients.c",
        "no credential",
    ),
    "no credentials": (HEAD, "credentials", "no credential"),
    "API path": (
        credential(source="{kind: kv, mount: secret, path: data/a}"),
        "credentials.a.source.path",
        "data/",
    ),
    "key in the URL": (
        use("in: unsafe_query, name: key, field: f"),
        "credentials.a.use.in",
        "into URLs",
    ),
    "no origins": (credential("use: {field: f}"), "credentials.a.use.origins", "nowhere"),
}


@pytest.mark.parametrize(("text", "key", "words"), ADVISED.values(), ids=ADVISED.keys())
def test_advised(text: str, key: str, words: str) -> None:
    """What is dangerous or useless but works is said, with place and remedy."""
    found = [advice for advice in read(text).advice if advice.key == key]

    assert len(found) == 1
    assert words in found[0].message
    assert found[0].remedy
    assert found[0].file == "broker.yaml"


ALLOWED = {
    "http to loopback": vault("", address="http://127.0.0.1:8200"),
    "a given token": vault("", auth="{method: token_file, token_file: /token}"),
    "another uid": client("proof: uid, uid: 4712"),
    "the same uid where the token is the proof": client("proof: token, uid: 4711"),
    "sockets alone": HEAD + "listeners: {tcp: []}\n",
    "TCP alone": HEAD + "listeners: {unix: false}\n",
    "free ports": HEAD + "listeners: {tcp: ['127.0.0.1:0'], operations: '127.0.0.1:0'}\n",
    "no operations and no admin": HEAD + "listeners: {operations: '', admin_socket: ''}\n",
    "bearer": use("scheme: bearer, field: token"),
    "basic": use("scheme: basic, username_field: u, password_field: p"),
    "cookie": use("in: cookie, name: session, field: f"),
    "basic from fields": credential(
        "fields: {u: '{username}', p: '{password}'}\n"
        "    use: {scheme: basic, username_field: u, password_field: p}"
    ),
    "loopback upstream": credential("use: {field: f, origins: ['http://127.0.0.1:9']}"),
    "written lease": credential(
        source="{kind: leased, path: pki/issue/a, method: write, parameters: {ttl: 1h, x: null}}"
    ),
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED.keys())
def test_allowed(text: str) -> None:
    """What is right raises no fault."""
    assert read(text, uid=4711).settings.vault.address


def test_a_faulty_credential_still_counts_as_configured() -> None:
    """Its own fault is told; that a client lists it is no second one."""
    found = faults(credential("hold: x"))

    assert [fault.key for fault in found] == ["credentials.a.hold"]


@pytest.mark.parametrize(
    "template",
    [
        "",
        "x",
        "{a}",
        "{a-b}",
        "{a_b}{c}",
        "{{x}}",
        "{",
        "}",
        "{}",
        "{a b}",
        "{a!r}",
        "{a:1}",
        "{a.b}",
        "{a[0]}",
        "{0}",
        "{{a}",
        "{a}}",
        "{ä}",
    ],
)
def test_templates_are_judged_as_they_are_filled(template: str) -> None:
    """The configuration accepts a template if and only if the sources can fill it."""

    def verdict(read: object) -> object:
        assert callable(read)
        try:
            return read(template)
        except ValueError:
            return "refused"

    assert verdict(rules_credentials.placeholders) == verdict(sources.placeholders)
