"""Rotation in the chart: nothing of it unless asked for, and then the least in each mode."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from broker.app.narrowing import narrowed
from broker.app.vault_policy import rules
from broker.settings.domain import Settings
from broker.settings.load import parse_settings
from broker.settings.processes import Process
from tests.chart.cases_rotation import BLOCK, CREDENTIALS, ROTATION_CASES, values
from tests.chart.rendering import CASES, Release, merged, render

OWN = {"auth/token/lookup-self", "auth/token/renew-self", "auth/token/revoke-self"}
"""What Vault's policy ``default`` allows; the printed roles have it."""
KUBERNETES = "/var/run/secrets/kubernetes.io/serviceaccount"
ROTATORS = [name for name, case in ROTATION_CASES.items() if case["rotation"]["mode"] == "rotator"]


def rotator_config(release: Release) -> Settings:
    (text,) = (
        one["data"]["rotator.yaml"]
        for one in release.all("ConfigMap")
        if "rotator.yaml" in one["data"]
    )
    return parse_settings(text, file="rotator.yaml", environ={}, uid=65532).settings


def broker_config(release: Release) -> Settings:
    return parse_settings(release.config, file="broker.yaml", environ={}, uid=65532).settings


def printed(release: Release) -> list[dict[str, tuple[str, ...]]]:
    """The policies in NOTES.txt, each as path to capabilities."""
    return [
        {
            path: tuple(re.findall(r'"(\w+)"', capabilities))
            for path, capabilities in re.findall(
                r'^path "([^"]+)" \{ capabilities = \[([^\]]+)\] \}$', text, re.MULTILINE
            )
        }
        for text in re.findall(r"<<'EOF_POLICY'\n(.*?)EOF_POLICY", release.notes, re.DOTALL)
    ]


def least(settings: Settings, process: Process) -> dict[str, tuple[str, ...]]:
    """What 'broker policy vault' prints, less what every token may do with itself."""
    return {
        rule.path: rule.capabilities for rule in rules(settings, process) if rule.path not in OWN
    }


@pytest.mark.parametrize("case", CASES)
def test_the_printed_policies_are_the_brokers_own(case: str) -> None:
    """NOTES.txt and 'broker policy vault' allow the same, for each process of the release."""
    release = render(CASES[case])
    wanted = [least(broker_config(release), "broker")]
    if CASES[case].get("rotation", {}).get("mode") == "rotator":
        wanted.append(least(rotator_config(release), "rotator"))
    assert printed(release) == wanted


@pytest.mark.parametrize("case", ROTATORS)
def test_servers_pods_may_only_read_beside_a_rotator(case: str) -> None:
    """No create, and no update but of leases; the managing credential is not theirs at all."""
    sidecars, rotator = printed(render(CASES[case]))
    writable = {path for path, verbs in sidecars.items() if verbs != ("read",)}
    assert writable == {"sys/leases/renew", "sys/leases/revoke"}
    assert "secret/data/search-admin" not in sidecars
    assert rotator["secret/data/search-admin"] == ("read",)
    assert "database/creds/orders" not in rotator


@pytest.mark.parametrize("case", ROTATORS)
def test_the_rotator_takes_its_configuration(case: str) -> None:
    """The broker's loader accepts it: a role of its own, no clients, the same rotation."""
    release = render(CASES[case])
    found, beside = rotator_config(release), broker_config(release)
    kept = narrowed(found, "rotator")
    assert set(kept.credentials) == {"search-api", "search-admin", "billing", "reports-db"}
    assert found.clients == {}
    assert found.rotation == beside.rotation
    assert found.vault.auth.role == "search-mcp-secrets-broker-rotator"
    assert beside.vault.auth.role == "search-mcp-secrets-broker"
    spec = rotator(release)["spec"]["template"]["spec"]
    assert found.stop.delay == 0
    assert found.stop.timeout + 5 <= spec["terminationGracePeriodSeconds"]


