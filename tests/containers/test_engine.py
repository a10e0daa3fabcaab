"""Finding and making an engine, with commands that stand for those of apt and Docker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import (
    PREFIX,
    UNAVAILABLE,
    Engine,
    NoEngineError,
    answers,
    engine,
    install,
    sweep,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine")

ANSWERS = f"""#!{sys.executable}
import http.server, os, socketserver, sys
path = sys.argv[sys.argv.index("--host") + 1].removeprefix("unix://")
class Ping(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def address_string(self):
        return "-"
class Server(socketserver.UnixStreamServer):
    pass
with open(os.environ["ARGUMENTS"], "w") as file:
    print(*sys.argv[1:], file=file)
Server(path, Ping).serve_forever()
"""
"""A dockerd that answers, and no more."""


class Place:
    """A PATH with commands made for the test, and a directory for temporary files."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self.temporary = directory / "tmp"
        self.arguments = directory / "arguments"
        self.bin.mkdir()
        self.temporary.mkdir()

    def command(self, name: str, text: str) -> None:
        """Put a program on the PATH."""
        file = self.bin / name
        file.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        """For processes of their own."""
        return {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "TMPDIR": str(self.temporary),
            "ARGUMENTS": str(self.arguments),
        }

    def left(self) -> list[str]:
        """What engines left in the directory for temporary files."""
        return [one.name for one in self.temporary.glob(f"{PREFIX}*")]

    def main(self, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the module as make does; only what is on this PATH can be found."""
        return subprocess.run(
            [sys.executable, "-m", "tests.containers.engine", *argv],
            env=self.environ | {"PATH": str(self.bin)} | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place whose PATH and temporary directory are this process's too.

    Its path is short: a socket's path below it has 107 bytes (unix(7)).
    """
    with tempfile.TemporaryDirectory(prefix="eng-") as directory:
        made = Place(Path(directory))
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A socket that nobody has."""
    return tmp_path / "no.sock"


# --- which engine -------------------------------------------------------------------------


def test_the_engine_that_is_named_is_used(place: Place) -> None:
    """DOCKER_HOST is taken at its word; the exit status is the command's."""
    host = "unix:///somewhere/docker.sock"
    program = "import os, sys; print(os.environ['DOCKER_HOST']); sys.exit(7)"
    done = place.main(sys.executable, "-c", program, DOCKER_HOST=host)
    assert (done.stdout.strip(), done.returncode) == (host, 7), done.stderr


def test_without_any_the_tests_fail_or_are_skipped_loudly(place: Place) -> None:
    """69 by itself, 0 with --or-skip; both say what did not run and why, and run nothing."""
    if answers(Path("/var/run/docker.sock")):
        pytest.skip("an engine answers on this machine")
    for flags, code in (((), UNAVAILABLE), (("--or-skip",), 0)):
        done = place.main(*flags, sys.executable, "-c", "print('ran')")
        assert done.returncode == code
        assert "the tests in containers did NOT run" in done.stderr
        assert "ran" not in done.stdout.split()
        assert ("no apt-get" in done.stderr) == (os.geteuid() == 0)


# --- installing ---------------------------------------------------------------------------

APT = """
for word in "$@"; do
    case $word in update|install) echo $word >>"$ARGUMENTS"; last=$word;; esac
done
[ $last = update ] && exit 100
[ $(grep -c install "$ARGUMENTS") -gt {failures} ] || {{ echo "E: 404 Not Found"; exit 100; }}
"""


def test_stale_lists_are_fetched_anew(place: Place) -> None:
    """First with what is there; then the lists, though one of them is away, and again."""
    place.command("apt-get", APT.format(failures=1))
    install(["docker.io"], pause=0)
    assert place.arguments.read_text().split() == ["install", "update", "install"]


def test_a_package_that_cannot_be_had_is_told_in_apts_words(place: Place) -> None:
    """After a few rounds, with what apt said."""
    place.command("apt-get", APT.format(failures=99))
    with pytest.raises(NoEngineError, match="404 Not Found"):
        install(["docker.io"], pause=0)
    assert place.arguments.read_text().split().count("install") == 4


# --- an engine of its own -----------------------------------------------------------------


@as_root
def test_an_engine_of_its_own_is_gone_afterwards(place: Place, nowhere: Path) -> None:
    """It answers inside, touches no bridge and no packet filter, and leaves no file."""
    place.command("dockerd", ANSWERS)
    place.command("mmdebstrap", "exit 1")
    with engine({}, nowhere) as host:
        path = Path(host.removeprefix("unix://"))
        assert answers(path)
        words = place.arguments.read_text().split()
        assert {"--iptables=false", "--ip-forward=false"} <= set(words)
        assert words[words.index("--bridge") + 1] == "none"
        assert words[words.index("--data-root") + 1].startswith(str(place.temporary))
    assert not answers(path)
    assert place.left() == []


@as_root
def test_it_is_gone_too_when_the_command_fails(place: Place, nowhere: Path) -> None:
    """An exception inside changes nothing."""
    place.command("dockerd", ANSWERS)
    place.command("mmdebstrap", "exit 1")
    with pytest.raises(ZeroDivisionError), engine({}, nowhere):
        raise ZeroDivisionError
    assert place.left() == []


@as_root
def test_an_engine_that_ends_shows_its_log(place: Place, nowhere: Path) -> None:
    """Tried once more with the plainest storage; then its own words, and nothing left."""
    place.command("dockerd", 'echo "$@" >>"$ARGUMENTS"; echo "no such overlay" >&2; exit 1')
    place.command("mmdebstrap", "exit 1")
    with (
        pytest.raises(NoEngineError, match=r"ended at its start:\nno such overlay"),
        engine({}, nowhere),
    ):
        pytest.fail("there is no engine")
    first, second = place.arguments.read_text().splitlines()
    assert "vfs" not in first
    assert second.endswith("--storage-driver vfs")
    assert place.left() == []


@as_root
def test_an_engine_that_is_silent_is_not_waited_for(place: Place) -> None:
    """There is a bound, and the log again."""
    place.command("dockerd", "echo still loading; exec sleep 300")
    own = Engine()
    try:
        with pytest.raises(NoEngineError, match=r"did not answer in 1 s:\nstill loading"):
            own.start(bound=1.0)
    finally:
        own.close()
    assert place.left() == []


KILLED = """
import sys, time
from tests.containers.engine import Engine
own = Engine()
own.start()
print(own.socket, flush=True)
time.sleep(300)
"""


@as_root
def test_a_killed_run_leaves_no_process_and_the_next_one_sweeps(place: Place) -> None:
    """The kernel ends the engine with us; its directory goes when nobody holds its lock."""
    place.command("dockerd", ANSWERS)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], env=place.environ, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        path = Path(run.stdout.readline().strip())
        assert answers(path)
        sweep()
        assert answers(path), "a living one is left alone"
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10.0
    while answers(path):
        assert time.monotonic() < deadline, "the engine outlived the run"
        time.sleep(0.05)
    assert place.left() != []
    sweep()
    assert place.left() == []


@as_root
def test_a_terminated_run_ends_its_command_and_its_engine(place: Place) -> None:
    """SIGTERM, as a CI's time limit sends it: nothing stays."""
    if answers(Path("/var/run/docker.sock")):
        pytest.skip("an engine answers on this machine")
    place.command("dockerd", ANSWERS)
    place.command("mmdebstrap", "exit 1")
    program = "import time; print('up', flush=True); time.sleep(300)"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.containers.engine", sys.executable, "-c", program],
        env=place.environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        run.terminate()
        assert run.wait(20) == 128 + signal.SIGTERM
    assert place.left() == []
