"""Environment variables that speak about the configuration [pure].

Duty: lay ``BROKER__SECTION__KEY`` over the file, and ``BAO_*`` / ``VAULT_*`` under it.
Not its duty: reading the process's environment (``load`` gets a mapping).
Rules:

* precedence: ``BROKER__…`` > file > ``BAO_*`` > ``VAULT_*`` > default. A ``BROKER__…``
  variable was written for this broker, so it wins. A ``VAULT_*`` variable is ambient:
  it may have come with a base image or another container's template, and must not
  change a reviewed file, least of all switch verification off; it fills gaps;
* ``BROKER_PORT`` and its like come from a Kubernetes Service called ``broker`` and mean
  nothing here: two underscores follow our prefix;
* who may have what (``clients``, ``credentials``, ``roles``, ``policies``) stands in the
  file alone;
* a token in the environment is never used.

Source of the names: OpenBao api/env.go and the Vault CLI's documentation. Unlike there,
the file wins over them, and an empty ``BAO_X`` hides ``VAULT_X`` as it does there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel

from broker.errors import SettingsError
from broker.settings.document import Document
from broker.settings.literals import dotted
from broker.settings.places import Path, Place
from broker.settings.schema import File

PREFIX: Final = "BROKER__"
SECTIONS: Final = ("vault", "listeners", "rotation", "kubernetes", "audit", "log", "stop")

AMBIENT: Final[Mapping[str, Path]] = {
    "ADDR": ("vault", "address"),
    "NAMESPACE": ("vault", "namespace"),
    "CLIENT_TIMEOUT": ("vault", "timeout"),
    "CACERT": ("vault", "tls", "ca_file"),
    "CAPATH": ("vault", "tls", "ca_path"),
    "CLIENT_CERT": ("vault", "tls", "cert_file"),
    "CLIENT_KEY": ("vault", "tls", "key_file"),
    "TLS_SERVER_NAME": ("vault", "tls", "server_name"),
    "SKIP_VERIFY": ("vault", "tls", "unsafe_skip_verify"),
}
"""What follows ``BAO_`` or ``VAULT_``, and the key it fills when the file does not."""

UNUSED: Final[Mapping[str, str]] = {
    "TOKEN": "Remove it from the pod: every process in it can read it. The broker logs in by "
    "itself; to give it a token, write that to a file and set vault.auth.method to token_file.",
    "CACERT_BYTES": "Write the certificate to a file and set vault.tls.ca_file.",
    "PROXY_ADDR": "The broker speaks to Vault directly; allow that, or set vault.address.",
    "HTTP_PROXY": "The broker speaks to Vault directly; allow that, or set vault.address.",
    "RATE_LIMIT": "Set vault.limits.requests_per_second and vault.limits.burst.",
    "MAX_RETRIES": "Remove it: the broker has its own schedule of attempts.",
    "WRAP_TTL": "Remove it: the broker does not take wrapped answers.",
}
"""Variables of Vault's own tools that change nothing here, and what to do instead."""

_TRUE: Final = {"1", "t", "true"}
_FALSE: Final = {"0", "f", "false"}
# Go's strconv.ParseBool, which Vault's tools use, in lower case.


@dataclass(frozen=True, slots=True)
class Advice:
    """Something worth saying that does not keep the broker from starting."""

    message: str
    file: str = ""
    line: int | None = None
    key: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)


def overlay(
    document: Document, environ: Mapping[str, str]
) -> tuple[list[SettingsError], list[Advice]]:
    """Put the variables of ``environ`` into ``document``.

    Args:
        document: of the file; changed in place, each value with its place.
        environ: such as ``os.environ``.

    Returns:
        Faults and advice, each naming its variable.
    """
    faults: list[SettingsError] = []
    advice: list[Advice] = []
    _under(document, environ, advice, faults)
    for name in sorted(environ):
        if name.startswith(PREFIX):
            _over(document, name, environ[name], faults)
    return faults, advice


