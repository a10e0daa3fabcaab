"""Reads the configuration: file and environment in, settings or every fault out.

Duty: read the file; lead it through document, environment, schema, convert and rules.
Not its duty: what any of them knows.
Rules:

* all faults are reported at once, in the order of the file;
* a part with a fault is set aside, so that the rest is still checked; faults that only
  follow from its absence are not reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from broker.errors import SettingsError, SettingsErrors
from broker.settings import literals
from broker.settings.convert import to_domain
from broker.settings.document import MAX_BYTES, Document, parse
from broker.settings.domain import Settings
from broker.settings.environment import Advice, overlay
from broker.settings.faults import EMPTY, from_validation
from broker.settings.places import Path
from broker.settings.rules import check
from broker.settings.schema import File


@dataclass(frozen=True, slots=True)
class Loaded:
    """Usable settings, and what should be said about them at each start."""

    settings: Settings
    advice: tuple[Advice, ...] = ()
    digest: str = ""
    """SHA-256 of the file's bytes, to notice a change by."""


def load(
    path: str | FilePath,
    environ: Mapping[str, str] | None = None,
    *,
    uid: int | None = None,
) -> Loaded:
    """Read the configuration file.

    Args:
        path: of the YAML file.
        environ: the environment; the process's own when missing.
        uid: of the broker's process, to refuse clients with the same one where the uid is
            the proof; None when another process will run it.

    Raises:
        SettingsErrors: with every fault found.
    """
    file = str(path)
    try:
        with FilePath(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        fault = SettingsError(
            f"cannot be read: {os.strerror(error.errno or 0)}",
            file=file,
            remedy="Check the path given with --config and the mounted volume.",
        )
        raise SettingsErrors([fault]) from error
    except UnicodeDecodeError as error:
        fault = SettingsError("is not UTF-8 text", file=file, remedy="Save it as UTF-8.")
        raise SettingsErrors([fault]) from error
    environ = os.environ if environ is None else environ
    loaded = parse_settings(text, file=file, environ=environ, uid=uid)
    return Loaded(loaded.settings, loaded.advice, sha256(content).hexdigest())


def parse_settings(
    text: str, *, file: str, environ: Mapping[str, str], uid: int | None = None
) -> Loaded:
    """Read the configuration from text; arguments and errors as for ``load`` [pure]."""
    document, faults = parse(text, file=file)
    if faults and not document.data:
        raise SettingsErrors(faults)  # not YAML: nothing more can be said
    more, advice = overlay(document, environ)
    faults += more
    secrets = list(literals.find(document.data))
    for path, message in secrets:
        faults.append(_error(document, path, message, literals.REMEDY))
    broken, shape = _validate(document, {path for path, _ in secrets})
    faults += shape
    if broken.file is not None:
        settings = to_domain(broken.file)
        known = _keys(document.data.get("credentials"))
        for finding in check(settings, uid=uid, known=known):
            if any(_within(finding.path, path) for path in broken.aside):
                continue
            if finding.fatal:
                faults.append(_error(document, finding.path, finding.message, finding.remedy))
            else:
                place = document.place(finding.path)
                advice.append(
                    Advice(
                        finding.message,
                        place.file,
                        place.line,
                        literals.dotted(finding.path),
                        finding.remedy,
                    )
                )
        if not faults:
            return Loaded(settings, tuple(advice))
    raise SettingsErrors(sorted(faults, key=lambda fault: (fault.file != file, fault.line or 0)))


@dataclass(frozen=True, slots=True)
class _Validated:
    file: File | None
    aside: frozenset[Path]
    """Paths of what has faults and was left out of ``file``."""


def _validate(document: Document, secrets: set[Path]) -> tuple[_Validated, list[SettingsError]]:
    """Fit the data to the schema; set aside what does not fit and try the rest again."""
    data = deepcopy(document.data)
    aside = set(_empty(data))
    faults = [_error(document, path, "is empty", EMPTY) for path in sorted(aside)]
    for path in aside:
        _cut(data, path)
    while True:
        try:
            return _Validated(File.model_validate(data), frozenset(aside)), faults
        except ValidationError as error:
            found = from_validation(error, document)
        for path, fault in found:
            # What was set aside is now missing: no fault of its own. A secret was reported.
            if not any(_within(path, done) for done in aside | secrets):
                faults.append(fault)
        if not (fresh := {_cut(data, path) for path, _ in found} - {None}):
            return _Validated(None, frozenset(aside)), faults
        aside |= {path for path in fresh if path}


def _empty(data: Any, path: Path = ()) -> Iterator[Path]:
    """Keys without a value. Parameters for Vault are its business, null included."""
    if path[:1] == ("credentials",) and path[2:] == ("source", "parameters"):
        return
    if data is None:
        yield path
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _empty(value, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _empty(value, (*path, str(number)))


def _cut(data: dict[str, Any], path: Path) -> Path | None:
    """Remove the value at ``path``, or when it is missing the thing it is missing from.

    Returns:
        The path of what was removed; None when nothing was left to remove.
    """
    for end in range(len(path), 0, -1):
        parent = _at(data, path[: end - 1])
        if isinstance(parent, dict) and path[end - 1] in parent:
            del parent[path[end - 1]]
            return path[:end]
        if isinstance(parent, list):
            # One item less would move the indices of those after it: the whole list goes.
            return _cut(data, path[: end - 1])
    return None


def _at(data: Any, path: Path) -> Any:
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data


def _within(path: Path, outer: Path) -> bool:
    return path[: len(outer)] == outer


def _keys(value: Any) -> frozenset[str]:
    return frozenset(value) if isinstance(value, dict) else frozenset()


def _error(document: Document, path: Path, message: str, remedy: str) -> SettingsError:
    place = document.place(path)
    return SettingsError(
        message, file=place.file, line=place.line, key=literals.dotted(path), remedy=remedy
    )
