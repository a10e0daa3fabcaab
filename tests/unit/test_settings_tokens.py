"""What the configuration says about scoped tokens."""

from __future__ import annotations

import pytest

from broker.settings.domain_tokens import TokenSettings
from tests.unit.test_settings_load import HEAD, faults, read

SHARED = "store: shared, path: broker/here/tokens"


def tokens(extra: str, more: str = "") -> str:
    return f"{HEAD}tokens: {{{extra}}}\n{more}"


def test_all_of_it() -> None:
    """Every key, durations in seconds, paths without slashes at their ends."""
    text = tokens(
        "store: shared, life: 5m, max_life: 2h, max_tokens: 7, mount: /kv/, path: /a/b/, "
        "revocation_grace: 20s"
    )
    expected = TokenSettings("shared", 300.0, 7200.0, 7, "kv", "a/b", 20.0)
    assert read(text).settings.tokens == expected


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (tokens("life: 2h"), "tokens.max_life", "shorter than life"),
        (tokens("max_life: 25h"), "tokens.max_life", "longer than a day"),
        (tokens("life: 100ms"), "tokens.life", "no time"),
        (tokens("store: shared"), "tokens.path", "is missing"),
        (tokens(SHARED + ", revocation_grace: 1s"), "tokens.revocation_grace", "slow answer"),
        (tokens("max_tokens: 0"), "tokens.max_tokens", "1"),
        (tokens("store: vault"), "tokens.store", ""),
        (
            tokens(
                SHARED,
                "credentials: {a: {source: {kind: kv, mount: secret, "
                "path: broker/here/tokens/key}}}\nclients: {c: {credentials: [a]}}\n",
            ),
            "credentials.a.source.path",
            "hand out the key",
        ),
        (
            tokens(
                "store: shared, path: broker/rotation/tokens",
                "rotation: {mode: sidecar, installation: here}\n",
            ),
            "tokens.path",
            "rotations keep their state",
        ),
    ],
)
def test_refused(text: str, key: str, words: str) -> None:
    """What cannot work, or would open the key, stops the start."""
    found = [fault for fault in faults(text) if fault.key == key]
    assert len(found) == 1
    assert words in str(found[0])
    assert found[0].remedy


def test_a_path_without_effect_is_told() -> None:
    """Somebody thought that tokens were shared."""
    (advice,) = [one for one in read(tokens("path: a/b")).advice if one.key == "tokens.path"]
    assert "store is pod" in str(advice)


def test_another_path_than_the_credentials() -> None:
    """Beside it is not below it."""
    text = tokens(
        SHARED,
        "credentials: {a: {source: {kind: kv, mount: secret, path: broker/here/tokens-of-search}}}"
        "\nclients: {c: {credentials: [a]}}\n",
    )
    assert read(text).settings.tokens.path == "broker/here/tokens"
