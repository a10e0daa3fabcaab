"""What the broker asks of its own process.

Duty: core dumps off, memory unreadable to neighbours, files enough for all connections, no
long pauses for garbage.
Not its duty: users, capabilities, file systems: the pod's security context.
Rule: nothing here is allowed to stop the broker; a refusal of the kernel is logged.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import resource
import sys
from typing import Final

log = logging.getLogger("broker.app")

PR_SET_DUMPABLE: Final = 4
"""prctl(2): 0 means no core dump, no ptrace by equals, /proc/<pid> owned by root."""


FILES: Final = 65_536
"""Open files asked for; soft limits of 1,024 are common, and anybody in the pod may connect."""
RESERVE: Final = 128
"""Files that no connection may take: Vault, audit, log, token files, accepting to refuse."""


def harden() -> None:
    """Turn core dumps off, raise the limit of files (setrlimit(2)), close memory (prctl(2))."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        log.warning("core dumps could not be turned off: %s", error)
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("the limit of open files could not be raised: %s", error)
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("the process could not be made undumpable")


def freeze_imports() -> None:
    """Keep what the imports made out of garbage collection.

    A full collection looks at some 70,000 objects of the libraries, all of which live as long as
    the process: that stops the loop for 20 to 100 ms, where one over what a broker makes
    itself takes less than one (promise 10).
    """
    gc.collect()
    gc.freeze()


def connections(listeners: int, most: int) -> int:
    """How many connections each of so many listeners may hold, so that files never run out.

    Args:
        listeners: of this process.
        most: what one may hold if there were files without end.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return most
    return max(1, min(most, (soft - RESERVE) // max(1, listeners)))
