"""``broker check`` on a real OpenBao: all well, and each layer that can be broken."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.cli.exit_codes import ExitCode
from broker.cli.main import main
from broker.demo.openbao import OpenBao
from tests.conftest import KubernetesAuth
from tests.support.patience import until

pytestmark = pytest.mark.real

VALUE = "canary-value-of-search"

POLICY = """\
path "secret/data/check/*"  { capabilities = ["read"] }
path "kv1/*"                { capabilities = ["read"] }
path "nowhere/*"            { capabilities = ["read"] }
path "database/creds/*"     { capabilities = ["read"] }
"""


@dataclass
class Configuration:
    """A configuration file in pieces that tests change."""

    directory: Path
    address: str
    role: str = "check"
    mount: str = "kubernetes"
    audience: str = "vault"
    auth: str = ""
    tls: str = "{}"
    timeout: str = "30s"
    credentials: dict[str, str] = field(default_factory=dict)
    more: str = ""

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    def write(self) -> str:
        lines = [f"  {name}: {{source: {source}}}" for name, source in self.credentials.items()]
        file = self.directory / "broker.yaml"
        kubernetes = (
            f"{{role: {self.role}, mount: {self.mount}, audience: {self.audience}, "
            f"token_file: {self.token_file}}}"
        )
        file.write_text(
            f"vault:\n  address: {self.address}\n  timeout: {self.timeout}\n  tls: {self.tls}\n"
            f"  auth: {self.auth or kubernetes}\n"
            + ("credentials:\n" if lines else "credentials: {}\n")
            + "\n".join(lines)
            + f"\nclients: {{one: {{credentials: [{', '.join(self.credentials)}]}}}}\n"
            + self.more
        )
        return str(file)


@dataclass
class Checked:
    """What one run of the command said."""

    code: int
    lines: list[str]
    remedies: str


Check = Callable[[Configuration], Checked]


@pytest.fixture
def configuration(
    openbao: OpenBao, kubernetes_auth: KubernetesAuth, tmp_path: Path
) -> Configuration:
    """A configuration under which everything is well."""
    admin, auth = openbao.admin, kubernetes_auth
    admin.policy("check", POLICY)
    admin.kubernetes_role(
        "check",
        service_account=auth.service_account,
        namespace=auth.namespace,
        audience=auth.audience,
        policies=["check"],
        token_ttl="1h",
    )
    admin.kv_write("secret", "check/search", {"api_key": VALUE})
    admin.kv_write("kv1", "check/search", {"api_key": VALUE}, version=1)
    made = Configuration(tmp_path, openbao.address)
    made.credentials["search-api"] = "{kind: kv, mount: secret, path: check/search}"
    auth.project(made.token_file)
    return made


@pytest.fixture
def check(openbao: OpenBao, capsys: pytest.CaptureFixture[str]) -> Iterator[Check]:
    """Run the command; whatever it does, it leaves no Vault token and shows no value."""
    before = set(openbao.admin.accessors())

    def run(configuration: Configuration) -> Checked:
        code = main(["check", "--config", configuration.write()])
        said = capsys.readouterr()
        assert VALUE not in said.out + said.err
        assert "Traceback" not in said.err
        lines = said.out.splitlines()
        assert lines.pop(0).startswith("ok      configuration: ")
        return Checked(code, lines, said.err)

    yield run

    # Tokens of earlier tests may end meanwhile; a late login is revoked when it comes.
    until(lambda: set(openbao.admin.accessors()) <= before)


def test_all_is_well(
    openbao: OpenBao, configuration: Configuration, check: Check, orders_database: str
) -> None:
    """One line for each layer and credential; the lease and the token are gone afterwards."""
    configuration.credentials["orders-db"] = f"{{kind: leased, path: {orders_database}}}"
    configuration.credentials["old"] = "{kind: kv, mount: kv1, path: check/search, version: 1}"

    found = check(configuration)

    assert found.code == ExitCode.OK
    assert found.remedies == ""
    vault, login, search, orders, old = found.lines
    assert re.fullmatch(r"ok      vault: http://127.* answers: version [0-9.]+, active", vault)
    assert login == (
        "ok      login: role check at auth/kubernetes: service token for 1h, "
        "policies check, default"
    )
    assert re.fullmatch(
        r"ok      search-api: secret/check/search version \d+: fields api_key", search
    )
    assert re.fullmatch(
        rf"ok      orders-db: {orders_database}: lease of \d+[sm], renewable, "
        "fields password, username",
        orders,
    )
    assert old == "ok      old: kv1/check/search: fields api_key"
    # The policy does not allow sys/leases/revoke: it dies with the token, soon after.
    until(lambda: openbao.admin.leases(orders_database) == [])


BESIDE_A_ROTATOR = """\
vault:
  address: {address}
  auth: {{role: check, audience: vault, token_file: {token_file}}}
