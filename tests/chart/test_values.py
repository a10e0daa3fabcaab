"""Values: each documented, in the schema and used; typos and contradictions refused in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from helm_python.chart import lint

from broker.settings.schema import json_schema
from tests.chart.cases_rotation import cilium, values
from tests.chart.rendering import CASES, CHART, MINIMAL, chart, merged, refusal, render

VALUES = (CHART / "values.yaml").read_text()
DEFAULTS: dict[str, Any] = yaml.safe_load(VALUES)
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
README = (CHART / "README.md").read_text()


def described() -> Iterator[tuple[str, str, str]]:
    """Path, default as JSON, and the ``# --`` line of every value, in the file's order."""
    path: list[tuple[int, str]] = []
    comment: list[str] | None = None
    for line in VALUES.splitlines():
        if found := re.match(r"\s*# -- (.*)", line):
            comment = [found[1]]
        elif (found := re.match(r"\s*# (.*)", line)) and comment is not None:
            comment.append(found[1])
        elif found := re.match(r"(\s*)([A-Za-z]+):", line):
            depth = len(found[1])
            path = [one for one in path if one[0] < depth] + [(depth, found[2])]
            if comment is not None:
                keys = [key for _, key in path]
                default: Any = DEFAULTS
                for key in keys:
                    default = default[key]
                yield ".".join(keys), json.dumps(default), " ".join(comment)
                comment = None


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """Paths of values that a ``# --`` line must cover."""
    if not path or (isinstance(value, dict) and value and path not in DESCRIBED):
        for key, below in value.items():
            yield from leaves(below, f"{path}.{key}" if path else key)
    else:
        yield path


DESCRIBED = {path for path, _, _ in described()}


def test_every_value_has_its_line() -> None:
    """No key of values.yaml is without a ``# --`` line of its own or its parent's."""
    assert set(leaves(DEFAULTS)) == DESCRIBED
    assert len(DESCRIBED) > 70


def table() -> str:
    """The README's table of values."""
    rows = [
        f"| `{path}` | `{default}` | {text} |".replace('`""`', "")
        for path, default, text in described()
    ]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])


def test_the_readme_has_every_value() -> None:
    """Its table is the one made of values.yaml ('make rendered' writes it)."""
    found = README.partition("<!-- begin values -->\n")[2].partition("\n<!-- end values -->")[0]
    assert found == table()


def test_the_readme_has_every_key_of_a_server() -> None:
    """What a server may have is told in the README, all of it and nothing more."""
    section = README.partition("## Servers")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    pattern = SCHEMA["properties"]["servers"]["patternProperties"]
    (server,) = pattern.values()
    assert told == set(server["properties"])


def test_the_readmes_example_renders() -> None:
    """The values in the chart's README make a release; variables that are no secret are fine."""
    example = README.partition("```yaml\n")[2].partition("```")[0]
    env = [
        {"name": "TOKEN_URL", "value": "https://a.example"},
        {"name": "TOP_SECRETS", "value": "1"},
    ]
    release = render({"servers": {"search-mcp": {"env": env}}}, base=yaml.safe_load(example))
    assert [one["name"] for one in release.container("search-mcp")["env"]][1:] == [
        "TOKEN_URL",
        "TOP_SECRETS",
    ]


