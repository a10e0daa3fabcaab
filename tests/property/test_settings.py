"""Whatever stands in the file, the broker either understands it or says what is wrong."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.errors import SettingsErrors
from broker.settings.load import parse_settings
from tests.unit.test_docs_configuration import EXAMPLE

WHOLE: dict[str, Any] = yaml.safe_load(EXAMPLE)
CANARY = "canary"


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a document."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [at, *(path for key, one in inner for path in paths(one, (*at, key)))]


PLACES = [path for path in paths(WHOLE) if path]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "1h", "-1s", "https://x", "{", "hvs.CAESIcanarycanarycanary", "127.0.0.1:1"]
    )
    | st.text(max_size=8).map(lambda text: f"{CANARY} {text}")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "path", "field", "password", "x y", "a"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), max_size=4), st.booleans())
@example([(("credentials", "search-api", "use", "field"), "hvs.CAESIcanarycanarycanary")], False)
@example([(("credentials", "search-api", "use", "field"), f"{CANARY} x")], False)
def test_any_change_of_a_good_file_is_understood_or_explained(
    changes: list[tuple[tuple[Any, ...], Any]], flow: bool
) -> None:
    """No value in any place raises anything but faults with place, key and remedy."""
    data = deepcopy(WHOLE)
    for path, value in changes:
        target: Any = data
        try:
            for part in path[:-1]:
                target = target[part]
            target[path[-1]] = value
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change took the place away
    text = yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True)
    try:
        parse_settings(text, file="f", environ={}, uid=4711)
    except SettingsErrors as errors:
        for fault in errors.faults:
            assert fault.remedy
            assert fault.file == "f"
            assert CANARY not in f"{fault.message} {fault.remedy}"


@settings(max_examples=100)
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_understood_or_explained(text: str) -> None:
    """No text makes the reader fail in another way."""
    with suppress(SettingsErrors):
        parse_settings(text, file="f", environ={})


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", max_size=20).map(lambda name: f"BROKER__{name}")
        | st.sampled_from(
            [
                "VAULT_ADDR",
                "BAO_ADDR",
                "VAULT_SKIP_VERIFY",
                "VAULT_CLIENT_TIMEOUT",
                "VAULT_TOKEN",
                "BROKER__VAULT__TLS__CA_FILE",
                "BROKER__LISTENERS__TCP",
                "BROKER__VAULT__LIMITS__BURST",
            ]
        ),
        st.text(max_size=12).map(lambda text: f"{CANARY}{text}")
        | st.sampled_from(["", "1", "true"]),
        max_size=3,
    )
)
def test_any_environment_is_understood_or_explained(environ: dict[str, str]) -> None:
    """No variable raises anything but faults, which name it and never its value."""
    try:
        parse_settings(EXAMPLE, file="f", environ=environ)
    except SettingsErrors as errors:
        for fault in errors.faults:
            assert fault.file in {"f", *environ}
            assert CANARY not in f"{fault.message} {fault.remedy}"
