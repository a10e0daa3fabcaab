"""The operations plane: probes and metrics, for the kubelet and for Prometheus.

Duty: ``/livez``, ``/readyz``, ``/startupz``, ``/metrics``.
Not its duty: what is ready (``health``), what is counted (``telemetry.metrics``).
Rules:

* the kubelet probes the pod's address, so anybody in the cluster may ask: nothing secret;
* ``/livez`` says that the process answers, never anything of Vault: a restart would cure
  nothing and lose every value;
* a scrape is rendered in slices with loop turns between (promise 10).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Protocol

from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

from broker.api.framework import create_app, document
from broker.api.health import Health
from broker.api.problems import Problems

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""https://prometheus.io/docs/instrumenting/exposition_formats/"""


class Rendered(Protocol):
    """The part of ``telemetry.metrics.Metrics`` that is scraped."""

    def render(self) -> Iterator[bytes]:
        """The exposition, in slices."""
        ...


def create_operations_plane(*, health: Health, metrics: Rendered, problems: Problems) -> FastAPI:
    """The application behind the operations listener."""
    app = create_app(
        "MCP secrets broker: operations", "Probes and metrics; nothing secret.", problems
    )

    @app.get("/livez", operation_id="livez", summary="The process and its loop answer")
    async def livez() -> Response:
        return document({"alive": True})

    @app.get("/startupz", operation_id="startupz", summary="The start is over")
    async def startupz() -> Response:
        return document({"started": health.started}, 200 if health.started else 503)

    @app.get("/readyz", operation_id="readyz", summary="Every required credential has a value")
    async def readyz() -> Response:
        ready = health.ready()
        return document(
            {
                "ready": ready,
                "started": health.started,
                "stopping": health.stopping,
                "credentials": await health.credentials(),
                "rotations_overdue": health.overdue(),
            },
            200 if ready else 503,
        )

    @app.get("/metrics", operation_id="metrics", summary="Metrics for Prometheus")
    async def scrape() -> Response:
        return StreamingResponse(
            _sliced(metrics.render()),
            media_type=METRICS_TYPE,
            headers={"cache-control": "no-store"},
        )

    return app


async def _sliced(rendered: Iterator[bytes]) -> AsyncIterator[Any]:
    for piece in rendered:
        yield piece
        await asyncio.sleep(0)