def objects(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "properties" in schema:
        yield path, schema
        for key, below in schema["properties"].items():
            yield from objects(below, f"{path}.{key}" if path else key)


def test_the_schema_is_closed_and_knows_every_value() -> None:
    """Each mapping with known keys refuses others, and has exactly those of values.yaml."""
    for path, schema in objects(SCHEMA):
        if path.partition(".")[0] == "settings":
            continue  # the broker's own, compared below
        assert schema["additionalProperties"] is False, path
        here: Any = DEFAULTS
        for key in path.split(".") if path else []:
            here = here[key]
        if isinstance(here, dict):
            assert set(schema["properties"]) - {"global"} == set(here), path


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"replica": 2}, "replica"),
        ({"vault": {"adress": "https://x"}}, "adress"),
        ({"servers": {"search-mcp": {"credential": []}}}, "credential"),
        ({"credentials": {"search-api": {"source": {"pol": "1m"}}}}, "source"),
        ({"sidecar": {"mode": "nativ"}}, "sidecar/mode"),
        ({"startup": {"minutes": 5}}, "startup/minutes"),
        ({"rotation": {"mode": "on"}}, "rotation/mode"),
        ({"rotation": {"rotater": {}}}, "rotater"),
        ({"rotation": {"election": {"leaseDuration": "15"}}}, "leaseDuration"),
        ({"serviceAccount": {"expirationSeconds": 60}}, "expirationSeconds"),
        ({"listeners": {"tcp": ["0.0.0.0:8210"]}}, "listeners/tcp"),
        ({"servers": {"Search": {"image": "x"}}}, "Search"),
        ({"settings": {"vault": {"timeout": "1s"}}}, "vault"),
        ({"settings": {"audit": {"file": "/a"}}}, "audit"),
        ({"policies": {"Search.txt": "permit (principal, action, resource);"}}, "Search.txt"),
        ({"audit": {"volume": {"type": "disk"}}}, "audit/volume/type"),
    ],
)
def test_typos_are_refused(change: dict[str, Any], word: str) -> None:
    """The schema names the key that is not one, or the value that cannot be."""
    assert word in refusal(change)


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"vault": {"address": ""}}, "vault.address is missing"),
    ({"vault": {"address": "http://vault.vault.svc:8200"}}, "sends tokens and secrets in clear"),
    ({"vault": {"tls": {"caSecret": "a", "caConfigMap": "b"}}}, "keep one"),
    ({"vault": {"tls": {"caSecret": "a", "unsafeSkipVerify": True}}}, "remove it"),
    ({"vault": {"address": "https://vault.example"}}, "does not say where Vault is"),
    ({"kubeVersion": "1.28.0", "sidecar": {"mode": "native"}}, "1.29 or newer"),
    ({"sidecar": {"mode": "classic"}, "startup": {"gate": "keys"}}, "needs a native sidecar"),
    ({"listeners": {"unix": False, "tcp": []}}, "no server could ask"),
    ({"serviceAccount": {"create": False}}, "name the account"),
    ({"networkPolicy": {"upstreamNames": ["a.example"]}}, "flavor cilium"),
    ({"podDisruptionBudget": {"enabled": True}}, "protects nothing"),
    (
        merged(values("rotator"), {"rotation": {"installation": ""}}),
        "give this installation a name",
    ),
    ({"rotation": {"mode": "sidecar", "installation": "a"}}, "no credential has rotation"),
    (
        merged(
            values("rotator"),
            {"rotation": {"rotator": {"vaultRole": "search-mcp-secrets-broker"}}},
        ),
        "give the rotator another",
    ),
    (
        merged(values("rotator"), {"networkPolicy": {"providerNames": ["a.example"]}}),
        "networkPolicy.providerNames needs",
    ),
    (
        merged(values("sidecar"), {"networkPolicy": {"apiServer": {"to": []}}}),
        "networkPolicy.apiServer.to is empty",
    ),
    (
        merged(values("rotator"), {"networkPolicy": {"providers": []}}),
        "declare networkPolicy.providers",
    ),
    ({"audit": {"volume": {"type": "emptyDir"}}}, "in no directory of its own"),
    ({"audit": {"volume": {"type": "emptyDir"}, "file": "/tmp/a"}}, "in no directory of its own"),
    (
        {"audit": {"volume": {"type": "claim"}, "file": "/var/log/broker/audit.log"}},
        "name a PersistentVolumeClaim",
    ),
    (
        merged(CASES["audit on a claim"], {"deployment": {"replicas": 2}}),
        "two would write one file",
    ),
    (
        merged(CASES["audit on a claim"], {"deployment": {"strategy": {"type": None}}}),
        "two would write one file",
    ),
    ({"servers": {"other": {}}}, "servers.other.image is missing"),
    ({"servers": {"broker": {"image": "x"}}}, "choose another"),
    ({"servers": {"search-mcp": {"credentials": ["gone"]}}}, "names gone"),
    (
        {"servers": {"search-mcp": {"env": [{"name": "SEARCH_API_KEY", "value": "abc"}]}}},
        "servers.search-mcp.env: SEARCH_API_KEY holds a literal secret",
    ),
    (
        {"broker": {"extraEnv": [{"name": "VAULT_TOKEN", "value": "abc"}]}},
        "broker.extraEnv: VAULT_TOKEN holds a literal secret",
    ),
    ({"servers": {"search-mcp": {"uid": 65532}}}, "is the broker's own (65532)"),
    (
        {"security": {"openshift": True}, "servers": {"search-mcp": {"proof": "uid"}}},
        "which OpenShift assigns",
    ),
    (
        {"listeners": {"unix": False}, "servers": {"search-mcp": {"proof": "uid"}}},
        "needs the server's socket",
    ),
    (
        {"servers": {"search-mcp": {"proof": "uid"}, "two": {"image": "x"}}},
        "give each its own",
    ),
    ({"servers": {"search-mcp": {"ports": {"mcp": 8211}}}}, "listeners.operationsPort has"),
    ({"servers": {"search-mcp": {"ports": {"mcp": 8210}}}}, "listeners.tcp has"),
    ({"servers": {"two": {"image": "x", "ports": {"a": 8000}}}}, "share their ports"),
    ({"servers": {"two": {"image": "x", "ports": {"mcp": 8001}}}}, "names are unique"),
    (
        merged(
            CASES["Cilium"],
            {"networkPolicy": {"ingress": {"servers": [{"ipBlock": {"cidr": "::/0"}}]}}},
        ),
        "ipBlock is for vault.to and upstreams",
    ),
    (
        merged(
            CASES["Cilium"],
            {
                "networkPolicy": {
                    "ingress": {"servers": [{"podSelector": {"matchExpressions": [{}]}}]}
                }
            },
        ),
        "matchExpressions are not carried over",
    ),
]


