"""From arguments and environment to a ``Core``.

Duty: what both clients share at their start.
Not its duty: understanding an address (``endpoint``).
Rules: an argument wins over the environment, which is read at the first request, so that
importing needs none.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from broker.client.core import Core
from broker.client.endpoint import Endpoint, parse_endpoint
from broker.client.redaction import learn
from broker.clock import Clock, SystemClock
from broker.protocol import names

LOG: Final = logging.getLogger("broker.client")


def make_core(
    url: str | None, token_file: str | None, *, start_wait: float, clock: Clock | None
) -> Core:
    """A core; the environment is read at its first request, not now."""

    def find() -> Endpoint:
        return parse_endpoint(
            os.environ.get(names.ENV_URL, "") if url is None else url,
            os.environ.get(names.ENV_TOKEN_FILE, "") if token_file is None else token_file,
        )

    return Core(find, clock=clock or SystemClock(), start_wait=start_wait, learn=learn)
