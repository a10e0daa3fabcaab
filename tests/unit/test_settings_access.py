"""Roles and policy files in the configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker.errors import SettingsErrors
from broker.settings.diff import diff
from broker.settings.domain import Settings
from broker.settings.domain_access import PolicySettings, PolicyText, RoleSettings, WindowSettings
from broker.settings.load import digest, load, parse_settings, policy_paths
from broker.settings.processes import held
from broker.settings.rules_access import granted

HEAD = """\
vault: {address: "https://vault.example", auth: {role: x}}
clients: {search: {credentials: [web]}, shop: {}}
credentials:
  web: {source: {kind: kv, mount: secret, path: web}}
  orders: {source: {kind: kv, mount: secret, path: orders}}
"""


def parsed(text: str) -> Settings:
    return parse_settings(HEAD + text, file="broker.yaml", environ={}).settings


def faults(text: str) -> list[str]:
    with pytest.raises(SettingsErrors) as refused:
        parsed(text)
    return [f"{one} | {one.remedy}" for one in refused.value.faults]


def test_a_whole_role() -> None:
    """Every key arrives."""
    text = """
roles:
  staff:
    callers: [shop]
    subjects: ["*@x.example"]
    tools: ["orders.*"]
    credentials: [orders]
    paths: ["secret/*"]
    times: [{zone: Europe/Zurich, days: [mon, fri], from: "08:30", to: "24:00"}]
    addresses: [10.0.0.0/8]
    actions: [handout, admin]
"""
    assert parsed(text).roles["staff"] == RoleSettings(
        name="staff",
        callers=("shop",),
        subjects=("*@x.example",),
        tools=("orders.*",),
        credentials=("orders",),
        paths=("secret/*",),
        times=(WindowSettings("Europe/Zurich", ("mon", "fri"), 510, 1440),),
        addresses=("10.0.0.0/8",),
        actions=("handout", "admin"),
    )


def test_what_is_left_out_is_wide_or_nothing() -> None:
    """Without times always, without tools any, without holders nobody."""
    text = 'roles: {r: {times: [{from: "22:00", to: "06:00"}]}}'
    role = parsed(text).roles["r"]
    assert (role.callers, role.subjects, role.tools) == ((), (), ())
    assert role.actions == ("handout", "report", "read_status", "call_tool")
    (window,) = role.times
    assert (window.zone, len(window.days), window.start, window.end) == ("UTC", 7, 1320, 360)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("callers: [shop, shpo]", "callers.1: lists shpo, which is not configured"),
        ("credentials: [mail]", "credentials.0: lists mail, which is not configured"),
        ("callers: []", "callers: is empty | Write what belongs there, or remove the key."),
        ("tools: ['a?']", "tools.0: is no name or glob of tools"),
        ("paths: [/secret]", "paths.0: is not a glob of paths"),
        ("paths: ['secret/a**']", "paths.0: has ** within a component"),
        ("addresses: [10.0.0.1/8]", "has bits set behind its prefix of 8 | Write 10.0.0.0/8"),
        ("addresses: [here]", "addresses.0: is not a network"),
        ("addresses: ['::ffff:10.0.0.0/104']", "is IPv4 within IPv6 | Write 10.0.0.0/8."),
        ("addresses: ['::ffff:10.0.0.1']", "is IPv4 within IPv6 | Write 10.0.0.1/32."),
        ("addresses: ['fe80::%1/64']", "names the zone of an address"),
        ("actions: [hand]", "Did you mean handout?"),
        ("actons: [handout]", "actons: is not a key | Did you mean actions?"),
        ("times: [{zone: Mars/Base}]", "times.0.zone: is no time zone"),
        ("times: [{zone: ../../etc/passwd}]", "times.0.zone: is no time zone"),
        ("times: [{days: [monday]}]", "Did you mean mon?"),
        ("times: [{from: '8:00'}]", "times.0.from: is not a time of day"),
        ("times: [{from: '24:01'}]", "times.0.from: is not a time of day"),
        ("times: [{form: '08:00'}]", "times.0.form: is not a key | Did you mean from?"),
        ("times: [{from: '08:00', to: '08:00'}]", "times.0.to: is the same as from"),
    ],
)
def test_faults_of_a_role(text: str, expected: str) -> None:
    """Each with its line, its key and what to write instead."""
    (told,) = faults(f"roles:\n  r:\n    {text}\n")
    assert told.startswith("broker.yaml:8: roles.r.")
    assert expected in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("files: [a, '']", "policies.files.1: is empty"),
        ("files: [a, a]", "policies.files.1: lists a twice"),
        ("arguments: {a: number}", "policies.arguments.a: must be text"),
        ("zone: nowhere", "policies.zone: is no time zone"),
        ("file: [a]", "policies.file: is not a key | Did you mean files?"),
    ],
)
def test_faults_of_policies(text: str, expected: str) -> None:
    """As for roles."""
    (told,) = faults(f"policies: {{{text}}}\n")
    assert expected in told


def test_an_arguments_name_is_no_secret() -> None:
    """A tool may have an argument called password; its kind stands beside it."""
    found = parsed("policies: {arguments: {password: text, limit: whole_number}}").policies
    assert found.arguments == {"password": "text", "limit": "whole_number"}


def test_neither_roles_nor_policies_come_from_the_environment() -> None:
    """Who may have what stands in one reviewed place."""
    environ = {"BROKER__POLICIES__FILES": "x", "BROKER__ROLES__R__CALLERS": "shop"}
    with pytest.raises(SettingsErrors) as refused:
        parse_settings(HEAD, file="broker.yaml", environ=environ)
    assert [one.key for one in refused.value.faults] == ["policies.files", "roles.r.callers"]


def test_lists_are_not_called_incomplete_beside_roles() -> None:
    """What a client may have is more than its list then."""
    plain = parse_settings(HEAD, file="broker.yaml", environ={})
    assert {one.key for one in plain.advice} == {"credentials.orders", "clients.shop"}
    text = HEAD + "roles: {r: {callers: [shop], credentials: [orders]}}"
    assert parse_settings(text, file="broker.yaml", environ={}).advice == ()


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "broker.yaml"
    file.write_text(HEAD + "policies:\n  files:\n    - team.cedar\n")
    return file


def test_policy_files_are_read_beside_the_configuration(config: Path) -> None:
    """Whatever the working directory is; their content is part of the digest."""
    team = config.with_name("team.cedar")
    team.write_text("// one\n")
    first = load(config, {})
    assert first.settings.policies.texts == (PolicyText(str(team), "// one\n"),)
    assert policy_paths(config, config.read_bytes()) == (team,)
    assert first.digest == digest(config.read_bytes(), [team.read_bytes()])
    team.write_text("// two\n")
    second = load(config, {})
    assert second.digest != first.digest
    assert diff(first.settings, second.settings).hot == ("policies.texts",)


def test_a_policy_file_that_cannot_be_used_is_a_fault(config: Path) -> None:
    """With the line that names it."""
    with pytest.raises(SettingsErrors) as refused:
        load(config, {})
    (fault,) = refused.value.faults
    assert (fault.line, fault.key) == (8, "policies.files.0")
    assert "cannot be read: No such file" in str(fault)
    config.with_name("team.cedar").write_bytes(b"\xff")
    with pytest.raises(SettingsErrors, match="is not UTF-8 text"):
        load(config, {})
    config.with_name("team.cedar").write_bytes(b"/" * 1_000_001)
    with pytest.raises(SettingsErrors, match="is larger than"):
        load(config, {})


def test_a_secret_in_a_policy_file_is_found_and_not_repeated(config: Path) -> None:
    """As in the configuration itself."""
    config.with_name("team.cedar").write_text("//\n// hvs.CAESIJ1234567890abcdefghij\n")
    with pytest.raises(SettingsErrors) as refused:
        load(config, {})
    (fault,) = refused.value.faults
    assert fault.line == 2
    assert "a Vault token" in str(fault)
    assert "CAESI" not in str(fault)


def test_paths_of_an_unusable_configuration_are_still_known(tmp_path: Path) -> None:
    """So that a file that comes later is noticed."""
    file = tmp_path / "broker.yaml"
    assert policy_paths(file, b"policies: {files: [a, 5, b]}\nvalut: x") == (
        tmp_path / "a",
        tmp_path / "b",
    )
    for nothing in (b"", b"\xff", b"policies: 5", b"policies: {files: x}", b"- a"):
        assert policy_paths(file, nothing) == ()


# --- what changes while it runs, what a process holds --------------------------------


def test_roles_and_policies_are_applied_at_once() -> None:
    """By their keys; also their removal."""
    old = parsed("roles: {r: {callers: [shop], tools: [a]}, s: {tools: [b]}}")
    roles = {"r": replace(old.roles["r"], tools=("b",)), "t": RoleSettings("t")}
    new = replace(old, roles=roles, policies=PolicySettings(zone="Asia/Kolkata"))
    found = diff(old, new)
    assert found.hot == ("roles.r", "roles.s", "roles.t", "policies.zone")
    assert found.restart == ()
    assert found.effective == new


LENDING = """\
vault: {address: "https://vault.example", auth: {role: x}}
clients: {search: {credentials: [web]}, shop: {}}
rotation: {mode: sidecar, installation: here}
credentials:
  admin:
    source: {kind: kv, mount: secret, path: admin}
    use: {scheme: bearer, field: k, origins: ["https://a.example"]}
  web:
    source: {kind: kv, mount: secret, path: web}
    rotation:
      max_age: 7d
      overlap: 2h
      orphans: accepted
      driver:
        kind: http
        auth: admin
        create: {method: POST, url: "https://a.example/k", answer: {fields: {k: /k}, id: /id}}
        retire: {method: DELETE, url: "https://a.example/k/{id}"}
