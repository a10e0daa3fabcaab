"""Scoped tokens of two real brokers beside one real OpenBao."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import jsonschema
import pytest

from broker.access.tokens.model import LONGEST_LIFE
from broker.app.vault_policy import hcl, rules
from broker.audit.schema import json_schema
from broker.cli.main import main
from broker.client.aio import Broker
from broker.demo.openbao import OpenBao
from broker.settings.load import load
from tests.conftest import KubernetesAuth
from tests.support.broker_process import BrokerProcess
from tests.support.guarded import call_body, call_headers, guarded
from tests.support.patience import eventually

pytestmark = pytest.mark.real

PATH = "app/tokens"
SOURCE = {"kind": "kv", "mount": "secret", "path": "app/search"}
AT_MOST = 1.0
"""Seconds in which a revocation is honoured on the other replica, after it was confirmed."""
SLACK = 2.0
"""Seconds for a machine that is busy with other tests."""


@pytest.fixture
def replicas(
    openbao: OpenBao, kubernetes_auth: KubernetesAuth
) -> Iterator[tuple[BrokerProcess, BrokerProcess]]:
    """Two brokers of one installation, with the printed policy and nothing more."""
    openbao.admin.kv_write("secret", "app/search", {"api_key": "canary-key-1"})
    openbao.admin.request("DELETE", f"secret/metadata/{PATH}/key")
    openbao.admin.request("DELETE", f"secret/metadata/{PATH}/revocations")
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        made = []
        for number in (1, 2):
            directory = Path(name) / str(number)
            directory.mkdir()
            kubernetes_auth.project(directory / "jwt")
            config = {
                "vault": {
                    "address": openbao.address,
                    "auth": {
                        "role": "tokens",
                        "token_file": str(directory / "jwt"),
                        "audience": "vault",
                    },
                },
                "clients": {"search-mcp": {"credentials": ["search-api"]}},
                "credentials": {"search-api": {"source": SOURCE}},
                "tokens": {"store": "shared", "path": PATH, "revocation_grace": "4s"},
            }
            made.append(BrokerProcess(directory, config))
        settings = load(made[0].config_file, {}).settings
        openbao.admin.policy("tokens", hcl(rules(settings, "broker")))
        openbao.admin.kubernetes_role(
            "tokens",
            service_account=kubernetes_auth.service_account,
            namespace=kubernetes_auth.namespace,
            audience=kubernetes_auth.audience,
            policies=["tokens"],
            token_no_default_policy=True,
            token_ttl="10m",
        )
        try:
            for one in made:
                one.start()
            yield made[0], made[1]
        finally:
            for one in made:
                one.close()


def use(broker: BrokerProcess, token: str, tool: str = "search") -> httpx2.Response:
    """A hand-out on behalf of the token's subject."""
    shown = {"Broker-Subject-Token": token, "Broker-Tool": tool}
    return broker.get("search-api", **shown)


def introspect(broker: BrokerProcess, token: str) -> bool:
    """Whether a broker calls it active."""
    answer = broker.http.post(
        "/v1/tokens/introspect",
        data={"token": token},
        headers={"Authorization": f"Bearer {broker.token('search-mcp')}"},
    )
    assert answer.status_code == 200
    return bool(answer.json()["active"])


def introspect_id(broker: BrokerProcess, token: str) -> str:
    """The id that a broker knows a token by."""
    answer = broker.http.post(
        "/v1/tokens/introspect",
        data={"token": token},
        headers={"Authorization": f"Bearer {broker.token('search-mcp')}"},
    )
    return str(answer.json()["jti"])


def mint(broker: BrokerProcess, capsys: pytest.CaptureFixture[str], *extra: str) -> str:
    """As an operator of one broker."""
    argv = ["token", "mint", "--caller", "search-mcp", "--subject", "alice", "--tool", "search"]
    socket = str(broker.directory / "admin" / "admin.sock")
    capsys.readouterr()
    assert main([*argv, "--credential", "search-api", "--socket", socket, *extra]) == 0
    return capsys.readouterr().out.strip()


