"""Every file of the locks can be had for both platforms that the image is made for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

pytestmark = [pytest.mark.index, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements" / name for name in ("build.txt", "server.txt", "rotator.txt")]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_lock_has_wheels_for_each_platform(machine: str, tmp_path: Path) -> None:
    """By hash, without a compiler: pip takes them as the image's build would, and misses none."""
    platforms = [f"manylinux_2_28_{machine}", f"manylinux2014_{machine}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    strict = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11"]
    chosen = [word for one in platforms for word in ("--platform", one)]
    locks = [word for one in LOCKS for word in ("--requirement", str(one))]
    done = subprocess.run(
        [*pip, *strict, *chosen, *locks, "--dest", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    wheels = [parse_wheel_filename(one.name) for one in tmp_path.iterdir()]
    wanted = [
        Requirement(line.removesuffix("\\"))
        for lock in LOCKS
        for line in re.findall(r"^[a-z0-9].*$", lock.read_text(), re.MULTILINE)
    ]
    here = {
        (canonicalize_name(one.name), str(one.specifier).removeprefix("=="))
        for one in wanted
        if one.marker is None or one.marker.evaluate({"platform_machine": machine})
    }
    assert {(name, str(number)) for name, number, _, _ in wheels} == here
    compiled = {
        tag.platform for *_, tags in wheels for tag in tags if tag.platform != "any"
    }  # nothing for another machine among them
    assert compiled
    assert all(platform.endswith(f"_{machine}") for platform in compiled)
