"""The whole broker as a process, beside a real OpenBao and PostgreSQL."""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import psycopg
import pytest

from broker.audit.schema import json_schema
from broker.cli.main import main
from broker.demo.openbao import OpenBao
from broker.demo.search_api import SearchApi
from tests.conftest import KubernetesAuth
from tests.support.broker_process import BrokerProcess
from tests.support.patience import PATIENCE, until

pytestmark = pytest.mark.real


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for a socket path."""
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        yield Path(name)


def config(openbao: OpenBao, jwt: Path, postgres_host: str = "") -> dict[str, Any]:
    """A broker with a KV key, a leased PostgreSQL user, and two clients."""
    return {
        "vault": {
            "address": openbao.address,
            "timeout": "10s",
            "auth": {
                "method": "kubernetes",
                "role": "broker",
                "token_file": str(jwt),
                "audience": "vault",
            },
        },
        "clients": {
            "search-mcp": {"credentials": ["search-api", "orders-db"]},
            "other-mcp": {"credentials": ["orders-db"]},
        },
        "credentials": {
            "search-api": {
                "source": {"kind": "kv", "mount": "secret", "path": "app/search", "poll": "2s"},
                "use": {
                    "in": "header",
                    "name": "x-api-key",
                    "field": "api_key",
                    "origins": ["https://api.search.example"],
                },
            },
            "orders-db": {
                "source": {"kind": "leased", "path": "database/creds/orders"},
                "fields": {
                    "username": "{username}",
                    "dsn": f"postgresql://{{username}}:{{password}}@{postgres_host}",
                },
                "hold": "1s",
                "margin": "1s",
            },
        },
    }


@pytest.fixture
def broker(
    directory: Path,
    openbao: OpenBao,
    kubernetes_auth: KubernetesAuth,
    postgres: Any,
    orders_database: str,
) -> Iterator[BrokerProcess]:
    """A broker that is configured but not started."""
    jwt = directory / "jwt"
    kubernetes_auth.project(jwt)
    openbao.admin.kv_write("secret", "app/search", {"api_key": "canary-key-1"})
    host = postgres.url.rpartition("@")[2]
    process = BrokerProcess(directory, config(openbao, jwt, host))
    try:
        yield process
    finally:
        process.close()


def test_hand_outs_work_upstream_and_sigterm_leaves_nothing_behind(
    broker: BrokerProcess, openbao: OpenBao, orders_database: str
) -> None:
    """The leased user reads the orders; at SIGTERM token and lease are revoked; exit code 0."""
    before = set(openbao.admin.leases(orders_database))
    broker.start()
    answer = broker.get("orders-db", **{"Broker-Tool": "orders"})
    assert answer.status_code == 200
    document = answer.json()
    with psycopg.connect(document["data"]["dsn"]) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() is not None
    assert broker.get("search-api").json()["data"] == {"api_key": "canary-key-1"}
    assert len(set(openbao.admin.leases(orders_database)) - before) == 1

    handouts = [record for record in broker.audit() if record["kind"] == "handout"]
    records = [record for record in handouts if record["credential"] == "orders-db"]
    assert records[0]["client"] == "search-mcp"
    assert records[0]["version"] == document["version"]

    assert broker.stop() == 0
    assert set(openbao.admin.leases(orders_database)) <= before
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(document["data"]["dsn"], connect_timeout=60)
    assert "canary-key-1" not in broker.logs() + broker.audit_file.read_text()


def test_the_whole_life_is_one_chain_over_a_restart(
    broker: BrokerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """Start, logins, refreshes, hand-outs and stop are valid records, and ``verify`` agrees."""
    broker.start()
    first = broker.get("search-api")
    etag = first.headers["etag"]
    assert broker.get("search-api", **{"If-None-Match": etag}).status_code == 304
    assert broker.get("nothing-such").status_code == 404
    assert broker.stop() == 0
    broker.start()
    assert broker.get("orders-db").status_code == 200
    assert broker.stop() == 0

    records = broker.audit()
    judge = jsonschema.Draft202012Validator(json_schema())
    for record in records:
        judge.validate(record)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    lives = [record["kind"] for record in records if record["kind"] in {"start", "stop"}]
    assert lives == ["start", "stop"] * 2
    assert (records[0]["kind"], records[-1]["kind"]) == ("start", "stop")
    assert (records[-1]["reason"], records[-1]["exit_code"]) == ("SIGTERM", 0)
    kinds = {record["kind"] for record in records}
    assert {"login", "refresh", "handout", "revalidated", "refusal"} <= kinds
    logins = [record for record in records if record["kind"] == "login"]
    assert [(one["result"], one["generation"]) for one in logins] == [("ok", 1), ("ok", 1)]
    handout = next(record for record in records if record["kind"] == "handout")
    refreshed = [record for record in records if record["kind"] == "refresh"]
    assert handout["version"] in {one["version"] for one in refreshed}

    path = str(broker.audit_file)
    head = f"{records[-1]['chain']}@{records[-1]['seq']}"
    assert main(["audit", "verify", path, "--head", head]) == 0
    assert f"audit head {head}" in broker.logs()
    capsys.readouterr()
    assert main(["explain", first.headers["broker-request-id"], "--file", path]) == 0
    told = capsys.readouterr().out
    assert "search-api was handed out." in told
    assert "search-api: changed, version" in told


def test_a_caller_gets_only_what_its_list_names(broker: BrokerProcess) -> None:
    """Unknown and not allowed look alike; no token is a 401 with a challenge."""
    broker.start()
    unknown = broker.get("nothing", client="other-mcp")
    refused = broker.get("search-api", client="other-mcp")
    assert unknown.status_code == refused.status_code == 404
    assert unknown.json()["type"] == refused.json()["type"]
    anonymous = broker.http.get("/v1/credentials/search-api")
    assert anonymous.status_code == 401
    assert anonymous.headers["www-authenticate"].startswith("Bearer")
    assert broker.stop(signal.SIGINT) == 0


def test_a_new_value_is_tried_before_it_is_handed_out(
    directory: Path, openbao: OpenBao, kubernetes_auth: KubernetesAuth
) -> None:
    """One that the upstream refuses is not; the next good one is; a 403 counts where it is told."""
    api, jwt = SearchApi(), directory / "jwt"
    kubernetes_auth.project(jwt)
    keys = [api.keys.mint("by hand")[1].reveal() for _ in range(2)]
    openbao.admin.kv_write("secret", "app/search", {"api_key": keys[0]})
    settings = config(openbao, jwt)
    credential = settings["credentials"]["search-api"]
    settings["credentials"] = {"search-api": credential}
    settings["clients"] = {"search-mcp": {"credentials": ["search-api"]}}
    credential["source"]["poll"] = "1s"
    credential["use"]["origins"] = [api.address]
    credential["prove"] = {"method": "GET", "url": f"{api.address}/key"}
    credential["report_statuses"] = [401, 403]
    process = BrokerProcess(directory, settings)
    api.start()
    try:
        process.start()
        first = process.get("search-api").json()
        assert (first["data"], first["report_statuses"]) == ({"api_key": keys[0]}, [401, 403])
        openbao.admin.kv_write("secret", "app/search", {"api_key": "canary-not-a-key"})
        until(lambda: len(api.admin.proofs) >= 3)
        assert process.get("search-api").json()["version"] == first["version"]
        openbao.admin.kv_write("secret", "app/search", {"api_key": keys[1]})
        until(lambda: process.get("search-api").json()["data"]["api_key"] == keys[1])
        before = len(api.admin.proofs)
        version = process.get("search-api").json()["version"]
        report = process.http.post(
            "/v1/credentials/search-api/reports",
            json={"version": version, "status": 403},
            headers={"Authorization": f"Bearer {process.token('search-mcp')}"},
        )
        assert (report.status_code, len(api.admin.proofs)) == (409, before + 1)
        assert report.json()["state"] == "fresh"
        assert process.stop() == 0
        shown = process.logs() + process.audit_file.read_text()
        assert not [text for text in (*keys, "canary-not-a-key") if text in shown]
    finally:
        process.close()
        api.stop()


def test_a_key_changed_behind_the_brokers_back_is_there_after_the_report(
    broker: BrokerProcess, openbao: OpenBao
) -> None:
    """The report of the dead version brings the newer one; If-None-Match notices as well."""
    broker.start()
    first = broker.get("search-api")
    assert broker.get("search-api", **{"If-None-Match": first.headers["etag"]}).status_code == 304
    time.sleep(2.1)
    openbao.admin.kv_write("secret", "app/search", {"api_key": "canary-key-2"})
    report = broker.http.post(
        "/v1/credentials/search-api/reports",
        headers={"Authorization": f"Bearer {broker.token('search-mcp')}"},
        json={"version": first.json()["version"], "status": 401},
    )
    assert report.status_code == 200, report.text
    second = broker.get("search-api")
    assert second.json()["data"] == {"api_key": "canary-key-2"}
    assert second.json()["version"] == report.json()["version"] != first.json()["version"]


def test_openbao_killed_and_restarted_is_an_outage_that_nobody_notices(
    broker: BrokerProcess, openbao: OpenBao
) -> None:
    """Hand-outs go on from memory; afterwards everything is renewed under the same token."""
    broker.start()
    version = broker.get("orders-db").json()["version"]
    openbao.kill()
    try:
        time.sleep(3)
        assert broker.get("orders-db").json()["version"] == version
        assert broker.get("search-api").status_code == 200
        assert broker.operations.get("/livez").status_code == 200
        assert broker.operations.get("/readyz").status_code == 200
    finally:
        openbao.restart()
    until(lambda: broker.get("search-api").json()["state"] == "fresh", broker.logs)
    assert broker.stop() == 0


def test_a_token_revoked_behind_the_brokers_back_heals_by_one_login(
    broker: BrokerProcess, openbao: OpenBao
) -> None:
    """The next use is denied, the token looked up, one login made, the lease taken anew."""
    before = set(openbao.admin.accessors())
    broker.start()
    version = broker.get("orders-db").json()["version"]
    (accessor,) = set(openbao.admin.accessors()) - before
    openbao.admin.revoke_accessor(accessor)
    until(lambda: broker.metric("broker_vault_token_generation") == 2, broker.logs)

    def replaced() -> bool:
        answer = broker.get("orders-db")
        return answer.status_code == 200 and answer.json()["version"] != version

    until(replaced, broker.logs)
    answer = broker.get("orders-db")
    with psycopg.connect(answer.json()["data"]["dsn"]) as connection:
        connection.execute("SELECT 1")
    assert broker.stop() == 0


def test_a_start_without_vault_answers_typed_errors_and_heals(
    broker: BrokerProcess, openbao: OpenBao
) -> None:
    """Probes are answered at once; a hand-out says since when and when it is tried again."""
    openbao.kill()
    try:
        broker.spawn()
        assert broker.wait_for("/livez", 200).json() == {"alive": True}
        broker.wait_for("/startupz", 200)
        answer = broker.get("search-api")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["since"]
        assert broker.operations.get("/readyz").status_code == 503
    finally:
        openbao.restart()
    broker.wait_for("/readyz", 200)
    assert broker.get("search-api").status_code == 200


def test_a_changed_file_is_applied_and_a_bad_one_is_not(broker: BrokerProcess) -> None:
    """SIGHUP reads it at once; the last good configuration stays."""
    broker.start()
    assert broker.process is not None
    good = broker.config
    broker.config_file.write_text("credentials: {search-api: {sauce: {}}}\n")
    broker.process.send_signal(signal.SIGHUP)
    until(lambda: "the last good one stays" in broker.logs())
    assert broker.get("search-api").status_code == 200

    good["clients"] = {
        "search-mcp": {"credentials": ["orders-db"]},
        "other-mcp": {"credentials": ["orders-db", "search-api"]},
    }
    broker.write_config(good)
    broker.process.send_signal(signal.SIGHUP)
    until(lambda: broker.get("search-api").status_code == 404)
    assert broker.get("search-api", client="other-mcp").status_code == 200
    assert broker.stop() == 0


def test_a_changed_answer_to_a_full_disk_is_applied(broker: BrokerProcess) -> None:
    """``audit.on_failure`` is hot: what the log calls applied decides the next hand-out."""
    config = {**broker.config, "audit": {"file": "/dev/full", "on_failure": "allow"}}
    broker.write_config(config)
    broker.start()
    assert broker.process is not None
    assert broker.get("search-api").status_code == 200
    config["audit"] = {"file": "/dev/full", "on_failure": "refuse"}
    broker.write_config(config)
    broker.process.send_signal(signal.SIGHUP)
    until(lambda: "configuration applied: audit.on_failure" in broker.logs())
    answer = broker.get("search-api")
    assert answer.status_code == 503
    assert answer.json()["code"] == "audit_unavailable"


def test_neighbours_cannot_keep_the_token_from_being_revoked(
    broker: BrokerProcess, openbao: OpenBao
) -> None:
    """Who leaves answers unread until the end of the stop is cut in time for the rest of it."""
    before = set(openbao.admin.accessors())
    broker.write_config({**broker.config, "stop": {"timeout": "4s"}})
    broker.start()
    with socket.create_connection(("127.0.0.1", broker.port)) as unread:
        unread.setblocking(False)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            try:
                unread.send(b"GET /v1/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50)
            except BlockingIOError:
                time.sleep(0.05)
        assert broker.stop() == 0
    assert set(openbao.admin.accessors()) <= before


def test_a_taken_port_is_a_clear_error_and_not_a_traceback(broker: BrokerProcess) -> None:
    """The conflict is named with its address; the exit code is not zero."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", broker.port))
        taken.listen()
        broker.spawn()
        assert broker.process is not None
        assert broker.process.wait(PATIENCE) not in (0, None)
    assert str(broker.port) in broker.logs()
    assert "Traceback" not in broker.logs()


