"""What the chart promises about the pod, attacked over every case."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from broker.settings import literals
from tests.chart.rendering import CASES, Release, containers, render

PODS = ("Deployment", "Pod")


@pytest.fixture(params=CASES, scope="module")
def release(request: pytest.FixtureRequest) -> Release:
    """The release of each case in turn."""
    return render(CASES[request.param])


def pods(release: Release) -> list[dict[str, Any]]:
    deployed = [one["spec"]["template"]["spec"] for one in release.all("Deployment")]
    return [*deployed, *(one["spec"] for one in release.all("Pod"))]


def mounts(release: Release, container: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in release.container(container)["volumeMounts"]}


def servers(release: Release) -> list[str]:
    return [one["name"] for one in release.pod["containers"] if one["name"] != "broker"]


def test_only_the_broker_mounts_a_service_account_token(release: Release) -> None:
    """No automatic token; the projected one has an audience, a short life, one reader."""
    for pod in pods(release):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        secret = {
            one["name"]
            for one in pod["volumes"]
            if "projected" in one or "secret" in one or one["name"] == "broker-admin"
        }
        assert "broker-token" in secret
        (token,) = (one for one in pod["volumes"] if one["name"] == "broker-token")
        (source,) = token["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == "vault"
        assert 600 <= source["serviceAccountToken"]["expirationSeconds"] <= 3600
        for one in containers(pod):
            if one["name"] not in {"broker", "check", "rotator"}:
                assert not secret & {mount["name"] for mount in one["volumeMounts"]}
    for account in release.all("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_a_server_shares_only_its_own_directory(release: Release) -> None:
    """Read-only, whole, in memory; no other's, no configuration, no admin socket."""
    names = servers(release)
    for name in names:
        found = mounts(release, name)
        own = found[f"broker-client-{name}"]
        assert own == {
            "name": f"broker-client-{name}",
            "mountPath": f"/run/broker/{name}",
            "readOnly": True,
        }
        shared = set(found) & set(mounts(release, "broker"))
        assert shared == {f"broker-client-{name}"}
        for other in set(names) - {name}:
            assert not set(found) & set(mounts(release, other))
    for volume in release.pod["volumes"]:
        if volume["name"].startswith(("broker-client-", "broker-admin", "broker-tmp")):
            assert volume["emptyDir"]["medium"] == "Memory"
            assert volume["emptyDir"]["sizeLimit"]


def test_nothing_is_mounted_by_sub_path(release: Release) -> None:
    """A file mounted by subPath would keep the old token and refuse the new socket."""
    for pod in pods(release):
        for one in containers(pod):
            assert all("subPath" not in mount for mount in one["volumeMounts"])


def test_containers_are_hardened(release: Release) -> None:
    """Non-root, read-only root, no capability, no escalation, the runtime's seccomp profile."""
    for pod in pods(release):
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)
        assert pod["securityContext"]["runAsNonRoot"] is True
        for one in containers(pod):
            context = one["securityContext"]
            assert context["runAsNonRoot"] is True
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_broker_and_servers_have_different_uids(release: Release) -> None:
    """No server runs as the broker; where OpenShift assigns uids, none is written."""
    broker = release.container("broker")["securityContext"]
    for name in servers(release):
        server = release.container(name)["securityContext"]
        if "fsGroup" in release.pod["securityContext"]:
            assert server["runAsUser"] != broker["runAsUser"]
        else:
            assert not {"runAsUser", "runAsGroup"} & {*server, *broker}


def test_no_object_holds_anything_that_looks_like_a_secret(release: Release) -> None:
    """No Secret is made, and neither shape nor place of any text is a secret's."""
    assert release.all("Secret") == []
    for one in release.objects:
        assert list(literals.find(one | {"spec": plain(one.get("spec"))})) == []
    assert list(literals.find(yaml.safe_load(release.config))) == []


def plain(spec: Any) -> Any:
    """Without the one key of Kubernetes whose name means a secret and whose value is none."""
    text = json.dumps(spec)
    text = re.sub(r'"serviceAccountToken":', '"projection":', text)
    return json.loads(text.replace('"automountServiceAccountToken":', '"automount":'))