def _under(
    document: Document,
    environ: Mapping[str, str],
    advice: list[Advice],
    faults: list[SettingsError],
) -> None:
    for suffix, remedy in UNUSED.items():
        advice += [
            Advice("is set but never used", file=name, remedy=remedy)
            for name in (f"BAO_{suffix}", f"VAULT_{suffix}")
            if environ.get(name)
        ]
    for suffix, path in AMBIENT.items():
        name = next((n for n in (f"BAO_{suffix}", f"VAULT_{suffix}") if n in environ), "")
        if not name or not environ[name]:
            continue
        value = _ambient_value(suffix, environ[name])
        if isinstance(value, SettingsError):
            value.file, value.key = name, dotted(path)
            faults.append(value)
            continue
        written = _get(document.data, path)
        if written is None:
            _set(document, path, value, name)
        elif written != value:
            advice.append(
                Advice(
                    f"differs from {dotted(path)} in the file; the file counts",
                    file=name,
                    remedy=f"Remove one of the two, or say {_variable(path)}.",
                )
            )


def _ambient_value(suffix: str, text: str) -> Any:
    if suffix == "CLIENT_TIMEOUT" and re.fullmatch(r"[0-9]+", text):
        return f"{text}s"  # Vault's tools read a bare number as seconds
    if suffix == "SKIP_VERIFY":
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        return SettingsError("is neither true nor false", remedy="Write true or false.")
    if suffix == "ADDR" and text.startswith("unix:"):
        return SettingsError(
            "leads to a Unix socket, which the broker does not speak to Vault over",
            remedy="Set vault.address to Vault's own https:// origin.",
        )
    return text


def _over(document: Document, name: str, text: str, faults: list[SettingsError]) -> None:
    path = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))

    def fault(message: str, remedy: str) -> None:
        faults.append(SettingsError(message, file=name, key=dotted(path), remedy=remedy))

    if path[0] in {"clients", "credentials", "roles", "policies"}:
        fault(
            f"would change {path[0]}, which only the file may do",
            "Write it in the file: who may have what must stand in one reviewed place.",
        )
        return
    known = dict(_leaves(File))
    kind = known.get(path)
    if kind is None:
        near = get_close_matches(".".join(path), [".".join(p) for p in known], n=1, cutoff=0.6)
        fault(
            "names no key of the configuration",
            f"Did you mean {_variable(tuple(near[0].split('.')))}?"
            if near
            else "Remove it; docs/configuration.md lists the keys.",
        )
        return
    try:
        value = _typed(kind, text)
    except ValueError as error:
        fault(f"is not {error}", f"Write {error}.")
        return
    _set(document, path, value, name)


def _variable(path: Path) -> str:
    return PREFIX + "__".join(path).upper()


def _leaves(model: type[BaseModel], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Path and type of every key that a variable may set."""
    for name, info in model.model_fields.items():
        if not path and name not in SECTIONS:
            continue
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, (*path, name))
        else:
            yield (*path, name), kind


def _typed(kind: Any, text: str) -> Any:
    """The value of a variable as the file would have held it.

    Raises:
        ValueError: saying what the text should have been.
    """
    text = text.strip()
    if kind is bool:
        if text.lower() not in {"true", "false"}:
            raise ValueError("true or false")
        return text.lower() == "true"
    if kind in {int, float}:
        try:
            return kind(text)
        except ValueError:
            raise ValueError("a number") from None
    if getattr(kind, "__origin__", None) is list:
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _get(data: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(data, dict):
            return None
        data = data.get(part)
    return data


def _set(document: Document, path: Path, value: Any, variable: str) -> None:
    data = document.data
    for part in path[:-1]:
        inner = data.get(part)
        if inner is None:
            inner = data[part] = {}
        if not isinstance(inner, dict):
            return  # the file is wrong there; the schema says so
        data = inner
    data[path[-1]] = value
    for known in [known for known in document.places if known[: len(path)] == path]:
        del document.places[known]
    document.places[path] = Place(variable)
