"""The shape of the section ``limits``.

Duty: its keys, as ``schema`` has the others'.
Not its duty: names that must exist (``rules_limits``).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from broker.settings.kinds import Line, Name, read_by
from broker.settings.rates import FAILURES, rate
from broker.settings.section import Section

Rate: TypeAlias = Annotated[str, read_by(rate), Field(json_schema_extra={"x-kind": "rate"})]
RateOrNone: TypeAlias = Annotated[
    str, read_by(lambda text: text and rate(text)), Field(json_schema_extra={"x-kind": "rate"})
]


class LimitRule(Section):
    """One limit. All that match must allow a hand-out; a missing selection matches everything."""

    rate: Rate = Field(
        description="How many hand-outs within which time: `60/minute`, `100 per 5 minutes`; at "
        "most 100000, within 31 days. The time moves along: no minute, wherever it begins, sees "
        "more."
    )
    clients: list[Name] | None = Field(
        None, min_length=1, description="Clients it is for; every one when missing."
    )
    tools: list[Annotated[Line, Field(min_length=1)]] | None = Field(
        None,
        min_length=1,
        description="Tools it is for, exact or with `*` and `?`; every one, and requests that "
        "name none, when missing.",
    )
    credentials: list[Name] | None = Field(
        None, min_length=1, description="Credentials it is for; every one when missing."
    )
    per: list[Literal["client", "tool", "credential"]] = Field(
        ["client", "tool", "credential"],
        min_length=1,
        description="What has a counter of its own: each combination of these. The tool is the "
        "caller's word: without `tool` here and without `tools` it cannot get around a limit by "
        "other words.",
    )


class CallerLimits(Section):
    """How often callers may ask. Further requests get a 429 with `Retry-After`."""

    default: Rate | None = Field(
        None,
        description="Rate of each combination of client, tool and credential that no rule "
        "matches; none when missing.",
    )
    rules: dict[Name, LimitRule] = Field({}, description="Limits by name.")
    failed_authentications: RateOrNone = Field(
        FAILURES,
        description="Failed authentications of one peer that are answered 401 and recorded one "
        "by one; further ones are answered 429 and recorded together. A right token is never "
        'refused. `""` for no limit.',
    )
