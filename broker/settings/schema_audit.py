"""The shape of the configuration's part about the audit log.

Duty: the section ``audit``; part of ``schema``.
Not its duty: contradictions (``rules_audit``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from broker.settings.kinds import Line
from broker.settings.section import Section


class Audit(Section):
    """The record of hand-outs."""

    file: Line = Field("", description="File the records are appended to; empty: standard output.")
    on_failure: Literal["refuse", "allow"] = Field(
        "refuse", description="What to do with a hand-out whose record cannot be written."
    )
    key_file: Line = Field(
        "",
        description="File with the key of the chain, 32 to 64 bytes. Without one the chain shows "
        "changes only to who has recorded its head.",
    )
    max_bytes: int = Field(
        0, ge=0, description="A file that would grow past this is rotated; `0`: never."
    )
    keep: int | None = Field(
        None, ge=1, le=100, description="How many rotated files stay; 5 when missing."
    )
    sync: bool = Field(
        False,
        description="Whether an answer waits until the disk has its record, so that it outlives "
        "the machine too.",
    )
