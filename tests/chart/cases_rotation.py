"""Values with rotation: each driver, both modes, both kinds of network policy."""

from __future__ import annotations

from typing import Any

ORIGIN = "https://api.search.example"
CREDENTIALS: dict[str, Any] = {
    "search-api": {
        "rotation": {
            "driver": {
                "kind": "http",
                "auth": "search-admin",
                "create": {
                    "method": "POST",
                    "url": f"{ORIGIN}/v1/keys",
                    "body": {"name": "{label}", "seconds": 3888000},
                    "answer": {"fields": {"api_key": "/key"}, "id": "/id"},
                },
                "list": {
                    "method": "GET",
                    "url": f"{ORIGIN}/v1/keys?prefix={{label_prefix}}",
                    "answer": {
                        "items": "/keys",
                        "id": "/id",
                        "label": "/name",
                        "created_at": "/created_at",
                    },
                },
                "retire": {"method": "DELETE", "url": f"{ORIGIN}/v1/keys/{{id}}"},
            },
            "prove": {"method": "GET", "url": f"{ORIGIN}/v1/whoami"},
        }
    },
    "search-admin": {
        "source": {"kind": "kv", "mount": "secret", "path": "search-admin"},
        "use": {"scheme": "bearer", "field": "api_key", "origins": [ORIGIN]},
    },
    "billing": {
        "source": {"kind": "kv", "mount": "secret", "path": "billing"},
        "use": {
            "name": "x-api-key",
            "field": "api_key",
            "origins": ["https://billing.example"],
        },
        "rotation": {
            "driver": {
                "kind": "generated",
                "mount": "secret",
                "path": "billing/accepted-keys",
                "field": "api_key",
            }
        },
    },
    "reports-db": {
        "source": {"kind": "static_role", "path": "database/static-creds/reports"},
        "rotation": {"driver": {"kind": "vault_role"}, "max_age": "7d"},
    },
}
BLOCK = {"ipBlock": {"cidr": "198.51.100.1/32"}}
PROVIDER = {"cidr": "203.0.113.7/32"}


def values(mode: str) -> dict[str, Any]:
    """Values with all three drivers."""
    return {
        "rotation": {"mode": mode, "installation": "prod-eu"},
        "credentials": CREDENTIALS,
        "servers": {
            "search-mcp": {"credentials": ["search-api", "orders-db", "billing", "reports-db"]}
        },
        "networkPolicy": {"apiServer": {"to": [BLOCK]}, "providers": [PROVIDER]},
    }


def cilium(mode: str) -> dict[str, Any]:
    """The same on a cluster with Cilium, the provider by its name."""
    return values(mode) | {
        "networkPolicy": {"flavor": "cilium", "providerNames": ["api.search.example"]}
    }


ROTATION_CASES: dict[str, dict[str, Any]] = {
    "rotation in the servers' pods": values("sidecar"),
    "a rotator": values("rotator"),
    "a rotator on OpenShift, classic": values("rotator")
    | {"security": {"openshift": True}, "sidecar": {"mode": "classic"}},
    "Cilium and rotation in the servers' pods": cilium("sidecar"),
    "Cilium and a rotator": cilium("rotator"),
}
"""What is changed against MINIMAL, by what the case is about."""
