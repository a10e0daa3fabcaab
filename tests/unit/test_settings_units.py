"""The texts people write for durations, addresses, origins and paths."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.settings import units
from broker.settings.units import Misfit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 0.25),
        ("0s", 0.0),
        ("0.5s", 0.5),
        ("30s", 30.0),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("7d", 604800.0),
        ("1d2h3m4s5ms", 93784.005),
        ("90m", 5400.0),
    ],
)
def test_durations(text: str, expected: float) -> None:
    """A number and its unit, largest first, are seconds."""
    assert units.seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "s", "1 s", "-1s", "1m1h", "1s1s", "1w", "1M", "1.5h", "s1", "1s ", "٣s", "4000d"]
)
def test_what_is_no_duration(text: str) -> None:
    """A text that two people could read differently is refused."""
    with pytest.raises(Misfit):
        units.seconds(text)


@pytest.mark.parametrize("text", ["30", "0", "1.5"])
def test_a_bare_number_is_a_wrong_unit(text: str) -> None:
    """A number alone gets the remedy to write its unit."""
    with pytest.raises(Misfit, match="wrong unit") as caught:
        units.seconds(text)

    assert f"{text}s" in caught.value.remedy


@given(st.text(max_size=20))
def test_a_reader_answers_or_refuses(text: str) -> None:
    """No text makes a reader fail in another way, and its pattern agrees with it."""
    for read in (units.seconds, units.endpoint, units.origin, units.vault_path):
        with suppress(Misfit):
            read(text)
            assert read is not units.seconds or re.fullmatch(units.DURATION, text)


@pytest.mark.parametrize(
    ("text", "loopback", "wildcard"),
    [
        ("127.0.0.1:8210", True, False),
        ("127.9.9.9:0", True, False),
        ("[::1]:8210", True, False),
        ("[::ffff:127.0.0.1]:1", True, False),
        ("0.0.0.0:8211", False, True),
        ("[::]:8211", False, True),
        ("10.0.0.1:80", False, False),
    ],
)
def test_endpoints(text: str, loopback: bool, wildcard: bool) -> None:
    """An address with a port tells whether others can reach it."""
    read = units.endpoint(text)

    assert (read.loopback, read.wildcard) == (loopback, wildcard)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8210",
        ":8210",
        "localhost:8210",
        "127.0.0.1",
        "::1:8210",
        "[127.0.0.1]:1",
        "1.2.3:4",
        "[:::]:1",
        "127.0.0.1:65536",
        "127.0.0.1:123456",
        "[fe80::1%eth0]:1",
        "127.0.0.1:-1",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    """Names, missing ports and malformed addresses are refused."""
    with pytest.raises(Misfit):
        units.endpoint(text)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "[::]:1", True),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_endpoints_clash(one: str, other: str, expected: bool) -> None:
    """Two listeners clash on one port unless their addresses are apart or the port is free."""
    assert units.endpoint(one).clashes(units.endpoint(other)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://api.example", "https://api.example"),
        ("https://API.Example/", "https://api.example"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://[2001:db8::1]:8200", "https://[2001:db8::1]:8200"),
    ],
)
def test_origins(text: str, expected: str) -> None:
    """An origin is written one way: lower case, nothing after host and port."""
    assert units.origin(text).geturl() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.example",
        "ftp://a",
        "https://",
        "https://a/b",
        "https://a?",
        "https://a#x",
        "https://a:99999",
        "https://a:0",
        "https://u@a",
        "https://u:p@a",
        "https://a b",
        "https://*",
    ],
)
def test_what_is_no_origin(text: str) -> None:
    """Anything beside scheme, host and port is refused."""
    with pytest.raises(Misfit):
        units.origin(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1", True),
        ("http://[::1]:1", True),
        ("http://localhost:1", True),
        ("http://vault.localhost", True),
        ("http://localhost.example", False),
        ("http://10.0.0.1", False),
    ],
)
def test_loopback_origins(text: str, expected: bool) -> None:
    """Only what cannot leave this machine is loopback."""
    assert units.is_loopback(units.origin(text)) is expected


@pytest.mark.parametrize(("text", "expected"), [("secret/", "secret"), ("/a/b", "a/b")])
def test_paths_in_vault(text: str, expected: str) -> None:
    """Slashes at the ends, as Vault prints them, do no harm."""
    assert units.vault_path(text) == expected


@pytest.mark.parametrize(
    "text", ["", "/", "a//b", "../a", "a/./b", "a b", "a?b", "a#b", "a%2fb", "v1/a"]
)
def test_what_is_no_path_in_vault(text: str) -> None:
    """A path that an HTTP client or Vault would read differently is refused."""
    with pytest.raises(Misfit):
        units.vault_path(text)
