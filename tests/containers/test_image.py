"""Both images, the broker's and the rotator's: what is in them, and how they run alone."""

from __future__ import annotations

import json
from typing import Any

import docker
import pytest
from docker.errors import ContainerError

from broker import __version__
from tests.containers.cluster import HARDENED
from tests.containers.images import Images

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

OURS = {"broker": 60_000_000, "rotator": 220_000_000}
"""Bytes that each may add to its base; docs/image.md has what was measured."""

CONTENTS = """
import importlib.util, json, os, pathlib, shutil
MODULES = "mcp", "kubernetes", "pip", "psycopg", "broker.demo", "broker.client", "hvac"
COMPILERS = "cc", "gcc", "g++", "ld", "make", "rustc"
CACHES = "/root/.cache", "/src", "/lock", "/dist"
owned = [
    os.path.join(where, name)
    for top in ("/opt", "/usr", "/etc", "/run", "/var", "/home", "/srv")
    for where, directories, files in os.walk(top)
    for name in directories + files
    if os.lstat(os.path.join(where, name)).st_uid == 65532
]
print(json.dumps({
    "modules": [name for name in MODULES if importlib.util.find_spec(name)],
    "compilers": [name for name in COMPILERS if shutil.which(name)],
    "caches": [path for path in CACHES if os.path.exists(path)],
    "compiled": bool(list(pathlib.Path("/opt/broker").rglob("broker/__pycache__/*.pyc"))),
    "owned": sorted(owned),
    "uid": os.getuid(),
    "gids": os.getgroups(),
}))
"""


def run(engine: docker.DockerClient, image: str, *argv: str, **options: Any) -> str:
    """Output of one container that has nothing: no network, no capability, no writable root."""
    given = {**HARDENED, "network_mode": "none", "remove": True, **options}
    return str(engine.containers.run(image, list(argv), **given).decode())


@pytest.fixture(scope="session", params=["broker", "rotator"])
def target(request: pytest.FixtureRequest) -> str:
    """Each target of the Dockerfile in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def image(target: str, images: Images) -> str:
    """The image of that target."""
    return images.broker(target)


def test_the_image_says_what_it_is(engine: docker.DockerClient, image: str) -> None:
    """Labels by the OCI's names, a number as user, the command as entry point."""
    config = engine.images.get(image).attrs["Config"]
    labels = {
        name.removeprefix("org.opencontainers.image."): text
        for name, text in config["Labels"].items()
    }
    assert labels["version"] == __version__
    assert labels["revision"]
    assert {"title", "description", "licenses"} <= labels.keys()
    assert config["Entrypoint"] == ["broker"]
    assert config["User"] == "65532:65532"


def test_the_image_runs_with_nothing(engine: docker.DockerClient, image: str) -> None:
    """No network, no capability, a root that cannot be written, any uid: the command starts."""
    assert run(engine, image, "version").startswith(f"broker {__version__} ")
    # As OpenShift does: a uid nobody has heard of, in group 0.
    assert run(engine, image, "version", user="1000680000:0").startswith("broker ")
    assert "usage: broker" in run(engine, image, "--help")


def test_the_image_holds_the_broker_and_nothing_else(
    engine: docker.DockerClient, target: str, image: str
) -> None:
    """No compiler, pip, MCP SDK or demo in reach; its user owns its two directories only."""
    python = "/opt/broker/bin/python"
    found = json.loads(run(engine, image, "-c", CONTENTS, entrypoint=python))
    assert found == {
        "modules": ["kubernetes"] * (target == "rotator") + ["broker.client", "hvac"],
        "compilers": [],
        "caches": [],
        "compiled": True,
        "owned": ["/run/broker", "/run/broker-admin"],
        "uid": 65532,
        "gids": [65532],
    }


def test_the_image_adds_little_to_its_base(
    engine: docker.DockerClient, base: str, target: str, image: str
) -> None:
    """What stands above the base stays below the limit."""
    whole, below = (engine.images.get(one).attrs for one in (image, base))
    layers = below["RootFS"]["Layers"]
    if whole["RootFS"]["Layers"][: len(layers)] != layers:
        pytest.skip("the image that was given stands on another base than BROKER_TEST_PYTHON_IMAGE")
    above = whole["Size"] - below["Size"]
    assert 0 < above < OURS[target], f"{above / 1e6:.1f} MB"


def test_a_missing_configuration_is_told_and_not_a_traceback(
    engine: docker.DockerClient, image: str
) -> None:
    """Started with nothing, the image says which file it wants, and ends with an error."""
    with pytest.raises(ContainerError) as failed:
        run(engine, image)
    said = failed.value.stderr.decode()
    assert "/etc/broker/broker.yaml" in said
    assert "Traceback" not in said


def test_the_rotators_image_has_what_an_election_needs(
    engine: docker.DockerClient, rotator_image: str
) -> None:
    """The election's module and the client for Kubernetes import, in the image, without network."""
    program = "import broker.kube.client, kubernetes; print(kubernetes.__version__)"
    said = run(engine, rotator_image, "-c", program, entrypoint="/opt/broker/bin/python")
    assert said.split(".")[0].isdigit()
    with pytest.raises(ContainerError) as failed:
        run(engine, rotator_image, "rotator")
    assert "/etc/broker/broker.yaml" in failed.value.stderr.decode()
