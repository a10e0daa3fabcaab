"""Runs a command with a container engine: the one that is reachable, else one of its own.

    python -m tests.containers.engine [--or-skip] COMMAND [ARGUMENT...]

Duty: find or start an engine, run the command with its DOCKER_HOST, leave nothing of it behind.
Not its duty: what runs in the engine (``images``, ``pod``, the tests).
Rules:

* an engine that answers is used as it is and never stopped;
* its own (Debian, as root) is Debian's docker.io, installed when missing. It lives in a PID and a
  mount namespace: when this process ends, killed or not, all of its processes and mounts end too.
  It has a directory of its own, no default bridge and no packet filter;
* what a killed run left is removed by the next one;
* every wait has a bound, and an engine that does not start shows its log;
* the exit status is the command's; where no engine can be had it is 69, or 0 with ``--or-skip``,
  and standard error says so where nobody can miss it.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

SYSTEM: Final = Path("/var/run/docker.sock")
PREFIX: Final = "broker-engine-"
POLICY: Final = Path("/usr/sbin/policy-rc.d")
"""Debian asks it before a package may start its service."""
PACKAGES: Final = {"dockerd": "docker.io", "mmdebstrap": "mmdebstrap", "ip": "iproute2"}
"""Packages by the command that is needed of each."""
OWN_NAMESPACES: Final = ("unshare", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child")
START: Final = 60.0
"""Seconds that an engine may take to answer."""
UNAVAILABLE: Final = 69
"""EX_UNAVAILABLE of sysexits."""


class NoEngineError(Exception):
    """No engine answers, and none can be started here; the text says why."""


def tell(text: str) -> None:
    """One line for whoever watches."""
    print(f"engine: {text}", file=sys.stderr, flush=True)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock: Any = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(str(self._path))


def answers(path: Path) -> bool:
    """Whether an engine is behind the socket."""
    connection = _Connection(path)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# --- installing ---------------------------------------------------------------------------


def install(packages: Sequence[str], *, pause: float = 10.0) -> None:
    """Install Debian packages, with fresh lists when those at hand do not do.

    Raises:
        NoEngineError: with what apt said last.
    """
    if shutil.which("apt-get") is None:
        raise NoEngineError(f"{', '.join(packages)} missing, and there is no apt-get to install it")
    tell(f"installing {', '.join(packages)}")
    last = ""
    for attempt in range(4):
        if attempt:
            time.sleep(pause if attempt > 1 else 0)
            _apt("update")  # its status says little: one foreign list that is away fails all
        done = _apt("install", "--yes", "--no-install-recommends", *packages)
        if done.returncode == 0:
            return
        last = done.stdout
    raise NoEngineError(f"apt-get cannot install {', '.join(packages)}:\n{last[-2000:]}")


def _apt(*argv: str) -> subprocess.CompletedProcess[str]:
    options = ("-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=2", "--quiet")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    with _no_service_starts():
        return subprocess.run(
            ["apt-get", *options, *argv],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """The package would start an engine of its own, which nobody would stop."""
    if POLICY.exists() or not os.access(POLICY.parent, os.W_OK):
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


# --- an engine of its own -----------------------------------------------------------------


def temporary() -> Path:
    """Where engines have their directories."""
    return Path(os.environ.get("TMPDIR") or "/tmp")


class Engine:
    """One engine in one directory, which nobody else uses."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=temporary()))
        self.socket = self.directory / "docker.sock"
        # Whoever can take this lock knows that nobody lives here any more.
        self._lock = (self.directory / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, bound: float = START) -> None:
        """Start it and wait until it answers.

        Raises:
            NoEngineError: it ended, or is silent; with the end of its log.
        """
        at = self.directory
        log = at / "log"
        init = ("tini", "--") if shutil.which("tini") else ()
        dockerd = (
            *("dockerd", "--host", f"unix://{self.socket}", "--pidfile", str(at / "pid")),
            *("--data-root", str(at / "data"), "--exec-root", str(at / "exec")),
            *("--bridge", "none", "--iptables=false", "--ip-forward=false"),
            *("--cgroup-parent", f"/{at.name}"),
        )
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                # The kernel kills it with us. A session of its own: Ctrl-C ends the tests first.
                ("setpriv", "--pdeathsig", "KILL", *OWN_NAMESPACES, *init, *dockerd, *options),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        deadline = time.monotonic() + bound
        while not answers(self.socket):
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                what = "ended at its start" if ended else f"did not answer in {bound:.0f} s"
                said = log.read_text(errors="replace")[-4000:]
                raise NoEngineError(f"dockerd {what}:\n{said}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End all of its processes; the namespaces take mounts and containers along."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it and remove everything that it made."""
        self.kill()
        self._lock.close()
        remove(self.directory)


def remove(directory: Path) -> None:
    """Remove what an engine that is gone had: bridges, control groups, files."""
    database = directory / "data" / "network" / "files" / "local-kv.db"
    with suppress(OSError):
        networks = re.findall(rb"/network/v1\.0/network/([0-9a-f]{12})", database.read_bytes())
        for name in {f"br-{network.decode()}" for network in networks}:
            if Path("/sys/class/net", name).exists():
                subprocess.run(["ip", "link", "delete", name], check=False)
    for group in Path("/sys/fs/cgroup").glob(f"**/{directory.name}"):
        for below, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                Path(below).rmdir()
    deadline = time.monotonic() + 10.0
    shutil.rmtree(directory, ignore_errors=True)
    while directory.exists():  # the kernel may still be about to end the last process
        if time.monotonic() > deadline:
            tell(f"cannot remove {directory}")
            return
        time.sleep(0.05)
        shutil.rmtree(directory, ignore_errors=True)


def sweep() -> None:
    """Remove what killed runs left."""
    for directory in temporary().glob(f"{PREFIX}*"):
        try:
            with (directory / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                tell(f"removing what an earlier run left in {directory}")
                remove(directory)
        except OSError:
            continue  # somebody lives there, or it is not ours


@contextmanager
def engine(environ: Mapping[str, str], system: Path = SYSTEM) -> Iterator[str]:
    """DOCKER_HOST of an engine that answers: the one named, the system's, or one of its own.

    Raises:
        NoEngineError: there is none, and none can be started.
    """
    if environ.get("DOCKER_HOST"):
        yield environ["DOCKER_HOST"]
        return
    if answers(system):
        yield f"unix://{system}"
        return
    if os.geteuid() != 0:
        raise NoEngineError("no engine answers, and only root can start one: set DOCKER_HOST")
    needed = [name for name in PACKAGES if shutil.which(name) is None]
    if environ.get("BROKER_TEST_PYTHON_IMAGE"):
        needed = [name for name in needed if name != "mmdebstrap"]
    if needed:
        install([PACKAGES[name] for name in needed])
    sweep()
    own = Engine()
    try:
        try:
            own.start()
        except NoEngineError as error:
            tell(f"{error}\nonce more, with the driver that works on any file system")
            own.start("--storage-driver", "vfs")
        yield f"unix://{own.socket}"
    finally:
        own.close()


# --- the command --------------------------------------------------------------------------


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; its exit status."""
    with subprocess.Popen(argv, env=environ) as command:
        try:
            return command.wait()
        except KeyboardInterrupt:
            return command.wait()  # it was interrupted too, and cleans up
        except SystemExit:
            command.terminate()
            with suppress(subprocess.TimeoutExpired):
                command.wait(30)
            command.kill()
            raise


def _terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str]) -> int:
    """The exit status of the command, or what stands for no engine."""
    skip = argv[:1] == ["--or-skip"]
    command = argv[1:] if skip else argv
    if not command:
        tell("which command?")
        return 64
    signal.signal(signal.SIGTERM, _terminated)
    # Images and containers are removed by the tests themselves: nothing has to reap them.
    environ = os.environ | {"TESTCONTAINERS_RYUK_DISABLED": "true"}
    try:
        with engine(environ) as host:
            return run(command, environ | {"DOCKER_HOST": host})
    except NoEngineError as error:
        line = "*" * 100
        end = "going on without them" if skip else "which is a failure"
        what = f"No container engine: the tests in containers did NOT run, {end}."
        tell(f"\n{line}\n{what}\n{error}\n{line}")
        return 0 if skip else UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
