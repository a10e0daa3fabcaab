"""Contradictions within one request to a provider, explained in words [pure].

Duty: hosts, headers and templates of a request; a proof, which is one.
Not its duty: what else a request is for (``rules_drivers``).
Rules: as in ``rules``. A key is sent nowhere but to the ``origins`` of the credential it
belongs to: they are the list of allowed hosts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from broker.settings.domain import CredentialSettings
from broker.settings.domain_rotation import ProveSettings, RequestSettings
from broker.settings.findings import Finding
from broker.settings.literals import names_a_secret
from broker.settings.places import Path
from broker.settings.rules_credentials import MESSAGE_HEADERS, placeholders
from broker.settings.units import Misfit, is_loopback, origin

_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})


def request_rules(
    request: RequestSettings,
    words: frozenset[str],
    origins: tuple[str, ...] | None,
    owner: str,
    at: Path,
) -> Iterator[Finding]:
    """Yield every finding about one request.

    Args:
        request: to a provider.
        words: that may stand in its placeholders.
        origins: it may be sent to; None when that is not known.
        owner: name of the credential it carries.
        at: where it stands.
    """
    yield from _url(request.url, origins, owner, (*at, "url"))
    for name in request.headers:
        if name.lower() in _SECRET_HEADERS or names_a_secret(name):
            yield Finding(
                (*at, "headers", name),
                "is a header for a secret",
                "Remove it: keep the secret in Vault, as the credential that auth names; its use "
                "says which header it goes into.",
            )
        elif name.lower() in MESSAGE_HEADERS:
            yield Finding(
                (*at, "headers", name),
                "is a header that frames or routes the request",
                "Remove it.",
            )
    if request.body is not None and request.method == "GET":
        yield Finding((*at, "body"), "has no meaning in a GET", "Use another method, or the url.")
    if request.encoding == "form" and any(
        isinstance(value, dict | list | None) for value in (request.body or {}).values()
    ):
        yield Finding((*at, "body"), "is nested, which a form cannot be", "Use encoding: json.")
    for path, text in _texts(request):
        try:
            odd = sorted(set(placeholders(text)) - words)
        except ValueError:
            yield Finding(
                (*at, *path),
                "is no template: braces are unbalanced or hold more than a word",
                "Write a placeholder in braces, {label}; a brace itself twice, {{.",
            )
            continue
        if odd:
            may = f"may stand: {', '.join(sorted(words))}" if words else "is none"
            yield Finding(
                (*at, *path), f"has an unknown placeholder: {', '.join(odd)}", f"Here {may}."
            )


def proof_rules(one: CredentialSettings, prove: ProveSettings, at: Path) -> Iterator[Finding]:
    """Yield every finding about a proof of a credential's values."""
    if one.use is None:
        yield Finding(
            at,
            "cannot be sent: the credential does not say where the key goes in a request",
            f"Write credentials.{one.name}.use, with the upstream in its origins.",
        )
    if prove.timeout <= 0:
        yield Finding((*at, "timeout"), "leaves no time for a request", "Write 10s.")
    origins = one.use.origins if one.use else None
    yield from request_rules(prove.request, frozenset(), origins, one.name, at)


def _url(url: str, origins: tuple[str, ...] | None, owner: str, at: Path) -> Iterator[Finding]:
    how = "Write the whole URL: https://api.example/v1/keys."
    try:
        parts = urlsplit(url)
        text = origin(f"{parts.scheme}://{parts.netloc}").geturl()
    except (Misfit, ValueError):
        yield Finding(at, "is no URL with a fixed host", how)
        return
    if parts.fragment or any(character <= " " for character in url):
        yield Finding(at, "is no URL that can be sent", how)
    if parts.scheme == "http" and not is_loopback(parts):
        yield Finding(
            at,
            "would carry keys over the network in clear",
            "Use https://; http:// is for loopback.",
        )
    elif origins is not None and text not in origins:
        yield Finding(
            at,
            f"leads to {text}, where {owner} may not be sent",
            f"Add it to credentials.{owner}.use.origins, or correct the host.",
        )


def words_of(request: RequestSettings) -> Iterator[str]:
    """The placeholders of a request."""
    for _, text in _texts(request):
        try:
            yield from placeholders(text)
        except ValueError:
            continue  # told elsewhere


def _texts(request: RequestSettings) -> Iterator[tuple[Path, str]]:
    """Every template of a request, with its place."""
    yield ("url",), request.url
    for name, text in request.headers.items():
        yield ("headers", name), text
    yield from _leaves(dict(request.body or {}), ("body",))


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*path, str(number)))