@pytest.mark.parametrize(("change", "words"), CONTRADICTIONS, ids=[x for _, x in CONTRADICTIONS])
def test_contradictions_are_refused_with_a_sentence(change: dict[str, Any], words: str) -> None:
    """Each ``fail`` says what is wrong; the message is the template's, not Helm's."""
    assert words in refusal(change)


def test_no_servers_at_all_are_refused() -> None:
    """The defaults alone say what is needed."""
    assert "servers is empty" in refusal({}, base={"vault": MINIMAL["vault"]})


def test_every_contradiction_of_the_chart_is_tried() -> None:
    """Each sentence that a template can fail with is met by one of the tests above."""
    templates = "".join(one["data"] for one in chart().templates)
    sentences = re.findall(r"\bfail \(?(?:printf )?\"([^\"]+)\"", templates)
    met = [refusal(change) for change, _ in CONTRADICTIONS]
    met.append(refusal({}, base={"vault": MINIMAL["vault"]}))
    assert len(sentences) == templates.count("{{- fail ") > 20
    for sentence in sentences:
        pattern = re.sub("%[sd]", ".*", re.escape(sentence))
        assert any(re.search(pattern, one) for one in met), sentence


def test_credentials_are_the_brokers_own() -> None:
    """The chart's schema of a credential is the broker's, less what Helm's checker cannot read."""
    assert SCHEMA["$defs"] == definitions()


