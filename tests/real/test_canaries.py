"""Canaries: known secrets go through a real broker; nothing it lets out may hold one of them.

Every secret that crosses the process is known here: KV values, the leased user's password, the
Vault token, the service-account token, client tokens. They are hunted raw and in the usual
encodings in logs at their most talkative, audit, metrics, probes, problem documents, the OpenAPI
document, the process's environment and command line, and the exit.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broker.demo.openbao import OpenBao
from broker.demo.postgres import Postgres
from broker.protocol.redaction import Redactor
from broker.secret import MASK, SecretValue
from tests.conftest import KubernetesAuth
from tests.support.broker_process import BrokerProcess

pytestmark = pytest.mark.real

KEY = "canary-key-9f1c4e77b2"
ODD_KEY = 'canary/2:{"p+w": "\\ö%41€"}'
CONFIG: dict[str, Any] = {
    "clients": {
        "search-mcp": {"credentials": ["search-api", "odd", "orders-db", "broken"]},
        "other-mcp": {"credentials": ["orders-db"]},
    },
    "credentials": {
        "search-api": {"source": {"kind": "kv", "mount": "secret", "path": "canary/one"}},
        "odd": {"source": {"kind": "kv", "mount": "secret", "path": "canary/two"}},
        "broken": {
            "source": {"kind": "kv", "mount": "secret", "path": "canary/one"},
            "fields": {"key": "{no_such_field}"},
            "required": False,
        },
        "orders-db": {"source": {"kind": "leased", "path": "database/creds/orders"}},
    },
}


class Outside:
    """Everything the broker let out, by where it came out."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, where: str, text: str) -> None:
        assert where not in self.texts
        self.texts[where] = text

    def answer(self, response: httpx2.Response) -> httpx2.Response:
        """Keep a whole answer that must hold no secret."""
        request = response.request
        # Without the query and whatever stands behind a name: callers put canaries there.
        path = "/".join(request.url.path.split("/")[:3])
        where = f"{len(self.texts)}: {request.method} {path} {response.status_code}"
        self.add(where, f"{response.headers}\n{response.text}")
        return response


@pytest.fixture
def broker(
    openbao: OpenBao, kubernetes_auth: KubernetesAuth, orders_database: str
) -> Iterator[BrokerProcess]:
    assert orders_database == "database/creds/orders"
    openbao.admin.kv_write("secret", "canary/one", {"api_key": KEY})
    openbao.admin.kv_write("secret", "canary/two", {"api_key": ODD_KEY})
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        jwt = Path(name) / "jwt"
        kubernetes_auth.project(jwt)
        auth = {"role": kubernetes_auth.role, "token_file": str(jwt), "audience": "vault"}
        vault = {"address": openbao.address, "timeout": "3s", "auth": auth}
        process = BrokerProcess(Path(name), {"vault": vault, **CONFIG})
        try:
            yield process
        finally:
            process.close()


def test_no_secret_leaves_but_in_a_hand_out(
    broker: BrokerProcess, openbao: OpenBao, kubernetes_auth: KubernetesAuth, postgres: Postgres
) -> None:
    """Whatever callers ask or say, and whatever goes wrong, no canary shows up outside."""
    del kubernetes_auth, postgres
    broker.start()
    secrets = handed_out(broker)
    secrets["service-account token"] = (broker.directory / "jwt").read_text().strip()
    for client in ("search-mcp", "other-mcp"):
        secrets[f"client token of {client}"] = broker.token(client)

    outside = Outside()
    secrets["scoped token"] = scoped(broker, outside)
    annoy(broker, secrets, outside)
    look_around(broker, outside)
    fall_over(broker, openbao, outside)
    outside.add("log and standard output", broker.logs())
    outside.add("audit", broker.audit_file.read_text())

    assert_talkative(outside)
    assert leaks(outside, secrets) == []


def handed_out(broker: BrokerProcess) -> dict[str, str]:
    """The one way out that is meant: secrets by what they are."""
    found = {}
    for name, expected in (("search-api", KEY), ("odd", ODD_KEY)):
        value = broker.get(name).json()["data"]["api_key"]
        assert value == expected
        found[name] = value
    leased = broker.get("orders-db").json()["data"]
    assert len(leased["password"]) >= 16
    found["orders-db"] = leased["password"]
    return found


def annoy(broker: BrokerProcess, secrets: dict[str, str], outside: Outside) -> None:
    """Callers who put secrets where they do not belong, and requests of every wrong kind."""
    good = {"Authorization": f"Bearer {broker.token('search-mcp')}"}
    version = broker.get("search-api").json()["version"]
    credential = "/v1/credentials/search-api"
    for secret in (KEY, secrets["orders-db"], base64.b64encode(KEY.encode()).decode()):
        for path in (f"/v1/credentials/{secret}", f"{credential}?key={secret}", f"/{secret}"):
            response = broker.http.get(path, headers=good)
            assert response.status_code in {200, 400, 404}
            if response.status_code != 200:
                # The caller's own words may come back to the caller, and to nobody else.
                outside.add(f"{len(outside.texts)}: path", response.text.replace(path, ""))
        for headers in (
            {"Authorization": f"Bearer {secret}"},
            {**good, "Broker-Tool": secret},
            {**good, "If-None-Match": f'"{secret}"'},
            {**good, "Prefer": f"wait={secret}"},
            {**good, "Host": f"{secret}.example"},
            {**good, "x-forwarded-for": secret},
        ):
            response = broker.http.get("/v1/credentials/nothing", headers=headers)
            assert response.status_code in {400, 401, 404, 421}
            outside.answer(response)
        outside.answer(broker.http.post(f"{credential}/reports", headers=good, content=secret))
        outside.answer(broker.http.request("BREW", credential, headers=good))
    body = {"version": version, "status": 401, "detail": f"refused {' '.join(secrets.values())}"}
    outside.answer(broker.http.post(f"{credential}/reports", headers=good, json=body))
    outside.answer(broker.http.get(credential))
    outside.answer(broker.http.get("/v1/credentials/broken", headers=good))
    outside.answer(broker.http.get("/v1/credentials", headers=good))
    outside.answer(broker.http.get("/v1/whoami", headers=good))
    etag = {**good, "If-None-Match": f'"{version}"'}
    assert outside.answer(broker.http.get(credential, headers=etag)).status_code == 304


