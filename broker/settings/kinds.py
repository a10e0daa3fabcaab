"""The kinds of text a key of the configuration may hold, as pydantic types.

Duty: tie each reader of ``units`` to a type that ``schema`` declares keys with.
Not its duty: reading (``units``).
Rule: a value is checked and kept as it was written; a fault never repeats it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from broker.settings import units

FAULT: Final = "broker_fault"
"""Kind of the faults that carry their own words (``message``, ``remedy``)."""


def read_by(read: Callable[[str], object]) -> AfterValidator:
    """Validate a text by a reader of ``units``; keep the text."""

    def check(text: str) -> str:
        try:
            read(text)
        except units.Misfit as misfit:
            raise fault(misfit) from None
        return text

    return AfterValidator(check)


def fault(misfit: units.Misfit) -> PydanticCustomError:
    """A misfit as pydantic raises it; ``faults`` gives it back its words."""
    return PydanticCustomError(
        FAULT, "{message}", {"message": misfit.message, "remedy": misfit.remedy}
    )


def _no_bare_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise fault(units.unitless(value))
    return value


def _zone(text: str) -> None:
    try:
        ZoneInfo(text)
    except (ValueError, OSError, LookupError):
        raise units.Misfit(
            "is no time zone", "Write a name of the tz database: UTC, Europe/Zurich."
        ) from None


Duration: TypeAlias = Annotated[
    str,
    BeforeValidator(_no_bare_number),
    read_by(units.seconds),
    Field(json_schema_extra={"pattern": units.DURATION, "x-kind": "duration"}),
]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=units.NAME)]
Endpoint: TypeAlias = Annotated[
    str, read_by(units.endpoint), Field(json_schema_extra={"x-kind": "address"})
]
Origin: TypeAlias = Annotated[
    str, read_by(units.origin), Field(json_schema_extra={"x-kind": "origin"})
]
VaultPath: TypeAlias = Annotated[
    str,
    read_by(units.vault_path),
    Field(json_schema_extra={"minLength": 1, "x-kind": "path in Vault"}),
]
EndpointOrNone: TypeAlias = Annotated[
    str,
    read_by(lambda text: text and units.endpoint(text)),
    Field(json_schema_extra={"x-kind": "address"}),
]
HeaderName: TypeAlias = Annotated[str, StringConstraints(pattern=units.HEADER)]
Pointer: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=units.POINTER),
    Field(json_schema_extra={"x-kind": "JSON pointer"}),
]
FieldName: TypeAlias = Annotated[str, StringConstraints(pattern=units.FIELD)]
RefusalStatus: TypeAlias = Annotated[int, Field(ge=400, le=499)]
"""An HTTP status that says that the request was at fault."""
ArgumentName: TypeAlias = Annotated[str, StringConstraints(pattern=units.FIELD)]
Glob: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(json_schema_extra={"x-kind": "glob"}),
]
ToolGlob: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=units.TOOL_GLOB),
    Field(json_schema_extra={"x-kind": "tool glob"}),
]
PathGlob: TypeAlias = Annotated[
    str, read_by(units.path_glob), Field(json_schema_extra={"minLength": 1, "x-kind": "path glob"})
]
Network: TypeAlias = Annotated[
    str, read_by(units.network), Field(json_schema_extra={"x-kind": "network"})
]
DayTime: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=units.DAY_TIME),
    Field(json_schema_extra={"x-kind": "time of day"}),
]
Zone: TypeAlias = Annotated[
    str, read_by(_zone), Field(json_schema_extra={"minLength": 1, "x-kind": "time zone"})
]
Id: TypeAlias = Annotated[int, Field(ge=0, le=2**32 - 2)]
Line: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A text without control characters, so that no header or path can be split by it."""
