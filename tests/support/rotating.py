"""What a broker needs in order to rotate the search API's key: Vault's part, the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from broker.demo.keyring import ApiKey
from broker.demo.openbao import OpenBao
from broker.demo.search_api import SearchApi


def first_key(openbao: OpenBao, search: SearchApi, path: str) -> ApiKey:
    """A key made by hand, as before there was a broker; and the key that may manage keys."""
    key, text = search.keys.mint("by hand")
    openbao.admin.kv_write("secret", path, {"api_key": text.reveal()})
    openbao.admin.kv_metadata("secret", path, {"broker_key_id": key.id})
    openbao.admin.kv_write("secret", f"{path}-admin", {"token": search.admin.key.reveal()})
    return key


def sections(search: SearchApi, path: str) -> dict[str, Any]:
    """Sections ``credentials`` and ``rotation`` of the configuration."""
    url = search.address
    return {
        "clients": {"search-mcp": {"credentials": ["search-api"]}},
        "credentials": {
            "search-api": {
                "source": {
                    "kind": "kv",
                    "mount": "secret",
                    "path": path,
                    "poll": "1s",
                    "max_staleness": "3s",
                },
                "use": {"in": "header", "name": "x-api-key", "field": "api_key", "origins": [url]},
                "hold": "1s",
                "margin": "1s",
                "rotation": {
                    "driver": {
                        "kind": "http",
                        "auth": "search-admin",
                        "create": {
                            "method": "POST",
                            "url": f"{url}/admin/keys",
                            "body": {"label": "{label}"},
                            "answer": {"fields": {"api_key": "/key"}, "id": "/id"},
                        },
                        "list": {
                            "method": "GET",
                            "url": f"{url}/admin/keys?label_prefix={{label_prefix}}",
                            "answer": {
                                "items": "/keys",
                                "id": "/id",
                                "label": "/label",
                                "created_at": "/created_at",
                                "next": {"pointer": "/next", "parameter": "after"},
                            },
                        },
                        "retire": {"method": "DELETE", "url": f"{url}/admin/keys/{{id}}"},
                    },
                    "prove": {"method": "GET", "url": f"{url}/key"},
                    "settle": "2s",
                    "overlap": "6s",
                },
            },
            "search-admin": {
                "source": {"kind": "kv", "mount": "secret", "path": f"{path}-admin"},
                "use": {"scheme": "bearer", "field": "token", "origins": [url]},
            },
        },
        "rotation": {
            "mode": "sidecar",
            "installation": "here",
            "state": {"mount": "secret", "prefix": f"broker-{path}"},
            "election": {"lease_duration": "3s", "renew_deadline": "2s", "retry_period": "300ms"},
        },
    }


def vault_section(openbao: OpenBao, token: str, directory: Path) -> dict[str, Any]:
    """Section ``vault``: a token that was given by file."""
    file = directory / "vault-token"
    file.write_text(token)
    return {
        "address": openbao.address,
        "timeout": "3s",
        "auth": {"method": "token_file", "token_file": str(file)},
    }
