"""What every mapping of the configuration file has in common.

Duty: the base of the classes in ``schema`` and ``schema_rotation``.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of the file: closed, strict, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
