"""A target for audit lines that can be full, fail, or take only part of a write."""

from __future__ import annotations

from collections.abc import Iterator


class SinkSimulator:
    """Implements ``broker.audit.sinks.Sink``; ``taken`` is what a reader would see.

    ``steps`` say what the next writes do: an ``int`` takes so many bytes, an ``OSError`` is
    raised; afterwards every write is taken whole.
    """

    def __init__(self, *steps: int | OSError) -> None:
        self.taken = b""
        self.closed = False
        self.writes = 0
        self.then(*steps)

    def then(self, *steps: int | OSError) -> None:
        """What the next writes do."""
        self._steps: Iterator[int | OSError] = iter(steps)

    def write(self, data: bytes) -> int:
        """See ``Sink.write``."""
        assert not self.closed
        self.writes += 1
        step = next(self._steps, len(data))
        if isinstance(step, OSError):
            raise step
        self.taken += data[:step]
        return min(step, len(data))

    def fileno(self) -> int:
        """Nothing to wait on."""
        raise OSError("no descriptor")

    def sync(self) -> None:
        """There is no disk."""

    def close(self) -> None:
        """See ``Sink.close``."""
        self.closed = True
