"""Where the broker is, and the client token."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.client.endpoint import ClientToken, Endpoint, parse_endpoint
from broker.errors import BrokerUnreachable, CallerUnauthenticated, SettingsError


@pytest.mark.parametrize(
    ("url", "token_file", "expected"),
    [
        (
            "unix:///run/broker/search/broker.sock",
            "",
            Endpoint(
                "http://localhost",
                "/run/broker/search/broker.sock",
                "/run/broker/search/client-token",
            ),
        ),
        (
            "unix:///run/broker/search/broker.sock",
            "/elsewhere/token",
            Endpoint(
                "http://localhost", "/run/broker/search/broker.sock", "/elsewhere/token", True
            ),
        ),
        ("http://127.0.0.1:8210", "/t", Endpoint("http://127.0.0.1:8210", "", "/t", True)),
        ("http://[::1]:8210/", "", Endpoint("http://[::1]:8210")),
        ("http://localhost:8210", "", Endpoint("http://localhost:8210")),
    ],
)
def test_addresses_that_are_understood(url: str, token_file: str, expected: Endpoint) -> None:
    """Sockets and loopback; beside a socket the token of its directory."""
    assert parse_endpoint(url, token_file) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8210",
        "tcp://10.0.0.7:8210",
        "https://127.0.0.1:8210",
        "http://10.0.0.7:8210",
        "http://broker:8210",
        "http://127.0.0.1.evil.example:8210",
        "http://127.0.0.1:8210@evil.example",
        "http://127.0.0.1:8210/v1",
        "http://127.0.0.1:8210?x",
        "http://user:pass@127.0.0.1:8210",
        "http://127.0.0.1:port",
        "unix://run/broker.sock",
        "unix:",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    """Nothing off this machine, nothing half understood; the remedy shows the two forms."""
    with pytest.raises(SettingsError, match="BROKER_URL") as caught:
        parse_endpoint(url)
    assert "unix:///run/broker/<client>/broker.sock" in caught.value.remedy


def test_a_token_file_beside_a_socket_may_be_missing(tmp_path: Path) -> None:
    """The peer's uid may be the proof."""
    assert ClientToken(parse_endpoint(f"unix://{tmp_path}/broker.sock")).get() is None


def test_a_token_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    """A missing file is told as a broker that is not there yet, which it mostly is."""
    with pytest.raises(BrokerUnreachable, match="client-token is not there"):
        ClientToken(Endpoint("http://localhost", "", f"{tmp_path}/client-token", True)).get()


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\nb", "ümlaut".encode(), b"a\0b"])
def test_what_is_no_token_is_not_sent(tmp_path: Path, content: bytes) -> None:
    """An empty or odd file is an error that does not quote it."""
    path = tmp_path / "client-token"
    path.write_bytes(content)
    with pytest.raises(CallerUnauthenticated) as caught:
        ClientToken(Endpoint("http://localhost", "", str(path), True)).get()
    assert "words" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_token_that_may_not_be_read_says_what_to_do(tmp_path: Path) -> None:
    """A directory stands for every reason the system has."""
    with pytest.raises(CallerUnauthenticated, match="IsADirectoryError") as caught:
        ClientToken(Endpoint("http://localhost", "", str(tmp_path), True)).get()
    assert "fsGroup" in caught.value.remedy


def test_the_file_is_read_once_and_again_when_asked(tmp_path: Path) -> None:
    """Rename over the file, as the broker does; a reread tells whether it changed."""
    path = tmp_path / "client-token"
    path.write_text("one\n")
    token = ClientToken(Endpoint("http://localhost", "", str(path), True))
    first = token.get()
    newer = tmp_path / "newer"
    newer.write_text("two\n")
    newer.replace(path)
    assert token.get() is first
    assert token.reread()
    changed = token.get()
    assert changed is not None
    assert changed.reveal() == "two"
    assert not token.reread()
