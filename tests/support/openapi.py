"""``python -m tests.support.openapi`` writes ``docs/openapi.json`` anew."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from broker.api.openapi import describe
from tests.support.broker import Assembly

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        text = json.dumps(describe(Assembly(Path(directory)).data), indent=2, ensure_ascii=False)
    target = Path(__file__).parents[2] / "docs" / "openapi.json"
    target.write_text(text + "\n")
