"""The chart as Helm renders it, without a cluster and without Helm's command.

Duty: values in, objects out; the values most tests begin with; the table of cases.
Rule: the SDK renders for one version of Kubernetes, so the version goes in as the chart's value
``kubeVersion``, which stands for the cluster's wherever the chart asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from helm_python.chart import Chart
from helm_python.errors import HelmError

from tests.chart.cases_rotation import ROTATION_CASES

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
VERSIONS = ("1.20.0", "1.27.0", "1.29.0", "1.33.0", f"{kubernetes_validate.latest_version()}")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, in C where there is one: there is much to read."""
CUSTOM = {"PodMonitor", "PrometheusRule", "CiliumNetworkPolicy"}
"""Kinds whose schemas are not Kubernetes' own."""

MINIMAL: dict[str, Any] = {
    "vault": {"address": "https://vault.vault.svc:8200"},
    "credentials": {
        "search-api": {
            "source": {"kind": "kv", "mount": "secret", "path": "search-api"},
            "use": {
                "name": "x-api-key",
                "field": "api_key",
                "origins": ["https://api.search.example"],
            },
        },
        "orders-db": {"source": {"kind": "leased", "path": "database/creds/orders"}},
    },
    "servers": {
        "search-mcp": {
            "image": "registry.example/search-mcp:1.0.0",
            "ports": {"mcp": 8000},
            "credentials": ["search-api", "orders-db"],
        }
    },
}
"""The least that says anything: all else is the chart's default."""

SECOND = {
    "tickets-mcp": {
        "image": "registry.example/tickets-mcp:2.0.0",
        "ports": {"tickets": 8001},
        "credentials": ["search-api"],
        "uid": 10003,
    }
}

CASES: dict[str, dict[str, Any]] = {
    "minimal": {},
    "two servers": {"servers": SECOND},
    "proof by uid": {
        "servers": {"search-mcp": {"proof": "token_and_uid"}, **deepcopy(SECOND)},
    },
    "classic": {"sidecar": {"mode": "classic"}},
    "mesh": {"startup": {"gate": "process"}},
    "openshift": {
        "security": {"openshift": True},
        "networkPolicy": {
            "dns": {
                "to": [
                    {
                        "namespaceSelector": {
                            "matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}
                        }
                    }
                ],
                "ports": [5353],
            }
        },
    },
    "IPv6": {
        "vault": {"address": "https://[2001:db8::7]:8200"},
        "listeners": {"tcp": ["[::1]:8210", "127.0.0.1:8210"]},
        "networkPolicy": {"upstreams": [{"cidr": "2001:db8:1::/48", "ports": [443, 8443]}]},
    },
    "TCP only": {"listeners": {"unix": False}},
    "Vault outside, with TLS of its own": {
        "vault": {
            "address": "https://vault.example",
            "namespace": "team",
            "role": "reader",
            "redirectAddresses": ["https://vault-0.example"],
            "tls": {
                "caSecret": "vault-ca",
                "clientSecret": "vault-client",
                "serverName": "vault.internal",
            },
        },
        "networkPolicy": {
            "vault": {"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "port": 8200},
            "upstreams": [{"cidr": "203.0.113.0/24", "except": ["203.0.113.9/32"]}],
        },
    },
    "all extras": {
        "fullnameOverride": "search",
        "image": {"digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "vault": {"tls": {"caConfigMap": "vault-ca", "caKey": "ca.pem"}},
        "listeners": {"hosts": ["broker.local"], "maxWait": "30s", "operationsPort": 9211},
        "audit": {"file": "/var/log/broker/audit.log", "onFailure": "allow"},
        "log": {"level": "debug", "format": "console"},
        "broker": {
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "extraVolumeMounts": [{"name": "audit", "mountPath": "/var/log/broker"}],
        },
        "servers": {
            "search-mcp": {
                "command": ["python"],
                "args": ["-m", "server"],
                "env": [{"name": "MODE", "value": "http"}],
                "envFrom": [{"configMapRef": {"name": "search"}}],
                "imagePullPolicy": "Always",
                "resources": {"requests": {"cpu": "100m"}},
                "startupProbe": {"tcpSocket": {"port": "mcp"}},
                "livenessProbe": {"tcpSocket": {"port": "mcp"}},
                "readinessProbe": {"tcpSocket": {"port": "mcp"}},
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "2"]}}},
                "extraVolumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        },
        "serviceAccount": {"name": "search", "annotations": {"team": "search"}},
        "deployment": {
            "replicas": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
            "annotations": {"team": "search"},
        },
        "pod": {
            "annotations": {"team": "search"},
            "labels": {"team": "search"},
            "affinity": {"podAntiAffinity": {}},
            "tolerations": [{"operator": "Exists"}],
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "priorityClassName": "high",
            "extraVolumes": [{"name": "audit", "emptyDir": {}}, {"name": "data", "emptyDir": {}}],
        },
        "service": {"type": "LoadBalancer", "annotations": {"team": "search"}},
        "networkPolicy": {"ingress": {"metrics": [{"namespaceSelector": {}}]}},
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": "50%"},
        "metrics": {
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboard": {"enabled": True},
        },
    },
    "Cilium": {
        "vault": {"address": "https://vault.example"},
        "networkPolicy": {
            "flavor": "cilium",
            "upstreams": [{"cidr": "203.0.113.0/24"}],
            "upstreamNames": ["api.search.example", "*.tickets.example"],
            "ingress": {"metrics": [{"namespaceSelector": {"matchLabels": {"team": "watch"}}}]},
        },
    },
    "no network policy": {"networkPolicy": {"enabled": False}},
    "an account of one's own": {"serviceAccount": {"create": False, "name": "mine"}},
    "audit on a volume": {
        "audit": {"file": "/var/log/broker/audit.log", "volume": {"type": "emptyDir"}},
    },
    "limits, and an audit log with a key that is rotated": {
        "audit": {
            "file": "/var/log/broker/audit.log",
            "keySecret": "audit-key",
            "volume": {"type": "emptyDir"},
        },
        "settings": {
            "limits": {"failed_authentications": "10/minute"},
            "audit": {"max_bytes": 104857600, "keep": 3, "sync": True},
        },
    },
    "roles and policies": {
        "policies": {"search.cedar": "permit (principal, action, resource);"},
        "settings": {
            "roles": {"search": {"callers": ["search-mcp"], "credentials": ["search-api"]}},
            "policies": {"zone": "Europe/Berlin"},
        },
    },
    "scoped tokens good at every replica": {
        "deployment": {"replicas": 2},
        "settings": {"tokens": {"store": "shared", "mount": "kv", "path": "broker/prod/tokens"}},
    },
    "audit on a claim": {
        "audit": {
            "file": "/var/lib/broker-audit/audit.log",
            "volume": {"type": "claim", "claim": "audit"},
        },
        "deployment": {"strategy": {"type": "Recreate"}},
    },
    "KV 1 and a written lease": {
        "credentials": {
            "old": {"source": {"kind": "kv", "mount": "kv1", "path": "old", "version": 1}},
            "cert": {
                "source": {
                    "kind": "leased",
                    "path": "pki/issue/search",
                    "method": "write",
                    "parameters": {"common_name": "search.example", "ttl": "24h"},
                },
                "required": False,
            },
        },
        "servers": {"search-mcp": {"credentials": ["old", "cert"]}},
    },
    **ROTATION_CASES,
}
"""What is changed against MINIMAL, by what the case is about."""


