"""A child process with a log file, for the demo's servers.

Duty: start, watch, kill and stop one program; find a port it can have.
Not its duty: what the program is.
Rules: a child leaves no orphan behind when this interpreter ends; a port is taken
from below the kernel's ephemeral range, where no outgoing connection can sit on it
while its server is being restarted.
"""

from __future__ import annotations

import atexit
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

POLL: Final = 0.02
"""Seconds between two looks at a starting server."""

PORTS: Final = range(20_000, 32_000)


class PartError(Exception):
    """A part of the demo did not do what it should."""


def free_port(rng: random.Random | None = None) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    rng = rng or random.SystemRandom()
    for _ in range(200):
        port = rng.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise PartError("no free port was found")


class Child:
    """One child process.

    Args:
        name: what a person calls it; used in errors.
        argv: program and arguments.
        log: file that takes standard output and error, appended.
        env: the whole environment of the child; nothing is inherited.
        cwd: its working directory, or None for ours.
        uid: user and group to run as, when we are root and it refuses root.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        uid: int | None = None,
    ) -> None:
        self.name, self.log = name, log
        self._argv, self._env, self._cwd, self._uid = list(argv), dict(env), cwd, uid
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it; the caller waits for readiness with :meth:`wait_until`."""
        if self.pid is not None:
            raise PartError(f"{self.name} runs already")
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches only the story,
            # which then stops its parts in order.
            self._process = subprocess.Popen(
                self._argv,
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._uid,
                group=self._uid,
                extra_groups=None if self._uid is None else [],
            )
        atexit.register(self.kill)

    def wait_until(self, ready: Callable[[], bool], *, timeout: float = 20.0) -> None:
        """Wait until ``ready()``.

        Raises:
            PartError: the process ended or ``timeout`` seconds passed; with its last lines.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if self.pid is None:
                raise PartError(f"{self.name} ended at its start:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise PartError(f"{self.name} is not ready after {timeout:.0f} s:\n{self.tail()}")
            time.sleep(POLL)

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once (SIGKILL), and wait for the end."""
        self.stop(signal.SIGKILL, timeout=5.0)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout: float = 10.0) -> int | None:
        """Send ``number``, wait, kill when ``timeout`` seconds pass.

        Returns:
            The exit code as subprocess gives it (negative: the signal), None if never started.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        atexit.unregister(self.kill)
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(5.0)
