"""What the configuration may and may not say about rotation."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from broker.app import translate, translate_rotation
from broker.credentials import plan
from broker.credentials.model import CredentialKey, StaticRoleSource
from broker.rotation.model import KvPath, Policy, RotationSpec
from broker.settings import rules_rotation
from broker.settings.domain_rotation import (
    GeneratedDriverSettings,
    HttpDriverSettings,
    RotationSettings,
)
from tests.unit.test_settings_load import HEAD, faults, read

FILE = (
    HEAD
    + """
rotation:
  mode: sidecar
  installation: here
clients:
  c: {credentials: [a, b]}
credentials:
  a:
    source: {kind: kv, mount: secret, path: a}
    use: {name: x-api-key, field: api_key, origins: ['https://api.example']}
    rotation:
      driver:
        kind: http
        auth: admin
        create:
          method: POST
          url: https://api.example/keys
          body: {name: "{label}", tags: [{of: "{credential}"}]}
          answer: {fields: {api_key: /key}, id: /id}
        list:
          method: GET
          url: https://api.example/keys?prefix={label_prefix}
          answer: {items: /keys, id: /id, label: /name}
        retire: {method: DELETE, url: 'https://api.example/keys/{id}'}
      prove: {method: GET, url: https://api.example/whoami}
  b:
    source: {kind: kv, mount: secret, path: b}
    use: {name: x-api-key, field: api_key, origins: ['https://b.example']}
    rotation:
      driver: {kind: generated, mount: secret, path: b-accepted, field: api_key}
      prove: {method: GET, url: https://b.example/whoami}
  admin:
    source: {kind: kv, mount: secret, path: admin}
    use: {scheme: bearer, field: token, origins: ['https://api.example']}
"""
)
DRIVER = "credentials.a.rotation.driver"


def changed(path: str, value: object) -> str:
    """The file with one value set, or taken out when it is None."""
    data = yaml.safe_load(FILE)
    *outer, last = path.split(".")
    inner = data
    for part in outer:
        inner = inner.setdefault(part, {})
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return yaml.safe_dump(data, sort_keys=False)


def test_a_right_file_has_neither_faults_nor_advice() -> None:
    """The file all others here differ from by one value."""
    loaded = read(FILE)

    assert loaded.advice == ()
    rotation = loaded.settings.credentials["a"].rotation
    assert rotation is not None
    assert isinstance(rotation.driver, HttpDriverSettings)
    other = loaded.settings.credentials["b"].rotation
    assert other is not None
    assert isinstance(other.driver, GeneratedDriverSettings)


REFUSED = {
    "no installation": ("rotation.installation", None, "rotation.installation", "missing"),
    "two leaders": (
        "rotation.election",
        {"lease_duration": "10s"},
        "rotation.election.lease_duration",
        "two would lead",
    ),
    "one late attempt": (
        "rotation.election",
        {"retry_period": "9s"},
        "rotation.election.renew_deadline",
        "one late attempt",
    ),
    "no pause": (
        "rotation.election",
        {"retry_period": "0s"},
        "rotation.election.retry_period",
        "no time",
    ),
    "leased source": (
        "credentials.b.source",
        {"kind": "leased", "path": "database/creds/b"},
        "credentials.b.rotation",
        "kind kv, version 2",
    ),
    "KV version 1": (
        "credentials.b.source.version",
        1,
        "credentials.b.rotation",
        "kind kv, version 2",
    ),
    "short overlap": (
        "credentials.b.rotation.overlap",
        "3695s",
        "credentials.b.rotation.overlap",
        "shorter than 3696s",
    ),
    "young keys": (
        "credentials.b.rotation.max_age",
        "2h",
        "credentials.b.rotation.max_age",
        "before its predecessor",
    ),
    "expiry nobody writes": (
        "credentials.a.source.expiry",
        {"field": "expires_at"},
        "credentials.a.source.expiry",
        "does not write",
    ),
    "expiry in metadata": (
        "credentials.b.source.expiry",
        {"custom_metadata": "expires_at"},
        "credentials.b.source.expiry",
        "does not write",
    ),
    "one path, two rotations": (
        "credentials.b.source.path",
        "a",
        "credentials.b.source.path",
        "another rotation",
    ),
    "state on the readers' path": (
        "credentials.b.source.path",
        "broker/rotation/a",
        "credentials.b.source.path",
        "the state of a's rotation",
    ),
    "accepted keys on the readers' path": (
        "credentials.b.rotation.driver.path",
        "b",
        "credentials.b.rotation.driver.path",
        "another rotation",
    ),
    "no list": (f"{DRIVER}.list", None, f"{DRIVER}.list", "could not be found"),
    "no auth": (f"{DRIVER}.auth", "other", f"{DRIVER}.auth", "not configured"),
    "auth without use": (
        "credentials.admin.use",
        None,
        f"{DRIVER}.auth",
        "does not say where",
    ),
    "no time": (f"{DRIVER}.timeout", "0s", f"{DRIVER}.timeout", "no time"),
    "no label": (f"{DRIVER}.create.body", {"x": "y"}, f"{DRIVER}.create", "does not label"),
    "no id": (
        f"{DRIVER}.retire.url",
        "https://api.example/keys",
        f"{DRIVER}.retire",
        "which key",
    ),
    "no life": (
        f"{DRIVER}.create.body",
        {"name": "{label}", "until": "{expires_unix}"},
        f"{DRIVER}.create.life",
        "when the key expires",
    ),
    "field nobody gets": (
        f"{DRIVER}.create.answer.fields",
        {"other": "/key"},
        f"{DRIVER}.create.answer.fields",
        "nothing that is handed out",
    ),
    "generated field nobody gets": (
        "credentials.b.rotation.driver.field",
        "other",
        "credentials.b.rotation.driver.field",
        "nothing that is handed out",
    ),
    "pointer without slash": (
        f"{DRIVER}.create.answer.id",
        "id",
        f"{DRIVER}.create.answer.id",
        "JSON pointer",
    ),
    "pointer with a bare tilde": (
        f"{DRIVER}.list.answer.items",
        "/a~2",
        f"{DRIVER}.list.answer.items",
        "JSON pointer",
    ),
    "template with open brace": (
        f"{DRIVER}.create.headers",
        {"x-name": "{label"},
        f"{DRIVER}.create.headers.x-name",
        "no template",
    ),
    "unknown placeholder": (
        f"{DRIVER}.create.body",
        {"name": "{label}", "tags": ["{ttl}"]},
        f"{DRIVER}.create.body.tags.0",
        "unknown placeholder: ttl",
    ),
    "id in create": (
        f"{DRIVER}.create.url",
        "https://api.example/keys/{id}",
        f"{DRIVER}.create.url",
        "unknown placeholder: id",
    ),
    "placeholder in a proof": (
        "credentials.b.rotation.prove.url",
        "https://b.example/{id}",
        "credentials.b.rotation.prove.url",
        "unknown placeholder: id",
    ),
    "placeholder as host": (
        f"{DRIVER}.retire.url",
        "https://{id}/keys",
        f"{DRIVER}.retire.url",
        "fixed host",
    ),
    "user in the URL": (
        f"{DRIVER}.retire.url",
        "https://user@api.example/{id}",
        f"{DRIVER}.retire.url",
        "fixed host",
    ),
    "no URL": (f"{DRIVER}.retire.url", "/keys/{id}", f"{DRIVER}.retire.url", "fixed host"),
    "fragment": (
        f"{DRIVER}.retire.url",
        "https://api.example/{id}#x",
        f"{DRIVER}.retire.url",
        "no URL that can be sent",
    ),
    "in clear": (
        f"{DRIVER}.retire.url",
        "http://api.example/{id}",
        f"{DRIVER}.retire.url",
        "in clear",
    ),
    "another host": (
        f"{DRIVER}.retire.url",
        "https://evil.example/{id}",
        f"{DRIVER}.retire.url",
        "where admin may not be sent",
    ),
    "another host for the proof": (
        "credentials.b.rotation.prove.url",
        "https://api.example/",
        "credentials.b.rotation.prove.url",
        "where b may not be sent",
    ),
    "literal Authorization": (
        f"{DRIVER}.list.headers",
        {"Authorization": "Bearer x"},
        f"{DRIVER}.list.headers.Authorization",
        "header for a secret",
    ),
    "literal key in a header": (
        f"{DRIVER}.list.headers",
        {"x-api-key": "correct-horse"},
        f"{DRIVER}.list.headers.x-api-key",
        "literal secret",
    ),
    "literal key in a body": (
        f"{DRIVER}.create.body",
        {"name": "{label}", "admin": {"password": "correct-horse"}},
        f"{DRIVER}.create.body.admin.password",
        "literal secret",
    ),
    "literal key where a pointer belongs": (
        f"{DRIVER}.create.answer.fields",
        {"api_key": "/key", "password": "correct-horse"},
        f"{DRIVER}.create.answer.fields.password",
        "literal secret",
    ),
    "header that frames": (
        f"{DRIVER}.list.headers",
        {"Host": "x"},
        f"{DRIVER}.list.headers.Host",
        "frames",
    ),
    "header with a space": (
        f"{DRIVER}.list.headers",
        {"x y": "x"},
        f"{DRIVER}.list.headers.x y",
        "no name of a header",
    ),
    "body of a GET": (f"{DRIVER}.list.body", {"a": "b"}, f"{DRIVER}.list.body", "in a GET"),
    "nested form": (f"{DRIVER}.create.encoding", "form", f"{DRIVER}.create.body", "nested"),
    "no such driver": (
        f"{DRIVER}.kind",
        "grpc",
        DRIVER,
        "needs a kind: http, generated or vault_role",
    ),
    "key of another driver": (f"{DRIVER}.prefix", "x", f"{DRIVER}.prefix", "kind generated"),
    "short key": (
        "credentials.b.rotation.driver.length",
        21,
        "credentials.b.rotation.driver.length",
        "at least 22",
    ),
    "in place of nothing": (
        "credentials.b.rotation",
        {"driver": {"kind": "vault_role"}},
        "credentials.b.rotation.driver",
        "static_role",
    ),
    "a life within the overlap": (
        f"{DRIVER}.create.life",
        "2h",
        f"{DRIVER}.create.life",
        "not longer than overlap",
    ),
    "two proofs that differ": (
        "credentials.b.prove",
        {"method": "GET", "url": "https://b.example/other"},
        "credentials.b.rotation.prove",
        "contradicts credentials.b.prove",
    ),
    "another host for the credential's proof": (
        "credentials.admin.prove",
        {"method": "GET", "url": "https://b.example/"},
        "credentials.admin.prove.url",
        "where admin may not be sent",
    ),
    "a proof without time": (
        "credentials.admin.prove",
        {"method": "GET", "url": "https://api.example/", "timeout": "0s"},
        "credentials.admin.prove.timeout",
        "no time",
    ),
    "a status that refuses nothing": (
        "credentials.admin.report_statuses",
        [401, 500],
        "credentials.admin.report_statuses.1",
        "",
    ),
    "no status at all": (
        "credentials.admin.report_statuses",
        [],
        "credentials.admin.report_statuses",
        "",
    ),
    "proof without a place": (
        "credentials.b.use",
        None,
        "credentials.b.rotation.prove",
        "cannot be sent",
    ),
}


@pytest.mark.parametrize(("path", "value", "key", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(path: str, value: object, key: str, words: str) -> None:
    """Each contradiction is one fault, at its key, with a line and a remedy, without the secret."""
    found = faults(changed(path, value))

    assert [fault.key for fault in found] == [key]
    assert words in found[0].message
    assert found[0].remedy
    assert found[0].line is not None
    assert "correct-horse" not in f"{found[0]} {found[0].remedy}"


ADVISED = {
    "off": ("rotation.mode", "off", "credentials.a.rotation", "rotation.mode is off"),
    "unproved": (
        "credentials.b.rotation.prove",
        None,
        "credentials.b.rotation.prove",
        "without having been tried",
    ),
}


@pytest.mark.parametrize(("path", "value", "key", "words"), ADVISED.values(), ids=ADVISED.keys())
def test_advised(path: str, value: object, key: str, words: str) -> None:
    """What works but should be known is said."""
    found = [advice for advice in read(changed(path, value)).advice if advice.key == key]

    assert [words in one.message for one in found] == [True]
    assert found[0].remedy


def test_a_mode_without_rotations_is_advised() -> None:
    """Somebody who switches rotation on probably meant some credential."""
    advice = read(HEAD + "rotation: {mode: rotator, installation: x}\n").advice

    assert "rotation.mode" in [one.key for one in advice]


def test_a_driver_that_cannot_list_may_be_accepted() -> None:
    """Lost keys are accepted when somebody says so."""
    data = yaml.safe_load(changed(f"{DRIVER}.list", None))
    data["credentials"]["a"]["rotation"]["orphans"] = "accepted"
    text = yaml.safe_dump(data)

    assert read(text).settings.credentials["a"].rotation is not None


def test_the_jitter_is_the_keepers() -> None:
    """The least overlap reckons with the jitter that readers really have."""
    assert rules_rotation.POLL_JITTER == plan.SPREAD


def test_defaults_are_off_and_as_in_client_go() -> None:
    """Nothing rotates unasked; the times of the election are client-go's."""
    rotation = read(HEAD).settings.rotation

    assert rotation == RotationSettings()
    assert (
        rotation.mode,
        rotation.election.lease_duration,
        rotation.election.renew_deadline,
        rotation.election.retry_period,
    ) == ("off", 15.0, 10.0, 2.0)


def test_the_default_overlap_fits_the_default_source() -> None:
    """Who configures no times gets some that start."""
    assert read(FILE).settings.credentials["b"].rotation is not None


def test_specs_are_plain_values_for_the_rotator() -> None:
    """Each rotating credential has its state path, its readers' path and its policy."""
    specs = translate_rotation.specs(read(FILE).settings)

    assert list(specs) == ["a", "b"]
    assert specs["b"] == RotationSpec(
        key=CredentialKey("b"),
        state=KvPath("secret", "broker/rotation/b"),
        readers=KvPath("secret", "b"),
        policy=Policy(max_age=30 * 86400.0, before_expiry=86400.0, settle=30.0, overlap=7200.0),
    )


STATIC: dict[str, Any] = {
    "source": {"kind": "static_role", "path": "database/static-creds/b"},
    "rotation": {"driver": {"kind": "vault_role"}, "max_age": "7d"},
}


def test_a_static_role_is_rotated_in_place() -> None:
    """It has no path that a rotation writes, and needs no overlap."""
    loaded = read(changed("credentials.b", STATIC))

    assert loaded.advice == ()
    assert translate_rotation.specs(loaded.settings)["b"].readers is None
    assert translate.credential(loaded.settings.credentials["b"]).source == StaticRoleSource(
        "database/static-creds/b", poll=60.0, max_staleness=3600.0
    )


def test_a_static_role_has_no_proof() -> None:
    """Readers have the new password before anybody could try it."""
    rotation = {**STATIC["rotation"], "prove": {"method": "GET", "url": "https://b.example/"}}
    found = faults(changed("credentials.b", {**STATIC, "rotation": rotation}))

    assert [fault.key for fault in found] == ["credentials.b.rotation.prove"]


@pytest.mark.parametrize(
    ("extra", "key"), [({"poll": "100ms"}, "poll"), ({"max_staleness": "30s"}, "max_staleness")]
)
def test_a_static_role_is_polled_like_a_kv_value(extra: dict[str, str], key: str) -> None:
    """The same bounds hold."""
    found = faults(changed("credentials.b", {**STATIC, "source": {**STATIC["source"], **extra}}))

    assert [fault.key for fault in found] == [f"credentials.b.source.{key}"]


def test_nothing_rotates_when_it_is_off() -> None:
    """With mode off there is nothing to do, whatever credentials say."""
    assert translate_rotation.specs(read(changed("rotation.mode", "off")).settings) == {}


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("http://10.0.0.1:443", "in clear"),
        ("10.0.0.1:443", "is not an origin"),
        ("https://10.0.0.1/api", "something after the host"),
        ("http://127.0.0.1:8001", ""),
        ("https://[fd00::1]:443", ""),
    ],
)
def test_the_kubernetes_api_is_an_origin_with_tls(address: str, fault: str) -> None:
    """The service-account token crosses no network in clear."""
    text = f"{FILE}\nkubernetes: {{address: '{address}'}}\n"
    if fault:
        assert [str(one) for one in faults(text) if fault in str(one)]
    else:
        assert read(text).settings.kubernetes.address == address