@dataclass(frozen=True, slots=True)
class Release:
    """What one rendering made."""

    objects: tuple[dict[str, Any], ...]
    notes: str
    files: Mapping[str, str]

    def one(self, kind: str) -> dict[str, Any]:
        """The only object of a kind."""
        (found,) = self.all(kind)
        return found

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Every object of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    @property
    def pod(self) -> dict[str, Any]:
        """``spec`` of the servers' pods."""
        (spec,) = (
            one["spec"]["template"]["spec"]
            for one in self.all("Deployment")
            if one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == "servers"
        )
        found: dict[str, Any] = spec
        return found

    def container(self, name: str) -> dict[str, Any]:
        """A container of the pod, an init container included."""
        found: dict[str, Any]
        (found,) = (one for one in containers(self.pod) if one["name"] == name)
        return found

    @property
    def config(self) -> str:
        """``broker.yaml`` as the ConfigMap holds it."""
        (found,) = (
            one["data"]["broker.yaml"]
            for one in self.all("ConfigMap")
            if "broker.yaml" in one["data"]
        )
        return str(found)


def containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Containers and init containers of a pod's ``spec``."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``change``, mapping by mapping, as Helm joins values files."""
    result = dict(deepcopy(base))
    for key, value in change.items():
        inner = result.get(key)
        result[key] = (
            merged(inner, value)
            if isinstance(value, dict) and isinstance(inner, dict)
            else deepcopy(value)
        )
    return result


@cache
def chart(path: Path = CHART) -> Chart:
    """The loaded chart."""
    return Chart.load(path)


def render(
    change: Mapping[str, Any] | None = None,
    *,
    version: str = "1.33.0",
    name: str = "search",
    base: Mapping[str, Any] = MINIMAL,
    path: Path = CHART,
) -> Release:
    """Render the chart with ``base`` and ``change``.

    Raises:
        HelmError: the schema or a template refuses the values.
    """
    values = merged(merged({"kubeVersion": version}, base), change or {})
    return deepcopy(_rendered(json.dumps(values), name, path))


@cache
def _rendered(values: str, name: str, path: Path) -> Release:
    files = chart(path).render(json.loads(values), name=name, namespace="mcp")
    notes = "".join(text for file, text in files.items() if file.endswith("NOTES.txt"))
    objects = [
        one
        for file, text in sorted(files.items())
        if file.endswith(".yaml")
        for one in yaml.load_all(text, Loader=LOADER)
        if one
    ]
    return Release(tuple(objects), notes, files)


def refusal(change: Mapping[str, Any], *, base: Mapping[str, Any] = MINIMAL, **more: Any) -> str:
    """The words with which the values are refused."""
    try:
        render(change, base=base, **more)
    except HelmError as error:
        return str(error)
    raise AssertionError(f"nothing refuses {change}")