"""


def test_what_a_role_or_policy_names_is_held() -> None:
    """Also when a driver uses it; what only drivers use is not, whatever globs there are."""
    plain = parse_settings(LENDING, file="b", environ={}).settings
    plain = replace(plain, rotation=replace(plain.rotation, mode="rotator"))
    assert held(plain, "broker") == ("web",)
    wide = RoleSettings("r", ("shop",), paths=("**",))
    assert held(replace(plain, roles={"r": wide}), "broker") == ("web",)
    named = RoleSettings("r", ("shop",), credentials=("admin",))
    assert held(replace(plain, roles={"r": named}), "broker") == ("admin", "web")
    comment = PolicyText("p", '// Credential::"admin"')
    assert granted(replace(plain, policies=PolicySettings(texts=(comment,)))) == {"web"}
    text = PolicyText("p", 'permit (principal, action, resource == Credential :: "admin");')
    policies = PolicySettings(texts=(text,))
    assert granted(replace(plain, policies=policies)) == {"admin", "web"}
    assert held(replace(plain, policies=policies), "broker") == ("admin", "web")


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("10.0.0.0/08", "10.0.0.0/8"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("FD00:0::/8", "fd00::/8"),
    ],
)
def test_networks_have_one_spelling(written: str, known: str) -> None:
    """Cedar takes no other, and a role that it cannot judge refuses everything."""
    role = parsed(f"roles: {{r: {{callers: [shop], addresses: ['{written}']}}}}\n").roles["r"]
    assert role.addresses == (known,)