def scoped(broker: BrokerProcess, outside: Outside) -> str:
    """A scoped token through its life: minted, used, shown where it does not belong, ended."""
    good = {"Authorization": f"Bearer {broker.token('search-mcp')}"}
    credential = "/v1/credentials/search-api"
    wish = {"subject": "alice", "tools": ["find"], "credentials": ["search-api"]}
    minted = broker.http.post("/v1/tokens", headers=good, json=wish)
    assert minted.status_code == 201
    token, name = str(minted.json()["token"]), minted.json()["id"]
    shown = {**good, "Broker-Subject-Token": token}
    mine = {**shown, "Broker-Tool": "find"}
    assert broker.http.get(credential, headers=mine).status_code == 200
    for headers, status in (
        ({**shown, "Broker-Tool": "other"}, 403),
        ({"Authorization": f"Bearer {token}"}, 401),
        ({**good, "Broker-Tool": token, "Broker-Subject-Token": token[:-1]}, 403),
    ):
        assert outside.answer(broker.http.get(credential, headers=headers)).status_code == status
    for path in ("/v1/credentials", "/v1/whoami", "/v1/tokens", f"/v1/tokens/{name}"):
        assert outside.answer(broker.http.get(path, headers=shown)).status_code == 200
    told = broker.http.post("/v1/tokens/introspect", headers=good, data={"token": token})
    assert outside.answer(told).json()["active"] is True
    ended = broker.http.delete(f"/v1/tokens/{name}", headers=good)
    assert outside.answer(ended).status_code == 204
    assert outside.answer(broker.http.get(credential, headers=mine)).status_code == 403
    return token


def look_around(broker: BrokerProcess, outside: Outside) -> None:
    """What anybody in the pod, or with a shell in a neighbour, can see."""
    for path in ("/livez", "/readyz", "/startupz", "/metrics", "/openapi.json", "/nothing"):
        outside.answer(broker.operations.get(path))
    good = {"Authorization": f"Bearer {broker.token('search-mcp')}"}
    for path in ("/openapi.json", "/docs", "/v1/openapi.json"):
        outside.answer(broker.http.get(path, headers=good))
    transport = httpx2.HTTPTransport(uds=str(broker.directory / "admin" / "admin.sock"))
    with httpx2.Client(transport=transport, base_url="http://localhost") as admin:
        assert outside.answer(admin.get("/v1/status")).status_code == 200
        outside.answer(admin.post("/v1/credentials/search-api/refresh"))
    openapi = Path(__file__).parents[2] / "docs" / "openapi.json"
    outside.add("OpenAPI", openapi.read_text())
    assert broker.process is not None
    process = Path("/proc") / str(broker.process.pid)
    for name in ("environ", "cmdline", "status"):
        outside.add(f"/proc/{name}", (process / name).read_bytes().decode(errors="replace"))


def fall_over(broker: BrokerProcess, openbao: OpenBao, outside: Outside) -> None:
    """Vault's worst moments, a value withdrawn, and the end."""
    good = {"Authorization": f"Bearer {broker.token('search-mcp')}"}
    openbao.seal()
    try:
        transport = httpx2.HTTPTransport(uds=str(broker.directory / "admin" / "admin.sock"))
        with httpx2.Client(transport=transport, base_url="http://localhost") as admin:
            for name in ("search-api", "orders-db"):
                outside.answer(admin.post(f"/v1/credentials/{name}/refresh"))
        outside.answer(broker.http.get("/v1/credentials/broken", headers=good))
    finally:
        openbao.unseal()
    assert broker.stop() == 0


def assert_talkative(outside: Outside) -> None:
    """The hunt means something only where something was said."""
    log = outside.texts["log and standard output"]
    levels = {json.loads(line)["level"] for line in log.splitlines() if line.startswith("{")}
    assert {"debug", "info", "warning"} <= levels
    assert "credential_malformed" in log
    assert len(outside.texts["audit"].splitlines()) > 20
    metrics = next(text for where, text in outside.texts.items() if "/metrics" in where)
    assert re.search(r'broker_handouts_total\{.*"ok"\} [1-9]', metrics)
    # Every word that the parts of the broker count under is in the catalogue.
    assert not re.search(r'(result|status|operation|state)="other"', metrics)


def leaks(outside: Outside, secrets: dict[str, str]) -> list[str]:
    """Where which secret stands; names only, so that a failure prints none."""
    found = []
    for what, secret in secrets.items():
        hunter = Redactor()
        hunter.learn(SecretValue(secret))
        assert MASK in hunter.mask(secret)
        found += [
            f"{what} in {where}"
            for where, text in outside.texts.items()
            if text.count(MASK) != hunter.mask(text).count(MASK)
        ]
    # The broker's own Vault token is known to nobody else: hunted by its shape.
    token = re.compile(r"\b(?:hv)?[sb]\.[A-Za-z0-9_-]{20,}")
    found += [
        f"Vault token in {where}" for where, text in outside.texts.items() if token.search(text)
    ]
    return found