def test_minted_here_used_there_and_revoked_everywhere_within_a_second(
    replicas: tuple[BrokerProcess, BrokerProcess],
    openbao: OpenBao,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A token of one replica is good at the other, until the one that minted it revokes it."""
    one, two = replicas
    token = mint(one, capsys)
    assert token.startswith("mbs_")
    for broker in replicas:
        assert use(broker, token).json()["data"] == {"api_key": "canary-key-1"}
        assert use(broker, token, tool="other").json()["scope"] == "tool:other"
        assert introspect(broker, token)

    socket = str(one.directory / "admin" / "admin.sock")
    assert main(["token", "revoke", "--subject", "alice", "--socket", socket]) == 0
    confirmed = time.monotonic()
    assert use(one, token).status_code == 403
    while use(two, token).status_code == 200:
        assert time.monotonic() - confirmed < AT_MOST + SLACK
        time.sleep(0.02)
    assert use(two, token).json()["code"] == "subject_token_refused"
    assert not introspect(two, token)
    again = mint(two, capsys)
    assert [use(broker, again).status_code for broker in replicas] == [200, 200]

    kinds = [record["kind"] for record in one.audit()]
    assert kinds.count("token_minted") == kinds.count("token_revoked") == 1
    judge = jsonschema.Draft202012Validator(json_schema())
    for broker in replicas:
        for record in broker.audit():
            judge.validate(record)
        written = broker.logs() + broker.audit_file.read_text()
        assert token not in written
        assert again not in written
        assert broker.stop() == 0
    stored = openbao.admin.request("GET", f"secret/data/{PATH}/revocations")["data"]["data"]
    (entry,) = [line for line in stored["revocations"].splitlines() if "alice" in line]
    assert float(entry.strip("[]").split(",")[-1]) <= time.time() + LONGEST_LIFE


def test_without_vault_closed_after_the_grace_and_open_again(
    replicas: tuple[BrokerProcess, BrokerProcess],
    openbao: OpenBao,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody can say what is revoked: 503 for tokens, while plain hand-outs go on."""
    one, two = replicas
    token = mint(one, capsys)
    assert use(one, token).status_code == 200
    openbao.pause()
    try:
        paused = time.monotonic()
        while (answer := use(one, token)).status_code == 200:
            assert time.monotonic() - paused < 4 + AT_MOST + SLACK
            time.sleep(0.05)
        assert time.monotonic() - paused > 2.5
        assert (answer.status_code, answer.json()["code"]) == (503, "tokens_unavailable")
        assert answer.headers["retry-after"]
        assert use(two, token).status_code == 503
        assert one.get("search-api").status_code == 200
    finally:
        openbao.resume()
    end = time.monotonic() + 30
    while any(use(broker, token).status_code != 200 for broker in replicas):
        assert time.monotonic() < end
        time.sleep(0.1)


async def test_a_revocation_elsewhere_reaches_the_events_of_this_replica(
    replicas: tuple[BrokerProcess, BrokerProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    """The guard beside this one hears of it, so its cached verdict is beaten and streams end."""
    one, two = replicas
    argv = ["--tool", "ping"]
    ada, other = mint(one, capsys, *argv), mint(one, capsys, *argv)
    socket = str(one.directory / "admin" / "admin.sock")
    broker = Broker(f"unix://{two.directory}/run/search-mcp/broker.sock")
    async with guarded(broker, open_tools=["ping"]) as world:
        introspection = world.guard._introspection
        await eventually(lambda: introspection._hearing)
        async with world.agent(ada, "legacy") as client, world.agent(other, "legacy"):
            await client.call_tool("ping", {})
            await eventually(lambda: len(world.guard._streams) == 2)
            heard = introspection.news
            identity = introspect_id(two, ada)
            argv = ["token", "revoke", "--id", identity, "--socket", socket]
            assert await asyncio.to_thread(main, argv) == 0
            confirmed = time.monotonic()
            # An open tool, about which no policy is asked: only the cache stands in the way.
            async with world.raw(ada) as http:
                body, headers = call_body("ping"), call_headers("ping")
                while (await http.post(world.url, json=body, headers=headers)).status_code == 200:
                    assert time.monotonic() - confirmed < AT_MOST + SLACK
                    await asyncio.sleep(0.02)
            assert heard.is_set()
            await eventually(lambda: len(world.guard._streams) == 1, AT_MOST + SLACK)
    learned = [one for one in two.audit() if one["kind"] == "token_revoked"]
    assert [one["token_id"] for one in learned] == [identity]
