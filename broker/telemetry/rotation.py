"""Metrics of rotations: how keys stand, what was done to them.

Duty: count steps, remember how each rotation stands, render both for a scrape.
Not its duty: the other metrics (``metrics``, which asks this one in each scrape).
Rules: those of ``metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from broker.telemetry import catalogue as c
from broker.telemetry.exposition import Family, Histogram, escape


class _Rotation:
    """What is known of one credential's rotation."""

    __slots__ = ("due", "label", "overdue", "phase", "since", "steps")

    def __init__(self, name: str) -> None:
        self.label = f'credential="{escape(name)}"'
        self.phase = ""
        self.since: float | None = None
        self.due: float | None = None
        self.overdue = False
        self.steps: dict[str, int] = {}


class RotationMetrics:
    """The part of ``Metrics`` that rotations write to; empty where nothing is rotated."""

    def __init__(self) -> None:
        self._rotations: dict[str, _Rotation] = {}
        self._leading: bool | None = None
        self._seconds = Histogram(c.ROTATION_BUCKETS)

    def configure(self, names: tuple[str, ...]) -> None:
        """Take the names of what this process rotates; their counters begin at zero."""
        self._rotations = {name: _Rotation(name) for name in names}
        for one in self._rotations.values():
            # Series that an alert counts on exist from the start.
            one.steps = dict.fromkeys(("rotated", "rolled_back", "failed"), 0)

    def leading(self, leading: bool) -> None:
        """Record whether this process carries rotations out."""
        self._leading = leading

    def stands(
        self,
        name: str,
        *,
        phase: str,
        since_wall: float | None,
        due_wall: float | None,
        overdue: bool,
    ) -> None:
        """Record how a rotation stands; an unknown name is ignored.

        Args:
            name: the credential.
            phase: a word of ``PHASES``.
            since_wall: Unix time at which the key that readers have was made, if known.
            due_wall: Unix time at which the next rotation begins, if one will.
            overdue: due, and not begun or not ended for longer than a rotation takes.
        """
        one = self._rotations.get(name)
        if one is not None and phase in c.PHASES:
            one.phase, one.since, one.due, one.overdue = phase, since_wall, due_wall, overdue

    def step(self, name: str, kind: str, seconds: float | None = None) -> None:
        """Count a step.

        Args:
            name: the credential.
            kind: a word of ``STEPS``.
            seconds: with the step that ends a rotation for the readers: since it began.
        """
        one = self._rotations.get(name)
        if one is not None:
            kind = kind if kind in c.STEPS else c.OTHER
            one.steps[kind] = one.steps.get(kind, 0) + 1
            if seconds is not None:
                self._seconds.observe(seconds)

    def lines(self, wall: float) -> Iterator[str]:
        """Items for ``sliced``; ``wall`` is the time of the scrape."""

        def phase(one: _Rotation) -> str:
            return c.PHASE.line(1, f'{one.label},phase="{one.phase}"') if one.phase else ""

        def age(one: _Rotation) -> str:
            if one.since is None:
                return ""
            return c.KEY_AGE.line(max(0.0, wall - one.since), one.label)

        def due(one: _Rotation) -> str:
            return "" if one.due is None else c.DUE.line(one.due, one.label)

        def overdue(one: _Rotation) -> str:
            return c.OVERDUE.line(int(one.overdue), one.label)

        def steps(one: _Rotation) -> str:
            return "".join(
                c.ROTATION_STEPS.line(count, f'{one.label},step="{step}"')
                for step, count in one.steps.items()
            )

        families: tuple[tuple[Family, Callable[[_Rotation], str]], ...] = (
            (c.PHASE, phase),
            (c.KEY_AGE, age),
            (c.DUE, due),
            (c.OVERDUE, overdue),
            (c.ROTATION_STEPS, steps),
        )
        for family, line in families:
            yield family.head()
            for one in tuple(self._rotations.values()):
                yield line(one)
        yield c.ROTATION_SECONDS.head() + self._seconds.lines(c.ROTATION_SECONDS)
        yield c.LEADING.head() + (
            "" if self._leading is None else c.LEADING.line(int(self._leading))
        )