def test_the_network_is_closed_but_for_what_is_declared(release: Release) -> None:
    """Both directions are denied by default, and no rule is open to everybody."""
    for policy in release.all("NetworkPolicy"):
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        for rule in spec["ingress"] or []:
            assert rule["from"]
            assert rule["ports"]
        for rule in spec["egress"]:
            assert rule["to"]
            assert rule["ports"]
    for policy in release.all("CiliumNetworkPolicy"):
        assert policy["spec"]["enableDefaultDeny"] == {"ingress": True, "egress": True}
        for rule in policy["spec"]["egress"]:
            assert rule["toPorts"]
            assert {"toEndpoints", "toCIDRSet", "toFQDNs", "toEntities"} & set(rule)


def test_declared_peers_and_ports_arrive_in_the_policy() -> None:
    """DNS, Vault behind its port, upstreams, callers of the servers, Prometheus; IPv6 too."""
    spec = render(
        {
            "networkPolicy": {
                "upstreams": [
                    {"cidr": "203.0.113.0/24", "except": ["203.0.113.9/32"], "ports": [443, 8443]},
                    {"cidr": "2001:db8::/32"},
                ],
                "ingress": {"metrics": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
            }
        }
    ).one("NetworkPolicy")["spec"]
    dns, vault, four, six = spec["egress"]
    assert {(one["protocol"], one["port"]) for one in dns["ports"]} == {("UDP", 53), ("TCP", 53)}
    (peer,) = vault["to"]
    labels = {"kubernetes.io/metadata.name": "vault"}
    assert peer == {"namespaceSelector": {"matchLabels": labels}}
    assert vault["ports"] == [{"protocol": "TCP", "port": 8200}]
    assert four["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.9/32"]}}]
    assert [one["port"] for one in four["ports"]] == [443, 8443]
    assert six["to"] == [{"ipBlock": {"cidr": "2001:db8::/32"}}]
    assert six["ports"] == [{"protocol": "TCP", "port": 443}]
    served, scraped = spec["ingress"]
    assert (served["from"], served["ports"][0]["port"]) == ([{"podSelector": {}}], 8000)
    assert scraped["ports"] == [{"protocol": "TCP", "port": 8211}]
    closed = render({"networkPolicy": {"ingress": {"servers": []}}}).one("NetworkPolicy")
    assert not closed["spec"]["ingress"]


@pytest.mark.parametrize(
    ("address", "peer", "port"),
    [
        ("https://vault.secrets.svc:8200", "secrets", 8200),
        ("https://vault.secrets.svc.cluster.local", "secrets", 443),
        ("https://198.51.100.7:8200", "198.51.100.7/32", 8200),
        ("https://[2001:db8::7]:8200", "2001:db8::7/128", 8200),
    ],
)
def test_vaults_place_is_read_from_its_address(address: str, peer: str, port: int) -> None:
    """A Service's name tells the namespace, an IP address itself."""
    rules = render({"vault": {"address": address}}).one("NetworkPolicy")["spec"]["egress"]
    assert peer in json.dumps(rules[1]["to"])
    assert rules[1]["ports"] == [{"protocol": "TCP", "port": port}]


def test_cilium_knows_upstreams_and_vault_by_name() -> None:
    """Names are learned from the DNS rule; Vault outside the cluster is a name too."""
    spec = render(CASES["Cilium"]).one("CiliumNetworkPolicy")["spec"]
    text = json.dumps(spec)
    assert '{"matchName": "vault.example"}' in text
    assert '{"matchName": "api.search.example"}' in text
    assert '{"matchPattern": "*.tickets.example"}' in text
    dns = next(rule for rule in spec["egress"] if "rules" in rule["toPorts"][0])
    assert dns["toPorts"][0]["rules"] == {"dns": [{"matchPattern": "*"}]}
    assert "k8s:io.cilium.k8s.namespace.labels.team" in text
