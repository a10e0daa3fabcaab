"""docs/rotation.md says what is true."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from math import inf
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.app.proofs import proofs
from broker.app.rotation import LEASE
from broker.app.rotation_drivers import DriverParts, drivers
from broker.cli.exit_codes import ExitCode
from broker.cli.main import parser
from broker.clock import SystemClock
from broker.credentials.model import CredentialKey, Entry, Snapshot, State
from broker.credentials.store import CredentialStore
from broker.demo.serving import ServedApp
from broker.errors import ProofFailed
from broker.rotation.drivers import exchange
from broker.rotation.drivers.port import Driver
from broker.rotation.model import Label
from broker.secret import SecretValue
from broker.settings import rules_drivers, rules_rotation
from broker.settings.load import parse_settings
from tests.simulators.session import SessionByHand
from tests.simulators.vault import VaultSimulator

TEXT = (Path(__file__).parents[2] / "docs" / "rotation.md").read_text()
EXAMPLE = TEXT.partition("\n## An example")[2].partition("```yaml\n")[2].partition("```")[0]
CLOCK = SystemClock()
PASSWORD = "canary-password"


def test_the_example_is_usable() -> None:
    """It has neither faults nor advice."""
    assert parse_settings(EXAMPLE, file="broker.yaml", environ={}).advice == ()


def test_the_commands_are_the_programs() -> None:
    """Every command of the table is one, with its argument and its options."""
    section = TEXT.partition("\n## Nights\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^\| `broker ([^`]+)` \|", section, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        parsed = parser().parse_args([*command.split(), "--json", "--socket", "/s"])
        assert (parsed.json, parsed.socket) == (True, "/s")
    for code in (ExitCode.ROTATION, ExitCode.BROKER):
        assert re.search(rf"\b{int(code)}\b", section)


def test_the_role_is_enough() -> None:
    """It allows what the election and the Events ask of the API, for the default Lease."""
    role = yaml.safe_load(TEXT.partition("```yaml\n")[2].partition("```")[0])
    allowed = {
        (verb, resource, *rule.get("resourceNames", ()))
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == {
        ("create", "leases"),
        ("get", "leases", LEASE),
        ("update", "leases", LEASE),
        ("create", "events"),
    }


def test_the_placeholders_are_the_programs() -> None:
    """Each request may use what the table says, and nothing else."""
    section = TEXT.partition("\n## The driver `http`\n")[2]
    rows = re.findall(r"^\| `(create|list|retire)` \| (.*) \|$", section, re.MULTILINE)

    assert {name: set(re.findall(r"`([a-z_]+)`", words)) - {"life"} for name, words in rows} == {
        "create": rules_drivers.CREATE_WORDS,
        "list": rules_drivers.LIST_WORDS,
        "retire": rules_drivers.RETIRE_WORDS,
    }


def test_the_numbers_are_the_programs() -> None:
    """Bounds in the text are those of the code."""
    assert exchange.MAX_BODY == 1_048_576
    assert "over 1 MiB" in TEXT
    assert exchange.MAX_RETRY_AFTER == 3600.0
    assert "up to an hour" in TEXT
    assert rules_rotation.POLL_JITTER == 0.1
    assert "poll × 1.1" in TEXT


class Elasticsearch:
    """Answers as its documentation shows, for the requests of the example."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, Any]] = {}
        self._served = ServedApp(
            Starlette(
                routes=[
                    Route("/_security/api_key", self._keys, methods=["GET", "POST", "DELETE"]),
                    Route("/_security/_authenticate", self._authenticate),
                ]
            )
        )
        self.address = self._served.address
        self.start, self.stop = self._served.start, self._served.stop

    async def _keys(self, request: Request) -> Response:
        basic = b64encode(f"manager:{PASSWORD}".encode()).decode()
        if request.headers["authorization"] != f"Basic {basic}":
            return JSONResponse({"status": 401}, status_code=401)
        if request.method == "GET":
            asked = dict(request.query_params)
            prefix = asked.pop("name").removesuffix("*")
            assert asked == {"owner": "true", "active_only": "true"}
            shown = ("id", "name", "creation", "expiration", "invalidated")
            found = [
                {name: key[name] for name in shown}
                for key in self.keys.values()
                if key["name"].startswith(prefix) and not key["invalidated"]
            ]
            return JSONResponse({"api_keys": found})
        body = json.loads(await request.body())
        if request.method == "DELETE":
            assert body.keys() == {"ids", "owner"}
            gone = [key_id for key_id in body["ids"] if key_id in self.keys]
            for key_id in gone:
                self.keys[key_id]["invalidated"] = True
            return JSONResponse({"invalidated_api_keys": gone, "error_count": 0})
        assert body.keys() == {"name", "expiration", "role_descriptors"}
        key_id, now = f"id-{len(self.keys)}", int(CLOCK.wall() * 1000)
        key = {
            "id": key_id,
            "name": body["name"],
            "expiration": now + 45 * 86_400_000,
            "api_key": f"secret-{key_id}",
            "encoded": b64encode(f"{key_id}:secret-{key_id}".encode()).decode(),
        }
        self.keys[key_id] = {**key, "creation": now, "invalidated": False}
        return JSONResponse(key)

    async def _authenticate(self, request: Request) -> Response:
        scheme, _, shown = request.headers["authorization"].partition(" ")
        good = scheme == "ApiKey" and any(
            key["encoded"] == shown and not key["invalidated"] for key in self.keys.values()
        )
        return JSONResponse({}, status_code=200 if good else 401)


@pytest.fixture
def elasticsearch() -> Iterator[Elasticsearch]:
    served = Elasticsearch()
    served.start()
    yield served
    served.stop()


def example_driver(address: str) -> Driver:
    text = EXAMPLE.replace("https://search.example:9200", address)
    settings = parse_settings(text, file="broker.yaml", environ={}).settings
    store, vault = CredentialStore(CLOCK), VaultSimulator(CLOCK)
    data = {"username": SecretValue("manager"), "password": SecretValue(PASSWORD)}
    key = CredentialKey("elastic-manager")
    snapshot = Snapshot(key, "v", data, CLOCK.now(), CLOCK.now())
    store.publish(Entry(key, State.FRESH, snapshot, expires_at=inf))
    parts = DriverParts(
        CLOCK, SystemRandom(), store, vault, SessionByHand(vault), proofs(settings, CLOCK)
    )
    return drivers(settings, parts)["elastic"]


async def test_the_example_speaks_the_documented_api(elasticsearch: Elasticsearch) -> None:
    """Create, prove, list and retire, with the shapes of Elasticsearch's documentation."""
    driver = example_driver(elasticsearch.address)

    key = await driver.create(Label("prod-eu", "elastic", "r1"))

    assert key.expires_wall is not None
    assert abs(key.expires_wall - CLOCK.wall() - 45 * 86_400) < 5
    await driver.prove(key)
    (listed,) = await driver.list()
    assert (listed.key_id, listed.label) == (key.key_id, "broker/prod-eu/elastic/r1")
    assert listed.created_wall is not None
    await driver.retire(key.key_id)
    await driver.retire(key.key_id)
    assert list(await driver.list()) == []
    with pytest.raises(ProofFailed):
        await driver.prove(key)
