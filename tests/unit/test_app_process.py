"""``app.process``: what the broker asks of its own process, asked in a process of its own."""

from __future__ import annotations

import subprocess
import sys

STORY = """
import gc
import broker.app.run
from broker.app.process import freeze_imports

before = len(gc.get_objects())
freeze_imports()
print(before, len(gc.get_objects()), gc.get_freeze_count())
"""


def test_imports_are_left_out_of_collections() -> None:
    """After the imports a full collection has next to nothing to look at."""
    done = subprocess.run(
        [sys.executable, "-c", STORY], capture_output=True, text=True, check=True, timeout=60
    )
    before, after, frozen = map(int, done.stdout.split())
    assert before > 20_000
    assert after < 100
    assert frozen > 20_000
