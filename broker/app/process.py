"""What the broker asks of its own process.

Duty: core dumps off, memory unreadable to neighbours.
Not its duty: users, capabilities, file systems: the pod's security context.
Rule: nothing here is allowed to stop the broker; a refusal of the kernel is logged.
"""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from typing import Final

log = logging.getLogger("broker.app")

PR_SET_DUMPABLE: Final = 4
"""prctl(2): 0 means no core dump, no ptrace by equals, /proc/<pid> owned by root."""


def harden() -> None:
    """Turn core dumps off (setrlimit(2)) and close ``/proc/<pid>/mem`` (prctl(2))."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        log.warning("core dumps could not be turned off: %s", error)
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("the process could not be made undumpable")
