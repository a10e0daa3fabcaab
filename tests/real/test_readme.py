"""The README does what it says: its commands, its configuration and its example run as written.

Only places differ: addresses and directories stand in ``Stage.places``, and the two commands of
the Quickstart, which CI and the demo's own test run, are compared instead.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from broker import errors
from broker.demo.openbao import OpenBao
from broker.demo.postgres import Postgres
from broker.demo.process import free_port
from broker.demo.search_api import SearchApi
from broker.errors import BrokerError
from tests.conftest import KubernetesAuth
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
QUICKSTART = "make demo\nmake test\n"
RUN = "broker run --config broker.yaml\n"


class Block(NamedTuple):
    """A fenced block of the README."""

    language: str
    text: str


BLOCKS = [
    Block(*found)
    for found in re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
]


class Stage:
    """A directory and an environment in which the README's blocks run."""

    def __init__(self, directory: Path, places: dict[str, str]) -> None:
        self.directory, self.places = directory, places
        self.environment: dict[str, str] = {}
        self.running: list[subprocess.Popen[bytes]] = []

    def local(self, text: str) -> str:
        """``text`` with the README's places replaced by this stage's."""
        for public, here in self.places.items():
            text = text.replace(public, here)
        return text

    def public(self, text: str) -> str:
        """What was printed here, with the README's places."""
        for public, here in self.places.items():
            text = text.replace(here, public)
        return text

    def shell(self, text: str) -> str:
        """Run a block to its end; returns what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.local(text)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=self.environment,
            cwd=self.directory,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, text: str) -> None:
        """Run a block that does not end."""
        with (self.directory / "broker.log").open("wb") as log:
            self.running.append(
                subprocess.Popen(
                    ["bash", "-euo", "pipefail", "-c", f"exec {self.local(text)}"],
                    stdout=log,
                    stderr=log,
                    env=self.environment,
                    cwd=self.directory,
                )
            )

    def end(self) -> list[int]:
        """End what runs; returns the exit codes."""
        for process in self.running:
            process.terminate()
        return [process.wait(20) for process in self.running]


@pytest.fixture
def stage(kubernetes_auth: KubernetesAuth, postgres: Postgres) -> Iterator[Stage]:
    """What the README's reader has: a bare OpenBao with a database role, a pod, an upstream."""
    cluster = kubernetes_auth.cluster
    with tempfile.TemporaryDirectory(prefix="brk-") as name:
        directory = Path(name)
        (directory / "vault").mkdir()
        openbao, search = OpenBao(directory / "vault"), SearchApi()
        openbao.start()
        search.start()
        set_up_database(openbao, postgres)
        cluster.accounts.create("mcp", "search-mcp")
        cluster.accounts.project(directory / "jwt", "mcp", "search-mcp", audiences=["vault"])
        (directory / "ca.pem").write_text(cluster.ca_pem)
        (directory / "reviewer").write_text(cluster.reviewer_token().reveal())
        (directory / "search-api.key").write_text(search.keys.mint("readme")[1].reveal())
        stage = Stage(directory, places(directory, openbao, cluster.address, search))
        stage.environment = environment(directory, openbao, stage)
        try:
            yield stage
        finally:
            for process in stage.running:
                process.kill()
                process.wait()
            search.stop()
            openbao.stop()


def places(directory: Path, openbao: OpenBao, cluster: str, search: SearchApi) -> dict[str, str]:
    return {
        "https://vault.vault.svc:8200": openbao.address,
        # Outside of a cluster OpenBao has no CA and no account of its own to use.
        "kubernetes_host=https://kubernetes.default.svc": f"kubernetes_host={cluster} "
        "kubernetes_ca_cert=@ca.pem token_reviewer_jwt=@reviewer",
        "https://api.search.example": search.address,
        "127.0.0.1:8210": f"127.0.0.1:{free_port()}",
        "127.0.0.1:8211": f"127.0.0.1:{free_port()}",
        "/run/broker": str(directory / "run"),
    }


