"""The shape of what the configuration says about roles and policies.

Duty: as for ``schema``, for the sections about who may have what.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from broker.settings.kinds import (
    ArgumentName,
    DayTime,
    Glob,
    Line,
    Name,
    Network,
    PathGlob,
    ToolGlob,
    Zone,
)
from broker.settings.section import Section

Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
RoleAction: TypeAlias = Literal[
    "handout", "call_tool", "mint_token", "report", "read_status", "rotate", "admin"
]
ArgumentKind: TypeAlias = Literal["text", "whole_number", "boolean"]
_Some = Field(min_length=1)


class Window(Section):
    """When a role holds: a span of the day on some weekdays, in a zone."""

    zone: Zone = Field("UTC", description="Time zone by its name, such as `Europe/Zurich`.")
    days: Annotated[list[Day], _Some] = Field(
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        description="Days on which it begins.",
    )
    start: DayTime = Field("00:00", alias="from", description="When it begins.")
    end: DayTime = Field(
        "24:00",
        alias="to",
        description="When it is over; on the next day when that is before `from`.",
    )


class Role(Section):
    """A role: who may have what, without Cedar. Each key narrows it; see [policy](policy.md)."""

    callers: Annotated[list[Name], _Some] = Field(
        [], description="Clients that hold it; with `subjects` alone, any client."
    )
    subjects: Annotated[list[Glob], _Some] = Field(
        [],
        description="Subjects, or globs with `*` and `?`: then only scoped tokens of theirs hold "
        "it.",
    )
    tools: Annotated[list[ToolGlob], _Some] = Field(
        [], description="Tools, or globs with `*`; any tool and none when missing."
    )
    credentials: Annotated[list[Name], _Some] = Field([], description="Credentials it grants.")
    paths: Annotated[list[PathGlob], _Some] = Field(
        [],
        description="Further credentials, by their paths in Vault, mount included, such as "
        "`secret/mcp/*`: `*` stays within one component, `**` is any number of them.",
    )
    times: Annotated[list[Window], _Some] = Field(
        [], description="When it holds, in any of these; always when missing."
    )
    addresses: Annotated[list[Network], _Some] = Field(
        [],
        description="Networks the request comes from, such as `10.0.0.0/8`. A Unix socket has no "
        "address, and is in none.",
    )
    actions: Annotated[list[RoleAction], _Some] = Field(
        ["handout", "report", "read_status", "call_tool"],
        description="What it allows; `admin` is all there is.",
    )


class Policies(Section):
    """Policy files in Cedar, and the words they may use; see [policy](policy.md)."""

    files: list[Line] = Field(
        [], description="Files of policies; their paths begin at this file's directory."
    )
    zone: Zone = Field(
        "UTC", description="Time zone of `context.time` and `context.weekday` in policies."
    )
    zones: list[Zone] = Field([], description="Further zones, in `context.zones`.")
    arguments: dict[ArgumentName, ArgumentKind] = Field(
        {},
        description="Arguments of tools that policies may look at, each with its kind: `text`, "
        "`whole_number` or `boolean`.",
    )
    tools: list[Line] = Field(
        [], description="Tools that policies may name; any when missing or empty."
    )