def test_an_operator_replaces_a_client_token_with_an_overlap(broker: BrokerProcess) -> None:
    """The new file is taken at once, the old text for a minute more."""
    broker.start()
    old = broker.token("search-mcp")
    socket_path = str(broker.directory / "admin" / "admin.sock")
    transport = httpx2.HTTPTransport(uds=socket_path)
    with httpx2.Client(transport=transport, base_url="http://localhost") as admin:
        assert admin.post("/v1/clients/search-mcp/client-token").status_code == 200
        assert admin.get("/v1/status").json()["ready"] is True
    assert broker.token("search-mcp") != old
    for token in (old, broker.token("search-mcp")):
        answer = broker.http.get(
            "/v1/credentials/search-api", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 200


def test_the_operators_lines_in_the_document_work(
    broker: BrokerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/operations.md's break-glass lines, only the socket's place differs."""
    document = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    lines = document.partition("```python\n")[2].partition("```")[0]
    broker.start()
    exec(lines.replace("/run/broker-admin", str(broker.directory / "admin")), {})
    status, refreshed, replaced = capsys.readouterr().out.splitlines()
    assert "'ready': True" in status
    assert "'name': 'search-api'" in refreshed
    assert replaced == "{'client': 'search-mcp', 'replaced': True}"


def test_a_second_signal_ends_at_once(broker: BrokerProcess) -> None:
    """The first one lingers for stop.delay; the second does not wait."""
    broker.write_config({**broker.config, "stop": {"delay": "90s", "timeout": "100s"}})
    broker.start()
    assert broker.process is not None
    broker.process.send_signal(signal.SIGTERM)
    broker.wait_for("/readyz", 503)
    assert broker.get("search-api").status_code == 200  # lingering: hand-outs go on
    assert broker.stop(signal.SIGTERM) == 128 + signal.SIGTERM
