"""Every step of a rotation, to whoever should know of it.

Duty: step → audit record, counters, event on the bus, line in the log; standing → gauges.
Not its duty: the forms of those (``audit``, ``telemetry``), Kubernetes Events (``kube``).
Rules:

* a step is committed before it is told of: an audit that cannot be written is counted and
  said in the log, and stops no rotation half-way; the state itself keeps the history;
* names, versions, ids and codes; no key.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from broker.audit.lifecycle import rotation_line
from broker.audit.log import AuditLog
from broker.audit.record import Stamp
from broker.rotation.ports import Observer, Standing, StepTaken
from broker.telemetry.events import Events
from broker.telemetry.metrics import Metrics

log = logging.getLogger("broker.rotation")

_BAD = frozenset(
    {
        *("proof_failed", "rolled_back", "withdrawn", "abandoned", "failed"),
        *("orphan_seen", "key_missing", "restored"),
    }
)


class RotationSeen:
    """Implements ``rotation.ports.Observer``.

    Args:
        audit: takes a record a step.
        metrics: takes counts and gauges.
        events: the bus; told when readers have another key.
        others: told of everything as well.
    """

    def __init__(
        self,
        audit: AuditLog,
        metrics: Metrics,
        events: Events,
        others: Iterable[Observer] = (),
    ) -> None:
        self._audit, self._metrics, self._events = audit, metrics.rotation, events
        self._others: Sequence[Observer] = tuple(others)
        self._stamp = Stamp()

    def took(self, step: StepTaken) -> None:
        """A step was taken and is committed."""
        self._metrics.step(step.credential, step.kind, step.seconds)
        line = rotation_line(
            self._stamp(step.at_wall),
            step.credential,
            step.kind,
            step.actor,
            rotation=step.rotation,
            key_id=step.key_id,
            reason=step.reason,
            detail=step.detail,
            source_version=step.source_version,
        )
        if not self._audit.note(line):
            log.error("a step of the rotation of %s is not in the audit", step.credential)
        log.log(
            logging.WARNING if step.kind in _BAD else logging.INFO,
            "rotation of %s: %s",
            step.credential,
            step.kind,
            extra={
                name: value
                for name in ("rotation", "key_id", "actor", "reason", "detail", "source_version")
                if (value := getattr(step, name))
            },
        )
        if step.kind == "rotated":
            self._events.publish(
                "rotated",
                credential=step.credential,
                source_version=step.source_version,
                reason=step.reason,
            )
        for one in self._others:
            one.took(step)

    def stands(self, standing: Standing) -> None:
        """Where a rotation stands has changed."""
        self._metrics.stands(
            standing.name,
            phase=str(standing.phase),
            since_wall=standing.key_since_wall,
            due_wall=standing.due_wall,
            overdue=standing.overdue,
        )
        for one in self._others:
            one.stands(standing)
