"""Policies in a broker that is built, and changed while it runs."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from broker.access.authorizer import ListAuthorizer
from broker.access.policy import PolicyAuthorizer
from broker.access.principal import Caller, Principal
from broker.app import policies
from broker.app.build import Broker
from broker.app.reload import Reload
from broker.errors import CallerForbidden, CredentialUnknown, SettingsErrors
from broker.settings.domain import Settings
from broker.settings.load import load
from tests.support.patience import PATIENCE
from tests.unit.test_app_rotation import built
from tests.unit.test_settings_access import LENDING

SHOP = Principal(Caller("shop", "token"))
HEAD = """\
vault:
  address: https://vault.example
  auth: {role: x, token_file: TOKEN}
audit: {file: AUDIT}
clients: {search: {credentials: [web]}, shop: {}}
credentials:
  web: {source: {kind: kv, mount: secret, path: web}}
  orders: {source: {kind: kv, mount: secret, path: orders}}
"""
FILES = "policies: {files: [team.cedar]}\n"
PERMIT = 'permit (principal in Caller::"shop", action, resource == Credential::"orders");\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with plain lists."""
    config = tmp_path / "broker.yaml"
    text = HEAD.replace("TOKEN", str(tmp_path / "token"))
    config.write_text(text.replace("AUDIT", str(tmp_path / "audit.jsonl")))
    (tmp_path / "team.cedar").write_text(PERMIT)
    return config


def may(broker: Broker, name: str = "orders", tool: str = "") -> bool:
    try:
        broker.authorizer.authorize(SHOP, name, tool=tool)
    except (CallerForbidden, CredentialUnknown):
        return False
    return True


async def watched(file: Path) -> tuple[Broker, Reload]:
    loaded = load(file, {})
    broker = await built(loaded.settings)
    return broker, Reload(broker, str(file), loaded.digest, environ={}, own_uid=0)


async def test_lists_need_no_policies(file: Path) -> None:
    """A broker whose configuration has lists alone decides by them."""
    broker, _ = await watched(file)
    assert isinstance(broker.authorizer.inner, ListAuthorizer)
    assert not may(broker)
    await broker.vault.aclose()


@pytest.mark.parametrize(
    ("more", "loaded"), [("", False), ("roles: {r: {callers: [shop], tools: [a]}}\n", True)]
)
def test_cedar_is_loaded_where_it_is_needed_alone(file: Path, more: str, loaded: bool) -> None:
    """It costs memory that a broker with plain lists need not have."""
    file.write_text(file.read_text() + more)
    program = f"""
import asyncio, sys
from pathlib import Path
from broker.cli.run import call  # what 'broker run' loads
from broker.app.reload import Reload
from broker.settings.load import load
from tests.unit.test_app_rotation import built
async def main():
    broker = await built(load({str(file)!r}, {{}}).settings)
    await broker.vault.aclose()
asyncio.run(main())
print("cedarpy" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == str(loaded)


async def test_a_policy_file_is_applied_when_its_content_changes(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody touches the configuration itself; the decisions kept so far are gone at once."""
    file.write_text(file.read_text() + FILES)
    broker, reload = await watched(file)
    assert isinstance(broker.authorizer.inner, PolicyAuthorizer)
    assert may(broker)
    before = broker.authorizer.generation
    assert not await reload.look()
    assert broker.authorizer.generation == before

    team = file.with_name("team.cedar")
    team.write_text(PERMIT.replace("permit", "forbid"))
    assert await reload.look()
    assert not may(broker)
    assert broker.authorizer.generation > before

    team.write_text(PERMIT + 'permit (principal, action, resource) when { context.tol == "x" };')
    with caplog.at_level(logging.ERROR):
        assert await reload.look()
    assert "the last good one stays" in caplog.text
    assert "team.cedar:2: attribute `tol` not found" in caplog.text
    assert not may(broker)

    team.write_text(PERMIT)
    assert await reload.look()
    assert may(broker)
    await broker.vault.aclose()


async def test_a_policy_file_that_comes_later_is_noticed(file: Path) -> None:
    """The configuration names it first; a volume may bring it a moment after."""
    broker, reload = await watched(file)
    team = file.with_name("team.cedar")
    team.unlink()
    file.write_text(file.read_text() + FILES)
    assert await reload.look()
    assert not may(broker)
    team.write_text(PERMIT)
    assert await reload.look()
    assert may(broker)
    await broker.vault.aclose()