def rotator(release: Release) -> dict[str, Any]:
    (found,) = (
        one for one in release.all("Deployment") if one["metadata"]["name"].endswith("-rotator")
    )
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_rotator_is_checked_as_itself(case: str) -> None:
    """'helm test' logs in as the rotator too: its account, image, configuration, and process."""
    release = render(CASES[case])
    checks = {one["spec"]["containers"][0]["args"][-1]: one for one in release.all("Pod")}
    mode = CASES[case].get("rotation", {}).get("mode", "off")
    assert set(checks) == {"broker", "rotator"} if mode == "rotator" else {"broker"}
    if mode != "rotator":
        return
    pod = rotator(release)["spec"]["template"]["spec"]
    check = checks["rotator"]["spec"]
    (container,), (model,) = check["containers"], pod["containers"]
    assert container["args"] == ["check", *model["args"][1:], "--process", "rotator"]
    assert container["image"] == model["image"]
    assert check["serviceAccountName"] == pod["serviceAccountName"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert all(volumes[one["name"]] == one for one in check["volumes"])
    mounted = {one["mountPath"] for one in container["volumeMounts"]}
    assert mounted == {one["mountPath"] for one in model["volumeMounts"]} - {KUBERNETES}
    assert checks["rotator"]["metadata"]["name"] != checks["broker"]["metadata"]["name"]


def test_values_of_rotation_arrive_in_the_configuration() -> None:
    """Each becomes its key of broker.yaml, not a default that happens to fit."""
    change = {
        "rotation": {
            "installation": "stage-us",
            "state": {"mount": "kv", "prefix": "keys"},
            "election": {
                "lease": "leader",
                "leaseDuration": "60s",
                "renewDeadline": "40s",
                "retryPeriod": "5s",
            },
        }
    }
    found = broker_config(render(merged(values("sidecar"), change))).rotation
    assert (found.mode, found.installation) == ("sidecar", "stage-us")
    assert (found.state.mount, found.state.prefix) == ("kv", "keys")
    election = found.election
    assert election.lease == "leader"
    times = (election.lease_duration, election.renew_deadline, election.retry_period)
    assert times == (60.0, 40.0, 5.0)
    default = broker_config(render(values("sidecar"))).rotation.election.lease
    assert default == "search-mcp-secrets-broker-rotation"


def tokens(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        one["name"]: source["serviceAccountToken"]
        for one in pod["volumes"]
        for source in one.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    }


@pytest.mark.parametrize("case", CASES)
def test_only_who_rotates_has_a_token_for_the_api_server(case: str) -> None:
    """It is a second one, of the API server's own audience, short-lived, in one container."""
    release = render(CASES[case])
    mode = CASES[case].get("rotation", {}).get("mode", "off")
    for one in release.all("Deployment"):
        pod = one["spec"]["template"]["spec"]
        name = "rotator" if one["metadata"]["name"].endswith("-rotator") else "broker"
        rotates = mode == {"broker": "sidecar", "rotator": "rotator"}[name]
        found = tokens(pod)
        assert set(found) == {"broker-token"} | ({"broker-kubernetes"} if rotates else set())
        holders = [
            container["name"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]
            if KUBERNETES in {mount["mountPath"] for mount in container["volumeMounts"]}
        ]
        assert holders == ([name] if rotates else [])
        if rotates:
            assert "audience" not in found["broker-kubernetes"]
            assert found["broker-kubernetes"]["expirationSeconds"] == 600


@pytest.mark.parametrize("case", CASES)
def test_rights_in_the_cluster_are_the_least(case: str) -> None:
    """One Lease by its name, Events to write, for who rotates; without rotation no Role at all."""
    release = render(CASES[case])
    mode = CASES[case].get("rotation", {}).get("mode", "off")
    assert not release.all("ClusterRole") + release.all("ClusterRoleBinding")
    if mode == "off":
        assert not release.all("Role") + release.all("RoleBinding")
        return
    lease = broker_config(release).rotation.election.lease
    assert release.one("Role")["rules"] == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [lease],
            "verbs": ["get", "update"],
        },
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    ]
    binding = release.one("RoleBinding")
    assert binding["roleRef"]["name"] == release.one("Role")["metadata"]["name"]
    (subject,) = binding["subjects"]
    rotating = release.pod if mode == "sidecar" else rotator(release)["spec"]["template"]["spec"]
    assert (subject["name"], subject["namespace"]) == (rotating["serviceAccountName"], "mcp")
    assert subject["name"] in {one["metadata"]["name"] for one in release.all("ServiceAccount")}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """As Kubernetes does, for the operators the chart uses."""
    for one in selector.get("matchExpressions", []):
        inside = labels.get(one["key"]) in one["values"]
        if inside != {"In": True, "NotIn": False}[one["operator"]]:
            return False
    return bool(selector["matchLabels"].items() <= labels.items())


def egress(release: Release, labels: dict[str, str]) -> str:
    """All that the network policies let a pod with these labels reach, as text."""
    found = []
    for one in release.all("NetworkPolicy") + release.all("CiliumNetworkPolicy"):
        spec = one["spec"]
        if selects(spec.get("podSelector") or spec["endpointSelector"], labels):
            found += spec["egress"]
    assert found
    return json.dumps(found)