def test_one_proof_serves_both() -> None:
    """Written at the credential it is the rotation's too; twice the same is no contradiction."""
    data = yaml.safe_load(FILE)
    prove = data["credentials"]["b"]["rotation"].pop("prove")
    data["credentials"]["b"]["prove"] = prove
    loaded = read(yaml.safe_dump(data, sort_keys=False))
    assert loaded.advice == ()
    one = loaded.settings.credentials["b"]
    assert one.rotation is not None
    assert one.prove is not None
    assert one.rotation.prove == one.prove
    data["credentials"]["b"]["rotation"]["prove"] = prove
    again = read(yaml.safe_dump(data, sort_keys=False))
    assert (again.settings, again.advice) == (loaded.settings, ())


def test_a_proof_of_a_password_replaced_in_place_is_the_credentials_alone() -> None:
    """Its rotation can prove nothing before readers have it."""
    static = {
        **STATIC,
        "use": {"scheme": "basic", "username_field": "username", "password_field": "password"},
        "prove": {"method": "GET", "url": "https://b.example/"},
    }
    static["use"]["origins"] = ["https://b.example"]
    one = read(changed("credentials.b", static)).settings.credentials["b"]
    assert one.rotation is not None
    assert (one.prove is None, one.rotation.prove) == (False, None)


def test_statuses_that_count_are_told_apart_once() -> None:
    """Sorted, each once; 401 alone when nothing is said."""
    loaded = read(changed("credentials.b.report_statuses", [403, 401, 403])).settings
    assert loaded.credentials["b"].report_statuses == (401, 403)
    assert loaded.credentials["a"].report_statuses == (401,)
    assert translate.credential(loaded.credentials["b"]).report_statuses == (401, 403)