async def test_roles_come_and_go(file: Path) -> None:
    """Lists to policies and back, without a restart."""
    broker, reload = await watched(file)
    plain = file.read_text()
    file.write_text(plain + "roles: {r: {callers: [shop], credentials: [orders], tools: [a]}}\n")
    assert await reload.look()
    assert may(broker, tool="a")
    assert not may(broker, tool="b")
    file.write_text(plain)
    assert await reload.look()
    assert isinstance(broker.authorizer.inner, ListAuthorizer)
    assert not may(broker, tool="a")
    await broker.vault.aclose()


async def test_a_policy_may_name_a_client_that_waits_for_a_restart(file: Path) -> None:
    """What else changed with it is applied."""
    file.write_text(file.read_text() + FILES)
    broker, reload = await watched(file)
    file.write_text(file.read_text().replace("shop: {}", "shop: {}, new: {}"))
    team = file.with_name("team.cedar")
    team.write_text(
        'permit (principal in Caller::"new", action, resource);'
        'permit (principal in Caller::"shop", action, resource == Credential::"web");'
    )
    assert await reload.look()
    assert may(broker, "web")
    assert not may(broker, "orders")
    new = Principal(Caller("new", "token"))
    with pytest.raises(CredentialUnknown):
        broker.authorizer.authorize(new, "web", tool="")
    await broker.vault.aclose()


async def test_a_broker_with_a_bad_policy_does_not_start(file: Path) -> None:
    """The faults are those of the configuration, with file and line."""
    file.write_text(file.read_text() + FILES)
    file.with_name("team.cedar").write_text("\n\npermit (principal, action, resourc);")
    with pytest.raises(SettingsErrors) as refused:
        await watched(file)
    assert refused.value.faults[0].line == 3


# --- what a configuration tells policies ------------------------------------------------------


def test_no_glob_gives_away_what_only_drivers_use() -> None:
    """A role's ``**`` and a policy about everything leave out what may manage keys."""
    from broker.settings.load import parse_settings

    roles = "roles: {r: {callers: [shop], paths: ['**']}}\n"
    text = LENDING + roles
    settings = parse_settings(text, file="b", environ={}).settings
    found = policies.compiled(settings)
    assert found is not None
    assert found.listing.visible("shop", None) == ("web",)
    named = text.replace("paths: ['**']", "credentials: [admin]")
    found = policies.compiled(parse_settings(named, file="b", environ={}).settings)
    assert found is not None
    assert found.listing.visible("shop", None) == ("admin",)


def jwt(subject: str) -> str:
    body = base64.urlsafe_b64encode(json.dumps({"sub": subject}).encode()).decode().rstrip("=")
    return f"e30.{body}.x"


@pytest.mark.parametrize(
    ("content", "account"),
    [
        (jwt("system:serviceaccount:tools:search"), "tools/search"),
        (jwt("system:serviceaccount:tools"), ""),
        (jwt("somebody"), ""),
        ("no token", ""),
        (None, ""),
    ],
)
def test_the_service_account_is_read_off_its_token(
    file: Path, content: str | None, account: str
) -> None:
    """What is none is not known; a Vault token given by file names none."""
    if content is not None:
        file.with_name("token").write_text(content)
    assert policies.service_account(load(file, {}).settings) == account
    given = file.read_text().replace("role: x", "method: token_file")
    file.write_text(given)
    assert policies.service_account(load(file, {}).settings) == ""


def test_remarks_on_roles_have_lines(file: Path) -> None:
    """As every other advice has."""
    file.write_text(file.read_text() + "roles:\n  r:\n    paths: ['**']\n    callers: [shop]\n")
    loaded = load(file, {})
    (one,) = policies.remarks(loaded.settings, loaded.place)
    assert str(one) == (
        f"{file}:11: roles.r.paths.0: over-wide: grants every credential, those to come included"
    )


def test_a_policy_is_described_by_the_id_in_the_audit(file: Path) -> None:
    """Lists alone need no Cedar for it."""

    def settings() -> Settings:
        return load(file, {}).settings

    assert policies.describe(settings(), "clients.search", file="b.yaml") == (
        "clients.search (b.yaml: clients.search.credentials)\nfor any tool: web"
    )
    assert policies.describe(settings(), "nothing") == ""
    file.write_text(file.read_text() + FILES)
    team = file.with_name("team.cedar")
    assert (
        policies.describe(settings(), "team.cedar:1") == f"team.cedar:1 ({team}:1)\n{PERMIT[:-1]}"
    )
    assert policies.describe(settings(), "clients.search").startswith("clients.search (")