def definitions() -> dict[str, Any]:
    """The broker's definition of a credential and of further sections, and of all they refer to."""
    ours = plain(json_schema()["$defs"])
    found: dict[str, Any] = {}
    open_ends = ["Credential", *referred(sections())]
    while open_ends:
        name = open_ends.pop()
        found[name] = ours[name]
        open_ends += [one for one in referred(ours[name]) if one not in found]
    return dict(sorted(found.items()))


def referred(schema: Any) -> list[str]:
    return re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema))


OWN = {"vault", "listeners", "clients", "credentials", "rotation", "kubernetes", "stop"}
"""Sections of broker.yaml that other values make whole."""
SHARED = {
    "audit": {"file", "on_failure", "key_file"},
    "log": {"level", "format"},
    "policies": {"files"},
}
"""Keys that other values make, of sections that may have more."""


def sections() -> dict[str, Any]:
    """Schema of the value ``settings``: what the broker takes and no other value makes."""
    ours = plain(json_schema())
    found: dict[str, Any] = {}
    for name, schema in ours["properties"].items():
        if name in SHARED:
            (definition,) = referred(schema)
            section = ours["$defs"][definition]
            left = {k: v for k, v in section["properties"].items() if k not in SHARED[name]}
            if left:
                found[name] = section | {"properties": left}
        elif name not in OWN:
            found[name] = schema
    return {"type": "object", "additionalProperties": False, "properties": found}


def test_further_sections_are_the_brokers_own() -> None:
    """What no other value makes may be written under settings, and is judged by the same schema."""
    assert SCHEMA["properties"]["settings"] == sections()
    taken = set(sections()["properties"])
    assert taken.isdisjoint(OWN)
    made = set(yaml.safe_load(render(cases_of_everything()).config))
    assert made <= OWN | set(SHARED)
    assert set(json_schema()["properties"]) <= OWN | set(SHARED) | taken


def cases_of_everything() -> dict[str, Any]:
    return merged(CASES["all extras"], values("sidecar"))


def plain(schema: Any) -> Any:
    """Without titles and extensions, and without look-ahead, which Go's patterns do not have."""
    if isinstance(schema, dict):
        return {
            key: value.replace("(?=[0-9])", "") if key == "pattern" else plain(value)
            for key, value in schema.items()
            if not key.startswith("x-") and key not in {"title", "discriminator"}
        }
    return [plain(one) for one in schema] if isinstance(schema, list) else schema


def used(path: str, default: Any) -> dict[str, Any] | None:
    """A change of one value alone; None where it has no meaning alone."""
    value: Any = OTHER.get(path)
    if value is None and isinstance(default, bool):
        value = not default
    elif value is None and isinstance(default, int):
        value = default + 1
    elif value is None and isinstance(default, str):
        value = f"{default}x"
    for key in reversed(path.split(".")):
        value = {key: value}
    change: dict[str, Any] = value
    return change