@pytest.mark.parametrize("case", ROTATION_CASES)
def test_only_who_rotates_reaches_api_server_and_providers(case: str) -> None:
    """With a rotator the servers' pods reach neither, and the rotator no upstream of theirs."""
    upstream = {"networkPolicy": {"upstreams": [{"cidr": "192.0.2.0/24"}]}}
    release = render(merged(CASES[case], upstream))
    for one in release.all("Deployment"):
        reached = egress(release, one["spec"]["template"]["metadata"]["labels"])
        own = one["metadata"]["name"].endswith("-rotator")
        rotates = own or CASES[case]["rotation"]["mode"] == "sidecar"
        if release.all("CiliumNetworkPolicy"):
            api, provider = '"kube-apiserver"', '"api.search.example"'
        else:
            api, provider = json.dumps(BLOCK), '"203.0.113.7/32"'
        assert (api in reached) == rotates
        assert (provider in reached) == rotates
        assert ("192.0.2.0/24" in reached) == (not own)
        assert '"6443"' in reached or "6443" in reached or not rotates
    for check in release.all("Pod"):
        assert "8200" in egress(release, check["metadata"]["labels"])


def test_a_provider_may_be_reached_as_an_upstream() -> None:
    """In the servers' own pods what is declared for them is enough."""
    change = {"networkPolicy": {"providers": [], "upstreams": [{"cidr": "203.0.113.0/24"}]}}
    release = render(merged(values("sidecar"), change))
    assert "203.0.113.0/24" in json.dumps(release.one("NetworkPolicy")["spec"]["egress"])


@pytest.mark.parametrize("case", ROTATORS)
def test_service_and_budget_leave_the_rotator_alone(case: str) -> None:
    """Neither takes the rotator's pods for servers; the scrape takes both."""
    change = {
        "deployment": {"replicas": 2},
        "podDisruptionBudget": {"enabled": True},
        "metrics": {"podMonitor": {"enabled": True}},
    }
    release = render(merged(CASES[case], change))
    labels = rotator(release)["spec"]["template"]["metadata"]["labels"]
    assert not release.one("Service")["spec"]["selector"].items() <= labels.items()
    budget = release.one("PodDisruptionBudget")["spec"]["selector"]
    assert not selects(budget, labels)
    monitor = release.one("PodMonitor")["spec"]["selector"]
    assert selects(monitor, labels)
    for check in release.all("Pod"):
        assert not selects(monitor, check["metadata"]["labels"])
    deployments = release.all("Deployment")
    for one in deployments:
        spec = one["spec"]["template"]["spec"]
        for spread in spec["topologySpreadConstraints"]:
            assert spread["labelSelector"] == one["spec"]["selector"], "each spreads its own pods"
        others = [each["spec"]["template"]["metadata"]["labels"] for each in deployments]
        assert sum(selects(one["spec"]["selector"], each) for each in others) == 1


def test_who_rotates_runs_the_image_with_the_client_for_kubernetes() -> None:
    """The broker's own image stays without it."""
    inside = render(values("sidecar"))
    assert inside.container("broker")["image"].startswith("mcp-secrets-broker-rotator:")
    release = render(values("rotator"))
    (container,) = rotator(release)["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("mcp-secrets-broker-rotator:")
    assert container["args"] == ["rotator", "--config", "/etc/broker/rotator.yaml"]
    assert release.container("broker")["image"].startswith("mcp-secrets-broker:")


@pytest.mark.parametrize("mode", ["sidecar", "rotator"])
def test_events_name_the_pod(mode: str) -> None:
    """Name and uid come by the downward API, under the names the settings read."""
    release = render(values(mode))
    pod = release.pod if mode == "sidecar" else rotator(release)["spec"]["template"]["spec"]
    (container,) = (
        one
        for one in [*pod.get("initContainers", []), *pod["containers"]]
        if one["name"] in {"broker", "rotator"} and "env" in one
    )
    paths = {one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"]}
    assert set(paths.values()) == {"metadata.name", "metadata.uid"}
    found = parse_settings(
        release.config, file="broker.yaml", environ=dict(paths), uid=65532
    ).settings.kubernetes
    assert (found.pod, found.pod_uid) == ("metadata.name", "metadata.uid")


@pytest.mark.parametrize("mode", ["off", False])
def test_off_is_off_however_yaml_reads_it(mode: object) -> None:
    """An unquoted off is false; nothing is made, and NOTES.txt says what has no effect."""
    assert render({"rotation": {"mode": mode}}).objects == render().objects
    release = render({"rotation": {"mode": mode}, "credentials": CREDENTIALS})
    assert "has no effect" in release.notes
    assert broker_config(release).rotation.mode == "off"


def test_another_rotation_rolls_the_pods() -> None:
    """How a credential is rotated is built at the start, so a change restarts."""
    before = render(values("rotator"))
    other = {"credentials": {"search-api": {"rotation": {"max_age": "20d"}}}}
    after = render(merged(values("rotator"), other))
    for one, two in zip(before.all("Deployment"), after.all("Deployment"), strict=True):
        key = "checksum/restart"
        sums = [each["spec"]["template"]["metadata"]["annotations"][key] for each in (one, two)]
        assert sums[0] != sums[1]
