"""Tests of policies as people write them: ``broker policy test TESTS.yaml``.

Duty: a file of cases to plain values, or every fault with its line.
Not its duty: deciding, comparing (``app.policy_cases``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from broker.errors import SettingsError, SettingsErrors
from broker.settings import literals
from broker.settings.document import Document, parse
from broker.settings.kinds import Line, fault
from broker.settings.section import Section
from broker.settings.units import Misfit

ABOUT: Final = {
    "tool": ("call_tool", "mint_token"),
    "credential": ("handout", "report", "read_status", "mint_token", "rotate"),
}
"""What can be asked of each."""


def _time(text: str) -> str:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise fault(Misfit("is no date and time", "Write RFC 3339: 2026-03-02T08:30:00+01:00."))
    return text


def _address(text: str) -> str:
    try:
        if text:
            ip_address(text.partition("%")[0])
    except ValueError:
        raise fault(Misfit("is no address", "Write 10.1.2.3 or fd00::1.")) from None
    return text


class Case(Section):
    """One request and what must come of it."""

    name: Line = Field("", description="What is tested, in words.")
    caller: Line
    subject: Line | None = None
    credential: Line | None = None
    tool: Line = ""
    action: (
        Literal["handout", "call_tool", "mint_token", "report", "read_status", "rotate"] | None
    ) = None
    address: Annotated[Line, AfterValidator(_address)] = ""
    at: Annotated[str, AfterValidator(_time)] = "2026-03-02T12:00:00+00:00"
    arguments: dict[str, JsonValue] = Field({})
    service_account: Line = ""
    expect: Literal["allow", "deny"]
    policies: list[Line] | None = None
    line: int = 0

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.credential is None and not self.tool:
            raise fault(Misfit("asks for nothing", "Name a credential, a tool, or both."))
        about = "tool" if self.credential is None else "credential"
        if self.action and self.action not in ABOUT[about]:
            remedy = f"Of a {about} that is {', '.join(ABOUT[about])}; see docs/policy.md."
            raise fault(Misfit(f"asks {self.action} of a {about}", remedy))
        return self


class Cases(Section):
    """The whole file."""

    cases: list[Case] = Field(min_length=1)


def case(said: Mapping[str, object]) -> Case:
    """One case that came by arguments of a command.

    Raises:
        SettingsErrors: with every fault.
    """
    try:
        return Case.model_validate(said)
    except ValidationError as error:
        raise SettingsErrors(_faults(error, Document("arguments"))) from None


def load_cases(path: str) -> tuple[Case, ...]:
    """Read a file of cases.

    Raises:
        SettingsErrors: with every fault.
    """
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsErrors(
            [SettingsError("cannot be read", file=path, remedy="Check the path.")]
        ) from error
    document, faults = parse(text, file=path)
    if faults:
        raise SettingsErrors(faults)
    try:
        read = Cases.model_validate(document.data)
    except ValidationError as error:
        raise SettingsErrors(_faults(error, document)) from None
    return tuple(
        one.model_copy(update={"line": document.place(("cases", str(number))).line or 0})
        for number, one in enumerate(read.cases)
    )


def _faults(error: ValidationError, document: Document) -> list[SettingsError]:
    found = []
    for one in error.errors(include_url=False):
        path = tuple(str(part) for part in one["loc"])
        context = one.get("ctx", {})
        place = document.place(path)
        found.append(
            SettingsError(
                str(context.get("message", one["msg"])).partition("\n")[0].lower(),
                file=place.file,
                line=place.line,
                key=literals.dotted(path),
                remedy=str(context.get("remedy", "See docs/policy.md for what a case may say.")),
            )
        )
    return found
