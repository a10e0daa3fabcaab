"""hvac's API classes, without what importing hvac brings along.

Duty: the only importer of hvac; names the classes that the client uses.
Not its duty: calling them (``client``).
Rule: hvac imports requests for its own adapters, which nothing here uses (``wire`` stands in their
place), and requests a guesser of character sets: with its tables and codecs 3 MB that every
pod would keep. requests goes on without one; here it is not offered any.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

_GUESSER: Final = "charset_normalizer"


@contextmanager
def _not_offered(name: str) -> Iterator[None]:
    """Importing ``name`` fails meanwhile, unless somebody has done it before."""
    modules = cast("dict[str, Any]", sys.modules)
    if name in modules:
        yield
        return
    modules[name] = None  # how the import system is told of a module that is not there
    try:
        yield
    finally:
        del modules[name]


with _not_offered(_GUESSER), warnings.catch_warnings():
    # requests says that it has no guesser, which is what is wanted.
    warnings.filterwarnings("ignore", module="requests")
    from hvac.api.auth_methods import Kubernetes, Token
    from hvac.api.secrets_engines import KvV1, KvV2
    from hvac.api.system_backend import Health, Lease
    from hvac.utils import format_url

__all__ = ["Health", "Kubernetes", "KvV1", "KvV2", "Lease", "Token", "format_url"]
