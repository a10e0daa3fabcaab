"""Environment variables over and under the configuration file."""

from __future__ import annotations

import pytest

from broker.settings.environment import AMBIENT, UNUSED
from tests.unit.test_settings_load import HEAD, faults, read

BARE = "vault:\n  auth: {role: tools}\n"


def test_our_variables_win_over_the_file() -> None:
    """A variable with our prefix replaces what the file says, deep keys and lists included."""
    settings = read(
        HEAD,
        BROKER__VAULT__ADDRESS="https://other.example",
        BROKER__VAULT__TLS__CA_FILE="/ca.pem",
        BROKER__VAULT__TIMEOUT="3s",
        BROKER__VAULT__LIMITS__BURST="7",
        BROKER__VAULT__LIMITS__REQUESTS_PER_SECOND="2.5",
        BROKER__LISTENERS__UNIX="FALSE",
        BROKER__LISTENERS__TCP="127.0.0.1:1, [::1]:1",
        BROKER__LISTENERS__OPERATIONS="",
        BROKER__LOG__LEVEL="debug",
    ).settings

    assert settings.vault.address == "https://other.example"
    assert settings.vault.tls.ca_file == "/ca.pem"
    assert settings.vault.timeout == 3.0
    assert settings.vault.limits.burst == 7
    assert settings.vault.limits.requests_per_second == 2.5
    assert settings.listeners.unix is False
    assert settings.listeners.tcp == ("127.0.0.1:1", "[::1]:1")
    assert settings.listeners.operations == ""
    assert settings.log.level == "debug"
    assert settings.vault.auth.role == "tools"


def test_what_kubernetes_injects_for_a_service_means_nothing() -> None:
    """A Service called broker, or vault, does not configure anything."""
    loaded = read(
        HEAD,
        BROKER_PORT="tcp://10.0.0.1:80",
        BROKER_SERVICE_HOST="10.0.0.1",
        BROKER_PORT_8210_TCP_ADDR="10.0.0.1",
        VAULT_PORT="tcp://10.0.0.2:8200",
        VAULT_SERVICE_HOST="10.0.0.2",
        BROKER_URL="http://127.0.0.1:8210",
    )

    assert loaded.settings == read(HEAD).settings
    assert loaded.advice == read(HEAD).advice


@pytest.mark.parametrize(
    ("name", "value", "key", "remedy"),
    [
        ("BROKER__VAULT__ADRESS", "x", "vault.adress", "BROKER__VAULT__ADDRESS"),
        ("BROKER__VAULT", "x", "vault", "docs/configuration.md"),
        ("BROKER__VAULT__TLS", "x", "vault.tls", "BROKER__VAULT__TLS__"),
        ("BROKER__WHATEVER__THIS__IS", "x", "whatever.this.is", "docs/configuration.md"),
        ("BROKER__", "x", "", "docs/configuration.md"),
        ("BROKER__CLIENTS__A__PROOF", "uid", "clients.a.proof", "reviewed place"),
        ("BROKER__CREDENTIALS__A__HOLD", "1h", "credentials.a.hold", "reviewed place"),
        ("BROKER__LISTENERS__UNIX", "yes", "listeners.unix", "true or false"),
        ("BROKER__VAULT__LIMITS__BURST", "many", "vault.limits.burst", "number"),
        ("BROKER__VAULT__TIMEOUT", "10", "vault.timeout", "10s"),
        ("BROKER__LISTENERS__TCP", "127.0.0.1:1,x", "listeners.tcp.1", "127.0.0.1:8210"),
        ("BROKER__LOG__LEVEL", "debugg", "log.level", "debug"),
        ("BROKER__VAULT__NAMESPACE", "hvs." + "a" * 24, "vault.namespace", "Take it out"),
        ("VAULT_SKIP_VERIFY", "maybe", "vault.tls.unsafe_skip_verify", "true or false"),
        ("VAULT_ADDR", "unix:///run/vault.sock", "vault.address", "https://"),
        ("BAO_ADDR", "vault.example:8200", "vault.address", "https://"),
        ("VAULT_ADDR", "https://user:horse@vault.example", "vault.address", "Take it out"),
        ("VAULT_CLIENT_TIMEOUT", "soon", "vault.timeout", "30s"),
    ],
)
def test_a_wrong_variable_is_a_fault_that_names_it(
    name: str, value: str, key: str, remedy: str
) -> None:
    """The fault stands at the variable, gives its key and what to do."""
    found = faults(
        BARE if "ADDR" in name and "ADDRESS" not in name else HEAD, uid=None, **{name: value}
    )

    own = [fault for fault in found if fault.file == name]
    assert [(fault.line, fault.key) for fault in own] == [(None, key)]
    assert remedy in own[0].remedy
    assert "horse" not in "".join(map(str, found))