PEER = [{"podSelector": {"matchLabels": {"a": "b"}}}]
OTHER: dict[str, Any] = {
    "policies": {"a.cedar": "permit (principal, action, resource);"},
    "audit.volume.type": "emptyDir",
    "audit.volume.size": "2Gi",
    "kubeVersion": "1.27.0",
    "image.digest": "sha256:" + "1" * 64,
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "x"}],
    "servers": {"two": {"image": "x"}},
    "credentials": {"more": {"source": {"kind": "kv", "mount": "a", "path": "b"}}},
    "vault.address": "https://other.vault.svc:8200",
    "vault.timeout": "3s",
    "vault.redirectAddresses": ["https://v.example"],
    "listeners.tcp": [],
    "listeners.hosts": ["x"],
    "listeners.maxWait": "3s",
    "audit.onFailure": "allow",
    "log.level": "debug",
    "log.format": "console",
    "sidecar.mode": "classic",
    "startup.gate": "process",
    "broker.uid": 10009,
    "broker.resources": {"limits": {"memory": "1Gi"}},
    "broker.extraEnv": [{"name": "A", "value": "b"}],
    "broker.extraVolumeMounts": [{"name": "a", "mountPath": "/a"}],
    "serviceAccount.annotations": {"a": "b"},
    "deployment.strategy": {"type": "Recreate"},
    "deployment.annotations": {"a": "b"},
    "pod.annotations": {"a": "b"},
    "pod.labels": {"a": "b"},
    "pod.topologySpreadConstraints": [],
    "pod.affinity": {"podAffinity": {}},
    "pod.tolerations": [{"operator": "Exists"}],
    "pod.nodeSelector": {"a": "b"},
    "pod.extraVolumes": [{"name": "a", "emptyDir": {}}],
    "service.type": "NodePort",
    "service.annotations": {"a": "b"},
    "networkPolicy.flavor": "cilium",
    "networkPolicy.dns.to": PEER,
    "networkPolicy.dns.ports": [5353],
    "networkPolicy.vault.to": PEER,
    "networkPolicy.upstreams": [{"cidr": "203.0.113.0/24"}],
    "networkPolicy.upstreamNames": ["a.example"],
    "networkPolicy.ingress.servers": PEER,
    "networkPolicy.ingress.metrics": PEER,
    "rotation.mode": "sidecar",
    "rotation.image.digest": "sha256:" + "1" * 64,
    "rotation.election.leaseDuration": "40s",
    "rotation.election.renewDeadline": "7s",
    "rotation.election.retryPeriod": "3s",
    "rotation.rotator.resources": {"limits": {"memory": "1Gi"}},
    "networkPolicy.apiServer.to": PEER,
    "networkPolicy.providers": [{"cidr": "203.0.113.8/32"}],
    "networkPolicy.providerNames": ["a.example"],
    "metrics.podMonitor.interval": "3s",
    "metrics.podMonitor.labels": {"a": "b"},
    "metrics.prometheusRule.labels": {"a": "b"},
    "metrics.dashboard.labels": {"a": "b"},
}
CONTEXT: dict[str, dict[str, Any]] = {
    "vault.tls.caKey": {"vault": {"tls": {"caSecret": "ca"}}},
    "audit.keyName": {"audit": {"keySecret": "audit"}},
    "audit.volume.type": {"audit": {"file": "/var/log/broker/audit.log"}},
    "audit.volume.size": CASES["audit on a volume"],
    "audit.volume.claim": CASES["audit on a claim"],
    "networkPolicy.upstreamNames": {"networkPolicy": {"flavor": "cilium"}},
    "rotation": values("rotator"),
    "networkPolicy.apiServer.to": values("rotator"),
    "networkPolicy.apiServer.port": values("rotator"),
    "networkPolicy.providers": values("rotator"),
    "networkPolicy.providerNames": cilium("rotator"),
    "serviceAccount.create": {"serviceAccount": {"name": "mine"}},
    "podDisruptionBudget": {
        "deployment": {"replicas": 2},
        "podDisruptionBudget": {"enabled": True},
    },
    "podDisruptionBudget.enabled": {"deployment": {"replicas": 2}},
    "metrics": {
        "metrics": {
            "podMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True},
        }
    },
}


@pytest.mark.parametrize(("path", "default", "_text"), list(described()), ids=lambda x: str(x)[:40])
def test_every_value_is_used(path: str, default: str, _text: str) -> None:
    """Another value changes what is rendered."""
    if path == "settings":
        return  # tests/chart/test_sections.py has it
    context = CONTEXT.get(path) or CONTEXT.get(path.split(".")[0], {})
    if path.startswith("metrics.") and path.endswith(".enabled"):
        context = {}
    change = used(path, json.loads(default))
    assert change is not None
    before = render(context)
    after = render(merged(context, change))
    assert before.files != after.files


def test_the_chart_is_linted() -> None:
    """Helm's own linter finds nothing but the missing icon."""
    for case in CASES.values():
        found = lint(CHART, values=merged(MINIMAL, case), strict=True)["messages"]
        assert [one["error"] for one in found] == ["icon is recommended"]
