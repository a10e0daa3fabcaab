"""What an operator does by command while the story goes on.

Duty: run ``broker …`` in a process of its own, as a person would.
Not its duty: when and why (``story``), what comes of it (``watch``).
Rules: what a command prints goes to the operator's log, but for a minted token, which goes
nowhere.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from broker.secret import SecretValue


class Operator:
    """Somebody at the broker's admin socket.

    Args:
        directory: of the stage; socket and log are below it.
        environment: of the commands.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._socket = str(directory / "admin" / "admin.sock")
        self._log = directory / "operator.log"
        self._environment = dict(environment)

    async def rotate(self, credential: str) -> int:
        """``broker rotate``; its exit code."""
        code, _ = await self._run("rotate", credential, "--socket", self._socket)
        return code

    async def mint(self, caller: str, subject: str, tool: str, credential: str) -> SecretValue:
        """``broker token mint``; the token, or nothing when there is none."""
        wish = ["--caller", caller, "--subject", subject, "--tool", tool]
        wish += ["--credential", credential, "--expires-in", "10m", "--socket", self._socket]
        _, printed = await self._run("token", "mint", *wish, keep=False)
        return SecretValue(printed.decode().strip())

    async def revoke(self, subject: str) -> int:
        """``broker token revoke --subject``; its exit code."""
        wish = ["--subject", subject, "--socket", self._socket]
        code, _ = await self._run("token", "revoke", *wish)
        return code

    async def verify(self, audit_file: Path, key_file: Path) -> tuple[int, str]:
        """``broker audit verify``; its exit code and what it said."""
        wish = [str(audit_file), "--key-file", str(key_file)]
        code, printed = await self._run("audit", "verify", *wish)
        return code, printed.decode().strip()

    async def _run(self, *arguments: str, keep: bool = True) -> tuple[int, bytes]:
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "broker", *arguments),
                env=self._environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
            printed, _ = await process.communicate()
            if keep:
                log.write(printed)
        return process.returncode or 0, printed