clients: {{one: {{credentials: [billing]}}}}
rotation: {{mode: rotator, installation: test}}
credentials:
  billing:
    source: {{kind: kv, mount: secret, path: check/search}}
    use: {{name: x-api-key, field: api_key, origins: ["https://a.example"]}}
    rotation:
      orphans: accepted
      driver:
        kind: http
        auth: manager
        create:
          method: POST
          url: https://a.example/keys
          answer: {{fields: {{api_key: /key}}, id: /id}}
        retire: {{method: DELETE, url: "https://a.example/keys/{{id}}"}}
  manager:
    source: {{kind: kv, mount: secret, path: {managed}}}
    use: {{scheme: bearer, field: api_key, origins: ["https://a.example"]}}
  ours:
    source: {{kind: kv, mount: secret, path: {ours}}}
"""


@pytest.mark.parametrize(
    ("process", "read"), [("broker", {"billing", "ours"}), ("rotator", {"billing", "manager"})]
)
def test_each_process_is_checked_for_what_it_keeps(
    openbao: OpenBao,
    configuration: Configuration,
    capsys: pytest.CaptureFixture[str],
    process: str,
    read: set[str],
) -> None:
    """A policy without what only the other process reads is no fault."""
    openbao.admin.kv_write("secret", "check/own", {"api_key": VALUE})
    own, others = "check/own", "not/ours"
    text = BESIDE_A_ROTATOR.format(
        address=configuration.address,
        token_file=configuration.token_file,
        managed=own if process == "rotator" else others,
        ours=own if process == "broker" else others,
    )
    file = configuration.directory / "rotating.yaml"
    file.write_text(text)
    code = main(["check", "--config", str(file), "--process", process])
    said = capsys.readouterr()
    assert code == ExitCode.OK, said.out + said.err
    assert VALUE not in said.out + said.err
    subjects = [line.split()[1].rstrip(":") for line in said.out.splitlines()]
    assert set(subjects) == {"configuration", "vault", "login"} | read


@dataclass(frozen=True)
class Broken:
    """One layer broken, and what must be said of it."""

    subject: str
    layer: str
    words: str
    code: ExitCode
    changes: dict[str, str] = field(default_factory=dict)
    source: str = ""


LAYERS = {
    "name": Broken(
        "vault",
        "name resolution",
        "does not resolve",
        ExitCode.VAULT,
        {"address": "https://vault.invalid:8200"},
    ),
    "port": Broken(
        "vault", "network", "refused", ExitCode.VAULT, {"address": "https://127.0.0.1:{closed}"}
    ),
    "TLS": Broken("vault", "TLS", "certificate", ExitCode.VAULT, {"address": "{self_signed}"}),
    "no TLS there": Broken("vault", "TLS", "TLS", ExitCode.VAULT, {"address": "{as_https}"}),
    "no Vault there": Broken(
        "vault",
        "Vault",
        "404",
        ExitCode.VAULT,
        {"address": "{self_signed}", "tls": "{unsafe_skip_verify: true}"},
    ),
    "role": Broken("login", "role", "no role nobody", ExitCode.LOGIN, {"role": "nobody"}),
    "auth mount": Broken(
        "login", "auth mount", "at auth/nowhere", ExitCode.LOGIN, {"mount": "nowhere"}
    ),
    "mount": Broken(
        "search-api",
        "mount",
        "nothing is mounted at nowhere",
        ExitCode.CREDENTIAL,
        source="{kind: kv, mount: nowhere, path: a}",
    ),
    "policy": Broken(
        "search-api",
        "policy",
        "read on secret/data/other",
        ExitCode.CREDENTIAL,
        source="{kind: kv, mount: secret, path: other}",
    ),
    "policy of a lease": Broken(
        "search-api",
        "policy",
        "read on pki/issue/a",
        ExitCode.CREDENTIAL,
        source="{kind: leased, path: pki/issue/a}",
    ),
    "KV 2 asked as 1": Broken(
        "search-api",
        "KV version",
        "is KV version 2, the configuration says 1",
        ExitCode.CREDENTIAL,
        source="{kind: kv, mount: secret, path: check/search, version: 1}",
    ),
    "KV 1 asked as 2": Broken(
        "search-api",
        "KV version",
        "is KV version 1, the configuration says 2",
        ExitCode.CREDENTIAL,
        source="{kind: kv, mount: kv1, path: check/search, version: 2}",
    ),
    "path": Broken(
        "search-api",
        "path",
        "nothing at secret/data/check/nothing",
        ExitCode.CREDENTIAL,
        source="{kind: kv, mount: secret, path: check/nothing}",
    ),
    "engine's role": Broken(
        "search-api",
        "path",
        "does not know database/creds/nobody",
        ExitCode.CREDENTIAL,
        source="{kind: leased, path: database/creds/nobody}",
    ),
    "no lease there": Broken(
        "search-api",
        "value",
        "without a lease",
        ExitCode.CREDENTIAL,
        source="{kind: leased, path: secret/data/check/search}",
    ),
    "field": Broken(
        "search-api",
        "value",
        "expires_at",
        ExitCode.CREDENTIAL,
        source="{kind: kv, mount: secret, path: check/search, expiry: {field: expires_at}}",
    ),
}


@pytest.mark.parametrize("broken", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.usefixtures("orders_database")
def test_a_broken_layer_is_named(
    broken: Broken,
    openbao: OpenBao,
    kubernetes_auth: KubernetesAuth,
    configuration: Configuration,
    check: Check,
) -> None:
    """The last line names the layer, standard error the remedy, the exit code the kind."""
    places = {
        "{closed}": str(closed_port()),
        "{self_signed}": kubernetes_auth.cluster.address,
        "{as_https}": openbao.address.replace("http:", "https:"),
    }
    for name, value in broken.changes.items():
        for place, real in places.items():
            value = value.replace(place, real)
        setattr(configuration, name, value)
    if broken.source:
        configuration.credentials["search-api"] = broken.source

    found = check(configuration)

    assert found.code == broken.code
    assert found.lines[-1].startswith(f"FAILED  {broken.subject}: {broken.layer}: ")
    assert broken.words in found.lines[-1]
    assert found.remedies.strip()


SIGNING_KEY = f"{VALUE}-{'k' * 43}"
SHARED = "tokens: {{store: shared, mount: {mount}, path: {path}}}\n"


def test_shared_tokens_are_read_and_nothing_is_written(
    openbao: OpenBao, configuration: Configuration, check: Check
) -> None:
    """Without a key yet, and with one and revocations."""
    configuration.more = SHARED.format(mount="secret", path="check/tokens")
    for _ in range(2):
        found = check(configuration)
        assert (found.code, found.remedies) == (ExitCode.OK, "")
        assert found.lines[-1] == (
            "ok      scoped tokens: secret/check/tokens: no signing key yet, the first broker that "
            "needs it makes it, no revocations"
        )
    openbao.admin.kv_write("secret", "check/tokens/key", {"current": "k1", "k1": SIGNING_KEY})
    lines = '{"schema":1,"sequence":2}\n["subject","ann",2,9000000000]'
    openbao.admin.kv_write("secret", "check/tokens/revocations", {"revocations": lines})
    found = check(configuration)
    assert found.code == ExitCode.OK
    assert found.lines[-1] == (
        "ok      scoped tokens: secret/check/tokens: a signing key, 1 revocation"
    )


@pytest.mark.parametrize(
    ("mount", "path", "layer", "words"),
    [
        ("secret", "other/tokens", "policy", "secret/data/other/tokens/key"),
        ("kv1", "check/tokens", "KV version", "kv1 is KV version 1"),
        ("nowhere", "check/tokens", "mount", "nothing is mounted at nowhere"),
        ("secret", "check/damaged", "value", "does not name the current one"),
    ],
)
def test_a_broken_layer_of_shared_tokens_is_named(
    openbao: OpenBao,
    configuration: Configuration,
    check: Check,
    mount: str,
    path: str,
    layer: str,
    words: str,
) -> None:
    """As for a credential, with the same exit code."""
    openbao.admin.kv_write("secret", "check/damaged/key", {"current": "k2", "k1": SIGNING_KEY})
    configuration.more = SHARED.format(mount=mount, path=path)
    found = check(configuration)
    assert found.code == ExitCode.CREDENTIAL
    assert found.lines[-1].startswith(f"FAILED  scoped tokens: {layer}: ")
    assert words in found.lines[-1]
    assert found.remedies.strip()


@pytest.mark.parametrize(
    ("trouble", "layer", "words"),
    [
        ("missing", "token file", "No such file"),
        ("empty", "token file", "is empty"),
        ("malformed", "token file", "no service-account token"),
        ("expired", "token file", "expired 1h ago"),
        ("audience", "audience", "is for somebody-else, not for vault"),
        ("audience of the role", "audience", "asks for another"),
        ("account", "role", "is not for system:serviceaccount:mcp:stranger"),
        ("forbidden", "TokenReview", "look right"),
        ("failing", "TokenReview", "look right"),
        ("hanging", "TokenReview", "Vault answers, but not to a login"),
    ],
)
def test_a_broken_login_is_named(
    trouble: str,
    layer: str,
    words: str,
    kubernetes_auth: KubernetesAuth,
    configuration: Configuration,
    check: Check,
) -> None:
    """Token file, audience, role and TokenReview are told apart, though most are a 403."""
    auth, file = kubernetes_auth, configuration.token_file
    match trouble:
        case "missing":
            file.unlink()
        case "empty":
            file.write_text("")
        case "malformed":
            file.write_text("not-a-token")
        case "expired":
            file.write_text(auth.token(ttl=-3600).reveal())
        case "audience":
            file.write_text(auth.token(audience="somebody-else").reveal())
        case "audience of the role":
            file.write_text(auth.token(audience="somebody-else").reveal())
            configuration.audience = "somebody-else"
        case "account":
            accounts = auth.cluster.accounts
            accounts.create("mcp", "stranger")
            file.write_text(accounts.issue("mcp", "stranger", audiences=["vault"]).reveal())
        case "forbidden":
            auth.cluster.behaviour = 403
        case "failing":
            auth.cluster.behaviour = 500
        case "hanging":
            auth.cluster.behaviour = "hang"
            configuration.timeout = "300ms"
    try:
        found = check(configuration)
        while trouble == "hanging" and found.code == ExitCode.VAULT:
            # A busy machine: Vault itself did not answer within the deadline. Give it more.
            configuration.timeout = f"{2 * int(configuration.timeout.removesuffix('ms'))}ms"
            found = check(configuration)
    finally:
        auth.cluster.behaviour = "answer"

    assert found.code == ExitCode.LOGIN
    assert found.lines[-1].startswith(f"FAILED  login: {layer}: ")
    assert words in found.lines[-1]
    assert found.remedies.strip()


def test_a_sealed_vault_is_named(
    openbao: OpenBao, configuration: Configuration, check: Check
) -> None:
    """A sealed Vault is told as that, not as an outage."""
    openbao.seal()
    try:
        found = check(configuration)
    finally:
        openbao.unseal()

    assert found.code == ExitCode.VAULT
    assert found.lines == ["FAILED  vault: Vault: Vault is sealed"]


def test_a_token_given_by_file_is_used_and_never_revoked(
    openbao: OpenBao, configuration: Configuration, check: Check, tmp_path: Path
) -> None:
    """With method token_file the check leaves the token alive."""
    token = openbao.admin.create_token(["check"])
    configuration.token_file.write_text(token.reveal())
    configuration.auth = f"{{method: token_file, token_file: {configuration.token_file}}}"

    found = check(configuration)

    assert found.code == ExitCode.OK
    assert found.lines[1].startswith(f"ok      login: the token in {configuration.token_file}: ")
    accessor = openbao.admin.request("POST", "auth/token/lookup", {"token": token.reveal()})
    openbao.admin.revoke_accessor(accessor["data"]["accessor"])


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