def test_variables_of_vaults_tools_fill_what_the_file_leaves_open() -> None:
    """Each of the expected variables sets its key when nothing else does."""
    settings = read(
        BARE,
        VAULT_ADDR="https://vault.example",
        VAULT_NAMESPACE="team-a",
        VAULT_CLIENT_TIMEOUT="20",
        VAULT_CACERT="/ca.pem",
        VAULT_CLIENT_CERT="/cert.pem",
        VAULT_CLIENT_KEY="/key.pem",
        VAULT_TLS_SERVER_NAME="vault.internal",
        VAULT_SKIP_VERIFY="0",
    ).settings.vault

    assert settings.address == "https://vault.example"
    assert settings.namespace == "team-a"
    assert settings.timeout == 20.0
    assert settings.tls.ca_file == "/ca.pem"
    assert settings.tls.cert_file == "/cert.pem"
    assert settings.tls.key_file == "/key.pem"
    assert settings.tls.server_name == "vault.internal"
    assert settings.tls.unsafe_skip_verify is False
    assert read(HEAD, BAO_CAPATH="/ca").settings.vault.tls.ca_path == "/ca"


def test_skipping_verification_from_the_environment_is_said() -> None:
    """VAULT_SKIP_VERIFY works where the file is silent, with advice that names it."""
    loaded = read(HEAD, VAULT_SKIP_VERIFY="t")

    assert loaded.settings.vault.tls.unsafe_skip_verify is True
    assert [a.key for a in loaded.advice if a.file == "VAULT_SKIP_VERIFY"] == [
        "vault.tls.unsafe_skip_verify"
    ]


def test_skipping_verification_against_a_ca_in_the_file_is_refused() -> None:
    """An ambient variable cannot switch off the verification that the file asks for."""
    found = faults(HEAD + "  tls: {ca_file: /ca}\n", VAULT_SKIP_VERIFY="true")

    assert [(f.file, f.key) for f in found] == [
        ("VAULT_SKIP_VERIFY", "vault.tls.unsafe_skip_verify")
    ]


def test_the_file_wins_over_vaults_variables_and_says_so() -> None:
    """A different ambient value is not used, and the start tells why."""
    loaded = read(HEAD, VAULT_ADDR="https://elsewhere.example")

    assert loaded.settings.vault.address == "https://vault.example:8200"
    assert [(a.file, "the file counts" in a.message) for a in loaded.advice[:1]] == [
        ("VAULT_ADDR", True)
    ]


def test_the_same_value_twice_is_not_worth_a_word() -> None:
    """An ambient value equal to the file's raises no advice."""
    assert read(HEAD, VAULT_ADDR="https://vault.example:8200").advice == read(HEAD).advice


def test_openbaos_variables_come_before_vaults() -> None:
    """BAO_X wins over VAULT_X, even when empty, as in OpenBao's own tools."""
    both = read(BARE, BAO_ADDR="https://bao.example", VAULT_ADDR="https://vault.example")
    hidden = read(HEAD, BAO_NAMESPACE="", VAULT_NAMESPACE="team-a")

    assert both.settings.vault.address == "https://bao.example"
    assert hidden.settings.vault.namespace == ""


def test_our_variable_wins_over_all() -> None:
    """BROKER__ beats the file and the ambient variables."""
    loaded = read(
        HEAD, BROKER__VAULT__NAMESPACE="ours", BAO_NAMESPACE="theirs", VAULT_NAMESPACE="others"
    )

    assert loaded.settings.vault.namespace == "ours"


@pytest.mark.parametrize("name", [f"{p}_{s}" for s in UNUSED for p in ("BAO", "VAULT")])
def test_variables_that_are_never_used_are_named(name: str) -> None:
    """A token or a knob that changes nothing is told, with what to do; never its value."""
    loaded = read(HEAD, uid=None, **{name: "correct-horse"})

    own = [advice for advice in loaded.advice if advice.file == name]
    assert len(own) == 1
    assert own[0].remedy
    assert "horse" not in repr(loaded)


def test_no_variable_is_both_used_and_unused() -> None:
    """The two tables of ambient variables are apart."""
    assert not AMBIENT.keys() & UNUSED.keys()


def test_a_section_of_the_wrong_shape_stays_the_files_fault() -> None:
    """A variable below a section that is no mapping hides nothing."""
    found = faults(HEAD + "log: loud\n", BROKER__LOG__LEVEL="debug")

    assert [(f.file, f.line, f.key) for f in found] == [("broker.yaml", 4, "log")]
