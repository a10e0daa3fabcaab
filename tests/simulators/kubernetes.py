"""The part of a Kubernetes API server that elections and Events need.

``Objects`` keeps Leases and Events with the API's rules: ``resourceVersion`` grows with every
write of any object, an update must name the version it read, a create of what exists conflicts.
``LeaseLine`` is one candidate's way to it in virtual time: slow, cut or losing answers.
``ApiServer`` serves it over HTTP for the real client library, strict about what the real
server is strict about (bearer token, MicroTime's six digits, matching names).
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from broker.clock import Clock
from broker.errors import KubernetesConflict, KubernetesRefused, KubernetesUnavailable
from broker.kube.plan import Record
from broker.kube.ports import Held

MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
LEASES = re.compile(r"/apis/coordination\.k8s\.io/v1/namespaces/([^/]+)/leases(?:/([^/]+))?")
EVENTS = re.compile(r"/api/v1/namespaces/([^/]+)/events")


@dataclass
class Objects:
    """One Lease with the API's rules for writing it."""

    held: Held | None = None
    writes: list[tuple[str, Record]] = field(default_factory=list)
    """Each write: ``create`` or ``update``, and what was written."""
    versions: int = 100

    def create(self, record: Record) -> Held:
        """POST."""
        if self.held is not None:
            raise KubernetesConflict
        return self._write("create", record)

    def update(self, record: Record, version: str, *, bell: bool = False) -> Held:
        """PUT."""
        if self.held is None or self.held.version != version:
            raise KubernetesConflict
        return self._write("update", record, bell=bell)

    def delete(self) -> None:
        """DELETE, by somebody with kubectl."""
        self.held = None

    def touch(self) -> None:
        """Somebody added an annotation: another version, the same record."""
        assert self.held is not None
        self.versions += 1
        self.held = replace(self.held, version=str(self.versions))

    def _write(self, how: str, record: Record, *, bell: bool = False) -> Held:
        self.versions += 1
        self.writes.append((how, record))
        self.held = Held(record, str(self.versions), bell=bell)
        return self.held


@dataclass
class LeaseLine:
    """One candidate's way to the API. Implements ``kube.ports.LeasePort``."""

    objects: Objects
    clock: Clock
    delay: float = 0.0
    """Seconds from the server's deed to the answer."""
    away: bool = False
    forbidden: bool = False
    lose_answers: int = 0
    """So many next writes are done, and their answers lost."""
    hang: bool = False
    """No call ever ends."""

    async def get(self) -> Held | None:
        """GET."""
        await self._arrive()
        held = self.objects.held
        await self.clock.sleep(self.delay)
        return held

    async def create(self, record: Record) -> Held:
        """POST."""
        await self._arrive()
        return await self._answer(self.objects.create(record))

    async def update(self, record: Record, version: str, *, bell: bool = False) -> Held:
        """PUT."""
        await self._arrive()
        return await self._answer(self.objects.update(record, version, bell=bell))

    async def _arrive(self) -> None:
        if self.hang:
            await self.clock.sleep_until(float("inf"))
        if self.away:
            raise KubernetesUnavailable
        if self.forbidden:
            raise KubernetesRefused
        await asyncio.sleep(0)  # others may come in between

    async def _answer(self, held: Held) -> Held:
        await self.clock.sleep(self.delay)
        if self.lose_answers:
            self.lose_answers -= 1
            raise KubernetesUnavailable
        return held


class ApiServer:
    """The same over HTTP, for the real client library and for whole brokers."""

    def __init__(self, *, token: str = "api-server-token") -> None:
        self.token = token
        self.leases: dict[tuple[str, str], dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        """Method and path of each request that was authorized."""
        self.answer_with: int | None = None
        """A status that every request gets instead."""
        self.redirect_to = ""
        self.stall: float = 0.0
        self._version = 100
        self._lock = threading.Lock()
        self._stalled = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                if server.stall:
                    server._stalled.wait(server.stall)
                if server.redirect_to:
                    self.reply(307, {}, location=server.redirect_to)
                    return
                authorized = self.headers.get("authorization") == f"Bearer {server.token}"
                self.reply(*server.handle(self.command, self.path, body, authorized=authorized))

            def reply(self, status: int, document: dict[str, Any], location: str = "") -> None:
                content = json.dumps(document).encode()
                self.send_response(status)
                if location:
                    self.send_header("location", location)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                """The tests look at ``requests``."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        """Origin."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """End; stalled answers go out first."""
        self._stalled.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def holder(self, namespace: str, name: str) -> str:
        """Who holds a Lease; empty when nobody does."""
        with self._lock:
            lease = self.leases.get((namespace, name))
            return (lease and lease["spec"].get("holderIdentity")) or ""

    def handle(
        self, method: str, path: str, body: dict[str, Any], *, authorized: bool
    ) -> tuple[int, dict[str, Any]]:
        """One request, under the lock that a real server's store is."""
        with self._lock:
            if self.answer_with:
                return _status(self.answer_with, "told to")
            if not authorized:
                return _status(401, "Unauthorized")
            self.requests.append((method, path))
            if match := EVENTS.fullmatch(path):
                return self._event(method, match[1], body)
            if match := LEASES.fullmatch(path):
                return self._lease(method, match[1], match[2], body)
            return _status(404, "NotFound")

    def _lease(
        self, method: str, namespace: str, name: str | None, body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        metadata = body.get("metadata", {})
        key = (namespace, name or metadata.get("name", ""))
        found = self.leases.get(key)
        if method == "GET":
            return (200, found) if found else _status(404, "NotFound")
        for text in (body["spec"].get("acquireTime"), body["spec"].get("renewTime")):
            if text is not None and not MICRO_TIME.fullmatch(text):
                return _status(400, "BadRequest")
        if body["spec"].get("leaseDurationSeconds", 1) <= 0:
            return _status(422, "Invalid")
        if method == "POST":
            if found:
                return _status(409, "AlreadyExists")
        elif not found:
            return _status(404, "NotFound")
        elif metadata.get("resourceVersion") != found["metadata"]["resourceVersion"]:
            return _status(409, "Conflict")
        self.leases[key] = {**body, "metadata": self._metadata(metadata, namespace)}
        return (201 if method == "POST" else 200), self.leases[key]

    def _event(
        self, method: str, namespace: str, body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        if method != "POST":
            return _status(405, "MethodNotAllowed")
        involved = body["involvedObject"]
        if involved.get("namespace") != namespace or len(body.get("message", "")) > 1024:
            return _status(422, "Invalid")
        needed = ("reason", "action", "reportingComponent", "reportingInstance", "type")
        # What validation of new-style Events asks for, once eventTime is set.
        if not MICRO_TIME.fullmatch(body.get("eventTime", "")) or not all(map(body.get, needed)):
            return _status(422, "Invalid")
        metadata = body["metadata"]
        metadata["name"] = metadata.get("generateName", "") + uuid.uuid4().hex[:5]
        event = {**body, "metadata": self._metadata(metadata, namespace)}
        self.events.append(event)
        return 201, event

    def _metadata(self, given: dict[str, Any], namespace: str) -> dict[str, Any]:
        self._version += 1
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "uid": str(uuid.uuid4()),
            "creationTimestamp": created,
            **given,
            "namespace": namespace,
            "resourceVersion": str(self._version),
        }


def _status(code: int, reason: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason}