def environment(directory: Path, openbao: OpenBao, stage: Stage) -> dict[str, str]:
    """A person's shell, and the same places for the broker's defaults."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),  # this checkout, whichever one is installed
        "HOME": str(directory),
        "BAO_ADDR": openbao.address,
        "BAO_TOKEN": openbao.root_token.reveal(),
        "BROKER__VAULT__AUTH__TOKEN_FILE": str(directory / "jwt"),
        "BROKER__LISTENERS__SOCKET_DIRECTORY": stage.local("/run/broker"),
        "BROKER__LISTENERS__TCP": stage.local("127.0.0.1:8210"),
        "BROKER__LISTENERS__OPERATIONS": stage.local("127.0.0.1:8211"),
        "BROKER__LISTENERS__ADMIN_SOCKET": str(directory / "admin" / "admin.sock"),
    }


def set_up_database(openbao: OpenBao, postgres: Postgres) -> None:
    openbao.admin.enable_database("database")
    openbao.admin.database_connection(
        "shop", url=postgres.url, username="postgres", password=postgres.password
    )
    openbao.admin.database_role(
        "orders",
        connection="shop",
        grants=['GRANT SELECT ON orders TO "{{name}}"'],
        default_ttl="60s",
        max_ttl="120s",
    )


def test_the_readme_works_from_top_to_bottom(stage: Stage) -> None:
    """Every shell block succeeds in order and prints what is shown; the example finds a page."""
    printed: list[str] = []
    for block in BLOCKS:
        if block.text == QUICKSTART or block.language == "mermaid":
            continue
        if block.text == RUN:
            stage.start(block.text)
            wait_until_ready(stage)
        elif block.language == "sh":
            for name, value in re.findall(r"^export (\w+)=(.*)$", block.text, re.MULTILINE):
                stage.environment[name] = stage.local(value)
            printed.append(stage.shell(block.text))
        elif block.language == "text":
            assert block.text == stage.public(printed[-1])
        elif block.language == "yaml":
            (stage.directory / "broker.yaml").write_text(stage.local(block.text))
        elif block.language == "python":
            (stage.directory / "server.py").write_text(stage.local(block.text))
            printed.append(stage.shell(f"{sys.executable} -c '{CALL}'"))
        else:
            raise AssertionError(f"nobody runs {block.language} blocks")
    told = "\n".join(printed)
    key = (stage.directory / "search-api.key").read_text()
    assert f'"{key}"' in told
    assert "postgresql://v-" in told
    assert '"title":"Leases"' in told.replace('\\"', '"').replace(": ", ":")
    assert "# TYPE broker_handouts_total counter" in told
    assert stage.end() == [0]


CALL = """
import asyncio
from mcp import Client
from server import server

async def main():
    async with Client(server) as client:
        result = await client.call_tool("web_search", {"query": "lease"})
        assert not result.is_error, result
        print(result.content[0].text)

asyncio.run(main())
"""


def wait_until_ready(stage: Stage) -> None:
    end = time.monotonic() + PATIENCE
    url = stage.local("http://127.0.0.1:8211/readyz")
    while time.monotonic() < end:
        log = (stage.directory / "broker.log").read_text()
        assert stage.running[-1].poll() is None, log
        try:
            if httpx2.get(url, trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError((stage.directory / "broker.log").read_text())


def test_the_quickstart_is_two_commands() -> None:
    """The first block is the Quickstart; the Makefile knows both commands and CI runs the tests."""
    assert BLOCKS[0].language == "mermaid"
    assert BLOCKS[1] == Block("sh", QUICKSTART)
    assert "## Quickstart" in README.partition(QUICKSTART)[0]
    makefile = (ROOT / "Makefile").read_text()
    for command in QUICKSTART.split("\n")[:-1]:
        assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert (ROOT / "tests" / "real" / "test_demo.py").exists()


def test_every_link_leads_somewhere() -> None:
    """Relative links of the README and of docs/ name files that exist."""
    broken = []
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith(("http://", "https://")):
                place = (document.parent / target).resolve()
                broken += [] if place.exists() else [f"{document.name}: {target}"]
    assert broken == []


def test_the_words_of_the_table_for_red_exist() -> None:
    """Codes that the table explains are codes of errors, and states of credentials."""
    table = README.partition("## When something is red")[2].partition("## More")[0]
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", table))
    assert len(words) > 8
    assert words <= set(codes(BrokerError)) | {"client_token"}
    assert errors.__doc__


def codes(error: type[BrokerError]) -> Iterator[str]:
    yield error.code
    for below in error.__subclasses__():
        yield from codes(below)
