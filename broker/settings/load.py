"""Reads the configuration: file and environment in, settings or every fault out.

Duty: read the file; lead it through document, environment, schema, convert and rules.
Not its duty: what any of them knows.
Rules:

* all faults are reported at once, in the order of the file;
* policy files are read with it, so that a change in one is a change of the configuration;
* a part with a fault is set aside, so that the rest is still checked; faults that only
  follow from its absence are not reported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from broker.errors import SettingsError, SettingsErrors
from broker.settings import literals
from broker.settings.convert import to_domain
from broker.settings.document import MAX_BYTES, Document, parse
from broker.settings.domain import Settings
from broker.settings.domain_access import PolicyText
from broker.settings.environment import Advice, overlay
from broker.settings.faults import EMPTY, from_validation
from broker.settings.places import Path, Place
from broker.settings.rules import check
from broker.settings.schema import File

# What the rest is checked with when the section has a fault that cannot be cut out.
_STAND_IN: Final = {"address": "https://vault.invalid", "auth": {"role": "none"}}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Usable settings, and what should be said about them at each start."""

    settings: Settings
    advice: tuple[Advice, ...] = ()
    digest: str = ""
    """SHA-256 of the file's bytes, and of its policy files', to notice a change by."""
    place: Callable[[Path], Place] = lambda _: Place("")
    """Where a key was written."""


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
    except OSError as error:
        fault = SettingsError(
            f"cannot be read: {os.strerror(error.errno or 0)}",
            file=file,
            remedy="Check the path given with --config and the mounted volume.",
        )
        raise SettingsErrors([fault]) from error
    text = content.decode("utf-8-sig", errors="replace")
    if "\ufffd" in text:
        fault = SettingsError("is not UTF-8 text", file=file, remedy="Save it as UTF-8.")
        raise SettingsErrors([fault])
    environ = os.environ if environ is None else environ
    loaded = parse_settings(text, file=file, environ=environ, uid=uid)
    texts, faults = _policy_texts(FilePath(path), loaded.settings.policies.files, loaded.place)
    if faults:
        raise SettingsErrors(faults)
    policies = replace(loaded.settings.policies, texts=texts)
    settings = replace(loaded.settings, policies=policies)
    return replace(
        loaded, settings=settings, digest=digest(content, (one.text.encode() for one in texts))
    )


def digest(content: bytes, policies: Iterable[bytes]) -> str:
    """What a configuration and its policy files are compared by."""
    found = sha256(content)
    for text in policies:
        found.update(sha256(text).digest())
    return found.hexdigest()


def policy_paths(path: str | FilePath, content: bytes) -> tuple[FilePath, ...]:
    """Where a configuration's policy files are, as far as it can be read."""
    document, _ = parse(content.decode("utf-8-sig", errors="replace"), file=str(path))
    section = document.data.get("policies")
    files = section.get("files") if isinstance(section, dict) else None
    listed = files if isinstance(files, list) else []
    return tuple(FilePath(path).parent / one for one in listed if isinstance(one, str) and one)


def _policy_texts(
    path: FilePath, files: Iterable[str], place: Callable[[Path], Place]
) -> tuple[tuple[PolicyText, ...], list[SettingsError]]:
    """Read the policy files; what cannot be used of them is a fault."""
    texts: list[PolicyText] = []
    faults: list[SettingsError] = []

    def unusable(number: int, message: str, remedy: str) -> None:
        key = ("policies", "files", str(number))
        at = place(key)
        faults.append(
            SettingsError(
                message, file=at.file, line=at.line, key=literals.dotted(key), remedy=remedy
            )
        )

    for number, file in enumerate(files):
        where = path.parent / file
        try:
            with where.open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
            text = content.decode()
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            unusable(number, f"cannot be read: {reason}", "Check the path and the mounted volume.")
            continue
        except UnicodeDecodeError:
            unusable(number, "is not UTF-8 text", "Save it as UTF-8.")
            continue
        if len(content) > MAX_BYTES:
            unusable(number, f"is larger than {MAX_BYTES} bytes", "Cut it into several files.")
            continue
        for line, one in enumerate(text.splitlines(), 1):
            if found := literals.shape(one):
                message = f"holds a literal secret: {found}"
                faults.append(
                    SettingsError(message, file=str(where), line=line, remedy=literals.REMEDY)
                )
        texts.append(PolicyText(str(where), text))
    return tuple(texts), faults


def parse_settings(
    text: str, *, file: str, environ: Mapping[str, str], uid: int | None = None
) -> Loaded:
    """Read the configuration from text; arguments and errors as for ``load`` [pure]."""
    document, faults = parse(text, file=file)
    if faults and not document.data:
        raise SettingsErrors(faults)  # not YAML: nothing more can be said
    more, advice = overlay(document, environ)
    faults += more
    told: set[Path] = set()
    for path, message in literals.find(document.data):
        faults.append(_error(document, path, message, literals.REMEDY))
        told.add(path)
    shaped, shape_faults = _validate(document, told)
    faults += shape_faults
    settings = to_domain(shaped)
    known = _keys(document.data.get("credentials"))
    for finding in check(settings, uid=uid, known=known):
        if any(_within(finding.path, path) for path in told):
            continue
        if finding.fatal:
            faults.append(_error(document, finding.path, finding.message, finding.remedy))
        else:
            place, key = document.place(finding.path), literals.dotted(finding.path)
            advice.append(Advice(finding.message, place.file, place.line, key, finding.remedy))
    if not faults:
        return Loaded(settings, tuple(advice), place=document.place)
    raise SettingsErrors(sorted(faults, key=lambda fault: (fault.file != file, fault.line or 0)))


def _validate(document: Document, told: set[Path]) -> tuple[File, list[SettingsError]]:
    """Fit the data to the schema; set aside what does not fit and try the rest again.

    Args:
        document: what was written.
        told: paths of what faults were already told about; grows by what is set aside.

    Returns:
        The file without what was set aside, and the faults of that.
    """
    data = deepcopy(document.data)
    faults: list[SettingsError] = []
    for path in list(_empty(data)):
        faults.append(_error(document, path, "is empty", EMPTY))
        told.add(_set_aside(data, path))
    while True:
        try:
            return File.model_validate(data), faults
        except ValidationError as error:
            found = from_validation(error, document)
        # What was set aside is missing now: no fault of its own.
        faults += [one for path, one in found if not any(_within(path, done) for done in told)]
        for path, _ in found:
            told.add(_set_aside(data, path))


def _set_aside(data: dict[str, Any], path: Path) -> Path:
    """Take what has a fault out of ``data``; the path of what was taken out."""
    if path == ("vault",):
        data["vault"] = dict(_STAND_IN)
        return path
    if path == ("vault", "address"):
        data["vault"] |= {"address": _STAND_IN["address"]}
        return path
    return _cut(data, path)


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


def _cut(data: dict[str, Any], path: Path) -> Path:
    """Remove the value at ``path``, or when it is missing the thing it is missing from.

    Returns:
        The path of what was removed; that of the whole when it was removed before.
    """
    for end in range(len(path), 0, -1):
        parent = _at(data, path[: end - 1])
        if isinstance(parent, dict) and path[end - 1] in parent:
            del parent[path[end - 1]]
            return path[:end]
        # Of a list, one item less would move the indices of those after it: all of it goes.
    return path


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
